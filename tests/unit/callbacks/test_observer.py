"""The observer: when it looks, what it logs, and that the training does not notice."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import featurelens as fl
from featurelens.callbacks import Observer
from featurelens.callbacks.map_statistics import MapStatistics
from tests.state import random_state, snapshot

PER_LOOK = ["activation_mean", "activation_std", "active_share", "dead_share", "not_finite_share"]


class Logged(list):
    """A logger that keeps what it is given."""

    def __call__(self, values, step):
        assert all(type(value) is float for value in values.values())
        self.append((step, values))

    @property
    def steps(self):
        return [step for step, _ in self]


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3)
        )


@pytest.fixture(scope="module")
def images():
    return torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))


LABELS = torch.arange(60) % 3


def trained(model, images, observer=None, epochs=2):
    """Train a few steps; return the model's state, the optimizer's and that of the random generators."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters())
    model[1].eval()  # a mode that only its owner would set
    for _ in range(epochs):
        for rows in torch.randperm(60).split(20):
            nn.functional.cross_entropy(model(images[rows]), LABELS[rows]).backward()
            optimizer.step()
            if observer:
                observer.on_batch_end()
            optimizer.zero_grad(set_to_none=False)
        if observer:
            observer.on_epoch_end()
    return model.state_dict(), optimizer.state_dict()["state"], torch.get_rng_state()


@pytest.mark.changes_model
def test_training_is_the_same_to_the_last_bit(images):
    model = network()
    observer = Observer(
        model, "*", images, LABELS, log=Logged(), every=1, pictures="0:1", draw=lambda result, step: None
    )
    torch.testing.assert_close(trained(model, images, observer), trained(network(), images), rtol=0, atol=0)


def test_a_look_leaves_modes_gradients_and_random_numbers(images):
    model = network()
    model(images).sum().backward()
    model[2].eval()
    observer = Observer(
        model, "*", images, LABELS, log=Logged(), pictures=["5:0"], draw=lambda result, step: None
    )
    before = snapshot(model), random_state()
    observer.on_batch_end()
    observer.on_epoch_end()
    assert (snapshot(model), random_state()) == before


def test_it_looks_after_the_first_batch_every_so_many_and_each_epoch(images):
    logged = Logged()
    observer = Observer(network(), "relu_1", images, LABELS, log=logged, every=3)
    for _ in range(2):
        for _ in range(4):
            observer.on_batch_end()
        observer.on_epoch_end()
    assert logged.steps == [1, 3, 4, 6, 8]
    look = [f"{measure}/2" for measure in PER_LOOK]
    start = [*look, "information_nats/2"]
    end = [*look, "information_nats/2", "similarity/2", "epochs_ended"]
    assert [list(values) for _, values in logged] == [start, look, end, look, end]
    assert [values["epochs_ended"] for _, values in logged if "epochs_ended" in values] == [1, 2]


def test_steps_are_the_users_or_those_counted(images):
    logged = Logged()
    observer = Observer(network(), "relu_1", images, log=logged)
    observer.on_epoch_end()
    observer.on_epoch_end(step=70)
    observer.on_batch_end(step=71)
    observer.on_epoch_end()
    assert logged.steps == [1, 70, 71, 1]
    assert "similarity/2" not in logged[0][1]
    assert logged[1][1]["similarity/2"] == pytest.approx(1)


