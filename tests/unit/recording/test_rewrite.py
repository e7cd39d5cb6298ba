"""`insert_extractors`: a copy that behaves as the original, with extractors one can read."""

import copy
import gc
import io
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featurelens as fl
from featurelens.recording import FeatureExtractor
from tests.nets import Box, InnerLoop, Nested, Reused, Unused, images, plain, seeded
from tests.state import snapshot


def test_study_d_in_three_lines():
    tapped = fl.insert_extractors(plain(), ["conv_1", "conv_2"])
    tapped(images())
    assert tapped.extractors["conv_1"].feature.shape == (4, 4, 8, 8)
    assert tapped.extractors["3"] is tapped.extractors["conv_2"]
    assert list(tapped.extractors) == ["0", "3"]


@pytest.mark.parametrize("training", [True, False])
def test_it_computes_what_the_original_does(training):
    for build in (plain, Unused, Reused, InnerLoop):
        model = seeded(build).train(training)
        tapped = fl.insert_extractors(model, nn.Conv2d)
        torch.manual_seed(0)
        expected = copy.deepcopy(model)(images())
        torch.manual_seed(0)
        assert torch.equal(tapped(images()), expected), build


def test_train_and_eval_mode_may_differ_in_what_they_run():
    model = seeded(Unused)
    tapped = fl.insert_extractors(model, ["aux", "conv"])
    tapped.eval()(images())
    assert tapped.extractors["aux"].feature is None
    tapped.train()(images())
    assert tapped.extractors["aux"].feature.shape == (4, 2, 6, 6)
    torch.manual_seed(0)
    first = tapped(images())
    assert not torch.equal(first, tapped(images())), "F.dropout follows the mode"
    assert torch.equal(tapped.eval()(images()), tapped(images()))


def test_the_original_is_left_alone_and_shares_nothing():
    model = plain()
    before = snapshot(model)
    tapped = fl.insert_extractors(model, "conv_1")
    tapped(images()).sum().backward()
    with torch.no_grad():
        tapped.get_parameter("0.weight").add_(1)
    assert snapshot(model) == before


@pytest.mark.changes_model  # the test itself loads weights
def test_state_dicts_load_both_ways():
    for build in (plain, Unused, Reused, Nested):
        model, other = seeded(build), seeded(build, seed=1)
        tapped = fl.insert_extractors(other, "named" if build is Nested else nn.Conv2d)
        assert list(tapped.state_dict()) == list(model.state_dict())
        tapped.load_state_dict(model.state_dict())
        other.load_state_dict(tapped.state_dict())
        for name, value in model.state_dict().items():
            assert torch.equal(other.state_dict()[name], value)
        assert [name for name, _ in model.named_parameters()] == [
            name for name, _ in tapped.named_parameters()
        ]


def test_a_feature_is_safe_from_operations_in_place_and_keeps_its_gradient():
    tapped = fl.insert_extractors(plain().eval(), "conv_1")
    x = images().requires_grad_()
    tapped(x)
    feature = tapped.extractors["conv_1"].feature
    assert feature.min() < 0
    feature.sum().backward()
    assert x.grad.abs().sum() > 0


