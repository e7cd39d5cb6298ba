"""The pages of the tutorial and of the gallery are programs; `tests/site` runs them as notebooks."""

import pathlib
import runpy

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
TRAINS_BETWEEN = pytest.mark.changes_model  # its network is measured after every epoch
SCRIPTS = [
    pytest.param(path, id=path.stem, marks=[TRAINS_BETWEEN] if path.stem == "2_information" else [])
    for folder in ("tutorial", "gallery")
    for path in sorted((EXAMPLES / folder).glob("*.py"))
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_page_of_the_gallery_runs(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert "nan" not in capsys.readouterr().out.split()
    assert not list(tmp_path.iterdir()), "a page leaves no files"