class Returning(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.values = values

    def forward(self, x):
        return self.values


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    shift=st.sampled_from([-1.0, 0.0, 30.0]),
    broken=st.sampled_from([None, math.nan, math.inf, -math.inf]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int32]),
    seed=st.integers(0, 99),
)
def test_activity_is_that_of_a_slow_replica(shape, scale, shift, broken, dtype, seed):
    values = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + shift) * scale
    values = values.to(dtype)
    if broken is not None and dtype != torch.int32:
        values[(0,) * len(shape)] = broken
    logged = Logged()
    images = torch.zeros(len(values), 1)
    Observer(Returning(values), "", images, log=logged, reduce=lambda output: output).on_batch_end()

    maps = values.double().reshape(shape[0], shape[1], -1)
    kept = [[map_ for map_ in channel if map_.isfinite().all()] for channel in maps.transpose(0, 1)]
    every = torch.cat([torch.stack(channel).flatten() for channel in kept if channel] or [torch.empty(0)])
    dead = [bool(channel) and not any((map_ > 0).any() for map_ in channel) for channel in kept]
    expected = [
        float(every.mean()),
        float(every.std(correction=0)) if len(every) else math.nan,
        float((every > 0).double().mean()),
        sum(dead) / shape[1],
        1 - sum(map(len, kept)) / (shape[0] * shape[1]),
    ]
    for measure, wanted in zip(PER_LOOK, expected, strict=True):
        tolerance = 1e-5 * scale * max(1, abs(shift)) if measure.startswith("activation") else 1e-12
        assert logged[0][1][f"{measure}/model"] == pytest.approx(wanted, rel=1e-5, abs=tolerance, nan_ok=True)


def test_statistics_of_parts_are_those_of_the_whole():
    values = torch.randn(7, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    whole, parts = MapStatistics(), MapStatistics()
    whole.update(values)
    for part in values.split(3):
        parts.update(part)
    for field in ("mean", "scatter", "active", "positions"):
        one, other = (getattr(statistic.compute(), field) for statistic in (whole, parts))
        torch.testing.assert_close(one, other)


def test_channels_that_are_never_positive_are_dead(images):
    model, logged = network(), Logged()
    with torch.no_grad():
        model[1].bias[:3] -= 1e3
    Observer(model, "relu_1", images, log=logged).on_batch_end()
    assert logged[0][1]["dead_share/2"] == 0.75


@pytest.mark.changes_model
def test_similarity_is_the_cka_of_channel_means_with_the_epoch_before(images):
    model, logged = network(), Logged()
    recorder = fl.ActivationRecorder(model, "relu_1", reduce="mean")
    observer = Observer(model, "relu_1", images, log=logged, every=1)
    observer.on_batch_end()
    means = [recorder(images)["2"]]
    for epoch in range(2):
        for _ in range(2):  # a batch within the epoch is not what an epoch is compared with
            with torch.no_grad():
                model[0].weight.copy_(torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(epoch)))
            observer.on_batch_end()
        means.append(recorder(images)["2"])
        observer.on_epoch_end()
    found = [values["similarity/2"] for _, values in logged if "similarity/2" in values]
    assert found == pytest.approx(
        [fl.similarity.cka(*means[:2]).value, fl.similarity.cka(*means[1:]).value], abs=1e-6
    )
    assert max(found) < 0.99


def test_information_is_the_mean_over_channels():
    images = torch.rand(150, 1, 8, 8, generator=torch.Generator().manual_seed(0))  # in three passes
    labels = (images[:, 0, :, :4].mean((1, 2)) > 0.5).long()
    logged = Logged()
    Observer(network(), "conv_1", images, labels, log=logged).on_batch_end()
    means = fl.ActivationRecorder(network(), "conv_1", reduce="mean")(images)["0"]
    expected = fl.channel_information(means, labels, progress=False).values.mean()
    assert expected > 0.02
    assert logged[0][1]["information_nats/0"] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.changes_model
def test_a_network_that_diverges_is_no_error(images):
    model, logged, drawn = network(), Logged(), []
    observer = Observer(
        model,
        "relu_1",
        images,
        LABELS,
        log=logged,
        pictures="0:1",
        draw=lambda result, step: drawn.append(step),
    )
    observer.on_batch_end()
    with torch.no_grad():
        model[0].weight.fill_(math.nan)
    with pytest.warns(RuntimeWarning, match="no pictures at step 1: "):
        observer.on_epoch_end()
    values = logged[-1][1]
    assert values["not_finite_share/2"] == 1
    assert values["dead_share/2"] == 0
    assert all(
        math.isnan(values[f"{name}/2"]) for name in ("activation_mean", "similarity", "information_nats")
    )
    assert drawn == [1]


