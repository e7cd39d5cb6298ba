"""Write examples/notebooks/*.ipynb from the examples that are programs in `# %%` cells: `nox -s notebooks`.

A cell begins with `# %%`; the comment below it becomes text, what follows becomes code. Notebooks have no outputs. Their first
cell installs what is missing, so that they also run where only the notebook is, as on Colab.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any, Literal, TypeAlias

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = EXAMPLES / "notebooks"

INSTALL = """\
# Installs featurelens where it is missing, as on Colab.
import importlib.util

if importlib.util.find_spec("featurelens") is None:
    %pip install --quiet "featurelens[examples]"
"""
REFERENCE = """
# The networks, data and training loop of the examples lie beside them.
import sys
from pathlib import Path

if not Path("../reference").is_dir():
    %pip download --quiet --no-deps --no-binary=featurelens featurelens
    !tar -xzf featurelens-*.tar.gz --strip-components=2 --wildcards "*/examples/reference"
sys.path[:0] = ["..", "."]
"""

Cell: TypeAlias = tuple[Literal["markdown", "code"], str]


def programs() -> list[Path]:
    """Return the programs in cells: the tutorial, the quickstart and studies."""
    found = [*sorted((EXAMPLES / "tutorial").glob("*.py")), *sorted(EXAMPLES.glob("*.py"))]
    return [path for path in found if "\n# %%\n" in path.read_text()]


def notebook(program: Path) -> str:
    """Return the notebook of a program, as the text of its file."""
    source = program.read_text()
    title, *others = cells_of(source)
    setup = INSTALL + (REFERENCE if "from reference" in source else "")
    cells = [title, ("code", setup), *others]
    content = {
        "cells": [_as_json(number, *cell) for number, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def cells_of(source: str) -> list[Cell]:
    """Return the cells of a program, the first of them its docstring."""
    opening = ast.parse(source).body[0]
    docstring = ast.get_docstring(ast.parse(source))
    assert docstring is not None
    rest = "\n".join(source.splitlines()[opening.end_lineno or 0 :])
    cells: list[Cell] = [("markdown", markdown(_with_title(docstring)))]
    for block in re.split(r"^# %%$", rest, flags=re.MULTILINE):
        lines = block.strip("\n").split("\n")
        words = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
        text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:words])
        code = "\n".join(lines[words:]).strip("\n")
        cells += [("markdown", markdown(text))] if text else []
        cells += [("code", code)] if code else []
    return cells


def _with_title(docstring: str) -> str:
    """Return a docstring whose first line is underlined as a title."""
    first, _, others = docstring.partition("\n")
    if re.match(r"=+$", others.partition("\n")[0]):
        return docstring
    return f"{first.rstrip('.')}\n{'=' * len(first)}\n{others}"


def markdown(text: str) -> str:
    r"""Return reStructuredText of the few kinds that the examples use as Markdown.

    >>> markdown("Title\n=====\n\nCall :func:`~featurelens.compare`; see :doc:`the tutorial <../index>` on ``x``.")
    '# Title\n\nCall `compare`; see the tutorial on `x`.'
    """
    text = re.sub(r"^(.+)\n=+$", r"# \1", text, flags=re.MULTILINE)
    text = re.sub(r"^(.+)\n-+$", r"## \1", text, flags=re.MULTILINE)
    text = re.sub(r":doc:`(.+?)\s*<[^>]+>`", r"\1", text, flags=re.DOTALL)
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`").strip("\n")


def _as_json(number: int, kind: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell | {"source": text.rstrip("\n").splitlines(keepends=True)}


def main() -> None:
    """Write all notebooks, and remove those whose program is gone."""
    NOTEBOOKS.mkdir(exist_ok=True)
    for old in NOTEBOOKS.glob("*.ipynb"):
        old.unlink()
    for program in programs():
        (NOTEBOOKS / f"{program.stem}.ipynb").write_text(notebook(program))
    print(f"{len(programs())} notebooks in {NOTEBOOKS}")


if __name__ == "__main__":
    main()
