"""What results look like in a notebook: text and tables, everything escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable


def paragraph(*lines: object) -> str:
    """Return a paragraph for each line.

    >>> paragraph("a < b")
    '<p>a &lt; b</p>'
    """
    return "".join(f"<p>{html.escape(str(line))}</p>" for line in lines)


def table(rows: Iterable[Iterable[object]]) -> str:
    """Return a table whose first row is the head.

    >>> table([["layer", "n"], ["<conv>", 3]])
    '<table><tr><th>layer</th><th>n</th></tr><tr><td>&lt;conv&gt;</td><td>3</td></tr></table>'
    """
    lines = []
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        cells = "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


class Shown:
    """A result that a notebook shows as its text."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return paragraph(self)
