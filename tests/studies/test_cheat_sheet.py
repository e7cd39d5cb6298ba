"""The cheat sheet: every name and keyword on it exists, and the pictures show what the script says."""

import ast
import dataclasses
import html
import importlib.util
import inspect
import pathlib
import re
import sys

import pytest

import featurelens as fl
from featurelens import plotting
from featurelens.atlas import command_line

DOCS = pathlib.Path(__file__).parents[2] / "docs"
found = importlib.util.spec_from_file_location("cheat_sheet", DOCS / "cheat_sheet.py")
cheat_sheet = importlib.util.module_from_spec(found)
sys.modules["cheat_sheet"] = cheat_sheet  # for its dataclass
found.loader.exec_module(cheat_sheet)

ROWS = [(title, *row) for title, rows in cheat_sheet.SECTIONS for row in rows]
NAMES = {
    "fl": fl,
    "s": fl.statistics,
    "o": fl.objectives,
    "recorder": fl.ActivationRecorder,
    "acts": fl.Activations,
    "found": fl.StreamResult,
    "stats": fl.statistics.LayerStatistics,
    "result": fl.MutualInformationResult,
    "by_layer": fl.information.LayerInformationResult,
    "by_channel": fl.ChannelInformationResult,
    "plane": fl.InformationPlane,
    "probe": fl.information.LinearProbeResult,
    "similar": fl.similarity.LayerSimilarityResult,
    "best": fl.ActivationMaximizer,
    "pictures": fl.MaximizationResult,
    "judged": fl.RealImageComparison,
    "ablator": fl.ChannelAblator,
    "swept": fl.AblationResult,
    "worth": fl.ImportanceResult,
    "curve": fl.AblationCurve,
    "observer": fl.callbacks.Observer,
}
BY_STATISTIC = {
    "moments": "MomentsResult",
    "top_k": "TopKResult",
    "histogram": "HistogramResult",
    "covariance": "CovarianceResult",
}
SETTINGS = {
    "Record": [fl.ActivationRecorder, fl.ActivationRecorder.record, fl.ActivationRecorder.stream],
    "Information": [fl.layer_information, fl.mutual_information],
    "Visualize: o = fl.objectives": [fl.ActivationMaximizer],
    "Ablate": [fl.ChannelAblator, fl.ChannelAblator.importance],
}


def member(owner, name):
    """What `owner.name` is; an attribute of an instance is looked up among a class's fields and slots."""
    if owner is fl.statistics.LayerStatistics and name in BY_STATISTIC:
        return getattr(fl.statistics, BY_STATISTIC[name])
    if hasattr(owner, name):
        return getattr(owner, name)
    fields = {field.name for field in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else set()
    assert name in fields or re.search(rf"self\.{name}\b", inspect.getsource(owner)), (
        f"{owner.__name__} has no {name}"
    )
    return None


def value(node):
    """Follow a chain of names, as far as it is known."""
    if isinstance(node, ast.Name):
        return NAMES.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = value(node.value)
        return None if owner is None else member(owner, node.attr)
    if isinstance(node, ast.Call):
        called = value(node.func)
        return called if inspect.isclass(called) else None
    return None


def check(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute):
            value(node)
        if isinstance(node, ast.Call) and (called := value(node.func)) is not None:
            accepted = inspect.signature(called).parameters
            for keyword in node.keywords:
                assert keyword.arg in accepted, f"{code}: no {keyword.arg}"


def keywords(code):
    """The names of a row of settings such as ``dtype=..., device=...``."""
    return re.findall(r"(\w+)=", code) if re.match(r"\w+=[^=]*", code) else []


@pytest.mark.parametrize(("title", "code", "meaning"), ROWS, ids=[row[1] for row in ROWS])
def test_what_is_on_the_sheet_exists(title, code, meaning):
    if title == "Command line":
        parser = command_line.parser()
        commands = next(action for action in parser._actions if action.choices).choices
        words = code.split()
        if words[0] == "$":
            assert words[2] in commands
            options = commands[words[2]]._option_string_actions
        else:
            options = commands["atlas"]._option_string_actions
        assert {word for word in words + meaning.split() if word.startswith("--")} <= set(options)
    elif settings := keywords(code):
        accepted = [name for call in SETTINGS[title] for name in inspect.signature(call).parameters]
        assert set(settings) <= set(accepted)
    elif code.startswith("..., "):
        assert keywords(code[5:])[0] in inspect.signature(fl.layer_information).parameters
    else:
        check(f"{code} pass" if code.startswith("with ") and code.endswith(":") else code)
    for name in re.findall(r"\bo\.(\w+)", meaning):
        assert hasattr(fl.objectives, name)
    for name in re.findall(r"\bplot_\w+", meaning):
        assert hasattr(NAMES[code.partition(".")[0]], name)


STATISTICS = [row for row in ROWS if row[1].startswith("s.")]


@pytest.mark.parametrize(
    ("code", "meaning"), [row[1:] for row in STATISTICS], ids=[row[1] for row in STATISTICS]
)
def test_results_of_statistics_have_what_the_sheet_says(code, meaning):
    result = getattr(fl.statistics, code[2:].partition("(")[0] + "Result")
    for name in meaning.split(", "):
        member(result, name)


def test_further_names_in_meanings_exist():
    assert hasattr(fl, "list_operations")
    assert hasattr(fl.callbacks, "trainer_callback")
    assert hasattr(fl.InformationPlane, "update")
    assert {"procrustes", "rsa"} <= set(fl.similarity.__all__)
    assert {"Pad", "RandomScale", "RandomRotate"} <= set(fl.transforms.__all__)
    assert "image_grid" in plotting.__all__


def test_the_drawing_shows_every_text():
    drawn = (DOCS / "images" / "cheat_sheet.svg").read_text()
    texts = {html.unescape(text) for text in re.findall(r"<!-- (.*?) -->", drawn)}
    texts = {text.replace("- -", "--") for text in texts}
    for title, code, meaning in ROWS:
        for text in (title, code, meaning):
            assert not text or text in texts, f"{text}: run python docs/cheat_sheet.py"
    assert (DOCS / "images" / "cheat_sheet.pdf").exists()


def test_nothing_is_cut():
    cheat_sheet.columns()  # raises if a column is too long or a line too wide
