"""The notebooks to download, run in a kernel of their own as their reader would run them."""

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
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    page = Page(SITE / script.parent.name / f"{script.stem}.html")
    pictures = [
        source for source in page.sources if f"sphx_glr_{script.stem}_" in source and "thumb" not in source
    ]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == len(pictures) > 0
    assert not list(tmp_path.iterdir()), "a notebook leaves no files"
