"""Every public name says what it takes, in which shape, and what it raises."""

import inspect
import re

import pytest

import featurelens as fl
from featurelens import (
    atlas,
    callbacks,
    describing,
    information,
    objectives,
    plotting,
    similarity,
    statistics,
    transforms,
)

MADE_BY_FUNCTIONS = {"LayerTable", "Layer", "MaximizationResult", "TappedModule", "FeatureExtractor"}
SHAPE = re.compile(r"\([A-Za-z0-9_]+,|shape|scalar")
ELSEWHERE = re.compile(r"see `|[Aa]s for `|[Aa]s by `|as `forward`")


def own(cls):
    """Methods and properties that featurelens defines for a class, by name, as plain functions."""
    for name in sorted({name for base in cls.__mro__ for name in vars(base) if ours(base)}):
        member = inspect.getattr_static(cls, name)
        member = getattr(member, "__func__", member)
        if (not name.startswith("_") or name == "__call__") and (
            isinstance(member, property) or inspect.isfunction(member)
        ):
            yield name, member


def ours(base):
    return base.__module__.startswith("featurelens")


def public():
    """Name, object, and the class it belongs to, of everything that a user may call."""
    for module in (
        fl,
        information,
        similarity,
        objectives,
        transforms,
        statistics,
        plotting,
        atlas,
        callbacks,
        describing,
    ):
        prefix = "" if module is fl else f"{module.__name__.rpartition('.')[2]}."
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value):
                yield pytest.param(value, None, id=f"{prefix}{name}")
                for method, member in own(value):
                    yield pytest.param(member, value, id=f"{prefix}{name}.{method}")
            elif inspect.isfunction(value):
                yield pytest.param(value, None, id=f"{prefix}{name}")


def text_of(value, owner):
    """The docstring; for a method those of the classes it comes from as well."""
    if owner is None:
        return inspect.getdoc(value) or ""
    name = (value.fget if isinstance(value, property) else value).__name__
    inherited = [vars(base)[name] for base in owner.__mro__ if ours(base) and name in vars(base)]
    return "\n".join(filter(None, (member.__doc__ for member in inherited))) or inspect.getdoc(value) or ""


PUBLIC = list(public())


@pytest.mark.parametrize(("value", "owner"), PUBLIC)
def test_a_public_name_says_what_it_does(value, owner):
    first = text_of(value, owner).strip().partition("\n")[0]
    assert first.endswith((".", ":")), first
    assert len(first) <= 120


@pytest.mark.parametrize(("value", "owner"), PUBLIC)
def test_a_public_name_says_what_it_takes_and_in_which_shape(value, owner):
    text = text_of(value, owner)
    if ELSEWHERE.search(text):  # and the place it names is checked as well
        return
    context = text + (inspect.getdoc(owner) or "" if owner else "")
    if isinstance(value, property):
        taken, returned = [], inspect.signature(value.fget).return_annotation
    else:
        signature = inspect.signature(value)
        returned = signature.return_annotation
        taken = [
            p
            for p in signature.parameters.values()
            if p.name not in {"self", "cls"} and not p.name.startswith("_")
        ]
        if value.__name__ not in MADE_BY_FUNCTIONS and value.__name__ != "forward":
            missing = [p.name for p in taken if not re.search(rf"\b{p.name}\b", context)]
            assert not missing, f"nothing is said of {missing}"
    annotations = [str(annotation) for annotation in (*(p.annotation for p in taken), returned)]
    if any("Tensor" in annotation or "Array" in annotation for annotation in annotations):
        assert SHAPE.search(context), "no shape is given"


@pytest.mark.parametrize(("value", "owner"), PUBLIC)
def test_a_public_name_says_what_it_raises(value, owner):
    if isinstance(value, property):
        return
    if inspect.isclass(value):
        makers = [getattr(value, name, None) for name in ("__init__", "__post_init__")]
        sources = [
            inspect.getsource(maker) for maker in makers if inspect.isfunction(maker) and in_file(maker)
        ]
        raises = any(re.search(r"\braise |\bcheck_\w+\(", source) for source in sources)
    else:
        called_wrongly = owner is None and bool(inspect.signature(value).parameters)
        raises = "raise " in inspect.getsource(value) or called_wrongly
    if raises:
        assert "Raises\n" in text_of(value, owner).replace("    ", "")


def in_file(function):
    """Whether the code was written by hand; a dataclass makes its own."""
    return function.__code__.co_filename != "<string>"
