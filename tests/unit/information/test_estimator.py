"""What all estimators share: input, options, seeds, results."""

import math
import warnings

import numpy as np
import pytest
import torch

import featurelens.information as fli
from featurelens.information.methods import METHODS

KSG = fli.KSGMutualInformation()
QUICK = {
    "binned": fli.BinnedMutualInformation(),
    "ksg": KSG,
    "copula": fli.CopulaMutualInformation(),
    "corrected_ksg": fli.CorrectedKSGMutualInformation(surrogates=1),
    "noisy_channel": fli.NoisyChannelMutualInformation(samples=1),
    "latent": fli.LatentMutualInformation(),
    "neural": fli.NeuralMutualInformation(steps=20, rotations=1),
    "renyi": fli.RenyiMutualInformation(max_samples=100),
    "auto": fli.AutomaticMutualInformation(),  # learns nothing from 200 samples
}


def pair(n=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=generator)
    return x, x + torch.randn(n, 2, generator=generator)


def same(a, b):
    return all(
        getattr(a, field) == getattr(b, field)
        for field in ("value", "interval", "null_mean", "p_value", "notes")
    )


def test_every_method_is_quickly_tested_here():
    assert {*QUICK, "probe"} == set(METHODS), "a probe needs labels: test_probe"


@pytest.mark.parametrize("name", QUICK)
def test_arrays_tensors_and_names_agree(name):
    x, y = pair()
    tensor = QUICK[name].estimate(x, y, seed=3)
    array = QUICK[name].estimate(x.numpy(), y.numpy(), seed=3)
    assert same(tensor, array)
    assert (tensor.n, tensor.dim_x, tensor.dim_y, tensor.units) == (200, 2, 2, "nats")
    settings = {field: getattr(QUICK[name], field) for field in QUICK[name].__dataclass_fields__}
    assert same(tensor, fli.mutual_information(x, y, method=name, seed=3, **settings))


@pytest.mark.parametrize("name", QUICK)
def test_same_seed_same_result_and_the_global_state_is_left_alone(name):
    x, y = pair()
    torch.manual_seed(5)
    np.random.seed(5)
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = QUICK[name].estimate(x, y, seed=torch.Generator().manual_seed(1))
    assert same(QUICK[name].estimate(x, y, seed=1), QUICK[name].estimate(x, y, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], before_numpy)
    torch.manual_seed(6)
    second = QUICK[name].estimate(x, y, seed=torch.Generator().manual_seed(1))
    assert same(first, second)


@pytest.mark.parametrize("name", [name for name in QUICK if name not in {"noisy_channel", "neural"}])
def test_interval_null_and_units(name):
    x, y = pair(400)
    options = {"confidence": 0.9, "null": "permutation", "permutations": 4, "seed": 0}
    nats, bits = (QUICK[name].estimate(x, y, units=units, **options) for units in ("nats", "bits"))
    low, high = nats.interval
    assert low < nats.value < high
    assert nats.standard_error > 0
    assert nats.null_mean < nats.value
    assert nats.p_value == pytest.approx(1 / 5)
    for field in ("value", "standard_error", "null_mean"):
        assert getattr(bits, field) == pytest.approx(getattr(nats, field) / math.log(2))
    assert bits.interval == pytest.approx([low / math.log(2), high / math.log(2)])


def test_null_is_calibrated():
    """On independent data p-values are uniform: neither small ones nor large ones pile up."""
    p = []
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        x, y = torch.randn(2, 60, generator=generator)
        p.append(KSG.estimate(x, y, null="permutation", permutations=19, seed=seed).p_value)
    p = np.array(p)
    assert 0.38 < p.mean() < 0.67  # uniform on 0.05 ... 1: 0.525, standard error 0.037
    assert (p <= 0.05).mean() < 0.16
    assert (p <= 0.5).mean() > 0.3


