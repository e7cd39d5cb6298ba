"""Using the pages of an atlas: sorting, filtering, searching, keys, the back button, explanations, comparison."""

import itertools
import re

import pytest

from tests.site.fake_atlas import CLASSES, HOSTILE

CHANNEL = "one/index.html#channel=stem.conv:12"
from_disk_and_server = pytest.mark.parametrize("address", ["file", "http"], indirect=True)


def captions(page):
    """Numbers and values under the pictures of a wall."""
    return page.locator(".wall li .caption").evaluate_all(
        "all => all.map(each => [...each.childNodes].map(node => node.textContent))"
    )


def number(text):
    return None if text == "–" else float(text.replace("−", "-").replace(",", ""))


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
    visit("one/index.html")
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


def test_going_back_finds_the_place_on_the_wall(visit, page, wait_until):
    visit("one/index.html#layer=relu%231")
    page.set_viewport_size({"width": 600, "height": 500})
    page.evaluate("scrollTo(0, 700)")
    wait_until("history.state?.scroll === 700")
    page.locator(".wall a:visible").nth(50).click()
    page.get_by_role("heading", name="relu#1:50").wait_for()
    wait_until("scrollY === 0")
    page.go_back()
    wait_until("scrollY === 700")


def test_figures_explain_themselves_under_the_pointer_and_under_focus(visit, page):
    visit(CHANNEL)
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


def test_the_film_plays_by_button_and_by_pointer(visit, page, wait_until):
    visit(CHANNEL)
    button = page.get_by_role("button", name="Play")
    film = page.locator(".player .tile").nth(1)
    assert film.is_hidden()
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    first = film.locator("img").evaluate("image => image.style.left")
    wait_until(f"document.querySelector('.player .tile + .tile img').style.left !== '{first}'")
    button.press("Enter")
    assert film.is_hidden()
    page.locator(".player").hover()
    assert film.is_visible()


def test_switches_hide_the_map_and_the_field_and_the_address_keeps_them(visit, page):
    visit(CHANNEL)
    assert page.locator(".map:visible").count() == 16
    page.get_by_label("Map of the activation").uncheck()
    page.get_by_label("Receptive field").uncheck()
    assert page.locator(".map:visible, .field:visible").count() == 0
    page.keyboard.press("Tab")
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="stem.conv:13").wait_for()
    assert "map=off" in page.url
    assert page.locator(".map:visible, .field:visible").count() == 0


def test_a_channel_without_pictures_says_why(visit):
    page = visit("one/index.html#channel=stem.conv:3")
    page.get_by_text(f"This channel could not be optimized: {HOSTILE[0]}").wait_for()
    assert page.locator(".player").count() == 0


def test_what_is_missing_is_said(visit):
    page = visit("one/index.html#channel=stem.conv:99")
    assert "0 to 15" in page.get_by_role("alert").inner_text()


def test_a_comparison_puts_the_most_changed_first(visit, page):
    visit("both/index.html#layer=stem.conv")
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


def test_a_map_is_stretched_over_an_image_of_other_proportions(visit):
    page = visit("one/index.html#channel=block:1+%3Cb%3E:66")
    page.locator(".map img").first.wait_for(state="attached")
    shares = page.locator(".map img").evaluate_all(
        """all => all.map((image, column) => {
            const [sheet, box] = [image, image.closest('.real')].map(each => each.getBoundingClientRect());
            return [sheet.height / box.height, (box.top - sheet.top) / box.height,
                    sheet.width / box.width, (box.left - sheet.left) / box.width];
        })"""
    )
    zoom = (
        1 + 1 / 16
    )  # maps of 16 x 16; this is the third channel of six in its block, and images are wider than high
    for column, share in enumerate(shares):
        expected = [6 * zoom, 2 * zoom + 1 / 32, 16 * zoom, column * zoom + 1 / 32]
        assert share == pytest.approx(expected, abs=0.01)
