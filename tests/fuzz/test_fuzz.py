"""A part of the fuzzing session, and that the session calls every public function; the whole is ``nox -s fuzz``."""

import dataclasses
import inspect

import pytest

from tests.fuzz.calls import CALLS
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
