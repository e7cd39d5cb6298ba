"""Going back through a chain: adjoint where it should be, the right size always, unpooling with ties."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featurelens as fl
from featurelens.ablation.deconvolution import unpool
from tests import nets
from tests.state import random_state, snapshot
from tests.unit.ablation.nets import Skips, batch, double


def encoder():
    return nets.seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()
        )
    ).double()


class Functional(nn.Module):
    """The same chain with functions, inside a model that goes on to class scores."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = self.conv2(x).relu()
        return self.fc(x.mean((2, 3)))


CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": 5, "stride": 3, "padding": 2},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1)},
    {"kernel_size": 3, "dilation": 2, "stride": 2},
    {"kernel_size": 2, "dilation": 3, "padding": 1},
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": 3, "padding": "valid"},
    {"kernel_size": (4, 2), "padding": "same"},
    {"kernel_size": 2, "padding": "same", "dilation": 3},
    {"kernel_size": 3, "groups": 2, "stride": 2, "padding": 1},
    {"kernel_size": 1, "stride": 3},
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("size", [(11, 12), (13, 10)])
def test_tied_convolutions_are_adjoint(options, size):
    conv = nets.seeded(lambda: nn.Conv2d(4, 6, **options)).double()
    x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    decoder = fl.DeconvDecoder(conv)
    code = decoder.encode(x)
    y = torch.rand_like(code.features)
    expected = torch.autograd.grad(code.features, x, y)[0]
    torch.testing.assert_close(decoder.decode(code, features=y), expected)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_learned_convolutions_give_images_of_the_right_size(options):
    conv = nn.Conv2d(4, 6, **options)
    decoder = fl.DeconvDecoder(conv, weights="learned")
    assert decoder(torch.rand(2, 4, 11, 13)).shape == (2, 4, 11, 13)
    assert [tuple(p.shape) for p in decoder.parameters()] == [tuple(conv.weight.shape), (4,)]


POOLS = [
    {"kernel_size": 2},
    {"kernel_size": 3},
    {"kernel_size": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True},
    {"kernel_size": (3, 2), "padding": (1, 0)},
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 2, "dilation": 2},
    {"kernel_size": 2, "stride": 3},
]


@pytest.mark.parametrize("options", [*POOLS[:5], POOLS[-1]], ids=str)
@pytest.mark.parametrize("ties", [False, True])
def test_pooling_what_was_unpooled_gives_it_back(options, ties):
    x = torch.rand(2, 3, 11, 14, dtype=torch.float64) + 0.1
    x = x.mul(3).ceil() if ties else x
    pool = nn.MaxPool2d(**options)
    pooled, switches = F.max_pool2d(
        x, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True
    )
    back = unpool(pooled, switches, (11, 14))
    torch.testing.assert_close(pool(back), pooled)
    assert (torch.isclose(back, x) | (back == 0)).all()


def test_unpooling_is_max_unpool_where_windows_do_not_overlap():
    x = torch.randn(2, 3, 9, 8)
    pooled, switches = F.max_pool2d(x, 2, return_indices=True)
    expected = F.max_unpool2d(pooled, switches, 2, output_size=(9, 8))
    assert torch.equal(unpool(pooled, switches, (9, 8)), expected)


@pytest.mark.changes_model
def test_a_window_of_equal_values_goes_back_to_one_place():
    decoder = fl.DeconvDecoder(nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.MaxPool2d(2)))
    with torch.no_grad():
        decoder.encoder[0].weight.fill_(-1)
        back = decoder(-torch.ones(1, 1, 4, 4))
    assert (back != 0).sum() == 4
    assert (back[0, 0, ::2, ::2] != 0).all()  # the first of equal values


@pytest.mark.parametrize("options", POOLS, ids=str)
def test_unpooling_is_the_gradient_of_pooling(options):
    x = torch.randn(2, 3, 11, 14, dtype=torch.float64, requires_grad=True)
    pool = nn.MaxPool2d(**options)
    pooled, switches = F.max_pool2d(
        x, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True
    )
    y = torch.randn_like(pooled)
    torch.testing.assert_close(unpool(y, switches, (11, 14)), torch.autograd.grad(pooled, x, y)[0])


def test_overlapping_windows_with_one_maximum_give_the_sum():
    switches = torch.tensor([[[[4, 4]]]])
    back = unpool(torch.tensor([[[[1.0, 3.0]]]]), switches, (3, 3))
    assert back.flatten().tolist() == [0, 0, 0, 0, 4, 0, 0, 0, 0]


