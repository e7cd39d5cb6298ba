"""What a run holds, read back from its files."""

import io

import numpy as np
import pytest

from featurelens.information import MutualInformationResult

accumulators = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="tensorboard is not installed: pip install featurelens[tensorboard]",
)
PIL = pytest.importorskip("PIL.Image")


def read(board):
    """Close the writer and return everything in its event files."""
    board.__exit__(None, None, None)
    events = accumulators.EventAccumulator(str(board.log_dir), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    board.__enter__()  # the fixture closes it
    return events


def scalars(events):
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def pixels(png):
    return np.asarray(PIL.open(io.BytesIO(png)).convert("RGB"))


def picture(event):
    return pixels(event.encoded_image_string)


def sheet_of(board, entry):
    return pixels((board.log_dir / entry.sprite.image_path).read_bytes())


def result(value, **more):
    return MutualInformationResult(value=value, method="KSG", n=9, dim_x=1, dim_y=1, **more)


def layout(events):
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    last = events.Tensors("custom_scalars__config__")[-1]
    found = Layout.FromString(last.tensor_proto.string_val[0])
    return {
        group.title: {chart.title: list(chart.multiline.tag) for chart in group.chart}
        for group in found.category
    }


def projector(board):
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    return text_format.Parse(
        (board.log_dir / "projector_config.pbtxt").read_text(), ProjectorConfig()
    ).embeddings
