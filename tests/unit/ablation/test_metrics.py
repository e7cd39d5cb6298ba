"""Accuracy and loss of every kind of labels, against known answers; and what they refuse."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featurelens as fl
from featurelens.ablation.metrics import scorer

LN2 = math.log(2)


class Given(nn.Module):
    """Returns its input by a layer that can be ablated, and then `last`."""

    def __init__(self, last=None):
        super().__init__()
        self.layer = nn.Identity()
        self.last = last or nn.Identity()

    def forward(self, x):
        return self.last(self.layer(x))


def worth(outputs, labels, metric, *, last=None, **more):
    """The importance of each channel of the outputs themselves."""
    ablator = fl.ChannelAblator(Given(last), "layer", axis=1)
    return ablator.importance([(outputs, labels)], metric=metric, progress=False, **more)


def test_softmax_gives_the_loss_of_its_logits():
    logits = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(40) % 5
    plain, soft, log = (
        worth(logits, labels, "loss", last=last) for last in (None, nn.Softmax(dim=1), nn.LogSoftmax(dim=1))
    )
    assert plain.baseline == pytest.approx(F.cross_entropy(logits, labels).item())
    for other in (soft, log):
        assert other.baseline == pytest.approx(plain.baseline)
        torch.testing.assert_close(other.importance, plain.importance)
    assert plain.notes == log.notes == ()
    assert soft.notes == ("the outputs are taken as probabilities, since they are from 0 to 1 and sum to 1",)


def test_a_probability_of_zero_is_a_large_loss_and_not_infinite():
    result = worth(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 1]), "loss")
    assert 40 < result.baseline < 50


def test_outputs_that_stop_being_probabilities_are_told():
    ablator = fl.ChannelAblator(Given(), "layer")
    data = [(torch.tensor([[0.2, 0.8]]), torch.tensor([0])), (torch.tensor([[-1.0, 3.0]]), torch.tensor([0]))]
    message = "the outputs of the first batch were probabilities, but later ones are not from 0 to 1: choose the logits"
    with pytest.raises(ValueError, match=message):
        ablator.importance(data, metric="loss")
    ablator.importance(data[::-1], metric="loss")
    ablator.importance(data, metric="accuracy")


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("kind", [torch.int64, torch.float32, torch.bool, torch.uint8])
@pytest.mark.parametrize("flat", [True, False])
def test_one_logit(shape, kind, flat):
    logits = torch.tensor([[2.0], [-1.0], [3.0], [-4.0]])
    labels = torch.tensor([1, 1, 0, 0]).to(kind)
    last = nn.Flatten(0) if flat else None
    if flat and shape == (4, 1):
        with pytest.raises(ValueError, match="takes class scores"):
            worth(logits, labels.view(shape), "accuracy", last=last)
        return
    hits = worth(logits, labels.view(shape), "accuracy", last=last)
    assert hits.baseline == 0.5
    assert hits.importance.tolist() == [0.0]  # a logit of 0 is a no
    assert hits.baseline_per_class.tolist() == [0.5, 0.5]
    assert hits.counts.tolist() == [2, 2]
    loss = worth(logits, labels.view(shape), "loss", last=last)
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], labels.float()).item()
    assert loss.baseline == pytest.approx(expected)
    assert loss.importance.item() == pytest.approx(LN2 - expected)


def test_all_zero_labels_of_one_logit_are_not_always_right():
    assert worth(
        torch.tensor([[1.0], [2.0], [-1.0]]), torch.zeros(3).long(), "accuracy"
    ).baseline == pytest.approx(1 / 3)


def test_a_sigmoid_gives_what_its_logits_give():
    logits = torch.randn(30, 1, generator=torch.Generator().manual_seed(0)).double()
    labels = (torch.arange(30) % 2).double()
    for metric in ("accuracy", "loss"):
        plain, squashed = (worth(logits, labels, metric, last=last) for last in (None, nn.Sigmoid()))
        assert squashed.baseline == pytest.approx(plain.baseline)
        torch.testing.assert_close(squashed.importance, plain.importance)
        assert squashed.notes == ("the outputs are taken as probabilities, since a sigmoid makes them",)


def test_logits_from_0_to_1_are_no_probabilities():
    logits, labels = torch.tensor([0.1, 0.2, 0.9, 0.4]).double(), torch.tensor([0, 1, 1, 0])
    for last in (None, nn.Flatten(0)):
        found = worth(logits.view(4, 1), labels, "accuracy", last=last)
        assert found.baseline == 0.5  # every logit says yes
        assert found.notes == ()
    loss = worth(logits.view(4, 1), labels, "loss").baseline
    assert loss == pytest.approx(F.binary_cross_entropy_with_logits(logits, labels.double()).item())


class Then(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    "ending",
    [
        torch.sigmoid,
        lambda x: x.sigmoid().squeeze(1),
        lambda x: 1 - torch.sigmoid(-x),
        lambda x: F.sigmoid(x).clamp(1e-6, 1 - 1e-6)[:, 0],
        lambda x: torch.stack([x.sigmoid(), x.sigmoid()]).mean(0),
        lambda x: torch.special.expit(x).float().double(),
        lambda x: torch.cat([x, 0 * x], 1).softmax(1)[:, 0],
    ],
    ids=["plain", "squeezed", "complement", "clamped", "averaged", "cast", "softmax"],
)
def test_probabilities_of_one_logit_are_noticed_behind_what_keeps_them(ending):
    logits, labels = torch.linspace(-2, 2, 8).double()[:, None], torch.arange(8) % 2
    found = worth(logits, labels, "loss", last=Then(ending))
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], labels.double()).item()
    assert found.baseline == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", [torch.int64, torch.float32, torch.bool])
def test_several_labels_that_hold_together(kind):
    logits = torch.tensor([[3.0, -2, 1], [-1, -1, 5]])
    labels = torch.tensor([[1, 1, 0], [0, 1, 1]]).to(kind)
    hits = worth(logits, labels, "accuracy")
    assert hits.baseline == pytest.approx(3 / 6)
    assert hits.importance.tolist() == pytest.approx([1 / 6, 0, 0])
    assert hits.per_class is None
    assert hits.notes == ()
    loss = worth(logits, labels, "loss")
    assert loss.baseline == pytest.approx(F.binary_cross_entropy_with_logits(logits, labels.float()).item())


def test_one_hot_labels_are_told():
    result = worth(torch.tensor([[3.0, -2], [-1, 5]]), torch.eye(2), "accuracy")
    assert "for classes, pass labels.argmax(1)" in result.notes[0]


@pytest.mark.parametrize("ignored", [255, -100])
def test_every_pixel_has_a_label(ignored):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, 3, 4, 5, generator=generator).double()
    labels = torch.randint(3, (6, 4, 5), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = ignored
    labels[2] = ignored  # an image without labels
    result = worth(outputs, labels, "loss", ignore_index=ignored)
    assert result.baseline == pytest.approx(F.cross_entropy(outputs, labels, ignore_index=ignored).item())
    dropped = outputs.clone()
    dropped[:, 1] = 0
    change = F.cross_entropy(dropped, labels, ignore_index=ignored).item() - result.baseline
    assert result.importance[1].item() == pytest.approx(change)
    assert result.n == 5
    assert result.per_class is None
    kept = labels != ignored
    hits = worth(outputs, labels, "accuracy", ignore_index=ignored)
    assert hits.baseline == pytest.approx((outputs.argmax(1) == labels)[kept].double().mean().item())


def test_one_logit_for_every_pixel():
    outputs, labels = torch.tensor([[[[1.0, -1.0]]]]), torch.tensor([[[1, 1]]])
    assert worth(outputs, labels, "accuracy").baseline == 0.5
    assert worth(outputs, labels[:, None].float(), "accuracy").baseline == 0.5
    assert worth(outputs, torch.tensor([[[1, 255]]]), "accuracy", ignore_index=255).baseline == 1


def test_ignored_labels_of_images_do_not_count():
    logits = torch.tensor([[2.0, 0], [0, 2.0], [2.0, 0], [9.0, 0]])
    labels = torch.tensor([0, 0, -100, 1])
    result = worth(logits, labels, "accuracy")
    assert result.baseline == pytest.approx(1 / 3)
    assert result.n == 3
    assert result.counts.tolist() == [2, 1]
    without = worth(logits[[0, 1, 3]], labels[[0, 1, 3]], "loss")
    torch.testing.assert_close(worth(logits, labels, "loss").standard_error, without.standard_error)
    assert worth(logits, labels, "loss").p_value.tolist() == pytest.approx(without.p_value.tolist())
    curve = fl.ChannelAblator(Given(), "layer").curve(
        [(logits, labels.abs())], order=[1, 0], ignore_index=100
    )
    assert curve.n == 3
    with pytest.raises(ValueError, match=r"^every label is ignored, by ignore_index: nothing can be scored$"):
        worth(logits, torch.full((4,), 7), "loss", ignore_index=7)


def test_targets_of_a_metric_of_one_s_own_are_not_classes():
    def closeness(outputs, targets):
        return -(outputs[:, 0] - targets).abs()

    for targets in (torch.tensor([3_000_000, 1]), torch.tensor([1_700_000_000, 0])):
        result = worth(torch.tensor([[1.0], [2.0]]), targets, closeness)
        assert result.per_class is None
        assert result.counts is None
        assert result.importance.tolist() == pytest.approx([-0.5 if targets[1] else 0.5], abs=1.5)


def test_there_are_as_many_classes_as_outputs():
    result = worth(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]), torch.tensor([0, 1]), "accuracy")
    assert result.per_class.shape == (3, 3)
    assert result.counts.tolist() == [1, 1, 0]


X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
MISUSE = [
    (
        lambda: worth(X, torch.tensor([0, 255]), "loss"),
        "labels must be from 0 to 1, for 2 class scores; got 0 to 255; pass ignore_index=255 to leave out these labels",
    ),
    (
        lambda: worth(X, torch.tensor([0, 2]), "loss"),
        "labels must be from 0 to 1, for 2 class scores; got 0 to 2",
    ),
    (
        lambda: worth(X[:, :1], torch.tensor([0, 3_000_000]), "accuracy"),
        (
            "labels of the outputs' own shape must be 0 or 1, for yes or no; got 0 to 3e+06: for regression pass a "
            "metric of your own"
        ),
    ),
    (
        lambda: worth(X[:, :1], torch.tensor([0.5, -1.5]), "loss"),
        (
            "labels of the outputs' own shape must be 0 or 1, for yes or no; got -1.5 to 0.5: for regression pass a "
            "metric of your own"
        ),
    ),
    (
        lambda: worth(X, torch.tensor([[0], [1]]), "loss"),
        (
            "metric='loss' takes class scores (N, classes) and whole-numbered labels (N,); got float32 tensor (2, 2) and "
            "int64 tensor (2, 1)"
        ),
    ),
]


@pytest.mark.parametrize(("call", "message"), MISUSE, ids=range(len(MISUSE)))
def test_misuse_is_named(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the whole message is compared
        call()
    assert str(caught.value) == message


def test_the_label_to_ignore_is_a_whole_number():
    with pytest.raises(TypeError, match=r"^ignore_index must be a whole number; got 'none'$"):
        scorer("loss", "none")
