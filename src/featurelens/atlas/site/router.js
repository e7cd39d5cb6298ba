"use strict";
/* From the address to a page. */

const PAGES = { channel: channelPage, layer: layerPage, search: searchPage, network: networkPage };
// A comparison is searched in its first network; what is found leads to both.
const COMPARED = { channel: comparedChannel, layer: comparedLayer, search: searchPage, network: comparedNetwork };

let opened = null;
let shown = { key: null };
let visits = 0;

async function openAtlas() {
  const manifest = await read("data/manifest.js");
  if (!manifest.compared) return { pages: PAGES, site: await readSite("") };
  const both = await Promise.all(manifest.compared.map(({ prefix }) => readSite(prefix)));
  return { pages: COMPARED, site: compareSites(manifest, both) };
}

async function route() {
  const state = readAddress();
  const kind = ["channel", "layer", "search"].find((each) => state[each]) ?? "network";
  const key = `${kind}=${state[kind] ?? ""}`;
  // A change of the order or the filter leaves the page, and what has the focus, where they are.
  if (key === shown.key && shown.update) return shown.update(state);
  const visit = ++visits;
  const page = await makePage(kind, state);
  if (visit === visits) show(page, key);
}

async function makePage(kind, state) {
  try {
    opened ??= await openAtlas();
    return await opened.pages[kind](opened.site, state);
  } catch (error) {
    return { title: "Not found", content: element("article", element("h1", "Not found"),
      element("p", { role: "alert" }, error.message), element("p", link("#", "Back to the network"))) };
  }
}

function show(page, key) {
  const first = shown.key == null;
  shown = { ...page, key };
  hideTip();
  document.getElementById("main").replaceChildren(page.content);
  const title = opened?.site.title ?? "Atlas";
  document.title = page.title === title ? title : `${page.title} · ${title}`;
  const steps = [[title, "#"], ...(page.trail ?? [])];
  document.getElementById("trail").replaceChildren(...steps.map(([name, href]) => link(href, { class: "cut" }, name)));
  document.getElementById("query").value = readAddress().search ?? "";
  if (first && opened) offerNames(opened.site);
  // Readers of screens are taken to the heading of a new page; the first page they begin at its top themselves.
  const heading = page.content.querySelector("h1");
  heading.tabIndex = -1;
  if (!first) heading.focus({ preventScroll: true });
  scrollTo(0, history.state?.scroll ?? 0);
}

function pressKey(event) {
  const typing = event.target.closest?.("input, select, textarea, .wall, .scroll");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (event.key === "/") {
    event.preventDefault();
    document.getElementById("query").focus();
  } else if (shown.keys?.[event.key]) {
    event.preventDefault();
    location.hash = shown.keys[event.key];
  }
}

// The place on a page is kept in its step of the history, so that going back finds it again.
let settled = null;
function keepPlace() {
  clearTimeout(settled);
  settled = setTimeout(() => history.replaceState({ ...history.state, scroll: scrollY }, ""), 150);
}

history.scrollRestoration = "manual";
addEventListener("hashchange", route);
addEventListener("scroll", keepPlace, { passive: true });
addEventListener("keydown", pressKey);
document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = document.getElementById("query").value;
  if (text.trim() && opened) submitSearch(opened.site, text);
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
route();
