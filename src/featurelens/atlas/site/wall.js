"use strict";
/* A wall of pictures, walked with the arrow keys, and the same channels as a table. */

/** One tab stop for a whole wall: arrow keys move within it. */
function walkWall(event) {
  const links = [...event.currentTarget.querySelectorAll("a")];
  const here = links.indexOf(document.activeElement);
  const second = links.findIndex((each) => each.offsetTop > links[0].offsetTop);
  const line = second < 0 ? links.length : second;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -line, ArrowDown: line, Home: -here };
  steps.End = links.length - 1 - here;
  if (here < 0 || !(event.key in steps)) return;
  event.preventDefault();
  const next = links[here + steps[event.key]];
  if (!next) return;
  links[here].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function wall(label, tiles) {
  tiles.forEach((each, index) => (each.tabIndex = index === 0 ? 0 : -1));
  const items = tiles.map((each) => element("li", each));
  return element("ul.wall", { "aria-label": label, keydown: walkWall }, items);
}

/** Tiles of channels of one layer, with their value of the figure that they are sorted by. */
function layerWall(layer, columns, channels, state) {
  const figure = layer.site.figures.find(({ key }) => key === state.sort && key in columns);
  const value = (channel) => figureText(layer.site, figure, columns[figure.key][channel]);
  return wall(`Channels of ${layer.name}`, channels.map((channel) =>
    channelLink(layer, channel, walk(state), String(channel), figure && value(channel))));
}

/** All figures of channels; a heading sorts by its column, and once more turns the order. */
function channelTable(layer, columns, channels, state) {
  const figures = figuresOf(layer.site, columns);
  const headings = ["Channel", ...figures.map((figure) => sortHeading(figure, state))];
  return scrollable(`Figures of the channels of ${layer.name}`, table("figures-table", headings,
    channels.map((channel) => [
      link(channelAddress(layer, channel, walk(state)), { class: "with-tile" }, bestTile(layer, channel), channel),
      ...figures.map((figure) => valueCell(layer.site, figure, columns[figure.key][channel]))])));
}

function valueCell(site, figure, value) {
  return element(figure.key === "best_class" ? "td.words" : "td", figureText(site, figure, value));
}

function sortHeading(figure, state) {
  const sorted = state.sort === figure.key;
  const up = sorted && state.order === "up";
  const sort = () => go({ ...state, sort: figure.key, order: sorted && !up ? "up" : null });
  const arrow = sorted ? (up ? " ▲" : " ▼") : "";
  const button = { type: "button", "data-help": figure.help, click: sort };
  return element("th", { scope: "col", "aria-sort": sorted && (up ? "ascending" : "descending") },
    element("button.term", button, figure.title + arrow));
}
