"use strict";
/* Colours of values, and the heat map of layers against layers. */

const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const RED_BLUE = ["#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b"];

/** A colour for a share of a colour map, between its two nearest stops. */
function colour(stops, share) {
  const at = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(at));
  return `color-mix(in srgb, ${stops[low + 1]} ${((at - low) * 100).toFixed(1)}%, ${stops[low]})`;
}

/** A matrix of layers against layers; only the labels that there is room for are written. */
function heatmap(title, rows, columns, values) {
  const [left, top, width] = [118, 8, 420];
  const cell = (width - left) / columns.length;
  const height = top + cell * rows.length + 26;
  const [low, high] = extent(values.flat()) ?? [0, 1];
  const range = low < 0 ? [-Math.max(-low, high), Math.max(-low, high)] : [0, Math.max(1, high)];
  const share = scale(range, 0, 1);
  const stops = low < 0 ? RED_BLUE : VIRIDIS;
  const cells = values.map((line, row) => line.map((value, column) => value !== null && svg("rect", {
    x: left + column * cell, y: top + row * cell, width: cell + 0.2, height: cell + 0.2,
    style: { fill: colour(stops, share(value)) },
    "data-help": `${rows[row].name} and ${columns[column].name}: ${numberText(value)}`,
  })));
  const every = Math.ceil(11 / cell);
  const labels = rows.map((layer, row) => row % every === 0 &&
    text(left - 5, top + (row + 0.5) * cell + 4, shorten(layer.name, 18), { class: "end" }));
  return chart(width, height, title, mostAlike(rows, columns, values), cells, labels, colourKey(stops, range, left, width, height));
}

function colourKey(stops, range, left, width, height) {
  const parts = 24;
  const from = width - 120;
  const step = 80 / parts;
  return [
    text(from - 6, height - 4, numberText(range[0]), { class: "end" }), text(width, height - 4, numberText(range[1]), { class: "end" }),
    Array.from({ length: parts }, (_, part) => svg("rect", {
      x: from + part * step, y: height - 13, width: step + 0.2, height: 9, style: { fill: colour(stops, part / (parts - 1)) },
    })),
  ];
}

/** The heat map in words: for each layer, the other one that is most alike. */
function mostAlike(rows, columns, values) {
  return rows.map((layer, row) => {
    const others = values[row].map((value, column) => (rows === columns && column === row ? null : value));
    const best = extent(others)?.[1];
    return best === undefined ? "" : `${layer.name} is most like ${columns[others.indexOf(best)].name}, ${numberText(best)}`;
  }).filter(Boolean).join("; ");
}
