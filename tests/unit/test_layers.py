import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.layers import LayerTable, choose
from tests.nets import Nested, Reused, Unused, images, plain


def names(model, *selectors):
    return [c.name if c.call is None else f"{c.name}#{c.call}" for c in choose(model, list(selectors))]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("3", ["3"]),
        ("conv_2", ["3"]),
        ("relu_2", ["5"]),
        ("pool_1", ["2"]),
        ("norm_1", ["4"]),
        ("linear_1", ["8"]),
        ("[03]", ["0", "3"]),
        (nn.Conv2d, ["0", "3"]),
        (nn.modules.batchnorm._BatchNorm, ["4"]),
        (lambda name, module: isinstance(module, nn.ReLU) and name > "3", ["5"]),
    ],
)
def test_each_kind_of_selector(selector, expected):
    assert names(plain(), selector) == expected


def test_an_instance_selects_itself():
    model = plain()
    assert names(model, model[3]) == ["3"]


def test_calls_globs_and_nesting():
    assert names(Reused(), "act#2", "conv*#1") == ["act#2", "conv1#1", "conv2#1"]
    nested = nn.Sequential(plain(), plain())
    assert names(nested, "*.3") == ["0.3", "1.3"]
    assert names(nested, "conv_3") == ["1.0"]


def test_order_is_the_users_and_repeats_are_dropped():
    assert names(plain(), "8", nn.Conv2d, "conv_1", "0") == ["8", "0", "3"]
    assert names(Reused(), "act#1", "act") == ["act"], "the whole layer gives each of its calls"


def test_one_selector_needs_no_list():
    assert [c.name for c in choose(plain(), "conv_1")] == ["0"]
    assert [c.name for c in choose(plain(), nn.Conv2d)] == ["0", "3"]


def test_a_model_that_is_one_layer_can_be_chosen():
    assert names(nn.Conv2d(1, 1, 1), nn.Conv2d) == [""]
    assert "" not in names(plain(), lambda name, module: True)


def test_a_real_name_goes_before_an_alias():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv_2 = nn.Conv2d(1, 1, 1)
            self.other = nn.Conv2d(1, 1, 1)

    assert names(Named(), "conv_2") == ["conv_2"]


def test_a_module_registered_twice_bears_both_names():
    model = nn.Module()
    model.first = nn.ReLU()
    model.second = model.first
    assert names(model, "second", "first") == ["first"]


ERRORS = [
    (
        "conv3",
        LookupError,
        r"no layer matches 'conv3'; did you mean 'conv2' or 'conv1'\? \(4 layers: conv1, act, conv2, fc\)",
    ),
    ("xyz", LookupError, r"no layer matches 'xyz' \(4 layers: conv1, act, conv2, fc\)"),
    ("conv_7", LookupError, "no layer matches 'conv_7'; there are conv_1 to conv_2"),
    ("linear_2", LookupError, "no layer matches 'linear_2'; there is linear_1"),
    ("norm*", LookupError, r"no layer matches 'norm\*'"),
    ("act#0", ValueError, "calls are counted from 1; got 'act#0'"),
    (nn.Conv3d, LookupError, "no layer is a Conv3d; the model has Conv2d, Linear, ReLU, Reused"),
    (nn.Conv2d(1, 1, 1), LookupError, "the given Conv2d is not one of the model's 4 layers"),
    (lambda name, module: False, LookupError, "the predicate matches no layer"),
    (
        lambda name, module: module.kernel_size == (1, 1),
        TypeError,
        r"as predicate\(name, module\); <lambda> fails \(AttributeError: 'ReLU' object has no attribute 'kernel_size'\)",
    ),
    (int, TypeError, "a layer type must be a subclass of nn.Module; got the class int"),
    (
        3,
        TypeError,
        r"a layer is chosen by name, glob, module, module type or predicate\(name, module\); got 3",
    ),
    ({"act": 1}, TypeError, r"layers must be a layer or a list; got \{'act': 1\}"),
    (
        torch.utils.data.DataLoader(torch.rand(2, 1)),
        TypeError,
        "layers must be a layer or a list; got an object of type DataLoader",
    ),
    ([], ValueError, r"layers must name at least one layer; got \[\]"),
]


