"""How docstrings are read: names become links, and what is described together is told apart."""

from __future__ import annotations

import inspect
import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.roles import XRefRole
from sphinx.util.docutils import SphinxRole

import featurelens as fl
from featurelens import (
    callbacks,
    describing,
    information,
    layers,
    objectives,
    plotting,
    recording,
    similarity,
    statistics,
    storage,
    transforms,
)


def public_names() -> dict[str, str]:
    """Map what a docstring may write, with or without its module, to the full name that is documented."""
    names = {"featurelens.layers": "featurelens.layers", "featurelens.plotting": "featurelens.plotting"}
    rooms = (
        information,
        similarity,
        objectives,
        transforms,
        statistics,
        plotting,
        layers,
        recording,
        storage,
        callbacks,
        describing,
    )
    for module in (fl, *rooms):
        prefix = "" if module is fl else f"{module.__name__.rpartition('.')[2]}."
        for name in module.__all__:
            value = getattr(module, name)
            if f"featurelens.{name}" in names:  # it stands at the top as well
                continue
            full = f"featurelens.{prefix}{name}"
            if inspect.isclass(value):
                methods = [
                    n for n, member in inspect.getmembers(value) if not n.startswith("_") and member.__doc__
                ]
                names.update({f"{name}.{method}": f"{full}.{method}" for method in methods})
            if inspect.isclass(value) or inspect.isfunction(value):
                names.update({f"{prefix}{name}": full, full: full})
                names.setdefault(name, full)
    return names


NAMES = public_names()


class Name(SphinxRole):
    """The default role."""

    def run(self) -> tuple[list[nodes.Node], list[Any]]:
        """Return a reference or a literal."""
        bare = self.text.removesuffix("()")
        if bare not in NAMES:
            return [nodes.literal(self.rawtext, self.text, classes=["docutils"])], []
        target = f"{self.text} <{NAMES[bare]}>"
        return XRefRole()("py:obj", self.rawtext, target, self.lineno, self.inliner)


# In texts a bare `channel` is an argument more often than the function, so these say `fl.objectives.channel`.
WRITTEN = re.compile(r"(?:fl\.(?P<prefixed>[\w.]+)|(?P<bare>[A-Z]\w+(?:\.\w+)?|[a-z]+_\w+))(?:\(.*\))?")


def link_names(app: Sphinx, doctree: nodes.document) -> None:
    """Link `fl.objectives.channel("conv3", 7)`, `ChannelAblator` or `layer_information` in the texts to the reference."""
    if app.env.doc2path(app.env.current_document.docname).suffix != ".md":
        return
    for literal in list(doctree.findall(nodes.literal)):
        match = WRITTEN.fullmatch(literal.astext())
        name = match and (match["prefixed"] or match["bare"])
        if name not in NAMES or isinstance(literal.parent, nodes.reference | nodes.title | pending_xref):
            continue
        link = pending_xref(
            "", refdomain="py", reftype="obj", reftarget=NAMES[name], refexplicit=True, refwarn=True
        )
        link["refdoc"] = app.env.current_document.docname
        literal.replace_self(link)
        link += literal


def resolve_by_last_part(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element
) -> nodes.Element | None:
    """Find what a signature writes without its module, if one class or type alone is called so."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    last = node["reftarget"].rpartition(".")[2]
    found = [
        name
        for name, entry in domain.objects.items()
        if entry.objtype in {"class", "type"} and not entry.aliased and name.rpartition(".")[2] == last
    ]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, contnode)


def split_shared(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Give attributes or errors that share a description (`device, dtype`) one each, as is done for parameters."""
    inside, result, index = False, [], 0
    while index < len(lines):
        line = lines[index]
        if index + 1 < len(lines) and lines[index + 1].startswith("---"):
            inside = line in {"Attributes", "Raises"}
        index += 1
        names, colon, kind = line.partition(" : ")
        if not inside or line.startswith(" ") or "," not in names:
            result.append(line)
            continue
        start = index
        while index < len(lines) and (lines[index].startswith(" ") or not lines[index]):
            index += 1
        for name in names.split(", "):
            result += [f"{name}{colon}{kind}", *lines[start:index]]
    lines[:] = result


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what is above."""
    app.add_role("name", Name())
    app.config.default_role = "name"
    app.connect("doctree-read", link_names)
    app.connect("missing-reference", resolve_by_last_part)
    app.connect("autodoc-process-docstring", split_shared, priority=100)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
