"""Every verb takes the same data: a loader, or one batch in the forms that loaders give batches in."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import featurelens as fl
from tests.nets import images, plain

X = images(60)
Y = torch.arange(60) % 3
LABELLED = {
    "a loader": DataLoader(TensorDataset(X, Y), batch_size=60),
    "a list of pairs": [(X, Y)],
    "dicts": [{"image": X, "label": Y}],
    "one pair": (X, Y),
    "one pair as a DataLoader gives it": [X, Y],
    "one pair of arrays": (X.numpy(), Y.numpy()),
    "one dict": {"image": X, "label": Y},
    "labels in a list": [(X, Y.tolist())],
    "labels in an array": [(X, Y.numpy())],
}
UNLABELLED = {
    "a tensor": X,
    "an array": X.numpy(),
    "an array that runs backwards": np.ascontiguousarray(X.numpy()[::-1])[::-1],
    "an array of another machine": X.numpy().astype(">f4"),
}
PLAIN = {
    "record": lambda model, data: fl.ActivationRecorder(model, "8").record(data)["8"],
    "stream": lambda model, data: (
        fl.ActivationRecorder(model, "8").stream(data, fl.statistics.Moments())["8"].moments.mean
    ),
    "layer_information": lambda model, data: fl.layer_information(model, "8", data, Y)["8"].value,
    "InformationPlane": lambda model, data: fl.InformationPlane(model, "8", data, Y)._settings["probe set"][
        :0
    ],
    "compare": lambda model, data: (
        fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=1)
        .run("8:0")
        .compare(data)
        .data_maximum
    ),
    "fit": lambda model, data: fl.ImageStatistics.fit(data).mean,
}
WITH_LABELS = {
    "layer_information": lambda model, data: fl.layer_information(model, "8", data)["8"].value,
    "InformationPlane": lambda model, data: fl.InformationPlane(model, "8", data).label_entropy,
    "importance": lambda model, data: fl.ChannelAblator(model, "8").importance(data).importance,
    "curve": lambda model, data: fl.ChannelAblator(model, "8").curve(data).values,
}


@pytest.mark.parametrize("form", [*LABELLED, *UNLABELLED])
@pytest.mark.parametrize("verb", PLAIN)
def test_data_for_verbs_that_need_no_labels(verb, form):
    data = {**LABELLED, **UNLABELLED}[form]
    found, expected = (np.asarray(PLAIN[verb](plain(), each)) for each in (data, X))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("form", LABELLED)
@pytest.mark.parametrize("verb", WITH_LABELS)
def test_data_for_verbs_that_need_labels(verb, form):
    found, expected = (np.asarray(WITH_LABELS[verb](plain(), each)) for each in (LABELLED[form], [(X, Y)]))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "batch",
    [X.numpy(), X.numpy().astype(">f4"), (X, Y), {"image": X, "label": Y}],
    ids=["array", "array of another machine", "pair", "dict"],
)
def test_one_batch_for_a_sweep(batch):
    ablator = fl.ChannelAblator(plain(), "conv_1")
    assert torch.equal(ablator.sweep(batch).outputs, ablator.sweep(X).outputs)


@pytest.mark.parametrize("verb", ["record", "stream", "compare", "fit", *WITH_LABELS])
def test_an_empty_loader(verb):
    with pytest.raises(ValueError, match=r"the loader yielded no (batch|images); got"):
        (PLAIN | WITH_LABELS)[verb](plain(), [])


def test_a_number_is_no_batch_of_images():
    for verb in ("compare", "fit"):
        with pytest.raises(
            ValueError,
            match=r"must yield images .*\(N, C, H, W\).* with no empty dimension; got float32 tensor \(\)",
        ):
            PLAIN[verb](plain(), torch.tensor(1.0))


READING = {
    **PLAIN,
    **WITH_LABELS,
    "latents": lambda model, data: fl.LatentWhitening.fit(DataLoader(X.flatten(1), batch_size=20)),
    "linear_probe": lambda model, data: fl.linear_probe(model, "8", data, permutations=1),
    "similarity": lambda model, data: fl.compare(model, loader=data, layers="8"),
}


@pytest.mark.parametrize("verb", READING)
def test_reading_a_loader_draws_no_random_number_of_the_user(verb):
    # Every pass over a DataLoader draws a seed for its workers, and a shuffled one also its order.
    before = torch.get_rng_state()
    READING[verb](plain(), DataLoader(TensorDataset(X, Y), batch_size=20, shuffle=True))
    assert torch.equal(torch.get_rng_state(), before)


BY_ROW = {
    "layer_information": lambda model, data: fl.layer_information(model, "8", data, Y),
    "InformationPlane": lambda model, data: fl.InformationPlane(model, "8", data, Y),
    "linear_probe": lambda model, data: fl.linear_probe(model, "8", data, Y, permutations=1),
    "MonoScore": lambda model, data: fl.ActivationRecorder(model, "8").stream(
        data, fl.statistics.MonoScore(torch.rand(60, 3))
    ),
}


@pytest.mark.parametrize("verb", BY_ROW)
def test_values_by_row_do_not_go_with_a_loader_that_shuffles(verb):
    BY_ROW[verb](plain(), DataLoader(X, batch_size=20))
    with pytest.raises(ValueError, match="shuffles: pass shuffle=False"):
        BY_ROW[verb](plain(), DataLoader(X, batch_size=20, shuffle=True))