def test_functions_methods_and_sums_can_be_tapped():
    model = seeded(Reused)
    assert fl.list_operations(model).names == ("add", "sub", "relu", "sub_1", "relu_1", "mean")
    assert fl.list_operations(model)[0].type == "function add"
    tapped = fl.insert_extractors(model, ["add", "relu", "mean", "act", "conv2"])
    tapped(images())
    features = {name: extractor.feature for name, extractor in tapped.extractors.items()}
    assert list(features) == ["add", "relu", "mean", "act#1", "act#2", "act#3", "conv2"]
    assert torch.equal(features["add"], features["conv2"] + features["act#1"])
    assert torch.equal(features["relu"], F.relu(features["act#3"]))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x):
        torch._assert(x.dim() == 3, "tokens are (N, L, D)")
        n, length = x.shape[0], x.size(1)
        out, _ = self.lstm(x)
        q, k, v = out.chunk(3, dim=2)
        scale = math.sqrt(length // 2)
        heads = torch.stack([q, k, v])
        scores = (heads[0] @ heads[1].mT / scale).softmax(2)
        return (scores @ v).T.reshape(-1, n)[:, 0]


@pytest.mark.filterwarnings("ignore:The use of `x.T`")
def test_what_gives_no_tensor_or_only_unpacks_is_not_listed_but_can_be_recorded():
    model, x = seeded(Attention), torch.rand(2, 5, 4)
    types = [layer.type.partition(" ")[2] for layer in fl.list_operations(model)]
    assert types == [
        *("chunk", "stack", "getitem", "getitem", "mT", "matmul", "truediv", "softmax", "matmul"),
        *("T", "reshape", "getitem"),
    ]
    names = fl.list_operations(model).names
    recorded = fl.ActivationRecorder(model, list(names), backend="rewrite")(x)
    assert list(recorded) == list(names)
    assert all(isinstance(value, torch.Tensor | tuple) for value in recorded.values())
    hidden = fl.ActivationRecorder(model, ["chunk", "getitem_3"], backend="rewrite")(x)
    assert any(torch.equal(hidden["getitem_3"], part) for part in hidden["chunk"])


def test_one_call_of_several():
    tapped = fl.insert_extractors(seeded(Reused), "act#2")
    tapped(images())
    assert list(tapped.extractors) == ["act#2"]


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_it_survives(way):
    tapped = fl.insert_extractors(seeded(Reused), ["conv_1", "add"])
    expected = tapped(images())
    if way == "deepcopy":
        other = copy.deepcopy(tapped)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(tapped))
    else:
        file = io.BytesIO()
        torch.save(tapped, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    assert other.extractors["add"].feature is None
    assert torch.equal(other(images()), expected)
    assert torch.equal(other.extractors["conv_1"].feature, tapped.extractors["conv_1"].feature)


@pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 compiles it in several graphs")
def test_it_runs_under_a_compiler_as_one_graph():
    tapped = fl.insert_extractors(seeded(Reused), ["conv_1", "act", "add"])
    compiled = torch.compile(tapped, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(images()), seeded(Reused)(images()))
    assert torch.allclose(tapped.extractors["conv_1"].feature, tapped.conv1(images()))
    assert tapped.extractors["act#3"].feature.shape == (4, 4, 8, 8)


def test_nested_outputs_are_kept_as_they_are():
    tapped = fl.insert_extractors(seeded(Nested), ["lstm", "dict", "named", "data"])
    tapped(torch.rand(2, 3, 1, 8))
    assert tapped.extractors["lstm"].feature[1][0].shape == (1, 2, 5)
    assert set(tapped.extractors["dict"].feature) == {"a", "b", "note", "none"}
    assert isinstance(tapped.extractors["data"].feature, Box)


class Constant(nn.Module):
    def forward(self, x):
        return x + torch.tensor([1.0, 2.0]) if self.training else x * torch.tensor([3.0, 4.0])


def test_constants_made_while_tracing_are_kept():
    model = Constant()
    tapped = pickle.loads(pickle.dumps(fl.insert_extractors(nn.Sequential(model, nn.Identity()), "1")))
    assert torch.equal(tapped(torch.zeros(2)), torch.tensor([1.0, 2.0]))
    assert torch.equal(tapped.eval()(torch.ones(2)), torch.tensor([3.0, 4.0]))


def test_arguments_with_defaults_are_fixed_by_name():
    tapped = fl.insert_extractors(seeded(Unused).eval(), "conv").eval()
    assert torch.equal(tapped(images(), mask=None), tapped(images()))
    with pytest.raises(RuntimeError, match=r"its code fails .*mask has been specialized to have value None"):
        tapped(images(), mask=torch.ones(1))


def test_it_is_a_module_like_any_other():
    tapped = fl.insert_extractors(plain(), "conv_1")
    assert "FeatureExtractor('0')" in repr(tapped)
    assert isinstance(tapped.extractors["0"], FeatureExtractor)
    assert next(tapped.double().parameters()).dtype is torch.float64
    acts = fl.ActivationRecorder(tapped.float(), "conv_2")(images())
    assert acts["conv_2"].shape == (4, 6, 4, 4)


class Encoding(nn.Module):
    """Layers of torch's own, which are not traced, and a block that cannot be."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.enc = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.inner = InnerLoop()

    def forward(self, x):
        return self.inner(self.enc(x)[:, None])


@pytest.mark.parametrize(
    ("layers", "layer", "part", "kind"),
    [
        ("enc.layers.0", "enc.layers.0", "enc", "TransformerEncoder"),
        ("enc.layers.1#1", "enc.layers.1", "enc", "TransformerEncoder"),
        (["inner.stem", "enc.layers.*"], "enc.layers.0", "enc", "TransformerEncoder"),
        (nn.TransformerEncoderLayer, "enc.layers.0", "enc", "TransformerEncoder"),
        (["enc", "inner.loop.step"], "inner.loop.step", "inner.loop", "DataDependent"),
    ],
    ids=range(5),
)
def test_a_layer_inside_a_part_that_is_kept_whole(layers, layer, part, kind):
    model, x = seeded(Encoding), torch.rand(2, 5, 8)
    message = (
        f"layer {layer!r} is inside {part!r}, a {kind} that is traced as one step: record it with "
        'ActivationRecorder(..., backend="hooks")'
    )
    with pytest.raises(LookupError) as caught:
        fl.insert_extractors(model, layers)
    assert str(caught.value) == message
    with pytest.raises(LookupError) as caught:
        fl.ActivationRecorder(model, layers, backend="rewrite")(x)
    assert str(caught.value) == message
    assert any(name.startswith(layer) for name in fl.ActivationRecorder(model, layers)(x))
    some = fl.insert_extractors(model, "*.st*")  # "inner.loop.step" is passed over, as "inner.stem" is called
    assert list(some.extractors) == ["inner.stem"]


def test_messages():
    tapped = fl.insert_extractors(plain(), "conv_1")
    with pytest.raises(LookupError, match=r"no extractor follows 'conv_2' \(1 layer: 0\)"):
        tapped.extractors["conv_2"]
    assert "conv_2" not in tapped.extractors
    assert tapped.extractors.get("conv_2") is None
    model = nn.Sequential()
    model.extractors = nn.ReLU()
    with pytest.raises(
        ValueError, match="the model has an attribute named 'extractors', a name that the inserted"
    ):
        fl.insert_extractors(model, "extractors")
    uncopyable = plain()
    uncopyable.cache = torch.ones(1, requires_grad=True) * 2
    with pytest.raises(
        RuntimeError, match="the model cannot be copied: RuntimeError: Only Tensors created explicitly"
    ):
        fl.insert_extractors(uncopyable, "conv_1")
    with pytest.raises(TypeError, match=r"model must be an nn\.Module; got 3"):
        fl.insert_extractors(3, "conv_1")


class Assigns(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen = self.seen.clone()
        return self.act(x) + self.seen


@pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 takes no placeholder as a buffer")
def test_a_buffer_that_forward_assigns():
    acts = fl.ActivationRecorder(Assigns(), "act", backend="rewrite")(images())
    assert torch.equal(acts["act"], images().relu())


@pytest.mark.parametrize(
    ("place", "allowed"), [("torch", True), ("torch.nn.modules", True), ("torchvision", False)]
)
def test_only_torch_may_ask_for_the_type_of_a_placeholder(place, allowed):
    asked = {"__name__": place}
    exec("def kind(x):\n    return x.__class__", asked)  # noqa: S102

    class Asks(nn.Module):
        def forward(self, x):
            asked["kind"](x)
            return x.relu()

    if allowed:
        assert len(fl.list_operations(Asks())) == 1
    else:
        with pytest.raises(RuntimeError, match="inspects the type of a tensor"):
            fl.list_operations(Asks())


def test_a_trace_leaves_the_garbage_collector_as_it_was():
    """What the program has set apart stays so; what the trace sets apart does not."""
    gc.unfreeze()
    recorder = fl.ActivationRecorder(plain(), "conv_1", backend="rewrite")
    recorder(images())
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        fl.ActivationRecorder(plain(), "conv_1", backend="rewrite")(images())
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