@pytest.mark.parametrize(("selector", "error", "message"), ERRORS, ids=range(len(ERRORS)))
def test_what_does_not_select_is_told(selector, error, message):
    with pytest.raises(error, match=message):
        choose(Reused(), selector)


def test_memory_is_told_in_units_of_1024_bytes():
    table = str(fl.list_layers(nn.Sequential(nn.Conv2d(1, 250, 1)), torch.rand(1, 1, 32, 32)))
    assert "1000.0 KiB" in table
    assert "1.0 MiB" in str(fl.list_layers(nn.Sequential(nn.Conv2d(1, 256, 1)), torch.rand(1, 1, 32, 32)))


def test_a_convolution_with_children_keeps_its_alias():
    class Padded(nn.Conv2d):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.pad = nn.ZeroPad2d(1)

        def forward(self, x):
            return super().forward(self.pad(x))

    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 2, 3))
    model = nn.Sequential(Padded(1, 4, 3), nn.ReLU(), normed)
    acts = fl.ActivationRecorder(model, ["conv_1", "conv_2"])(images())
    assert list(acts) == ["0", "2"]
    assert {layer.name: layer.alias for layer in fl.list_layers(model)}["0.pad"] == "zeropad2d_1"


def test_the_table_lists_names_aliases_and_parameters():
    table = fl.list_layers(plain())
    assert table.names == ("0", "1", "2", "3", "4", "5", "6", "7", "8")
    assert (table[3].alias, table[3].type, table[3].parameters) == ("conv_2", "Conv2d", 222)
    assert table[3].calls is None
    assert "calls" not in repr(table)
    assert isinstance(table[:2], LayerTable)


def test_a_sample_adds_calls_shapes_and_memory():
    table = {layer.name: layer for layer in fl.list_layers(Reused().train(), images(2))}
    assert table["act"].calls == 3
    assert table["act"].memory == 3 * 2 * 4 * 8 * 8 * 4
    assert table["conv1"].shape == (2, 4, 8, 8)
    unused = {layer.name: layer for layer in fl.list_layers(Unused(), images(2))}
    assert unused["aux"].calls == 0
    assert unused["aux"].shape is None
    nested = {layer.name: layer for layer in fl.list_layers(Nested(), torch.rand(2, 3, 1, 8))}
    assert nested["lstm"].shape == ((2, 3, 5), ((1, 2, 5), (1, 2, 5)))


def test_the_table_reads_well_in_a_terminal_and_in_a_notebook():
    table = fl.list_layers(plain(), images(2))
    head, first, *_ = repr(table).splitlines()
    assert head.split() == ["name", "alias", "type", "parameters", "calls", "output", "shape", "memory"]
    assert first.split() == ["0", "conv_1", "Conv2d", "40", "1", "(2,", "4,", "8,", "8)", "2.0", "KiB"]
    assert table._repr_html_().count("<tr>") == 10


def test_listing_rejects_what_is_no_model():
    with pytest.raises(TypeError, match=r"model must be an nn\.Module; got 'resnet18'"):
        fl.list_layers("resnet18")
    with pytest.raises(
        TypeError, match=r"model must be an nn\.Module; got the class Conv2d: pass an instance"
    ):
        fl.list_layers(nn.Conv2d)


def test_a_lazy_model_can_be_listed():
    assert fl.list_layers(nn.Sequential(nn.LazyLinear(3)))[0].parameters == 0


def test_a_model_that_fails_on_the_sample_is_told():
    model = plain()
    message = r"^the model failed on the sample \(float32 tensor \(1, 2, 8, 8\)\) in layer '0', .*: RuntimeError: .* 2 channels instead$"
    with pytest.raises(RuntimeError, match=message) as caught:
        fl.list_layers(model, torch.rand(1, 2, 8, 8))
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
@pytest.mark.parametrize("name", ["module.3", "_orig_mod.3"])
def test_names_with_the_prefix_of_a_wrapper_are_explained(wrap, name):
    with pytest.raises(
        LookupError, match=r"there is 3: names have no prefix of torch.compile or of a parallel wrapper"
    ):
        fl.ActivationRecorder(wrap(plain()), name)
