#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.10.14"]
# ///
"""What `nox` runs: lint, strict types, and every test, doctests included; and by name the site and benchmarks."""

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True

PROJECT = nox.project.load_toml()


def install(session: nox.Session, group: str) -> None:
    """Install the project and one dependency group, with the versions it is developed with."""
    session.install("-e.", *nox.project.dependency_groups(PROJECT, group), "-c", "constraints.txt")


@nox.session(default=True)
def lint(session: nox.Session) -> None:
    """Check style and the repository's habits."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("sp-repo-review", ".")


@nox.session(default=True)
def types(session: nox.Session) -> None:
    """Check the types of src, strictly."""
    install(session, "types")
    session.run("mypy")


@nox.session(default=True)
def tests(session: nox.Session) -> None:
    """Run unit tests, property tests, the examples and all doctests; arguments go to pytest."""
    install(session, "test")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(default=False)
def adapters(session: nox.Session) -> None:
    """Run the callbacks in training loops of the real Lightning and transformers."""
    install(session, "adapters")
    session.run("pytest", "tests/unit/callbacks", *session.posargs)


@nox.session(venv_backend="none", default=False)
def here(session: nox.Session) -> None:
    """Run everything with what is installed in the present environment."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the site without a warning, look at it in a browser, check its links, run its notebooks, and make the PDF.

    Doctests and the code of the documents are run by `tests`, and not once more here.
    """
    install(session, "docs")
    site = ["sphinx-build", "-b", "html", "-nW", "--keep-going", "-d", "docs/_build/doctrees"]
    session.run(*site, "docs", "docs/_build/html")
    session.run("python", "docs/make_pdf.py")
    session.run("pytest", "-n", "auto", "tests/site", *session.posargs)


@nox.session(default=False)
def benchmarks(session: nox.Session) -> None:
    """Run one benchmark against its peers: `nox -s benchmarks -- recording`."""
    install(session, "bench")
    name, *arguments = session.posargs or ["recording"]
    session.run("python", f"benchmarks/{name}.py", *arguments)


if __name__ == "__main__":
    nox.main()