def by_hand(model, x):
    """The deconvolutional network of `encoder`, written out."""
    conv1, _, _, conv2, _ = model
    first = F.relu(conv1(x))
    pooled, switches = F.max_pool2d(first, 2, return_indices=True)
    back = F.conv_transpose2d(F.relu(conv2(pooled)), conv2.weight, padding=1)
    back = F.max_unpool2d(back, switches, 2, output_size=first.shape[2:])
    return F.conv_transpose2d(F.relu(back), conv1.weight)


def test_the_whole_way_back_by_hand():
    model, x = encoder(), batch()
    torch.testing.assert_close(fl.DeconvDecoder(model)(x), by_hand(model, x))
    functional = double(Functional)
    functional.load_state_dict(
        {
            "conv1.weight": model[0].weight,
            "conv1.bias": model[0].bias,
            "conv2.weight": model[3].weight,
            "conv2.bias": model[3].bias,
            "fc.weight": functional.fc.weight,
            "fc.bias": functional.fc.bias,
        }
    )
    decoder = fl.DeconvDecoder(functional, "conv2")
    assert decoder.layers == ("conv1", "relu", "max_pool2d", "conv2")
    torch.testing.assert_close(decoder(x), by_hand(model, x))


def test_a_sweep_is_the_way_back_from_every_channel():
    model, x = encoder(), batch()
    decoder = fl.DeconvDecoder(model)
    for name, module, stop in (
        ("4", model[4], 5),
        ("3", model[3], 4),
        ("0", model[0], 1),
        ("2", model[2], 3),
    ):
        ablator = fl.ChannelAblator(model, name, decoder=decoder)
        result = ablator.sweep(x, mode="keep", chunk=3)
        assert result.notes == ()
        code = decoder.encode(x, layer=module)
        torch.testing.assert_close(code.features, model[:stop](x))
        torch.testing.assert_close(result.baseline, decoder.decode(code))
        for channel in result.channels:
            kept = torch.zeros_like(code.features)
            kept[:, channel] = code.features[:, channel]
            torch.testing.assert_close(result.outputs[channel], decoder.decode(code, features=kept))
    assert result.reconstructions is result.outputs


def test_batchnorm_gives_its_scale_back():
    norm = nn.BatchNorm2d(3).double().eval()
    norm.weight.data = torch.tensor([1.0, -2.0, 3.0]).double()
    norm.running_var = torch.tensor([1.0, 4.0, 0.25]).double()
    norm.running_mean += 1
    model = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False).double(), norm)
    x = batch().requires_grad_()
    decoder = fl.DeconvDecoder(model)
    code = decoder.encode(x)
    y = torch.rand_like(code.features)
    torch.testing.assert_close(decoder.decode(code, features=y), torch.autograd.grad(code.features, x, y)[0])


def test_a_learned_branch_learns():
    model = nets.seeded(lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2)))
    decoder = fl.DeconvDecoder(model, weights="learned")
    x = nets.images(32)
    steps = torch.optim.Adam([*model.parameters(), *decoder.parameters()], 0.02)
    losses = []
    for _ in range(60):
        loss = F.mse_loss(decoder(x), x)
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert losses[-1] < x.var()


test_a_learned_branch_learns = pytest.mark.changes_model(test_a_learned_branch_learns)


def test_the_encoder_is_no_part_of_the_decoder():
    model = encoder()
    decoder = fl.DeconvDecoder(model, weights="learned")
    assert not {id(p) for p in decoder.parameters()} & {id(p) for p in model.parameters()}
    assert list(decoder.state_dict()) == [
        f"deconvolutions.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")
    ]
    assert decoder.encoder is model
    assert list(fl.DeconvDecoder(model).parameters()) == []


def test_tied_weights_are_the_encoder_s_present_ones():
    model, x = encoder(), batch()
    decoder = fl.DeconvDecoder(model)
    before = decoder(x)
    with torch.no_grad():
        model[0].weight *= 2
    after = decoder(x)
    with torch.no_grad():
        model[0].weight /= 2
    assert not torch.allclose(before, after)


