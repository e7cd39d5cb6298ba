"""The pages of an atlas in a real browser, from disk and over HTTP, with made-up data."""

import functools
import http.server
import itertools
import os
import pathlib
import re
import shutil
import threading

import pytest

from tests.site.fake_atlas import CLASSES, HOSTILE, PAGES, write_atlas, write_comparison

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
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

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
from_disk_and_server = pytest.mark.parametrize("address", ["file", "http"], indirect=True)
each_view = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("atlases")
    both = [write_atlas(root / "one"), write_atlas(root / "two", seed=1, with_front=False)]
    write_comparison(root / "both", ["../one/", "../two/"], both)
    return root


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing."""


def serve(folder):
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def address(request, folder):
    """Where the atlases lie: on disk, or on a server for the tests that ask for both."""
    if getattr(request, "param", "file") == "file":
        yield folder.as_uri()
        return
    with serve(folder) as server:
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def context(browser):
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield context


@pytest.fixture
def page(context, address):
    """A page that may say nothing on the console, open no dialog, and ask for nothing outside the atlases."""
    page = context.new_page()
    troubles = []
    page.troubles = troubles
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: request.url.startswith(address) or troubles.append(request.url))
    page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
    page.on("response", lambda answer: answer.ok or troubles.append(f"{answer.status} {answer.url}"))
    yield page
    assert troubles == []


@pytest.fixture
def visit(page, address):
    def go(view):
        page.goto("about:blank")
        page.goto(f"{address}/{view}")
        page.locator("h1").wait_for()
        return page

    return go


def wait_until(page, condition):
    """Wait for JavaScript to be true; the browser's own waiting needs eval, which the pages forbid."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(condition)


SCROLL_THROUGH = """async () => {
  for (let y = 0; y < document.documentElement.scrollHeight; y += 300) {
    scrollTo(0, y);
    await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
  }
}"""


def captions(page):
    """Numbers and values under the pictures of a wall."""
    return page.locator(".wall li .caption").evaluate_all(
        "all => all.map(each => [...each.childNodes].map(node => node.textContent))"
    )


def number(text):
    return None if text == "–" else float(text.replace("−", "-").replace(",", ""))


@from_disk_and_server
@each_view
def test_every_page_shows_its_pictures_and_its_texts_as_texts(visit, view):
    page = visit(view)
    page.evaluate(SCROLL_THROUGH)
    wait_until(page, "!document.querySelector('.tile:not([hidden]) > img:not([src])')")
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


@from_disk_and_server
def test_a_wall_is_sorted_and_the_back_button_takes_it_back(visit, page):
    visit("one/index.html#layer=relu%231")
    assert [int(line[0]) for line in captions(page)] == list(range(96))
    page.get_by_label("Sort by").select_option("information")
    values = [number(line[1]) for line in captions(page)]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=True)
    assert all(value is None for value in values[len(known) :])
    assert "sort=information" in page.url
    page.get_by_label("Order").select_option("up")
    assert number(captions(page)[0][1]) == min(known)
    page.go_back()
    assert number(captions(page)[0][1]) == max(known)
    page.go_back()
    assert [int(line[0]) for line in captions(page)] == list(range(96))
    assert page.get_by_label("Sort by").input_value() == ""


def test_a_filter_keeps_what_it_says(visit, page):
    visit("one/index.html#layer=relu%231&sort=active")
    page.get_by_label("Filter").fill("active >= 50% and not dead")
    page.get_by_text("of 96 channels").first.wait_for()
    found = captions(page)
    assert 0 < len(found) < 96
    assert all(number(value) >= 0.5 for _, value in found)
    page.get_by_label("Filter").fill("active >")
    page.get_by_text("is not").wait_for()
    assert len(captions(page)) == len(found)
    page.get_by_label("Filter").fill("no such thing > 1")
    page.get_by_text("There is no figure").wait_for()


