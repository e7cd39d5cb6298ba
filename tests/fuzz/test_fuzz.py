"""A part of the fuzzing session, and that the session calls every public function; the whole is ``nox -s fuzz``."""

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from tests.fuzz import outcome, users
from tests.fuzz.further_calls import CALLS
from tests.fuzz.session import session
from tests.unit.test_docstrings import public

CALLED = {part for name in CALLS for part in (name, name.split(" ")[0], name.split(".", 1)[-1])}
ABSTRACT = {"MutualInformation", "Parametrization", "Statistic", "Transform"}
MADE_BY_FUNCTIONS = {"StreamResult", "LayerStatistics"}  # besides the results that are dataclasses
OVERRIDDEN = {
    "Statistic": {"absorb", "check_labels", "combine", "measure", "summarize", "view", "responses"},
    "Parametrization": {"images", "start"},
    "Transform": {"__call__", "matrices", "needed"},
    "ImageStatistics": {"check_channels"},
}
"""Methods that featurelens calls: subclasses override them, and users have no reason to call them."""


def excused(value, owner):
    if isinstance(value, property):
        return True
    if inspect.isclass(value):
        return dataclasses.is_dataclass(value) or value.__name__ in ABSTRACT | MADE_BY_FUNCTIONS
    overridden = set().union(
        *(OVERRIDDEN.get(base.__name__, set()) for base in getattr(owner, "__mro__", ()))
    )
    takes = set(inspect.signature(value).parameters) - {"self", "cls"}
    return not takes or value.__name__ in overridden or (owner is not None and owner.__name__ in ABSTRACT)


@pytest.mark.parametrize(("value", "owner"), list(public()))
def test_the_session_calls_every_public_function(value, owner):
    if not excused(value, owner):
        assert (value.__name__ if owner is None else f"{owner.__name__}.{value.__name__}") in CALLED


@pytest.mark.parametrize("part", range(2))
def test_a_wrong_call_is_an_error_that_names_the_argument_and_changes_nothing(part):
    failures, _ = session(range(100 * part, 100 * part + 100), seed=0)
    assert not failures, "\n".join(
        f"{call}: {text}" for found in failures.values() for _, call, text in found
    )


class Planted:
    """A call that does wrong."""

    may_leave_files = False

    def __init__(self, fault):
        self.fault, self.array, self.model = fault, torch.zeros(3), nn.BatchNorm1d(2)

    def run(self):
        return self.fault(self)

    def fingerprint(self):
        return outcome.fingerprint({"array": self.array, "model": self.model})


def write(name, error=None):
    Path(name).write_text("half")
    if error:
        raise error


def never_end():
    while True:
        pass


DIVIDES = compile("np.float64(1) / 0", f"{outcome.SOURCE}/planted.py", "eval")
FAULTS = [
    (lambda call: call.array.add_(1), "changes a model or an array of the user"),
    (lambda call: call.array.requires_grad_(), "changes a model or an array of the user"),
    (lambda call: call.model(torch.ones(2, 2)), "changes a model or an array of the user"),
    (lambda call: call.model.eval(), "changes a model or an array of the user"),
    (lambda call: call.model.register_forward_hook(print), "changes a model or an array of the user"),
    (lambda call: torch.rand(1), "changes the random state of torch"),
    (lambda call: np.random.rand(1), "changes the random state of NumPy"),
    (lambda call: torch.set_grad_enabled(False), "changes whether gradients are on"),
    (lambda call: write("new.pt.tmp"), "leaves new.pt.tmp behind"),
    (lambda call: write("new.pt", ValueError("path")), "fails and leaves new.pt"),
    (lambda call: write("old.pt", ValueError("path")), "fails and changes old.pt"),
    (lambda call: eval(DIVIDES), "a warning that is not ours: RuntimeWarning: divide by zero"),
    (lambda call: never_end(), "takes more than 0.2 s"),
    (lambda call: object.__new__(fl.AblationCurve), "the result cannot be shown: AttributeError"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS, ids=range(len(FAULTS)))
def test_the_session_sees_a_planted_fault(fault, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outcome, "SECONDS", 0.2)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "old.pt").write_text("whole")
    (found,) = outcome.run(Planted(fault), str(tmp_path), str(tmp_path / "scratch"))[2]
    assert found.startswith(words)


def test_the_session_reads_errors():
    def judged(call, *, changed, texts=()):
        with pytest.raises(Exception) as caught:  # noqa: PT011  judged by the session
            call()
        said = outcome.judge_error(caught.value, changed, list(changed), texts)
        return said and said.partition(":")[0]

    assert judged(lambda: fl.statistics.TopK("a"), changed={"k": "a"}) is None
    assert judged(lambda: fl.statistics.TopK("a"), changed={"limit": 3}) == "TypeError does not name limit"
    assert judged(lambda: fl.list_layers(users.cnn(), torch.ones(1)), changed={"sample": 1}) is None
    assert (
        judged(lambda: fl.statistics.TopK(2).combine({}, {}), changed={"one": {}})
        == "KeyError from elsewhere"
    )
    raises = users.MODELS["raises"]()
    assert (
        judged(lambda: fl.objectives.custom("a", users.raises).terms[0][1].function(1), changed={"a": 1})
        is None
    )
    assert judged(lambda: raises(torch.ones(1)), changed={"model": raises}) is None
