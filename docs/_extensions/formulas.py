"""Formulas as SVG, drawn by matplotlib while the site is built: no JavaScript, no fonts to fetch, and in the PDF as well."""

from __future__ import annotations

import io
import re
from functools import cache
from html import escape
from typing import Any
from zlib import crc32

from docutils import nodes
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from sphinx.application import Sphinx

SIZE = 10  # points, at which formulas are drawn; pages scale them by the size of their text


@cache
def svg(formula: str) -> str:
    """Return an inline SVG whose baseline is that of the text and whose colour is that of the text."""
    font = FontProperties(size=SIZE, math_fontfamily="dejavusans")  # sans, as the text is
    text = f"${formula.strip()}$"
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "featurelens"}):
        width, height, depth, *_ = MathTextParser("path").parse(text, dpi=72, prop=font)
        figure = Figure(figsize=(width / 72, height / 72))
        figure.text(0, depth / height, text, fontproperties=font)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    drawing = file.getvalue()[file.getvalue().index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    style = f"width:{width / SIZE:.3f}em;height:{height / SIZE:.3f}em;vertical-align:{-depth / SIZE:.3f}em"
    label = escape(formula.strip(), quote=True)
    head = f'<svg role="img" aria-label="{label}" style="{style};overflow:visible" fill="currentColor"'
    drawing = drawing.replace("<svg", head, 1)
    # Ids would clash between the formulas of a page.
    salt = f"f{crc32(formula.encode()):x}-"
    return re.sub(r'(id="|href="#)', rf"\g<1>{salt}", drawing)


def inline(translator: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(f'<span class="formula">{svg(node.astext())}</span>')
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on lines of its own, one for each that the source has."""
    lines = "".join(f"<div>{svg(line)}</div>" for line in re.split(r"\\\\", node.astext()) if line.strip())
    translator.body.append(f'<div class="formula" id="{" ".join(node["ids"])}">{lines}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer and choose it."""
    app.add_html_math_renderer("svg", (inline, None), (block, None))
    app.config.html_math_renderer_name = "svg"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
