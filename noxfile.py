#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.10.14"]
# ///
"""What `nox` runs: lint, strict types, and every test, doctests included; by name the wheel, the site, other versions."""

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True

PROJECT = nox.project.load_toml()
PYTHONS = nox.project.python_versions(PROJECT)
# Pytest's workers share the cores; more threads would wait for each other.
ONE_EACH = {"OMP_NUM_THREADS": "1"}
OTHER_VERSIONS = ["tests/unit", "tests/property"]  # doctests print what one version prints


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
    session.run("pytest", "-n", "auto", *session.posargs, env=ONE_EACH)


@nox.session(default=False)
def adapters(session: nox.Session) -> None:
    """Run what needs other libraries: training loops of Lightning and transformers, heads and documents of timm's and theirs."""
    install(session, "adapters")
    tests = ["tests/unit/callbacks", "tests/unit/ablation/test_heads.py", "tests/studies/test_documents.py"]
    session.run("pytest", *tests, *session.posargs)


@nox.session(default=False, reuse_venv=False)
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it alone in a clean environment, and use it outside the checkout.

    Then do the same with what the examples need: the README's first command.
    """
    outside, dist = Path(session.create_tmp()) / "outside", Path("dist").resolve()
    for folder in (outside, dist):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree("examples", outside / "examples")
    session.install("build", "twine")
    session.run("python", "-m", "build", "--outdir", str(dist), silent=True)
    session.run("twine", "check", "--strict", *map(str, dist.iterdir()))
    (file,) = dist.glob("*.whl")
    session.install(str(file), "-c", "constraints.txt")
    trial, readme = Path("tests/wheel/try_wheel.py").resolve(), Path("README.md").resolve()
    with session.chdir(outside):
        session.run("python", str(trial), str(readme))
    session.install(f"{file}[examples]", "-c", "constraints.txt")
    with session.chdir(outside):
        session.run("python", "examples/quickstart.py", "--epochs", "2")


@nox.session(venv_backend="none", default=False)
def release(session: nox.Session) -> None:
    """Check that every file is ready for a tag: `nox -s release -- v0.1.0`."""
    version = PROJECT["project"]["version"]
    if session.posargs != [f"v{version}"]:
        session.error(f"the version in pyproject.toml is {version}; the tag is {' '.join(session.posargs)}")
    if f"\n## [{version}] - 20" not in Path("CHANGELOG.md").read_text():
        session.error(f"CHANGELOG.md has no dated section [{version}]")
    if "\ndate-released: " not in Path("CITATION.cff").read_text():
        session.error("CITATION.cff has no date-released")


@nox.session(python=PYTHONS[0], default=False, tags=["versions"])
def floors(session: nox.Session) -> None:
    """Run the tests with the oldest versions that pyproject allows, on the oldest Python; arguments go to pytest.

    Newer Pythons have no builds of some of these versions.
    """
    # The oldest TensorBoard needs setuptools, and does not say so.
    group = nox.project.dependency_groups(PROJECT, "test")
    session.install("-e.", *group, "setuptools", "-c", "constraints-floors.txt")
    session.run("pytest", "-n", "auto", *(session.posargs or OTHER_VERSIONS), env=ONE_EACH)


@nox.session(python=PYTHONS, default=False, tags=["versions"])
def newest(session: nox.Session) -> None:
    """Run the tests with the newest versions, on every Python; arguments go to pytest."""
    session.install("-e.", *nox.project.dependency_groups(PROJECT, "test"))
    session.run("pytest", "-n", "auto", *(session.posargs or OTHER_VERSIONS), env=ONE_EACH)


@nox.session(venv_backend="none", default=False)
def here(session: nox.Session) -> None:
    """Run everything with what is installed in the present environment."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("pytest", "-n", "auto", *session.posargs, env=ONE_EACH)


@nox.session(venv_backend="none", default=False)
def notebooks(session: nox.Session) -> None:
    """Write examples/notebooks from the examples; a test fails if they differ."""
    session.run("python", "docs/make_notebooks.py")


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Call every public function with malformed arguments: `nox -s fuzz -- --calls 10000 --seed 0`."""
    install(session, "test")
    session.run("python", "-m", "tests.fuzz.session", *session.posargs)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Change the source in small ways and see whether a test fails: `nox -s mutants -- --rooms recording --sample 40`."""
    install(session, "test")
    session.install("coverage")
    session.run("python", "-m", "tests.mutation.mutants", *session.posargs, env=ONE_EACH)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the site without a warning, look at it in a browser, check its links, run its notebooks, and make the PDF.

    Doctests and the code of the documents are run by `tests`, and not once more here.
    """
    install(session, "docs")
    site = ["sphinx-build", "-b", "html", "-nW", "--keep-going", "-d", "docs/_build/doctrees"]
    session.run(*site, "docs", "docs/_build/html")
    session.run("python", "docs/make_pdf.py")
    session.run("pytest", "-n", "auto", "tests/site", *session.posargs, env=ONE_EACH)


@nox.session(default=False)
def benchmarks(session: nox.Session) -> None:
    """Run one benchmark against its peers: `nox -s benchmarks -- recording`."""
    install(session, "bench")
    name, *arguments = session.posargs or ["recording"]
    session.run("python", f"benchmarks/{name}.py", *arguments)


if __name__ == "__main__":
    nox.main()
