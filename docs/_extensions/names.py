"""Single backticks in docstrings: a link where they hold a public name, code where they hold anything else."""

from __future__ import annotations

import inspect
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.roles import XRefRole
from sphinx.util.docutils import SphinxRole

import featurelens as fl
from featurelens import plotting


def public_names() -> dict[str, str]:
    """Map what a docstring may write, with or without its module, to the full name that is documented."""
    names = {}
    for prefix, module in (("", fl), ("plotting.", plotting)):
        for name in module.__all__:
            value = getattr(module, name)
            full = f"featurelens.{prefix}{name}"
            if inspect.isclass(value):
                methods = [n for n, member in inspect.getmembers(value) if not n.startswith("_") and member.__doc__]
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


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the role and make it the default."""
    app.add_role("name", Name())
    app.config.default_role = "name"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
