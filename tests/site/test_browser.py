"""The built site in a real browser, with nothing but the site to be reached."""

import functools
import http.server
import shutil
import threading

import pytest

from tests.site.pages import SITE, needs_site

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MAIN = [
    "index.html",
    "tutorial/1_getting_started.html",
    "howto/recording.html",
    "howto/information.html",
    "howto/pretrained.html",
    "howto/transformers.html",
    "howto/extending.html",
    "faq.html",
    "cheat_sheet.html",
    "reference/plots.html",
    "gallery/index.html",
    "gallery/2_information.html",
    "studies.html",
    "reference/index.html",
    "reference/visualize.html",
    "reference/generated/featurelens.ActivationRecorder.html",
    "comparison.html",
    "changelog.html",
]

pytestmark = [needs_site, pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
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
def page(browser, address):
    """A page that notes what goes wrong, and every request that leaves the site."""
    page = browser.new_page()
    page.troubles = []
    page.on("console", lambda message: message.type == "error" and page.troubles.append(message.text))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on(
        "request",
        lambda request: request.url.startswith((address, "data:")) or page.troubles.append(request.url),
    )
    page.on(
        "response", lambda response: response.ok or page.troubles.append(f"{response.status} {response.url}")
    )
    yield page
    page.close()


@pytest.mark.parametrize("name", MAIN)
def test_a_page_loads_without_errors_and_with_its_pictures(page, address, name):
    page.goto(f"{address}/{name}", wait_until="load")
    for picture in page.locator("img").all():
        picture.scroll_into_view_if_needed()
        picture.evaluate("image => image.decode()")
        assert picture.evaluate("image => image.naturalWidth") > 0
    assert page.troubles == []


def test_the_gallery_shows_pictures(page, address):
    page.goto(f"{address}/gallery/index.html")
    assert page.locator(".sphx-glr-thumbcontainer img").count() >= 7


@pytest.mark.parametrize("name", MAIN)
def test_a_phone_does_not_scroll_sideways(page, address, name):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}/{name}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_search_finds_the_recorder(page, address):
    page.goto(f"{address}/search.html?q=ActivationRecorder")
    found = page.locator("#search-results a[href*='featurelens.ActivationRecorder']").first
    found.wait_for(timeout=20_000)
    assert page.troubles == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_stand_on_white_in_both_schemes(page, address, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{address}/gallery/2_information.html")
    body = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (body == "rgb(255, 255, 255)") == (scheme == "light")
    figures = page.locator("img.sphx-glr-single-img").all()
    assert figures
    for figure in figures:
        assert figure.evaluate("image => getComputedStyle(image).backgroundColor") == "rgb(255, 255, 255)"
