"""The house: what imports what, what importing costs, how long things are, and that public names say what they are."""

import ast
import dataclasses
import importlib
import inspect
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import featurelens as fl
from featurelens import plotting
from featurelens._html import Shown
from featurelens._saving import SavedResult
from featurelens.information.estimator import MutualInformation
from featurelens.statistics import Statistic
from featurelens.statistics.cells import Cells

SOURCE = pathlib.Path(fl.__file__).parent
LEVEL = {
    "statistics": 0.5,
    "storage": 0.5,
    "recording": 1,
    "information": 2,
    "similarity": 2,
    "maximization": 2,
    "ablation": 2,
    "objectives": 2.5,
    "transforms": 2.5,
    "describing": 2.5,
    "plotting": 3,
    "tensorboard": 3.5,
    "callbacks": 3.75,
    "atlas": 4,
}
HEAVY = {"torchvision", "matplotlib", "scipy", "sklearn", "tqdm", "tensorboard", "numba"}
STATEFUL = {"ModuleCall", "Built", "Trace", "Suffix", "ModelSuffix", "DecoderSuffix", "ChannelHooks", "_Call"}
OF_KEYWORDS = {
    "Counts",
    "EllipticalCopula",
    "MaximizationResult",
    "Measurement",
    "Options",
    "RealImageComparison",
}
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 350, 55


def room(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def level(name):
    """The level of a room; a room without one is a file of the ground floor."""
    assert name in LEVEL or not (SOURCE / name).is_dir()
    return LEVEL.get(name, 0)


def imports(path):
    """Pairs of a module that a file imports, anywhere in it, and whether importing the file imports it."""
    tree = ast.parse(path.read_text())
    at_top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names = [node.module]
            if node.module == "featurelens":
                names = [f"featurelens.{alias.name}" for alias in node.names]
            yield from ((name, id(node) in at_top) for name in names)


FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.name != "__init__.py")
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))


@each_file
def test_imports_point_one_way(path):
    mine = level(room(path))
    for name, at_top in imports(path):
        if name.startswith("featurelens.") and (theirs := name.split(".")[1]) != room(path):
            if theirs == "plotting" and not at_top:  # a result's `plot` imports it when called
                continue
            assert level(theirs) < mine or (level(theirs) == mine == 0), f"{path} imports {name}"
        if at_top and room(path) not in {"plotting", "tensorboard"}:
            assert name.split(".")[0] not in HEAVY, f"{path} imports {name} at its top"


@each_file
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MOST_LINES_OF_A_FUNCTION, f"{node.name} has {lines} lines"


@each_file
def test_every_option_is_used(path):
    """Most often, an option that is not is one that was not handed on."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not is_declared(node):
            read = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
            assert {option.arg for option in node.args.kwonlyargs} <= read, f"{path}: {node.name}"


@each_file
def test_every_plot_method_returns_its_picture_and_has_the_defaults_of_its_function(path):
    for cls in ast.walk(ast.parse(path.read_text())):
        for node in cls.body if isinstance(cls, ast.ClassDef) else ():
            if isinstance(node, ast.FunctionDef) and node.name == "plot":
                match node.body[-1]:
                    case ast.Return(ast.Call(ast.Attribute(ast.Name("plotting"), function))):
                        named = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
                        method = getattr(importlib.import_module(named), cls.name).plot
                        assert defaults(method).items() <= defaults(getattr(plotting, function)).items()
                    case other:
                        pytest.fail(f"{path}: {cls.name}.plot ends with {ast.unparse(other)}")


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def is_declared(function):
    """Whether a function only says what it takes: an overload, or an abstract method."""
    return all(
        isinstance(line, ast.Raise) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in function.body
    )


def test_the_table_of_rooms_is_the_tree():
    contributing = SOURCE.parents[1] / "CONTRIBUTING.md"
    if not contributing.exists():
        pytest.skip("an installed package has no CONTRIBUTING.md")
    house = contributing.read_text().split("## Layout")[1].split("\n## ")[0]
    named = re.findall(
        r"`(\w+)`", "".join(line.split("|")[1] for line in house.splitlines() if line[:1] == "|")
    )
    there = {room(path) for path in FILES}
    assert sorted(named) == sorted(there)


def test_importing_featurelens_loads_nothing_heavy():
    code = (
        f"import sys, torch; heavy = {HEAVY | {'matplotlib.pyplot', 'torch._dynamo'}} - set(sys.modules)\n"
        "import featurelens as fl; fl.ActivationRecorder, fl.list_layers, fl.insert_extractors\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_resolves_and_is_listed():
    assert set(fl.__all__) == set(dir(fl))
    for name in fl.__all__:
        assert getattr(fl, name) is not None
    with pytest.raises(AttributeError, match="ActivationMaximiser"):
        fl.ActivationMaximiser  # noqa: B018


def test_public_functions_have_examples():
    for name in fl.__all__:
        value = getattr(fl, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name
        if inspect.isfunction(value):
            assert "Examples" in inspect.getdoc(value), f"{name} has no examples"


def dataclasses_of_featurelens():
    found = set()
    for module in pkgutil.walk_packages(fl.__path__, "featurelens."):
        found |= {
            value
            for value in vars(importlib.import_module(module.name)).values()
            if inspect.isclass(value) and value.__module__ == module.name and dataclasses.is_dataclass(value)
        }
    return sorted(found, key=lambda cls: cls.__qualname__)


@pytest.mark.parametrize("cls", dataclasses_of_featurelens(), ids=lambda cls: cls.__qualname__)
def test_records_are_frozen_and_results_are_compared_by_identity(cls):
    options = cls.__dataclass_params__
    assert options.frozen != (issubclass(cls, Statistic | Cells) or cls.__name__ in STATEFUL)
    if issubclass(cls, Shown):  # tensors cannot be compared by ==; a single estimate holds only numbers
        assert options.eq == (cls.__name__ == "MutualInformationResult")
        assert not options.repr
    if issubclass(cls, SavedResult | MutualInformation) or cls.__name__ in OF_KEYWORDS:
        parameters = inspect.signature(cls).parameters.values()
        assert {parameter.kind for parameter in parameters} <= {inspect.Parameter.KEYWORD_ONLY}
