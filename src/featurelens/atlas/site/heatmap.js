"use strict";
/* Colours of values, and the heat map of layers against layers. */

const VIRIDIS = "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725".split(" ");
const RED_BLUE = "2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b".split(" "); // blue is negative

/** A colour for a share of a colour map, between its two nearest stops. */
function colour(stops, share) {
  const at = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(at));
  return `color-mix(in srgb, #${stops[low + 1]} ${((at - low) * 100).toFixed(1)}%, #${stops[low]})`;
}

/** A matrix of layers against layers; only the labels that there is room for are written. */
function heatmap(title, layers, values) {
  const [left, width] = [118, 420];
  const cell = (width - left) / layers.length;
  const [low, high] = extent(values.flat()) ?? [0, 1];
  const most = Math.max(-low, high);
  const [stops, range] = low < 0 ? [RED_BLUE, [-most, most]] : [VIRIDIS, [0, Math.max(1, high)]];
  const square = (value, row, column) => svg("rect", {
    x: left + column * cell, y: row * cell, width: cell + 0.2, height: cell + 0.2,
    style: { fill: colour(stops, scale(range, 0, 1)(value)) },
    "data-help": `${layers[row].name} and ${layers[column].name}: ${numberText(value)}`,
  });
  const cells = values.map((line, row) => line.map((value, column) => value != null && square(value, row, column)));
  const every = Math.ceil(11 / cell);
  const labels = layers.map(({ name }, row) => row % every === 0 &&
    text(left - 5, (row + 0.5) * cell + 4, shorten(name, 18), "end"));
  const key = colourKey(stops, range, width);
  return chart(width, width - left + 26, title, mostAlike(layers, values), cells, labels, key);
}

function colourKey(stops, range, width) {
  const [parts, from, y] = [24, width - 110, width - 104];
  const step = Array.from({ length: parts }, (_, part) => svg("rect", {
    x: from + 3.4 * part, y: y - 9, width: 3.6, height: 9, style: { fill: colour(stops, part / (parts - 1)) },
  }));
  return [text(from - 6, y, numberText(range[0]), "end"), step, text(width, y, numberText(range[1]), "end")];
}

/** The heat map in words: for each layer, the other one that is most alike. */
function mostAlike(layers, values) {
  return layers.map(({ name }, row) => {
    const others = values[row].map((value, column) => (column === row ? null : value));
    const best = extent(others)?.[1];
    return best != null && `${name} is most like ${layers[others.indexOf(best)].name}, ${numberText(best)}`;
  }).filter(Boolean).join("; ");
}