def test_channels_of_a_class_and_dead_ones_are_chosen(visit, page):
    visit("one/index.html#layer=relu%231&sort=best_class")
    page.get_by_role("combobox", name=re.compile("^Class")).select_option(str(CLASSES.index("cat")))
    assert {value for _, value in captions(page)} == {"cat"}
    page.get_by_role("combobox", name=re.compile("^Class")).select_option("")
    page.get_by_label("Dead").select_option("yes")
    assert {value for _, value in captions(page)} == {"–"}


def test_a_table_sorts_by_its_headings(visit, page):
    visit("one/index.html#layer=stem.conv&view=table")
    heading = page.get_by_role("columnheader", name="Selectivity")
    heading.get_by_role("button").click()
    heading.and_(page.locator("[aria-sort=descending]")).wait_for()
    heading.get_by_role("button").click()
    heading.and_(page.locator("[aria-sort=ascending]")).wait_for()


@from_disk_and_server
def test_search_goes_to_a_channel_and_finds_layers_classes_and_ranges(visit, page):
    visit(VIEWS["network"])
    page.keyboard.press("/")
    page.keyboard.type("block:1 <b>:7")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="block:1 <b>:7").wait_for()
    for text, heading in [("relu", "Layers"), ("cat", "Channels for cat"), (HOSTILE[4], "Channels for sand")]:
        page.locator("#query").fill(text)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name=heading).wait_for()
    page.locator("#query").fill("importance > 0.01 and class = sand and sea, Tinca tinca and active > 0")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Channels", exact=True).wait_for()
    values = [number(line[1]) for line in captions(page)]
    assert values == sorted(values, reverse=True)
    assert values[-1] > 0.01
    page.locator("#query").fill("nothing of this name")
    page.keyboard.press("Enter")
    page.get_by_text("Nothing found").wait_for()


def test_arrow_keys_within_a_wall_stay_on_the_page(visit, page):
    visit("one/index.html#layer=block:1+%3Cb%3E")
    page.locator(".wall a").first.focus()
    for key, channel in [("ArrowRight", 1), ("End", 69), ("ArrowRight", 69), ("ArrowLeft", 68), ("Home", 0)]:
        page.keyboard.press(key)
        shown = page.evaluate("document.activeElement.querySelector('.caption').firstChild.textContent")
        assert int(shown) == channel
    assert page.locator(".wall a[tabindex='0']").count() == 1
    page.locator("h1").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="relu#1").wait_for()


def test_the_tab_key_goes_from_the_top_to_the_wall_in_order(visit, page):
    visit("one/index.html#layer=block:1+%3Cb%3E")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = []
    while len(reached) < 40 and "channel-link" not in reached:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.className || document.activeElement.id"))
    wanted = ["choose-sort-by", "choose-class", "choose-dead", "filter", "choose-view", "channel-link"]
    assert [name for name in reached if name in wanted] == wanted


def test_charts_are_read_out_in_words(visit, page):
    visit(VIEWS["channel"])
    for name in (
        "Distribution of the activation .* values; most",
        "Classes .* cat: mean",
        "reaches optimized 3.9;",
    ):
        page.get_by_role("img", name=re.compile(name)).wait_for()


def test_arrow_keys_walk_a_wall_and_then_its_order_of_channels(visit, page):
    visit("one/index.html#layer=relu%231&sort=information")
    order = [int(line[0]) for line in captions(page)]
    page.locator(".wall a").first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.querySelector('.caption').firstChild.textContent") == str(
        order[1]
    )
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=f"relu#1:{order[1]}", exact=True).wait_for()
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name=f"relu#1:{order[2]}", exact=True).wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("heading", name=f"relu#1:{order[1]}", exact=True).wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("heading", name=f"relu#1:{order[0]}", exact=True).wait_for()
    for _ in range(4):
        page.go_back()
    page.locator(".wall").wait_for()


def test_going_back_finds_the_place_on_the_wall(visit, page):
    visit("one/index.html#layer=relu%231")
    page.set_viewport_size({"width": 600, "height": 500})
    page.evaluate("scrollTo(0, 700)")
    wait_until(page, "history.state?.scroll === 700")
    page.locator(".wall a:visible").nth(50).click()
    page.get_by_role("heading", name="relu#1:50").wait_for()
    assert page.evaluate("scrollY") == 0
    page.go_back()
    wait_until(page, "scrollY === 700")


