"""Classes against classes and channels."""

import itertools
import re

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix as reference

from featurelens.plotting import (
    class_importance,
    confusion_matrix,
)
from tests.unit.plotting.results import worth


def test_classes_without_images_are_omitted():
    per_class = torch.full((3, 1000), torch.nan)
    per_class[:, [7, 900]] = torch.tensor([[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]])
    names = [f"kind {number}" for number in range(1000)]
    ax = class_importance(worth(per_class=per_class), classes=names).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["kind 7", "kind 900"]
    assert ax.images[0].get_array().shape == (2, 3)
    assert ax.get_title(loc="left").replace("\n", " ").endswith("; 998 of 1000 classes have no image")


def test_class_importance_has_classes_in_rows():
    ax = worth().plot_classes(classes=["cat", "dog"]).axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), [[20, 30, 0], [40, -10, 0]], rtol=1e-5)
    assert ax.images[0].get_clim() == pytest.approx((-40, 40))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"]
    assert ax.get_ylabel() == "class"
    assert [text.get_text() for text in ax.texts] == ["20", "30", "0", "40", "-10", "0"]
    missing = worth(per_class=torch.tensor([[0.1, torch.nan], [0.1, 0.2], [0.1, 0.2]]))
    assert [text.get_text() for text in class_importance(missing).axes[0].texts].count("–") == 1


def test_a_colour_bar_in_a_sub_figure_keeps_its_label_off_its_numbers():
    figure = Figure(figsize=(12, 7), layout="constrained")
    for part in figure.subfigures(2, 2).flat:
        class_importance(worth_by_class(24, 0.02), ax=part.subplots())
    figure.draw_without_rendering()
    for part in figure.subfigs:
        bar = part.axes[1]
        numbers = [label.get_window_extent() for label in bar.get_yticklabels() if label.get_visible()]
        assert bar.yaxis.label.get_window_extent().x0 > max(box.x1 for box in numbers)
        assert bar.yaxis.label.get_window_extent().x1 <= part.bbox.x1


def worth_by_class(channels, scale):
    per_class = scale * torch.randn(channels, 10, generator=torch.Generator().manual_seed(0))
    errors, numbers = torch.zeros(channels), tuple(range(channels))
    return worth(
        importance=per_class.mean(1),
        standard_error=errors,
        per_class=per_class,
        channels=numbers,
        metric="loss",
    )


@pytest.mark.parametrize("scale", [1e-5, 3e-4, 0.02, 0.3, 4.0, 50.0, 3e3])
def test_numbers_of_any_size_fit_into_their_cells(scale):
    result = worth_by_class(16, scale)
    per_class = result.per_class
    ax = class_importance(result).axes[0]
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 160
    cell = ax.get_window_extent().width / 16
    assert all(box.width < 0.95 * cell for box in boxes)
    power = re.search(r"10\^\{(-?\d+)\}", ax.figure.axes[1].get_ylabel())
    unit = 10.0 ** int(power[1]) if power else 1.0
    shown = torch.tensor([float(text.get_text()) for text in ax.texts]).view(10, 16) * unit
    order = list(result.order("most"))
    assert (shown - per_class[order].T).abs().max() <= 0.06 * per_class.abs().max()


def test_the_unit_of_the_numbers_is_named_only_where_there_are_numbers():
    few, many = (class_importance(worth_by_class(channels, 0.02)).axes[0] for channels in (16, 32))
    assert "in cells" in few.figure.axes[1].get_ylabel()
    assert not many.texts
    assert many.figure.axes[1].get_ylabel() == "increase in loss when removed (nats)"


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_rows_are_true_classes_in_percent_with_counts_below():
    ax = confusion_matrix(torch.tensor([[3, 1], [0, 2]]), classes=["cat", "dog"]).axes[0]
    assert isinstance(ax, Axes)
    np.testing.assert_allclose(ax.images[0].get_array(), [[75, 25], [0, 100]])
    assert texts(ax) == ["75", "3", "25", "1", "100", "2"]  # an empty cell stays empty
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"]
    assert ax.get_title(loc="left") == "Accuracy 83.3 % of 6 images"