def test_seeds_and_the_global_state():
    model, before = encoder(), random_state()
    weights = [next(fl.DeconvDecoder(model, weights="learned", seed=seed).parameters()) for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert random_state() == before
    assert weights[0].dtype is torch.float64


def test_a_joint_model_is_swept_through_its_own_forward():
    class Joint(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder()
            self.decoder = fl.DeconvDecoder(self.encoder, weights="learned")
            self.head = nn.Linear(6, 3).double()

        def forward(self, x):
            code = self.decoder.encode(x)
            return self.head(code.features.mean((2, 3))), self.decoder.decode(code)

    model, x = Joint(), batch()
    whole = fl.ChannelAblator(model, "encoder.4", output=1).sweep(x)
    decoded = fl.ChannelAblator(model.encoder, "4", decoder=model.decoder).sweep(x)
    torch.testing.assert_close(whole.outputs, decoded.outputs)
    assert whole.notes == ()
    assert fl.ChannelAblator(model, "encoder.0", output=1).sweep(x).notes == ()
    copied = copy.deepcopy(model)
    torch.testing.assert_close(copied(x)[1], model(x)[1])
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)


def test_any_module_may_be_the_decoder():
    model, x = encoder(), batch()
    decode = nn.Sequential(nn.Upsample(8), nn.Conv2d(6, 1, 1).double())
    result = fl.ChannelAblator(model, "4", decoder=decode).sweep(x, mode="keep")
    features = model(x).detach()
    kept = torch.zeros_like(features)
    kept[:, 2] = features[:, 2]
    torch.testing.assert_close(result.outputs[2], decode(kept).detach())
    assert result.reconstructions is not None


def test_large_chains_of_torchvision():
    models = pytest.importorskip("torchvision.models")
    for name, layer, size in (("alexnet", "features.12", 70), ("vgg11_bn", "features.10", 33)):
        model = nets.seeded(lambda name=name: getattr(models, name)(weights=None)).eval()
        decoder = fl.DeconvDecoder(model, layer)
        x = torch.rand(1, 3, size, size + 3)
        assert decoder(x).shape == x.shape
        result = fl.ChannelAblator(model, layer, decoder=decoder).sweep(x, channels=[0, 7])
        assert result.reconstructions.shape == (2, 1, 3, size, size + 3)


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)

    def forward(self, x):
        return self.conv(x) + x


def circular():
    return nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), nn.ReLU())


def features_of_two():
    decoder = fl.DeconvDecoder(encoder())
    decoder.decode(decoder.encode(batch()), features=torch.zeros(2, 6, 3, 3))


