"""Attention heads are ablated before the output projection, in torch's, torchvision's and timm's layers."""

import types

import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.ablation.attention import heads_hooked
from tests import nets
from tests.state import snapshot
from tests.unit.ablation.nets import Tokens, batch, double


def without_head(model, attention, head, x):
    """A full forward of a model whose output projection does not read one head."""
    weight = attention.out_proj.weight if hasattr(attention, "out_proj") else attention.proj.weight
    size = weight.shape[1] // attention.num_heads
    saved = weight.detach().clone()
    with torch.no_grad():
        weight[:, head * size : (head + 1) * size] = 0
        outputs = model(x)
        weight.copy_(saved)
    return outputs


def vision_transformer():
    models = pytest.importorskip("torchvision.models")
    model = models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=12
    )
    nn.init.normal_(model.heads.head.weight)
    return model


def timm_transformer():
    timm = pytest.importorskip("timm")
    return timm.models.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=8, depth=2, num_heads=2, num_classes=3
    )


class SequenceFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 4, kdim=4)

    def forward(self, x):
        x = x[:, 0].transpose(0, 1)
        mask = torch.ones(8, 8).triu(1).bool()
        y, weights = self.attention(x, x[..., :4] * 2, x + 1, attn_mask=mask)
        return (y.mean(0) + weights.sum((1, 2))[:, None]).tanh()


CASES = [
    (Tokens, "block1.self_attn", 1, 8),
    (Tokens, "block2.self_attn", 1, 8),
    (SequenceFirst, "attention", 1, 8),
    (vision_transformer, "encoder.layers.encoder_layer_0.self_attention", 3, 16),
    (timm_transformer, "blocks.1.attn", 3, 16),
]


@pytest.mark.changes_model
@pytest.mark.parametrize(("build", "layer", "channels", "size"), CASES, ids=[case[1] for case in CASES])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_head_is_what_the_output_projection_reads_of_it(build, layer, channels, size):
    model, x = double(build).eval(), batch(channels=channels, size=size)
    attention, before = model.get_submodule(layer), snapshot(model)
    ablator = fl.ChannelAblator.of_heads(model, layer)
    dropped = ablator.sweep(x)
    assert snapshot(model) == before
    assert dropped.channels == tuple(range(attention.num_heads))
    assert dropped.notes == ()
    assert repr(dropped).startswith(
        f"AblationResult({attention.num_heads} heads of {layer} dropped one by one, "
    )
    for head, outputs in enumerate(dropped.outputs):
        expected = without_head(model, attention, head, x)
        torch.testing.assert_close(outputs, expected)
        with ablator.ablated(head), torch.no_grad():
            torch.testing.assert_close(model(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(dropped.baseline, model(x))
    worth = ablator.importance([(x, torch.tensor([0, 1, 0]))], metric="loss")
    assert worth.importance.shape == (attention.num_heads,)


class Transposed(nn.Module):
    """A linear layer as GPT-2 has it: a matrix, of a class of its own."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, size) / size**0.5)

    def forward(self, x):
        return x @ self.weight


class Attention(nn.Module):
    """Attention that names its parts as transformers do: the number of heads in its own or in its config's attribute."""

    def __init__(self, projection, **counts):
        super().__init__()
        self.config = types.SimpleNamespace(
            **{name[7:]: n for name, n in counts.items() if "config_" in name}
        )
        for name, number in counts.items():
            if "config_" not in name:
                setattr(self, name, number)
        self.add_module(projection, Transposed(8))
        self.projection = projection

    def forward(self, x):
        joined = x.unflatten(-1, (4, 2)).softmax(1).flatten(2) * x
        return getattr(self, self.projection)(joined), None


@pytest.mark.parametrize(
    ("projection", "counts"),
    [
        ("c_proj", {"num_heads": 4}),
        ("o_proj", {"num_attention_heads": 4}),
        ("out_lin", {"n_heads": 4}),
        ("o", {"n_heads": 4}),
        ("o_proj", {"config_num_attention_heads": 4}),
    ],
)
def test_the_names_of_hugging_face_s_attention_are_known(projection, counts):
    attention = nets.seeded(lambda: Attention(projection, **counts)).double()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    outputs = fl.ChannelAblator.of_heads(attention, "", output=0).sweep(x).outputs
    matrix = getattr(attention, projection).weight
    joined = (x.unflatten(-1, (4, 2)).softmax(1).flatten(2) * x).unflatten(-1, (4, 2))
    for head in range(4):
        kept = joined * (torch.arange(4) != head)[:, None]
        torch.testing.assert_close(outputs[head], kept.flatten(2) @ matrix)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_attention_by_hand_is_torch_s(need_weights, masked):
    attention = nets.seeded(lambda: nn.MultiheadAttention(8, 2, batch_first=True, bias=False)).double().eval()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    options = {"need_weights": need_weights, "average_attn_weights": False}
    if masked:
        options["key_padding_mask"] = torch.tensor([[0.0] * 4 + [-torch.inf]] * 3).double()
        options["attn_mask"] = torch.zeros(6, 5, 5).double() - 0.3
    with torch.no_grad():
        expected = attention(x, x, x, **options)
        with heads_hooked(attention, lambda joined: None):
            found = attention(x, x, x, **options)
    torch.testing.assert_close(found, expected)
    assert "forward" not in vars(attention)


def test_other_layers_have_no_heads():
    message = (
        "the heads of nn.MultiheadAttention can be ablated, and those of layers with a number of heads (num_heads, "
        "num_attention_heads, n_heads) and a linear output projection (proj, out_proj, o_proj, to_out, c_proj, out_lin, o); "
        "got an object of type Linear. If the layer itself returns the joined heads, as BertSelfAttention does: "
        "ChannelAblator(model, layer, part=0, axis=-1, groups=HEADS)"
    )
    with pytest.raises(TypeError) as caught:
        fl.ChannelAblator.of_heads(double(Tokens), "head")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("build", "layer", "channels", "size"), CASES[:3], ids=[case[1] for case in CASES[:3]]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_mean_of_a_head_is_that_of_the_whole_loader(build, layer, channels, size):
    model, x = double(build).eval(), batch(5, channels, size)
    labels = torch.tensor([0, 1, 0, 2, 1])
    joined, changed = [], []
    with heads_hooked(model.get_submodule(layer), joined.append), torch.no_grad():
        model(x)
    mean = joined[0].mean((0, 1))
    heads = model.get_submodule(layer).num_heads

    def average(head):
        def change(found):
            found = found.unflatten(-1, (heads, -1)).clone()
            found[:, :, head] = mean.view(heads, -1)[head]
            return found.flatten(-2)

        return change

    loss = nn.CrossEntropyLoss()
    for head in range(heads):
        with heads_hooked(model.get_submodule(layer), average(head)), torch.no_grad():
            changed.append(loss(model(x), labels))
    loader = [(x[:2], labels[:2]), (x[2:], labels[2:])]
    found = fl.ChannelAblator.of_heads(model, layer).importance(loader, metric="loss", fill="mean")
    with torch.no_grad():
        torch.testing.assert_close(found.importance, torch.stack(changed) - loss(model(x), labels))
    assert repr(found).startswith(f"ImportanceResult({heads} heads of {layer}, loss ")
    assert found.plot().axes[0].get_xlabel() == "head, most important first"
