"""The guard on model state: no test may leave a model that featurelens was given other than it was."""

import sys

import pytest
import torch

import featurelens.ablation
import featurelens.layers
import featurelens.maximization
import featurelens.recording
import featurelens.similarity

WATCHED = (
    featurelens.ablation,
    featurelens.layers,
    featurelens.maximization,
    featurelens.recording,
    featurelens.similarity,
)  # rooms are imported when first used: here, before any test

pytest.register_assert_rewrite("tests.state")

from tests.state import snapshot


@pytest.fixture(autouse=True)
def model_state_guard(request, monkeypatch):
    """Snapshot every model when it is first handed to featurelens, and compare when the test ends."""
    before = {}

    def watching(check):
        def checked(model, **kwargs):
            checked_model = check(model, **kwargs)
            before.setdefault(id(model), (model, snapshot(model)))
            return checked_model

        return checked

    for name, room in list(sys.modules.items()):
        if (
            name.startswith("featurelens.")
            and name != "featurelens._checks"
            and hasattr(room, "check_module")
        ):
            monkeypatch.setattr(room, "check_module", watching(room.check_module))
    yield
    if request.node.get_closest_marker("changes_model"):
        return
    for model, state in before.values():
        assert snapshot(model) == state, f"{type(model).__name__} did not come back as it was"


@pytest.fixture(autouse=True)
def grad_mode():
    """No test may leave autograd, or the default dtype, other than it was."""
    yield
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() is torch.float32
