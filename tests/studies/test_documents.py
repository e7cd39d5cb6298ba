"""Every Python block of the README and of docs/ runs, top to bottom."""

import inspect
import itertools
import pathlib
import re

import pytest

import featurelens as fl

ROOT = pathlib.Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
WRITTEN = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WRITTEN]
OPTIONAL = re.compile(r"^(?:import|from) (timm|transformers)\b", re.MULTILINE)
WITH_CODE = [document for document in DOCUMENTS if BLOCK.search(document.read_text())]


def test_documents_with_code_are_found():
    names = {document.stem for document in WITH_CODE}
    assert names >= {"README", "index", "recording", "information", "visualization", "ablation"}


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(path, marks=pytest.mark.changes_model if path.stem == "training" else ())
        for path in WITH_CODE
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_code_of_a_document_runs(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(document.read_text())
    names = {"__name__": "document"}
    for block in blocks:
        for package in OPTIONAL.findall(block):  # the blocks before have run
            pytest.importorskip(
                package, reason=f"the rest of {document.name} needs {package}: nox -s adapters"
            )
        exec(compile(block, str(document), "exec"), names)  # noqa: S102


def test_every_plot_of_a_result_is_in_the_table_of_plots():
    table = (ROOT / "docs" / "reference" / "plots.md").read_text()
    rooms = (fl, fl.information, fl.similarity, fl.statistics)
    classes = {getattr(room, name) for room in rooms for name in room.__all__}
    results = [value for value in classes if inspect.isclass(value)]
    plots = [(result, name) for result in results for name in dir(result) if name.startswith("plot")]
    assert len(plots) > 15
    for result, method in plots:
        (start, *_) = (
            n for n, line in enumerate(table.splitlines()) if line.startswith(f"| `{result.__name__}`")
        )
        rows = itertools.takewhile(lambda row: row.startswith("| |"), table.splitlines()[start + 1 :])
        assert f"{method}(" in "".join([table.splitlines()[start], *rows]), (result, method)
        assert inspect.signature(getattr(result, method)).return_annotation == "Figure"
    drawn = set(fl.plotting.__all__) - {
        name for name in fl.plotting.__all__ if f"`fl.plotting.{name}`" in table
    }
    assert drawn == {"write_images", "write_animation"}  # they write files, as the text says


def test_the_entry_to_cite_names_this_version():
    assert f"version = {{{fl.__version__}}}" in (ROOT / "docs" / "faq.md").read_text()


def test_links_between_documents_lead_somewhere():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#:]+)\)", BLOCK.sub("", document.read_text())):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"
