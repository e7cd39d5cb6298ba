"""What the site consists of: links that lead somewhere, nothing fetched from elsewhere, everything listed."""

import inspect
import re
from functools import cache
from urllib.parse import unquote, urlsplit

import featurelens as fl
from tests.site.pages import ROOT, SITE, Page, needs_site


@cache
def pages():
    return {path.resolve(): Page(path) for path in SITE.rglob("*.html")}


def is_there(target, anchor):
    return target not in pages() or anchor in pages()[target].anchors


@needs_site
def test_links_lead_to_pages_and_places_that_exist():
    broken = []
    for path, page in pages().items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append(f"{path.relative_to(SITE)} -> {link}")
            # On source pages Sphinx gives all names of a file the prefix of the first one that is documented.
            elif "_modules" not in path.parts and not is_there(target, unquote(parts.fragment)):
                broken.append(f"{path.relative_to(SITE)} -> {link} (no such place)")
    assert not broken


@needs_site
def test_pages_fetch_nothing_from_elsewhere():
    for path, page in pages().items():
        foreign = [source for source in page.sources if urlsplit(source).netloc]
        assert not foreign, f"{path.name} fetches {foreign}"


@needs_site
def test_every_public_name_is_in_the_reference_and_can_be_searched():
    index = (SITE / "genindex.html").read_text()
    for name in fl.__all__:
        assert inspect.ismodule(getattr(fl, name)) or re.search(rf"#featurelens\.{name}\"", index), name
    for room in (fl.objectives, fl.plotting, fl.statistics, fl.transforms):
        for name in set(room.__all__) - set(fl.__all__):
            assert f"#featurelens.{room.__name__.rpartition('.')[2]}.{name}" in index, name


def test_every_example_is_listed():
    studies = (ROOT / "docs" / "studies.md").read_text()
    for example in sorted((ROOT / "examples").glob("*.py")):
        assert f"(../examples/{example.name})" in studies or f"<../examples/{example.name}>" in studies