@pytest.mark.parametrize(("rho", "n"), [(0.0, 400), (0.75, 400)])
def test_standard_error_is_that_of_repetitions(rho, n):
    values, errors = [], []
    for seed in range(25):
        generator = torch.Generator().manual_seed(seed)
        x, z = torch.randn(2, n, generator=generator)
        result = KSG.estimate(x, rho * x + math.sqrt(1 - rho**2) * z, confidence=0.95, seed=seed)
        values.append(result.value)
        errors.append(result.standard_error)
    assert 0.6 < np.mean(errors) / np.std(values) < 1.6


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (torch.rand(5), torch.rand(6), ValueError, "x and y must have the same number of samples; got 5 (x (5,)) and 6 (y (6,))"),
        ([1.0, 2.0], torch.rand(2), TypeError, "x must be a torch tensor or a numpy array; got [1.0, 2.0]"),
        (torch.rand(9), torch.rand(9, 2, 2), ValueError, "y must have shape (N,) or (N, D); got float32 tensor (9, 2, 2)"),
        (torch.rand(0), torch.rand(0), ValueError, "x is empty: expected at least one sample and one column; got float32 tensor (0,)"),
        (torch.rand(9), torch.rand(9, 0), ValueError, "y is empty: expected at least one sample and one column; got float32 tensor (9, 0)"),
        (torch.ones(1), torch.rand(1), ValueError, "x must have at least 2 samples; got float32 tensor (1,)"),
        (torch.ones(9), torch.rand(9), ValueError, "x is constant (every sample is [1.0]): it cannot share information"),
        (torch.rand(9), torch.full((9,), 3), ValueError, "y is constant (one label, [3]): it cannot share information"),
        (torch.rand(9), torch.tensor([0.0] * 7 + [math.nan, math.inf]), ValueError, "y must be finite; got 2 NaN or infinite of 9 values"),
        (torch.rand(9), torch.rand(9, dtype=torch.complex64), TypeError, "y must hold real numbers; got complex64 tensor (9,)"),
        (np.array(["a", "b"]), torch.rand(2), TypeError, "x must hold numbers; got an array of dtype <U1; for labels pass numpy.unique(x, return_inverse=True)[1]"),
    ],
)  # fmt: skip
def test_bad_input_is_named(x, y, error, message):
    with pytest.raises(error) as caught:
        KSG.estimate(x, y)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"units": "shannon"}, ValueError, "units must be one of 'nats', 'bits'; got 'shannon'"),
        ({"null": "shuffle"}, ValueError, "null must be one of None, 'permutation'; got 'shuffle'"),
        ({"permutations": 0}, ValueError, "permutations must be at least 1; got 0"),
        ({"confidence": 95}, TypeError, "confidence must be a level such as 0.95, or None; got 95"),
        (
            {"confidence": 1.5},
            ValueError,
            "confidence must be between 0 and 1, such as 0.95; got 1.5",
        ),
        ({"seed": 1.5}, TypeError, "seed must be an int, a torch.Generator or None; got 1.5"),
    ],
)
def test_bad_options_are_named(options, error, message):
    with pytest.raises(error) as caught:
        KSG.estimate(*pair(), **options)
    assert str(caught.value) == message


def test_interval_needs_samples():
    x, y = pair(40)
    with pytest.raises(ValueError, match="confidence needs at least 50 samples; got 40"):
        KSG.estimate(x, y, confidence=0.95)


def test_unknown_method_and_setting():
    x, y = pair()
    with pytest.raises(ValueError, match=r"method must be one of 'auto', 'binned', 'ksg', .*; got 'mine'"):
        fli.mutual_information(x, y, method="mine")
    with pytest.raises(
        TypeError, match=r"^method 'ksg' has no setting 'bins'; it has k, variant, marginals$"
    ):
        fli.mutual_information(x, y, method="ksg", bins=3)


def test_constant_columns_are_left_out_and_said():
    x, y = pair()
    padded = torch.cat([x, torch.ones(200, 1)], dim=1)
    result = KSG.estimate(padded, y)
    assert result.value == KSG.estimate(x, y).value
    assert result.dim_x == 3
    assert result.notes == ("1 of 3 columns of x are constant and were left out",)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_types(dtype):
    x, y = pair()
    assert KSG.estimate(x.to(dtype), y.to(dtype), seed=0).value == pytest.approx(
        KSG.estimate(x, y).value, abs=0.1
    )


def test_awkward_arrays():
    x, y = (side.numpy() for side in pair())
    frozen = x.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = KSG.estimate(x, y).value
        assert KSG.estimate(frozen, y).value == expected
        assert KSG.estimate(x[::-1], y[::-1]).value == pytest.approx(expected)
        assert KSG.estimate(np.asfortranarray(x), y).value == expected
    labels = (x[:, 0] > 0).astype(np.uint16)
    assert KSG.estimate(labels, y).value == KSG.estimate(labels.astype(np.int64), y).value


def test_gradients_are_not_followed():
    x, y = pair()
    assert isinstance(KSG.estimate(x.requires_grad_(), y).value, float)


@pytest.mark.parametrize("estimator", QUICK.values(), ids=QUICK)
def test_repr_is_the_constructor_call(estimator):
    assert eval(repr(estimator), vars(fli)) == estimator


@pytest.mark.parametrize("estimator", QUICK.values(), ids=QUICK)
def test_classes_are_final_and_keyword_only(estimator):
    assert getattr(type(estimator), "__final__", False)
    with pytest.raises(TypeError, match="positional argument"):
        type(estimator)(3)