def test_a_constant_layer_has_no_similarity_and_no_information(images):
    model, logged = network(), Logged()
    with torch.no_grad():
        model[1].bias -= 1e3
    observer = Observer(model, "relu_1", images, LABELS, log=logged)
    observer.on_batch_end()
    observer.on_epoch_end()
    assert math.isnan(logged[-1][1]["similarity/2"])
    assert logged[-1][1]["information_nats/2"] == 0


def test_one_of_several_processes_looks_alone(images, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    logged = Logged()
    Observer(network(), "relu_1", images, log=logged).on_batch_end()
    assert logged.steps == [1]


def test_a_dict_of_arguments_is_a_batch(images):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, tokens, mask):
            return self.fc(tokens) * mask[..., None]

    tokens, logged = torch.rand(12, 5, 4), Logged()
    batch = {"tokens": tokens, "mask": torch.ones(12, 5)}
    Observer(Net(), "fc", batch, torch.arange(12) % 2, log=logged).on_batch_end()
    assert "information_nats/fc" in logged[0][1]


def test_names_tell_calls_apart_and_are_those_that_mlflow_accepts(images):
    act = nn.ReLU()
    logged = Logged()
    Observer(nn.Sequential(act, nn.Conv2d(1, 2, 3), act), act, images, log=logged).on_batch_end()
    names = list(logged[0][1])
    assert [name for name in names if "dead" in name] == ["dead_share/0 call 1", "dead_share/0 call 2"]
    assert all(re.fullmatch(r"[\w\-. :/]+", name) for name in names)


class Run:
    """A run of Weights & Biases: values whose step is behind its counter are dropped."""

    def __init__(self):
        self.kept, self.counter, self.metrics = [], 0, {}

    def define_metric(self, name, step_metric=None):
        assert name not in self.metrics
        self.metrics[name] = step_metric

    def log(self, data, step=None):
        if step is None or step >= self.counter:
            self.kept.append(data)
            self.counter = self.counter + 1 if step is None else step


@pytest.mark.parametrize("given", ["run", "run.log"])
def test_weights_and_biases_drops_nothing_though_its_own_counter_is_ahead(images, given):
    run = Run()
    observer = Observer(network(), "conv_1", images, log=run if given == "run" else run.log, every=2)
    for _ in range(4):
        run.log({"loss": 1.0})
        run.log({"accuracy": 0.5})
        observer.on_batch_end()
    observer.on_epoch_end()
    observed = [values["observed_step"] for values in run.kept if "observed_step" in values]
    assert observed == [1, 2, 4, 4]
    assert run.kept[-1]["epochs_ended"] == 1
    assert set(run.metrics.values()) == {"observed_step"}


def test_another_method_of_a_run_is_called_as_it_is(images):
    class Mine(Run):
        def prefixed(self, values, *, step):
            self.log({f"mine/{name}": value for name, value in values.items()})

    run = Mine()
    Observer(network(), "conv_1", images, log=run.prefixed).on_batch_end()
    assert all(name.startswith("mine/") for name in run.kept[0])


def test_a_training_that_goes_on_tells_how_many_epochs_have_ended(images):
    logged = Logged()
    observer = Observer(network(), "conv_1", images, log=logged)
    observer.on_epoch_end(step=30, epoch=3)
    observer.on_epoch_end(step=40)
    assert [values["epochs_ended"] for _, values in logged] == [3, 4]
    with pytest.raises(ValueError, match=r"^epoch must be at least 0; got -1"):
        observer.on_epoch_end(epoch=-1)
    with pytest.raises(ValueError, match=r"^epoch must be at most 9007199254740992; got 1000"):
        observer.on_epoch_end(epoch=10**400)