def test_labels_and_predictions_are_counted_like_anywhere_else():
    generator = torch.Generator().manual_seed(0)
    labels, predictions = torch.randint(0, 7, (2, 500), generator=generator)
    ax = confusion_matrix((labels, predictions)).axes[0]
    expected = reference(labels, predictions)
    np.testing.assert_allclose(ax.images[0].get_array(), 100 * expected / expected.sum(1, keepdims=True))


def test_a_class_that_never_occurs_is_an_empty_row():
    ax = confusion_matrix((np.array([0, 0]), np.array([0, 1])), classes=range(4)).axes[0]
    np.testing.assert_allclose(ax.images[0].get_array()[2:], 0)
    assert texts(ax) == ["50", "1", "50", "1"]


def test_a_share_below_half_a_percent_is_not_called_zero():
    assert texts(confusion_matrix(np.array([[999, 1], [0, 1]])).axes[0])[2:4] == ["<1", "1"]


@pytest.mark.parametrize(("classes", "cells", "axes"), [(12, 2 * 144, 1), (13, 169, 1), (21, 0, 2)])
def test_numbers_are_left_out_where_there_is_no_room(classes, cells, axes):
    ax = confusion_matrix(np.ones((classes, classes))).axes[0]
    assert len(ax.texts) == cells
    assert len(ax.figure.axes) == axes  # a colour bar stands in for the numbers


@pytest.mark.parametrize("classes", [1, 2, 10, 20, 100])
def test_names_neither_overlap_nor_leave_the_page(classes):
    names = [f"class number {number}" for number in range(classes)]
    ax = confusion_matrix(np.ones((classes, classes)), classes=names).axes[0]
    ax.figure.draw_without_rendering()
    page = ax.figure.bbox
    rows = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert all(lower.y1 <= upper.y0 + 1 for upper, lower in itertools.pairwise(rows))
    for label in [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.yaxis.label]:
        box = label.get_window_extent()
        assert page.x0 <= box.x0 <= box.x1 <= page.x1
        assert page.y0 <= box.y0 <= box.y1 <= page.y1


def test_an_axes_of_the_callers_is_used():
    ax = Figure().add_subplot()
    assert confusion_matrix(np.eye(3), title="mine", ax=ax) is ax.figure
    assert ax.get_title(loc="left") == "mine"


def test_no_image_at_all_is_refused():
    with pytest.raises(ValueError, match=r"^matrix must count at least one image; all counts are 0$"):
        confusion_matrix(torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: class_importance(worth(per_class=None)),
            ValueError,
            "the result has no classes: its metric was your own, or labels were not classes (N,)",
        ),
        (
            lambda: class_importance(worth(), classes=["cat"]),
            ValueError,
            "classes must have one name for each of 2 classes; got 1 name",
        ),
        (
            lambda: confusion_matrix("counts"),
            TypeError,
            "matrix must be a tensor or a NumPy array; got 'counts'",
        ),
        (
            lambda: confusion_matrix(np.ones((2, 3))),
            ValueError,
            "matrix must be (K, K) counts; got shape (2, 3)",
        ),
        (
            lambda: confusion_matrix(np.ones(3)),
            ValueError,
            "matrix must be (K, K) counts; got shape (3,)",
        ),
        (
            lambda: confusion_matrix(-np.eye(3)),
            ValueError,
            "matrix must hold counts, which are finite and not negative",
        ),
        (
            lambda: confusion_matrix(np.eye(3), classes=["cat"]),
            ValueError,
            "classes must have one name for each of 3 rows; got 1 name",
        ),
        (
            lambda: confusion_matrix((torch.tensor([0, 1]), torch.tensor([0]))),
            ValueError,
            "there must be as many labels as predictions; got 2 and 1",
        ),
        (
            lambda: confusion_matrix((torch.tensor([0, 3]), torch.tensor([0, 1])), classes=["cat", "dog"]),
            ValueError,
            "labels must be class numbers from 0 to 1; got 0 to 3",
        ),
        (
            lambda: confusion_matrix((torch.tensor([0, 1]), torch.rand(2))),
            TypeError,
            "predictions must be class numbers; got float32 tensor (2,)",
        ),
    ],
)
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
