"""Every page of an atlas in a real browser: pictures, accessibility, width, safety and speed, with made-up data."""

import os
import pathlib
import re

import pytest

from tests.site.fake_atlas import PAGES, write_atlas

NEAR = PAGES.parents[3] / "node_modules" / "axe-core" / "axe.min.js"
AXE = next(filter(pathlib.Path.is_file, map(pathlib.Path, (os.environ.get("AXE_CORE", NEAR), NEAR))), None)
VIEWS = {
    "network": "one/index.html",
    "network without its sheet": "two/index.html",
    "layer": "one/index.html#layer=block:1+%3Cb%3E&sort=importance",
    "table": "one/index.html#layer=stem.conv&view=table&sort=information",
    "channel": "one/index.html#channel=stem.conv:12",
    "channel without pictures": "one/index.html#channel=stem.conv:3",
    "search": "one/index.html#search=cat",
    "no such channel": "one/index.html#channel=stem.conv:99",
    "comparison": "both/index.html",
    "compared layer": "both/index.html#layer=stem.conv",
    "compared table": "both/index.html#layer=stem.conv&view=table",
    "compared channel": "both/index.html#channel=stem.conv:5",
}

from_disk_and_server = pytest.mark.parametrize("address", ["file", "http"], indirect=True)
each_view = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
SCROLL_THROUGH = """async () => {
  for (let y = 0; y < document.documentElement.scrollHeight; y += 300) {
    scrollTo(0, y);
    await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
  }
}"""


@from_disk_and_server
@each_view
def test_every_page_shows_its_pictures_and_its_texts_as_texts(visit, wait_until, view):
    page = visit(view)
    page.evaluate(SCROLL_THROUGH)
    wait_until("!document.querySelector('.tile:not([hidden]) > img:not([src])')")
    pictures = page.locator("main img[src]:visible")
    pictures.evaluate_all("all => Promise.all(all.map(image => image.decode()))")
    for alt in pictures.evaluate_all("all => all.map(image => image.closest('.map') ? 'map' : image.alt)"):
        assert alt == "map" or re.search(r"channel \d+", alt)
    assert page.locator("main b:not(:empty), main i").filter(has_text="bold").count() == 0
    assert (
        page.evaluate("document.querySelectorAll('main script, main [onerror], main [style*=url]').length")
        == 0
    )


@each_view
def test_axe_finds_nothing_serious(visit, view):
    if AXE is None:
        pytest.skip(
            "axe-core is not installed: `npm install axe-core`, or the path of axe.min.js in AXE_CORE"
        )
    page = visit(view)
    page.evaluate(AXE.read_text())
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("axe.run(document, {preload: false})")["violations"]
        serious = [
            (scheme, each["id"], node["html"][:200], node["failureSummary"])
            for each in found
            if each["impact"] in {"serious", "critical"}
            for node in each["nodes"][:3]
        ]
        assert serious == []


@each_view
def test_a_phone_does_not_scroll_sideways(visit, page, view):
    page.set_viewport_size({"width": 390, "height": 844})
    visit(view)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_follow_the_scheme(visit, page, scheme):
    page.emulate_media(color_scheme=scheme)
    visit(VIEWS["network"])
    red = page.evaluate("getComputedStyle(document.documentElement).backgroundColor.match(/[0-9.]+/)[0]")
    assert (float(red) > 128) == (scheme == "light")


def test_a_picture_of_a_part_of_the_image_says_so(visit, page):
    visit(VIEWS["channel"])
    page.get_by_text("the 36 × 48 pixels around what the unit sees").wait_for()


def test_charts_are_read_out_in_words(visit, page):
    visit(VIEWS["channel"])
    for name in (
        "Distribution over the images .* values; most",
        "Classes .* cat: mean",
        "reaches optimized 3.9;",
    ):
        page.get_by_role("img", name=re.compile(name)).wait_for()


@from_disk_and_server
@pytest.mark.parametrize(
    "attack",
    [
        "const s = document.createElement('script'); s.textContent = 'window.attacked = 1'; document.body.append(s)",
        "const i = new Image(); i.setAttribute('onload', 'window.attacked = 1'); i.src = 'site/icon.svg'; document.body.append(i)",
        "new Image().src = 'http://localhost:1/secret'",
        "document.body.setAttribute('style', 'color: red')",
        "const a = document.createElement('a'); a.href = 'javascript:window.attacked = 1'; document.body.append(a); a.click()",
    ],
)
def test_the_policy_stops_what_markup_in_the_data_could_do(visit, attack):
    page = visit(VIEWS["network"])
    page.evaluate(f"() => {{ {attack} }}")
    for _ in range(50):
        if any("Content Security Policy" in trouble for trouble in page.troubles):
            break
        page.wait_for_timeout(20)
    else:
        pytest.fail(f"nothing was blocked: {page.troubles}")
    assert page.evaluate("window.attacked") is None
    page.troubles.clear()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """As many layers and channels as a ResNet-18 has; nothing but what its first page and its search read."""
    root = tmp_path_factory.mktemp("large")
    widths = [64] * 5 + [128] * 5 + [256] * 5 + [512] * 5
    write_atlas(root, widths, sheets=(), with_details=False)
    return root


def seconds_of_processor(page):
    """What the browser's process for this page has used: other tests run beside it, and a clock would count them."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "ProcessTime")


def test_the_first_page_of_4800_channels_is_small_and_quick(browser, large):
    loaded = []
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.on("request", lambda request: loaded.append(request.url))
        page.goto(f"{large.as_uri()}/index.html", wait_until="commit")
        page.locator(".layers").wait_for()
        page.evaluate("new Promise(requestAnimationFrame)")
        assert seconds_of_processor(page) < 1  # about 0.3 s
        page.evaluate(SCROLL_THROUGH)
    files = {pathlib.Path(url.removeprefix("file://")) for url in loaded}
    assert len(files) > 20
    assert sum(file.stat().st_size for file in files) < 1.5 * 2**20


def test_search_over_4800_channels_is_quick(browser, large):
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.goto(f"{large.as_uri()}/index.html#search=importance+>+0")
        page.get_by_text("the first 240 are shown").wait_for()
        assert seconds_of_processor(page) < 1  # about 0.4 s
