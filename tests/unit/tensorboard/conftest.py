"""An open run, and the writer's files."""

import pytest

import featurelens as fl


@pytest.fixture
def board(tmp_path):
    with fl.TensorBoardWriter(tmp_path / "run") as writer:
        yield writer
