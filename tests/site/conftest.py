"""Made-up atlases in a real browser."""

import functools
import http.server
import shutil
import threading

import pytest

from tests.site.fake_atlas import write_atlas, write_comparison

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


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
    if BROWSER is None:
        pytest.skip("there is no Chromium")
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


@pytest.fixture
def wait_until(page):
    """Wait for JavaScript to be true; the browser's own waiting needs eval, which the pages forbid."""

    def wait(condition):
        for _ in range(100):
            if page.evaluate(condition):
                return
            page.wait_for_timeout(20)
        raise AssertionError(condition)

    return wait
