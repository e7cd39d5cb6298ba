"""Layers against layers."""

import numpy as np
import pytest
import torch

from featurelens.plotting import layer_similarity
from featurelens.similarity import LayerSimilarityResult


def result(rows, columns, *, symmetric=False):
    values = torch.rand(rows, columns, generator=torch.Generator().manual_seed(0)).double()
    return LayerSimilarityResult(
        values=(values + values.T) / 2 if symmetric else values,
        layers=tuple(f"layer{i}.conv" for i in range(rows)),
        other_layers=tuple(f"layer{i}.conv" for i in range(columns)),
        n=1200,
    )


def test_first_layers_are_at_the_lower_left_with_their_values():
    found = result(3, 4)
    ax = found.plot().axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), found.values)
    assert ax.images[0].get_clim() == (0, 1)
    assert ax.get_ylim()[0] < ax.get_ylim()[1]
    assert ax.get_title(loc="left") == "Debiased linear CKA, 1,200 images"
    assert [text.get_text() for text in ax.texts] == [f"{value:.2f}" for value in found.values.flatten()]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(found.layers)
    assert [label.get_text() for label in ax.get_xticklabels()] == list(found.other_layers)
    assert ax.get_xlabel() == "layer of the other network"
    assert result(3, 3, symmetric=True).plot().axes[0].get_xlabel() == "layer"


@pytest.mark.parametrize("layers", [1, 2, 16, 17, 60])
def test_values_are_written_where_they_fit(layers):
    ax = result(layers, layers).plot(title="Two seeds").axes[0]
    assert ax.get_title(loc="left") == "Two seeds"
    ax.figure.draw_without_rendering()
    assert len(ax.texts) == (layers**2 if layers <= 16 else 0)
    cell = ax.get_window_extent().width / layers
    assert all(text.get_window_extent().width < 0.95 * cell for text in ax.texts)


def test_other_results_are_refused():
    with pytest.raises(
        TypeError, match=r"^result must be a LayerSimilarityResult, which fl.compare returns; got 3$"
    ):
        layer_similarity(3)