ONLY = ": only these can be mirrored: Conv2d, BatchNorm2d, ReLU, PReLU, LeakyReLU, MaxPool2d and Dropout, one after the other"
HINT = "; choose the layer to decode from with layer="
MISUSE = [
    (lambda: fl.DeconvDecoder("cnn"), TypeError, "encoder must be an nn.Module; got 'cnn'"),
    (
        lambda: fl.DeconvDecoder(encoder(), weights="own"),
        ValueError,
        "weights must be one of 'tied', 'learned'; got 'own'",
    ),
    (
        lambda: fl.DeconvDecoder(encoder(), "conv_9"),
        LookupError,
        "no layer matches 'conv_9'; there are conv_1 to conv_2",
    ),
    (
        lambda: fl.DeconvDecoder(encoder(), nn.ReLU),
        ValueError,
        "layer must select one layer that is called once; got the class ReLU",
    ),
    (
        lambda: fl.DeconvDecoder(double(Functional)),
        ValueError,
        f"there is no mirror of layer 'fc', Linear(in_features=6, out_features=3, bias=True){ONLY}{HINT}",
    ),
    (
        lambda: fl.DeconvDecoder(Joined()),
        ValueError,
        f"there is no mirror of the operation 'add': it takes 2 tensors{HINT}",
    ),
    (
        lambda: fl.DeconvDecoder(double(Skips), "up"),
        ValueError,
        f"there is no mirror of layer 'up', ConvTranspose2d(5, 3, kernel_size=(2, 2), stride=(2, 2)){ONLY}",
    ),
    (
        lambda: fl.DeconvDecoder(circular()),
        ValueError,
        (
            "there is no mirror of layer '0', Conv2d(1, 1, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), "
            f"padding_mode=circular){ONLY}"
        ),
    ),
    (
        lambda: fl.DeconvDecoder(nn.ReLU()),
        ValueError,
        "the encoder has no convolution to mirror; its steps are 0",
    ),
    (
        lambda: fl.DeconvDecoder(nets.seeded(nets.Reused), "act"),
        ValueError,
        "layer 'act' is called 3 times; the decoder needs a layer that is called once",
    ),
    (
        lambda: fl.DeconvDecoder(nets.seeded(nets.DataDependent)),
        RuntimeError,
        (
            "DataDependent cannot be traced (TraceError: forward converts a tensor to a Python number): "
            "pass the decoder a part of it that is a chain of layers"
        ),
    ),
    (
        lambda: fl.DeconvDecoder(encoder())(torch.rand(2, 8)),
        ValueError,
        "images must be (N, C, H, W) with no empty dimension; got float32 tensor (2, 8)",
    ),
    (
        lambda: fl.ChannelAblator(encoder(), "4", decoder=fl.DeconvDecoder(encoder())),
        ValueError,
        (
            "the decoder does not start from layer '4': it mirrors 0, 1, 2, 3, 4 of Sequential, and the layer must "
            "be one of these modules"
        ),
    ),
    (
        lambda: fl.ChannelAblator(encoder(), "4", decoder=len),
        TypeError,
        "decoder must be an nn.Module; got an object of type builtin_function_or_method",
    ),
    (
        lambda: fl.ChannelAblator(encoder(), "4", decoder=nn.Conv2d(5, 1, 1).double()).sweep(batch()),
        RuntimeError,
        (
            "the decoder failed on the output of layer '4' (float64 tensor (3, 6, 3, 3)): RuntimeError: Given groups=1, "
            "weight of size [1, 5, 1, 1], expected input[3, 6, 3, 3] to have 5 channels, but got 6 channels instead"
        ),
    ),
    (
        lambda: fl.ChannelAblator(encoder(), "4", decoder=nn.Flatten(0)).sweep(batch()),
        ValueError,
        "the decoder must return images (N, ...) for float64 tensor (3, 6, 3, 3); it returned float64 tensor (162,)",
    ),
    (
        features_of_two,
        ValueError,
        "features must be (V * 3, 6, 3, 3), V variants of every image; got float32 tensor (2, 6, 3, 3)",
    ),
    (
        lambda: fl.DeconvDecoder(encoder(), seed="a"),
        TypeError,
        "seed must be an int, a torch.Generator or None; got 'a'",
    ),
    (
        lambda: fl.DeconvDecoder(encoder())(torch.rand(0, 1, 8, 8)),
        ValueError,
        "images must be (N, C, H, W) with no empty dimension; got float32 tensor (0, 1, 8, 8)",
    ),
    (
        lambda: fl.DeconvDecoder(encoder())(torch.rand(2, 1, 8, 8, device="meta")),
        TypeError,
        "images must be a dense tensor; got a meta float32 tensor (2, 1, 8, 8) on meta",
    ),
    (
        lambda: fl.DeconvDecoder(encoder())(torch.rand(2, 7, 8, 8)),
        RuntimeError,
        (
            "the model failed on images (float32 tensor (2, 7, 8, 8)) in layer '0', Conv2d(1, 4, kernel_size=(3, 3), "
            "stride=(1, 1)): RuntimeError: Input type (float) and bias type (double) should be the same; "
            "its parameters are float64, and it was given float32"
        ),
    ),
    (lambda: fl.DeconvDecoder(encoder()).decode(3), TypeError, "encoding must be what encode returns; got 3"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISUSE, ids=range(len(MISUSE)))
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


class Normalizing(nn.Module):
    """Every image it makes depends on all others in its batch."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 1, 3)
        self.norm = nn.BatchNorm2d(1, track_running_stats=False)

    def forward(self, features):
        return self.norm(self.up(features))


class Sized(Normalizing):
    """It knows batches of three only."""

    def forward(self, features):
        return self.up(features).reshape(3, 1, 8, 8)


@pytest.mark.parametrize("build", [Normalizing, Sized])
@pytest.mark.parametrize("chunk", [1, None])
def test_a_decoder_that_couples_images_gets_every_variant_alone(build, chunk):
    network = nets.seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())).double()
    decoder, x = nets.seeded(build).double().eval(), nets.images(3).double()
    result = fl.ChannelAblator(network, "0", decoder=decoder).sweep(x, mode="keep", chunk=chunk)
    assert len(result.notes) == 1
    assert result.notes[0].startswith("the decoder ran once for every variant (")
    with torch.no_grad():
        features = network[0](x)
        for channel, outputs in enumerate(result.outputs):
            alone = torch.zeros_like(features)
            alone[:, channel] = features[:, channel]
            torch.testing.assert_close(outputs, decoder(alone))
        torch.testing.assert_close(result.baseline, decoder(features))


def test_encoder_and_decoder_are_left_as_they_were():
    encoder = nets.seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())).train()
    decoder = nets.seeded(lambda: nn.Sequential(nn.ConvTranspose2d(4, 1, 3), nn.BatchNorm2d(1))).train()
    mirror, x = fl.DeconvDecoder(encoder), nets.images(3)
    before = snapshot(encoder), snapshot(decoder)
    ablator = fl.ChannelAblator(nn.Sequential(encoder[2]), "0", decoder=mirror)  # a part of the encoder
    result = ablator.sweep(x)
    fl.ChannelAblator(encoder, "2", decoder=decoder).sweep(x)
    assert (snapshot(encoder), snapshot(decoder)) == before
    encoder.eval()
    assert torch.equal(ablator.sweep(x).outputs, result.outputs)
    encoder.train()


def test_a_decoder_that_takes_images_one_by_one_runs_on_all_variants():
    network = nets.seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()))
    decoder = nets.seeded(lambda: nn.Sequential(nn.ConvTranspose2d(4, 1, 3), nn.BatchNorm2d(1)))
    assert fl.ChannelAblator(network, "0", decoder=decoder).sweep(nets.images(3)).notes == ()
