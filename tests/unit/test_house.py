"""The house: what imports what, what importing costs, and that public names say what they are."""

import ast
import inspect
import pathlib
import subprocess
import sys

import pytest

import featurelens as fl

SOURCE = pathlib.Path(fl.__file__).parent
LEVEL = {
    "_checks": 0,
    "_structure": 0,
    "_guard": 0,
    "_hooks": 0,
    "_tracing": 0,
    "_placeholders": 0,
    "_failure": 0,
    "_layer_table": 0,
    "_lookup": 0,
    "_random": 0,
    "_saving": 0,
    "_shares": 0,
    "_batches": 0,
    "layers": 0,
    "statistics": 0.5,
    "storage": 0.5,
    "recording": 1,
    "information": 2,
    "maximization": 2,
    "ablation": 2,
    "plotting": 3,
    "tensorboard": 3.5,
}
HEAVY = {"torchvision", "matplotlib", "scipy", "sklearn", "tqdm", "tensorboard"}


def room(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path):
    """Modules that a file imports when it is imported; TYPE_CHECKING blocks are not."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield node.module
            if node.module == "featurelens":
                yield from (f"featurelens.{alias.name}" for alias in node.names)


FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    mine = LEVEL[room(path)]
    for name in imports(path):
        if name.startswith("featurelens.") and (theirs := name.split(".")[1]) != room(path):
            assert LEVEL[theirs] < mine or (LEVEL[theirs] == mine == 0), f"{path} imports {name}"
        if room(path) not in {"plotting", "tensorboard"}:
            assert name.split(".")[0] not in HEAVY, f"{path} imports {name} at its top"


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