def test_a_result_reads_as_a_sentence():
    result = KSG.estimate(*pair(), confidence=0.95, null="permutation", permutations=3, seed=0)
    low, high = result.interval
    assert str(result) == (
        f"{result.value:.4f} nats (interval {low:.4f} to {high:.4f}; {result.excess:.4f} above the null "
        f"of {result.null_mean:.4f}, p = 0.25) by "
        f"KSG(k=5, variant=1, marginals='normal-score'), from 200 samples of 2 + 2 columns; ceiling 3.79 nats; "
        f"{result.notes[0]}"
    )
    assert repr(result).startswith("MutualInformationResult(")
    assert len(repr(result)) < 110
    assert result._repr_html_().startswith("<p><b>")
    assert float(result) == result.value
    assert result.to("bits").to("nats").value == pytest.approx(result.value)
    with pytest.raises(AttributeError):
        result.value = 0.0
    with pytest.raises(ValueError, match="units must be one of 'nats', 'bits'; got 'bans'"):
        result.to("bans")


def test_results_are_saved_and_loaded(tmp_path):
    x, y = pair()
    labels = (x[:, 0] > 0).long()
    maps = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    results = [
        KSG.estimate(x, y, confidence=0.95, null="permutation", permutations=2, units="bits"),
        fli.channel_information(x, labels, null="permutation", permutations=2),
        fli.spatial_mutual_information(maps, maps, pairings=2),
    ]
    for result in results:
        path = tmp_path / "result.pt"
        result.save(path)
        loaded = type(result).load(path)
        assert (repr(loaded), str(loaded)) == (repr(result), str(result))
        for field, value in vars(result).items():
            kept = getattr(loaded, field)
            assert torch.equal(kept, value) if isinstance(value, torch.Tensor) else kept == value, field
        with pytest.raises(AttributeError):
            result.units = "bits"
        other = next(kind for kind in map(type, results) if kind is not type(result))
        with pytest.raises(ValueError, match=rf"result\.pt was not written by {other.__name__}\.save"):
            other.load(path)
        assert result._repr_html_().startswith("<p><b>")
    (tmp_path / "result.pt").write_text("half of a file")
    with pytest.raises(ValueError, match=r"was not written by MutualInformationResult\.save"):
        fli.MutualInformationResult.load(tmp_path / "result.pt")
    with pytest.raises(FileNotFoundError):
        fli.MutualInformationResult.load(tmp_path / "none.pt")
    with pytest.raises(TypeError, match="path must be a file's path; got 3"):
        results[0].save(3)


def test_the_seed_is_0_unless_given():
    x, y = pair()
    for estimator in (
        fli.NoisyChannelMutualInformation(samples=1),
        fli.CorrectedKSGMutualInformation(surrogates=1),
    ):
        assert estimator.estimate(x, y) == estimator.estimate(x, y, seed=0)
        assert estimator.estimate(x, y).value != estimator.estimate(x, y, seed=1).value
    labels = (x[:, 0] > 0).long()
    one, other = (
        fli.channel_information(x, labels, null="permutation", permutations=3, **seed)
        for seed in ({}, {"seed": 0})
    )
    assert torch.equal(one.null_mean, other.null_mean)


def test_an_interval_says_what_it_does_not_cover():
    """KSG is too low in five columns, the lower the fewer the samples; in one column it is not."""
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 600, 5, generator=generator)
    several = KSG.estimate(x, x + noise, confidence=0.95, seed=0)
    single = KSG.estimate(x[:, 0], x[:, 0] + noise[:, 0], confidence=0.95, seed=0)
    (note,) = several.notes
    parts = note.split()[6]
    assert note == (
        f"60 samples at a time give {parts} nats, all of them {several.value:.4f}: the estimate still depends on the number of "
        "samples, which the interval does not cover"
    )
    assert float(parts) < several.interval[0]
    assert single.notes == ()


@pytest.mark.parametrize(
    "number", [np.int64(3), np.array(3), torch.tensor(3)], ids=["int64", "array", "tensor"]
)
def test_whole_numbers_of_any_kind_are_kept_as_ints(number):
    settings = {
        fli.KSGMutualInformation: "k",
        fli.CorrectedKSGMutualInformation: "k",
        fli.BinnedMutualInformation: "bins",
        fli.LatentMutualInformation: "dim",
        fli.NeuralMutualInformation: "rotations",
        fli.NoisyChannelMutualInformation: "samples",
        fli.ProbeMutualInformation: "folds",
        fli.RenyiMutualInformation: "max_samples",
    }
    for kind, name in settings.items():
        assert repr(kind(**{name: number})) == repr(kind(**{name: 3}))
    values, labels = torch.rand(60, 2, 4, 4), torch.arange(60) % 3
    for function, arguments in (
        (fli.spatial_mutual_information, (values[:, :1], values[:, 1:])),
        (fli.channel_information, (values, labels)),
    ):
        assert str(function(*arguments, bins=number)) == str(function(*arguments, bins=3))
