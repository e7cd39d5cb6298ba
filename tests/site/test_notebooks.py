"""The notebooks, run in a kernel of their own as their reader would run them."""

import re
import shutil

import pytest

from tests.site.pages import ROOT, SITE, Page, needs_site

SCRIPTS = [
    path for folder in ("tutorial", "gallery") for path in sorted((ROOT / "examples" / folder).glob("*.py"))
]


@needs_site
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_the_pictures_of_its_page(script, tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    (path,) = (SITE / "_downloads").rglob(f"{script.stem}.ipynb")
    resources = {"metadata": {"path": tmp_path}}
    notebook = nbformat.read(path, 4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    said = [output.text for output in outputs if output.get("name") == "stderr"]
    assert all(re.match(r"\w+: +\d+%\|", text) for text in said), "no more than the progress of slow work"
    page = Page(SITE / script.parent.name / f"{script.stem}.html")
    pictures = [
        source for source in page.sources if f"sphx_glr_{script.stem}_" in source and "thumb" not in source
    ]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == len(pictures) > 0
    assert not list(tmp_path.iterdir()), "a notebook leaves no files"


def run(notebook, folder):
    """Run a notebook in a folder, and return the outputs of each of its code cells."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def test_the_quickstart_shows_its_figures(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    shutil.copytree(
        ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("outputs", "data")
    )
    folder = tmp_path / "examples" / "notebooks"
    outputs = run(nbformat.read(folder / "quickstart.ipynb", 4), folder)
    shown = [output for cell in outputs for output in cell if "image/png" in output.get("data", {})]
    assert len(shown) == len(list((folder / "outputs" / "quickstart").glob("*.png"))) == 12
    assert (folder / "outputs" / "quickstart" / "atlas" / "index.html").exists()


FIGURES = """
import sys
sys.path.insert(0, {root!r})
from tests.unit.plotting.test_page import DRAWN
"""


@pytest.mark.parametrize("magic", ["", "%matplotlib inline\n"], ids=["plain", "inline"])
def test_a_figure_is_shown_once(magic, tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    from tests.unit.plotting.test_page import DRAWN

    new = nbformat.v4.new_code_cell
    cells = [new(magic + FIGURES.format(root=str(ROOT))), *(new(f"DRAWN[{name!r}]()") for name in DRAWN)]
    outputs = run(nbformat.v4.new_notebook(cells=cells), tmp_path)
    for name, cell in zip(DRAWN, outputs[1:], strict=True):
        assert [list(output.get("data", {})) for output in cell] == [["text/plain", "image/png"]], name
