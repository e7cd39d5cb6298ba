"use strict";
/* Pictures: tiles of sheets, and real images with what lies over them. */

/* Sheets are read as their tiles come near. The browser's own lazy loading judges by the whole sheet, which lies outside. */
const arrivals = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    target.firstChild.src = target.firstChild.dataset.src;
    arrivals.unobserve(target);
  }
}, { rootMargin: "300px" });

/** One tile of a sheet, as an image of which only the tile can be seen. */
function tile(path, { tile: [width, height], columns }, row, column, alt) {
  // Half a pixel is cut from each edge: scaling would blend the neighbouring tile into it.
  const zoom = 1 + 1 / Math.min(width, height);
  const shift = (index) => `${-100 * (index * zoom + (zoom - 1) / 2)}%`;
  const image = element("img", {
    "data-src": encodePath(path), alt, draggable: "false",
    style: { width: `${100 * columns * zoom}%`, left: shift(column), top: shift(row) },
  });
  const frame = element("span", { class: "tile", style: { "aspect-ratio": `${width} / ${height}` } }, image);
  arrivals.observe(frame);
  return frame;
}

/** A channel's tile in a sheet of its layer: in the row of its own if a column is given. */
function sheetTile(layer, kind, channel, alt, column = null) {
  const sheet = layer.sheets?.[kind];
  if (!sheet) return null;
  const within = channel % layer.site.block;
  const row = column === null ? Math.floor(within / sheet.columns) : within;
  const path = `${layer.site.prefix}images/${layer.folder}/${blockName(layer, channel)}-${kind}.webp`;
  return tile(path, sheet, row, column ?? within % sheet.columns, alt);
}

function bestTile(layer, channel) {
  const alt = `${layer.name}, channel ${channel}: image that maximizes it`;
  return sheetTile(layer, "best", channel, alt) ?? element("span", { class: "tile missing" }, "no picture");
}

/** "conv1:3" in a narrow place: the name is cut before the number is. */
function shortName(layer, channel) {
  return element("span", { class: "short-name" }, element("span", { class: "cut" }, layer.name), `:${channel}`);
}

/** A link to a channel: its picture, and lines below it. */
function channelLink(layer, channel, state, ...lines) {
  return link(channelAddress(layer, channel, state), { class: "channel-link" },
    bestTile(layer, channel), element("span", { class: "caption" }, lines));
}

/** The picture on its way from the start to the result, over the result, while it plays. */
function player(layer, channel) {
  const best = bestTile(layer, channel);
  const frames = layer.sheets?.frames;
  if (!frames) return element("div", { class: "player" }, best);
  const film = sheetTile(layer, "frames", channel, "", 0);
  film.hidden = true;
  const stage = element("div", { class: "player" }, best, film);
  const button = element("button", { type: "button", "aria-pressed": "false" }, "Play optimization");
  const show = filmRoll(film, frames, (playing) => button.setAttribute("aria-pressed", String(playing)));
  button.addEventListener("click", () => show(film.hidden));
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  stage.addEventListener("pointerenter", () => still.matches || show(true));
  stage.addEventListener("pointerleave", () => show(false));
  return [stage, button];
}

/** Starts and stops a film: one row of a sheet, column after column, the last one held for a while. */
function filmRoll(film, { tile: [width, height], columns }, tell) {
  const zoom = 1 + 1 / Math.min(width, height);
  let timer = null;
  let frame = 0;
  const step = () => {
    if (!film.isConnected) return clearInterval(timer);
    const column = Math.min(frame, columns - 1);
    film.firstChild.style.left = `${-100 * (column * zoom + (zoom - 1) / 2)}%`;
    frame = (frame + 1) % (columns + 6);
  };
  return (on) => {
    clearInterval(timer);
    frame = 0;
    film.hidden = !on;
    tell(on);
    if (on) timer = setInterval(step, 110);
  };
}

/** A real image with the channel's map and the receptive field over it. */
function realImage(layer, channel, example, column, what) {
  const label = layer.site.classes ? className(layer.site, example.label) : null;
  const value = numberText(example.value);
  const alt = `${layer.name}, channel ${channel}: ${what}, image ${example.row}` +
    `${label ? `, ${label}` : ""}, activation ${value}`;
  const path = `${layer.site.prefix}images/real/${example.row}.webp`;
  const image = element("img", { src: encodePath(path), alt, loading: "lazy", decoding: "async" });
  const map = sheetTile(layer, "maps", channel, "", column);
  map?.classList.add("map");
  const stage = element("div", { class: "real" }, image, map, fieldBox(example.box));
  const quantile = example.quantile === undefined ? null : element("b", {}, `${numberText(100 * example.quantile)} %`);
  return element("figure", {}, stage, element("figcaption", {}, quantile, element("span", {}, value),
    label && element("span", { class: "quiet cut", title: label }, label)));
}

/** The receptive field: top, bottom, left, right as shares of the image. */
function fieldBox(box) {
  if (!box) return null;
  const [top, bottom, left, right] = box.map((share) => 100 * Math.min(1, Math.max(0, share)));
  const style = { top: `${top}%`, left: `${left}%`, width: `${right - left}%`, height: `${bottom - top}%` };
  return element("span", { class: "field", style });
}
