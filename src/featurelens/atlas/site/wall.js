"use strict";
/* A wall of pictures, walked with the arrow keys, and the same channels as a table. */

/** One tab stop for a whole wall: arrow keys move within it. */
function walkWall(event) {
  const links = [...event.currentTarget.querySelectorAll("a")];
  const here = links.indexOf(document.activeElement);
  const first = links.findIndex((each) => each.offsetTop > links[0].offsetTop);
  const line = first < 0 ? links.length : first;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -line, ArrowDown: line, Home: -here, End: links.length - 1 - here };
  const next = links[here + steps[event.key]];
  if (here < 0 || !(event.key in steps)) return;
  event.preventDefault();
  if (!next) return;
  links[here].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function wall(label, tiles) {
  tiles.forEach((each, index) => (each.tabIndex = index === 0 ? 0 : -1));
  return element("ul", { class: "wall", "aria-label": label, keydown: walkWall }, tiles.map((each) => element("li", {}, each)));
}

/** Tiles of channels of one layer, with their value of the figure that they are sorted by. */
function layerWall(layer, columns, channels, state) {
  const figure = layer.site.figures.find(({ key }) => key === state.sort && key in columns);
  const tiles = channels.map((channel) => channelLink(layer, channel, walk(state), String(channel),
    figure && element("span", { class: "quiet" }, figureText(layer.site, figure, columns[figure.key][channel]))));
  return wall(`Channels of ${layer.name}`, tiles);
}

/** All figures of channels; a heading sorts by its column, once more turns the order. */
function channelTable(layer, columns, channels, state) {
  const figures = figuresOf(layer.site, columns);
  const head = element("tr", {}, element("th", { scope: "col" }, "Channel"),
    figures.map((figure) => sortHeading(figure, state)));
  const rows = channels.map((channel) => element("tr", {},
    element("th", { scope: "row" }, link(channelAddress(layer, channel, walk(state)), { class: "with-tile" },
      bestTile(layer, channel), String(channel))),
    figures.map((figure) => element("td", { class: figure.key === "best_class" ? "words" : null }, figureText(layer.site, figure, columns[figure.key][channel])))));
  return scrollable(`Figures of the channels of ${layer.name}`, element("table", { class: "table" },
    element("thead", {}, head), element("tbody", {}, rows)));
}

/** Wide content scrolls by itself, so that the page does not; the keyboard reaches it. */
function scrollable(label, content) {
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, content);
}

function sortHeading(figure, state) {
  const sorted = state.sort === figure.key;
  const order = sorted && state.order !== "up" ? "up" : null;
  const sort = () => go({ ...state, sort: figure.key, order });
  const arrow = sorted ? (state.order === "up" ? " ▲" : " ▼") : "";
  return element("th", { scope: "col", "aria-sort": sorted ? (state.order === "up" ? "ascending" : "descending") : null },
    element("button", { type: "button", class: "term", "data-help": figure.help, click: sort }, figure.title + arrow));
}
