import pytest
import torch

from featurelens._structure import map_tensors, shapes, tensors
from featurelens.recording.in_memory import concatenate
from tests.nets import Box, Pair


def nested():
    one = torch.ones(2, 3)
    return {
        "t": (one, [one + 1]),
        "named": Pair(one, None),
        "data": Box(one, [one]),
        "text": "x",
        "empty": (),
    }


def test_map_keeps_every_type():
    value = nested()
    doubled = map_tensors(lambda tensor: tensor * 2, value)
    assert type(doubled["named"]) is Pair
    assert type(doubled["data"]) is Box
    assert doubled["text"] == "x"
    assert doubled["empty"] == ()
    assert torch.equal(doubled["t"][1][0], torch.full((2, 3), 4.0))
    assert torch.equal(value["data"].boxes, torch.ones(2, 3)), "the original is not touched"


def test_tensors_come_in_order():
    assert [tuple(tensor.shape) for tensor in tensors(nested())] == [(2, 3)] * len(
        {id(tensor) for tensor in tensors(nested())}
    )


def test_shapes_are_plain():
    assert shapes(nested()["data"]) == {"boxes": (2, 3), "scores": ((2, 3),)}


def test_concatenate_joins_leaf_by_leaf():
    joined = concatenate([nested(), nested()])
    assert joined["named"].left.shape == (4, 3)
    assert joined["data"].scores[0].shape == (4, 3)
    assert joined["text"] == "x"


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (
            [torch.ones(2, 3), torch.ones(2, 4)],
            r"shapes differ between batches beyond axis 0: \(2, 3\) and \(2, 4\)",
        ),
        ([{"a": 1}, {"b": 1}], r"outputs differ between batches: dict\('a': 1\) and dict\('b': 1\)"),
        (
            [(torch.ones(1),), [torch.ones(1)]],
            r"differ between batches: list\(0: Tensor\) and tuple\(0: Tensor\)",
        ),
        (["a", "b"], "outputs differ between batches: 'a' and 'b'"),
    ],
)
def test_what_cannot_be_joined_is_told(batches, message):
    with pytest.raises(ValueError, match=message):
        concatenate(batches)
