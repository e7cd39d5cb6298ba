"use strict";
/* Charts as SVG, drawn from the data: sharp, light and dark by CSS, with a title and a description in words. */

const WIDTH = 340;
let charts = 0;

/** An SVG that readers of screens hear as one image: its title and its description. */
function chart(width, height, title, description, ...marks) {
  const id = `chart-${++charts}`;
  const style = { "max-width": `${Math.round(width * 1.25)}px` };
  const labels = { role: "img", "aria-labelledby": `${id}-title ${id}-text` };
  return svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, style, ...labels },
    svg("title", { id: `${id}-title` }, title), svg("desc", { id: `${id}-text` }, description), marks);
}

/** Maps a range of values to a range of pixels. */
function scale([low, high], from, to) {
  return (value) => from + ((value - low) / (high - low || 1)) * (to - from);
}

function text(x, y, content, names = "") {
  return svg("text", { x, y, class: names }, content);
}

function rule(x1, y1, x2, y2, names = "axis") {
  return svg("line", { x1, y1, x2, y2, class: names });
}

function bar(names, x1, x2, y, height, help) {
  return svg("rect", { class: names, x: Math.min(x1, x2), width: Math.abs(x2 - x1), y, height, "data-help": help });
}

function shorten(name, length) {
  return name.length > length ? `${name.slice(0, length - 1)}…` : name;
}

/** Counts between edges; the counts are logarithmic, as most activations lie near zero. */
function histogram(title, { edges, counts }, unitText) {
  const [left, right, bottom] = [36, WIDTH - 8, 120];
  const x = scale([edges[0], edges.at(-1)], left, right);
  const most = Math.max(1, ...counts);
  const height = (count) => scale([0, Math.log10(1 + most)], 0, bottom - 14)(Math.log10(1 + count));
  const [ends, sizes] = [edges, counts].map((values) => values.map((value) => numberText(value)));
  const between = (index) => `${ends[index]} to ${ends[index + 1]}: ${sizes[index]}`;
  const bars = counts.map((count, index) => count > 0 &&
    bar("bar", x(edges[index]), x(edges[index + 1]) - 0.5, bottom - height(count), height(count), between(index)));
  const total = counts.reduce((sum, count) => sum + count, 0);
  const description = `${numberText(total)} values; most of them from ${between(counts.indexOf(most))}.`;
  return chart(WIDTH, 156, title, description, countAxis(most, (count) => bottom - height(count), left, right), bars,
    rule(left, bottom, right, bottom), valueAxis([edges[0], edges.at(-1)], x, bottom + 16),
    text((left + right) / 2, 152, unitText, "middle"));
}

function countAxis(most, y, left, right) {
  const powers = Array.from({ length: Math.floor(Math.log10(most)) + 1 }, (_, power) => 10 ** power);
  const ticks = most < 10 ? [1, most] : powers.filter((_, index) => index % Math.ceil(powers.length / 4) === 0);
  return ticks.map((count) => [rule(left, y(count), right, y(count), "grid"),
    text(left - 4, y(count) + 4, count < 1e4 ? WHOLE.format(count) : `10^${Math.log10(count)}`, "end")]);
}

function valueAxis([low, high], x, y) {
  const zero = low < 0 && high > 0 && x(0) > x(low) + 40 && x(0) < x(high) - 40;
  return [text(x(low), y, numberText(low)), zero && text(x(0), y, "0", "middle"), text(x(high), y, numberText(high), "end")];
}

/** Rows of dots on one axis, each a label, its values, and whether it stands out. */
function dotPlot(title, rows) {
  const known = rows.filter(([, values]) => extent(values ?? []));
  if (!known.length) return null;
  const height = known.length * 20 + 4;
  const x = scale(extent([0, ...known.flatMap(([, values]) => values)]), 118, 258);
  const description = known.map(([label, values]) => `${label} ${values.map((value) => numberText(value)).join(", ")}`);
  return element("figure", element("figcaption.quiet", title),
    chart(WIDTH, height, title, `${description.join("; ")}.`, rule(x(0), 2, x(0), height),
      known.map(([label, values, strong], row) => dotRow(label, values, strong, x, 20 * row + 13))));
}

function dotRow(label, values, strong, x, y) {
  const [low, high] = extent([...values, 0]);
  const dot = (value) => svg("circle", { class: "dot", cx: x(value), cy: y, r: strong ? 5 : 4 });
  const dots = values.filter((value) => value != null).map(dot);
  const most = `${values.length > 1 ? "max " : ""}${numberText(extent(values)[1])}`;
  return svg("g", { class: strong ? "strong" : "" },
    text(0, y + 4, label), rule(x(low), y, x(high), y, "stem"), dots, text(WIDTH, y + 4, most, "end"));
}

/** Bars of classes: the mean of each, and the effect of ablation with two standard errors. */
function classBars(site, { mean, effect, error }, order) {
  const [row, labels, middle, right] = [17, 96, effect ? 208 : WIDTH - 6, WIDTH - 2];
  const names = order.map((index, line) =>
    text(labels - 6, line * row + 33, shorten(className(site, index), 15), "end"));
  const spoken = order.map((index) => `${className(site, index)}: mean ${numberText(mean[index])}` +
    `${effect ? `, effect ${numberText(effect[index])}` : ""}`);
  return chart(WIDTH, order.length * row + 24, "Classes", `${spoken.join("; ")}.`, names,
    classPanel("mean activation", "bar", mean, null, order, row, labels, middle),
    effect && classPanel("effect of ablation", "effect", effect, error, order, row, middle + 14, right));
}

function classPanel(heading, names, values, errors, order, row, from, to) {
  const reach = (index) => 2 * (errors?.[index] ?? 0);
  const ends = order.filter((index) => values[index] != null)
    .flatMap((index) => [values[index] - reach(index), values[index] + reach(index)]);
  const x = scale(extent([0, ...ends]), from, to);
  const bars = order.map((index, line) => {
    const [value, y] = [values[index], line * row + 29];
    const help = `${heading}: ${numberText(value)}${errors ? ` ± ${numberText(reach(index))}` : ""}`;
    return value != null && [bar(names, x(0), x(value), y - 5, 10, help),
      errors && rule(x(value - reach(index)), y, x(value + reach(index)), y, "error")];
  });
  return [text(from, 11, heading), rule(x(0), 18, x(0), order.length * row + 22), bars];
}

/** Where a value stands among the others: a tick for each channel, and this one marked. */
function strip(values, channel) {
  const x = scale(extent(values), 2, 118);
  const ticks = values.filter((value) => value != null).map((value) => `M${x(value).toFixed(1)} 3v8`).join("");
  return svg("svg", { class: "strip", viewBox: "0 0 120 14", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "ticks", d: ticks }), rule(x(values[channel]), 0, x(values[channel]), 14, "mark"));
}
