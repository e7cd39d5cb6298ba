"""The notebooks in examples/notebooks are those of the programs; `tests/site` runs them."""

import ast
import json

import pytest

from docs import make_notebooks

PROGRAMS = make_notebooks.programs()


def test_there_is_a_notebook_for_every_program_in_cells():
    names = {path.stem for path in PROGRAMS}
    assert {path.stem for path in make_notebooks.NOTEBOOKS.iterdir()} - {"outputs", "data"} == names
    assert names >= {"1_getting_started", "2_look_inside_a_cnn", "quickstart", "mnist_features"}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_notebook_is_that_of_its_program(program):
    file = make_notebooks.NOTEBOOKS / f"{program.stem}.ipynb"
    assert file.read_text() == make_notebooks.notebook(program), "run `nox -s notebooks`"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_no_statement_is_lost_and_nothing_is_kept_of_a_run(program):
    cells = json.loads(make_notebooks.notebook(program))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    written = "\n\n".join("".join(cell["source"]) for cell in code[1:])
    assert ast.dump(ast.parse(written)) == ast.dump(ast.Module(ast.parse(program.read_text()).body[1:], []))


def test_text_and_code_are_told_apart():
    source = '"""Title.\n\nMore on :class:`~a.B`.\n"""\n\nx = 1\n\n# %%\n# Part\n# ----\n#\n# Words.\n\n# code\ny = 2\n'
    assert make_notebooks.cells_of(source) == [
        ("markdown", "# Title\n\nMore on `B`."),
        ("code", "x = 1"),
        ("markdown", "## Part\n\nWords."),
        ("code", "# code\ny = 2"),
    ]