def test_figures_explain_themselves_under_the_pointer_and_under_focus(visit, page):
    visit(VIEWS["channel"])
    tip = page.get_by_role("tooltip")
    page.get_by_role("button", name="Best class").focus()
    assert tip.inner_text() == "Class with the largest mean, <b>not</b> bold."
    assert page.get_by_role("button", name="Best class").get_attribute("aria-describedby") == "tip"
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    page.get_by_role("link", name="Sparseness").hover()
    assert "Sparseness" in tip.inner_text()
    assert page.get_by_role("link", name="Sparseness").get_attribute("href").startswith("https://")
    assert page.locator("a[href^='javascript']").count() == 0


def test_the_film_plays_by_button_and_by_pointer(visit, page):
    visit(VIEWS["channel"])
    button = page.get_by_role("button", name="Play")
    film = page.locator(".player .tile").nth(1)
    assert film.is_hidden()
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    first = film.locator("img").evaluate("image => image.style.left")
    wait_until(page, f"document.querySelector('.player .tile + .tile img').style.left !== '{first}'")
    button.press("Enter")
    assert film.is_hidden()
    page.locator(".player").hover()
    assert film.is_visible()


def test_switches_hide_the_map_and_the_field_and_the_address_keeps_them(visit, page):
    visit(VIEWS["channel"])
    assert page.locator(".map:visible").count() == 17
    page.get_by_label("Map of the activation").uncheck()
    page.get_by_label("Receptive field").uncheck()
    assert page.locator(".map:visible, .field:visible").count() == 0
    page.keyboard.press("Tab")
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="stem.conv:13").wait_for()
    assert "map=off" in page.url
    assert page.locator(".map:visible, .field:visible").count() == 0


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


def test_a_channel_without_pictures_says_why(visit):
    page = visit(VIEWS["channel without pictures"])
    page.get_by_text(f"This channel could not be optimized: {HOSTILE[0]}").wait_for()
    assert page.locator(".player").count() == 0


def test_what_is_missing_is_said(visit):
    page = visit(VIEWS["no such channel"])
    assert "0 to 15" in page.get_by_role("alert").inner_text()


def test_a_comparison_puts_the_most_changed_first(visit, page):
    visit(VIEWS["compared layer"])
    assert captions(page)[0] == ["0 · 15", "r 0"]
    page.get_by_label("Changed most in").select_option("selectivity")
    changes = [
        abs(number(after) - number(before))
        for before, after in (line[1].split(" → ") for line in captions(page))
        if "–" not in (before, after)
    ]
    assert all(one >= other - 0.002 for one, other in itertools.pairwise(changes))  # they were rounded
    page.locator(".wall a").first.click()
    page.get_by_role("heading", name="What changed").wait_for()
    page.get_by_role("link", name="seed 1").click()
    page.get_by_role("heading", name="Figures").wait_for()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """As many layers and channels as a ResNet-18 has; nothing but what its first page and its search read."""
    root = tmp_path_factory.mktemp("large")
    widths = [64] * 5 + [128] * 5 + [256] * 5 + [512] * 5
    write_atlas(root, widths, sheets=(), with_details=False)
    return root


def test_the_first_page_of_4800_channels_is_small_and_quick(browser, large):
    loaded = []
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.on("request", lambda request: loaded.append(request.url))
        page.goto(f"{large.as_uri()}/index.html", wait_until="commit")
        page.locator(".layers").wait_for()
        ready = page.evaluate("new Promise(done => requestAnimationFrame(() => done(performance.now())))")
        page.evaluate(SCROLL_THROUGH)
    files = {pathlib.Path(url.removeprefix("file://")) for url in loaded}
    assert len(files) > 20
    assert sum(file.stat().st_size for file in files) < 1.5 * 2**20
    assert ready < 1000


def test_search_over_4800_channels_is_quick(browser, large):
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.goto(f"{large.as_uri()}/index.html#search=importance+>+0")
        page.get_by_text("the first 240 are shown").wait_for()
        assert page.evaluate("performance.now()") < 3000
