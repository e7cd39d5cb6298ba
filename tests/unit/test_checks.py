"""The wording of errors, and that checks survive whatever they are given."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens._checks import (
    as_list,
    check_choice,
    check_dense,
    check_number,
    check_path,
    check_whole,
    describe,
    to_tensor,
)


def says(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_a_description_is_short_whatever_the_value():
    endless = []
    endless.append(endless)
    assert describe(endless) == "[[[[...]]]]"
    assert describe({"a": {"b": {"c": {"d": {}}}}}) == "{'a': {'b': {'c': {'d': ...}}}}"
    assert describe("x" * 201) == f"'{'x' * 39}...{'x' * 39}'"
    assert describe("x" * 198) == f"'{'x' * 198}'"
    assert describe(dict.fromkeys(range(9))).endswith("7: None, ...}")
    assert len(describe(10**4000)) == 83


@pytest.mark.parametrize("path", ["", "a\0b", "\ud800"])
def test_a_path_can_name_a_file(path):
    with says(ValueError, f"path must be a file's path; got {path!r}"):
        check_path(path)
    if path:
        with says(ValueError, f"to must be a folder's path; got {path!r}"):
            check_path(Path(path), argument="to", expected="a folder's path")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.ones(2, 2).to_sparse(), "sparse_coo float32 tensor (2, 2)"),
        (torch.ones(2, 2, device="meta"), "meta float32 tensor (2, 2) on meta"),
    ],
)
def test_a_tensor_that_does_not_hold_its_values_is_refused(value, kind):
    with says(TypeError, f"x must be a dense tensor; got a {kind}"):
        check_dense(value, argument="x")
    with says(TypeError, f"x must be a dense tensor; got a {kind}"):
        to_tensor(value, "x")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3)[::-1, ::-1],
        np.arange(6.0).astype(">f8").reshape(2, 3)[::-1, ::-1],
        np.arange(6.0).astype(np.longdouble).reshape(2, 3)[::-1, ::-1],
        np.arange(6).astype(np.uint32).reshape(2, 3)[::-1, ::-1],
    ],
    ids=["strides", "bytes", "long double", "unsigned"],
)
def test_arrays_of_any_layout_become_tensors_of_their_own(array):
    tensor = to_tensor(array, "x")
    assert tensor.tolist() == [[5, 4, 3], [2, 1, 0]]
    tensor.zero_()
    assert array[0, 0] == 5


def test_values_come_as_a_list_if_they_end():
    assert as_list((n for n in range(2)), argument="channels", expected="numbers") == [0, 1]
    assert as_list(np.array([0, 1]), argument="channels", expected="numbers") == [0, 1]
    for value in ("ab", b"ab", 3, {"a": 1}, torch.nn.ModuleList()):
        with says(TypeError, f"channels must be numbers; got {describe(value)}"):
            as_list(value, argument="channels", expected="numbers")
    with says(ValueError, "channels must be numbers; got a million or more"):
        as_list(itertools.count(), argument="channels", expected="numbers")


def test_numbers_have_bounds():
    assert check_whole(np.int64(3), argument="k", least=3, most=3) == 3
    with says(ValueError, "k must be at most 2; got 3"):
        check_whole(3, argument="k", most=2)
    with pytest.raises(ValueError, match=r"^k must be at most 9223372036854775807; got 1000"):
        check_whole(10**400, argument="k")
    with says(ValueError, "k must be at least 4; got 3"):
        check_whole(3, argument="k", least=4)
    with pytest.raises(TypeError, match=r"^sd must be a number; got 1000"):
        check_number(10**400, argument="sd")


def test_an_array_is_no_choice():
    for value in (np.array(["mean", "max"]), torch.ones(2)):
        with pytest.raises(ValueError, match=r"^reduce must be one of 'mean', 'max'; got .* \(2,\)$"):
            check_choice(value, ("mean", "max"), argument="reduce")


def recorded_in_a_block(model, x):
    with fl.ActivationRecorder(model, "1") as activations:
        model(x)
    assert activations["1"].isnan().all()


def ablated_without_a_call(model, x):
    with fl.ChannelAblator(model, "1#2").ablated(0):
        model(x.nan_to_num())


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x: fl.ActivationRecorder(model, "1")(x),
        lambda model, x: fl.ActivationRecorder(model, "1").record([x], progress=False),
        recorded_in_a_block,
        ablated_without_a_call,
        lambda model, x: fl.mutual_information(torch.arange(60.0), torch.arange(60.0), method="ksg"),
        lambda model, x: fl.layer_information(
            model, "1", torch.rand(60, 2), "inputs", estimator=fl.information.KSGMutualInformation()
        ),
        lambda model, x: fl.ActivationMaximizer(model, fl.PixelImage((1, 2, 1)), steps=1).run(
            fl.objectives.logit(0)
        ),
    ],
    ids=["one batch", "data", "a block", "ablated", "information", "a layer", "maximized"],
)
def test_a_warning_names_the_line_of_the_user(call):
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.Softmax(1)).eval()
    with pytest.warns() as caught:
        call(model, torch.tensor([[1.0, torch.nan]]))
    assert {warning.filename for warning in caught} == {__file__}
