"""The small changes of a source file that make mutants of it.

Messages, fonts and colours of figures, `__repr__`, imports and type annotations are left alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = Path("src/featurelens")
OTHER = {ast.Lt: ast.LtE, ast.Gt: ast.GtE, ast.Eq: ast.NotEq, ast.Is: ast.IsNot, ast.In: ast.NotIn}
OTHER |= {ast.Add: ast.Sub, ast.Mult: ast.Div, ast.And: ast.Or}
OTHER |= {there: here for here, there in OTHER.items()} | {ast.FloorDiv: ast.Mult}
EXTREMES = {"min": "max", "amin": "amax", "minimum": "maximum", "nanmin": "nanmax"}
EXTREMES |= {there: here for here, there in EXTREMES.items()}
ELSEWHERE = {"TYPE_CHECKING", "sys.platform == 'win32'"}  # conditions of blocks that do not run here
WORDS = {"warn", "add_argument", "cast", "TypeVar"}  # calls that speak to a reader or to the type checker
LAYOUT = {
    "alpha", "capsize", "cmap", "color", "colors", "desc", "edgecolor", "figsize", "fontsize", "ha",
    "height_ratios", "hspace", "labelpad", "linestyle", "linewidth", "lw", "marker", "markersize",
    "rotation", "va", "width_ratios", "wspace", "zorder",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of the source: what stands from `start` to `end` becomes `text`."""

    path: str
    line: int
    change: str
    start: int
    end: int
    text: str
    imported: bool  # whether an import runs it: what stands outside of functions, and defaults

    @property
    def room(self) -> str:
        """The folder of the package, or `guard` or `base` for files that lie in none."""
        parts = Path(self.path).relative_to(PACKAGE).parts
        return parts[0] if len(parts) > 1 else "guard" if parts[0] in {"_guard.py", "_hooks.py"} else "base"


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a file."""
    return mutants_of_source(str(path), path.read_bytes())


def mutants_of_source(path: str, source: bytes) -> Iterator[Mutant]:
    r"""Yield every mutant of a text.

    >>> for mutant in mutants_of_source("example.py", b"if a < 3:\n    f(min(a, b), lw=1)"):
    ...     print(mutant.line, mutant.change)
    1 if a < 3:  ->  if not (a < 3):
    1 if a < 3:  ->  if a <= 3:
    1 if a < 3:  ->  if a < 4:
    2 f(min(a, b), lw=1)  ->  pass
    2 f(min(a, b), lw=1)  ->  f(max(a, b), lw=1)
    """
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, text, imported in changes(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        before, after = source[starts[node.lineno - 1] : start], source[end : starts[node.end_lineno]]
        here, there = (
            " ".join((before + middle + after).decode().split())
            for middle in (source[start:end], text.encode())
        )
        yield Mutant(path, node.lineno, f"{here}  ->  {there}", start, end, text, imported)


def changes(node: ast.AST, imported: bool = True) -> Iterator[tuple[Any, str, bool]]:
    """Yield each node at or below one that is to be replaced, by what, and whether an import runs it."""
    if isinstance(node, ast.If) and ast.unparse(node.test) in ELSEWHERE:
        for child in node.orelse:
            yield from changes(child, imported)
        return
    if isinstance(node, ast.expr | ast.stmt):
        yield from ((node, ast.unparse(new), imported) for new in replacements(node))
        yield from ((condition, text, imported) for condition, text in negations(node))
    for name, value in ast.iter_fields(node):
        below = imported and not (isinstance(node, ast.FunctionDef | ast.Lambda) and name == "body")
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in {"annotation", "returns"} and not spoken(child):
                yield from changes(child, below)


def spoken(node: ast.AST) -> bool:
    """Whether a node only says something: to a reader, or to the type checker."""
    match node:
        case ast.Raise() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
            return True
        case ast.FunctionDef(name="__repr__" | "_repr_html_" | "__str__"):
            return True
        case ast.FunctionDef(decorator_list=[*_, ast.Name(id="overload")]):
            return True
        case ast.keyword(
            arg=name
        ):  # the strictness of a zip asserts what we know; there is but one device here
            return name in LAYOUT | {"strict", "device"}
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in WORDS
    return False


def replacements(node: ast.expr | ast.stmt) -> Iterator[ast.AST]:
    """Yield what may stand in the place of one node."""
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                ops = [*node.ops[:i], OTHER[type(op)](), *node.ops[i + 1 :]]
                yield ast.Compare(node.left, ops, node.comparators)
        case ast.BinOp(left, op, right) if type(op) in OTHER and not is_text(left) and not is_text(right):
            yield ast.BinOp(left, OTHER[type(op)](), right)
        case ast.AugAssign(target, op, value) if type(op) in OTHER:
            yield ast.AugAssign(target, OTHER[type(op)](), value)
        case ast.BoolOp(op, values):
            yield ast.BoolOp(OTHER[type(op)](), values)
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Expr(ast.Call()):
            yield ast.Pass()
        case ast.Return(value) if value is not None and ast.unparse(value) != "None":
            yield ast.Return(ast.Constant(None))
        case ast.Call(func, args, keywords):
            match func:
                case ast.Name(id=name) if name in EXTREMES:
                    yield ast.Call(ast.Name(EXTREMES[name]), args, keywords)
                case ast.Attribute(value, name) if name in EXTREMES:
                    yield ast.Call(ast.Attribute(value, EXTREMES[name]), args, keywords)
            for word in keywords:
                if word.arg and not spoken(word):
                    yield ast.Call(func, args, [other for other in keywords if other is not word])


def is_text(node: ast.expr) -> bool:
    """Whether a node is a string: any change of a sum of strings is a TypeError."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def negations(node: ast.expr | ast.stmt) -> Iterator[tuple[ast.expr, str]]:
    """Yield the condition of an `if`, and its opposite, unless another change of the condition is the same."""
    if isinstance(node, ast.If | ast.IfExp):
        match node.test:
            case ast.Compare(ops=[ast.Eq() | ast.NotEq() | ast.Is() | ast.IsNot() | ast.In() | ast.NotIn()]):
                return
            case ast.UnaryOp(ast.Not()):
                return
        yield node.test, f"not ({ast.unparse(node.test)})"
