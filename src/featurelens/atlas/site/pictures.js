"use strict";
/* Pictures: tiles of sheets, and real images with what lies over them. */

// Sheets are read as their tiles come near. Lazy loading by the browser judges by the whole sheet, which lies outside.
const arrivals = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    target.firstChild.src = target.firstChild.dataset.src;
    arrivals.unobserve(target);
  }
}, { rootMargin: "300px" });

/** One tile of a sheet, as an image of which only the tile can be seen. */
function tile(path, sheet, row, column, alt) {
  const { zoom, shift } = cut(Math.min(...sheet.tile));
  const style = { width: `${100 * sheet.columns * zoom}%`, left: shift(column), top: shift(row) };
  const image = element("img", { "data-src": encodePath(path), alt, draggable: "false", style });
  const frame = element("span.tile", { style: { "aspect-ratio": sheet.tile.join(" / ") } }, image);
  arrivals.observe(frame);
  return frame;
}

/** How far a sheet is shifted: half a pixel is cut from each edge, as scaling blends the next tile into it. */
function cut(pixels) {
  const zoom = 1 + 1 / pixels;
  return { zoom, shift: (index) => `${-100 * (index * zoom + (zoom - 1) / 2)}%` };
}

/** A channel's tile in a sheet of its layer; in the channel's own row if a column is given. */
function sheetTile(layer, kind, channel, alt, column = null) {
  const sheet = layer.sheets?.[kind];
  if (!sheet) return null;
  const within = channel % layer.site.block;
  const row = column == null ? Math.floor(within / sheet.columns) : within;
  const path = `${layer.site.prefix}images/${layer.folder}/${blockName(layer, channel)}-${kind}.webp`;
  return tile(path, sheet, row, column ?? within % sheet.columns, alt);
}

function pictureText(name, channel) {
  return `${name}, channel ${channel}: image that maximizes it`;
}

function bestTile(layer, channel) {
  return sheetTile(layer, "best", channel, pictureText(layer.name, channel)) ?? missingTile("no picture");
}

function missingTile(why) {
  return element("span.tile.missing", why);
}

/** "conv1:3" in a narrow place: the name is cut before the number is. */
function shortName({ name }, channel) {
  return element("span.short-name", element("span.cut", name), `:${channel}`);
}

/** A link to a channel: a picture, a name and a value. */
function captionedLink(layer, channel, state, picture, name, value) {
  return link(channelAddress(layer, channel, state), { class: "channel-link" }, picture,
    element("span.caption", element("span", name), value && element("span.quiet", value)));
}

function channelLink(layer, channel, state, name, value) {
  return captionedLink(layer, channel, state, bestTile(layer, channel), name, value);
}

/** The picture; its way from the start to the result lies over it while it plays. */
function player(layer, channel) {
  const stage = element("div.player", bestTile(layer, channel));
  const film = sheetTile(layer, "frames", channel, "", 0);
  if (!film) return stage;
  film.hidden = true;
  stage.append(film);
  const button = element("button", { type: "button", "aria-pressed": "false" }, "Play optimization");
  const play = filmRoll(film, layer.sheets.frames, (on) => button.setAttribute("aria-pressed", String(on)));
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  button.addEventListener("click", () => play(film.hidden));
  stage.addEventListener("pointerenter", () => still.matches || play(true));
  stage.addEventListener("pointerleave", () => play(false));
  return [stage, button];
}

/** Starts and stops a film: one row of a sheet, column after column, the last one held for a while. */
function filmRoll(film, sheet, tell) {
  let timer = null;
  let frame = 0;
  const step = () => {
    film.firstChild.style.left = cut(Math.min(...sheet.tile)).shift(Math.min(frame, sheet.columns - 1));
    frame = film.isConnected ? (frame + 1) % (sheet.columns + 6) : clearInterval(timer);
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
function realImage(layer, channel, { row, value, label, box, quantile }, column, what) {
  const name = layer.site.classes && className(layer.site, label);
  const said = `${what}, image ${row}${name ? `, ${name}` : ""}, activation ${numberText(value)}`;
  const image = element("img", {
    src: encodePath(`${layer.site.prefix}images/real/${row}.webp`), alt: `${layer.name}, channel ${channel}: ${said}`,
    loading: "lazy",
  });
  const style = { "aspect-ratio": (layer.site.thumbnail ?? [1, 1]).join(" / ") };
  return element("figure", element("div.real", { style }, image, mapOver(layer, channel, column), fieldBox(box)), element("figcaption",
    quantile != null && element("b", `${numberText(100 * quantile)} %`), element("span", numberText(value)),
    name && element("span.quiet.cut", { title: name }, name)));
}

/** The channel's map, stretched over an image of other proportions. */
function mapOver(layer, channel, column) {
  const map = sheetTile(layer, "maps", channel, "", column);
  if (!map) return null;
  const { tile: [width, height], columns } = layer.sheets.maps;
  const row = channel % layer.site.block;
  const rows = Math.min(layer.site.block, layer.channels - channel + row);
  const [across, down] = [cut(width), cut(height)];
  Object.assign(map.firstChild.style, {
    width: `${100 * columns * across.zoom}%`, left: across.shift(column),
    height: `${100 * rows * down.zoom}%`, top: down.shift(row),
  });
  map.classList.add("map");
  return map;
}

/** The receptive field: top, bottom, left, right as shares of the image. */
function fieldBox(box) {
  if (!box) return null;
  const [top, bottom, left, right] = box.map((share) => 100 * Math.min(1, Math.max(0, share)));
  const style = { top: `${top}%`, left: `${left}%`, width: `${right - left}%`, height: `${bottom - top}%` };
  return element("span.field", { style });
}
