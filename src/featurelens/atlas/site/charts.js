"use strict";
/* Charts as SVG, drawn from the data: sharp, light and dark by CSS, with a title and a description in words. */

let charts = 0;

/** An SVG that readers of screens hear as one image: its title and its description. */
function chart(width, height, title, description, ...marks) {
  const id = `chart-${++charts}`;
  return svg("svg", {
    class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": `${id}-title ${id}-text`,
    style: { "max-width": `${Math.round(width * 1.25)}px` },
  }, svg("title", { id: `${id}-title` }, title), svg("desc", { id: `${id}-text` }, description), marks);
}

/** Maps a range of values to a range of pixels. */
function scale([low, high], from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

function text(x, y, content, attributes = {}) {
  return svg("text", { x, y, ...attributes }, content);
}

function rule(x1, y1, x2, y2, names = "axis") {
  return svg("line", { x1, y1, x2, y2, class: names });
}

/** Counts over edges; the counts are logarithmic, as most activations are near zero. */
function histogram(title, { edges, counts }, unitText = "", mark = null) {
  const [width, height, left, bottom] = [340, 156, 36, 120];
  const range = [edges[0], edges.at(-1)];
  const x = scale(range, left, width - 8);
  const most = Math.max(1, ...counts);
  const y = scale([0, Math.log10(1 + most)], bottom, 14);
  const bars = counts.map((count, index) => count > 0 && svg("rect", {
    class: "bar", x: x(edges[index]), width: Math.max(0.5, x(edges[index + 1]) - x(edges[index]) - 0.5),
    y: y(Math.log10(1 + count)), height: bottom - y(Math.log10(1 + count)),
    "data-help": `${numberText(edges[index])} to ${numberText(edges[index + 1])}: ${numberText(count)}`,
  }));
  const total = counts.reduce((sum, count) => sum + count, 0);
  const fullest = counts.indexOf(Math.max(...counts));
  const description = `${numberText(total)} values from ${numberText(range[0])} to ${numberText(range[1])}; most, ` +
    `${numberText(counts[fullest])}, between ${numberText(edges[fullest])} and ${numberText(edges[fullest + 1])}.`;
  return chart(width, height, title, description, countAxis(most, y, left, width), bars,
    mark !== null && mark !== undefined && rule(x(mark), 10, x(mark), bottom, "mark"),
    rule(left, bottom, width - 8, bottom), valueTicks(range, x, bottom + 16), text((left + width - 8) / 2, 152, unitText, { class: "middle" }));
}

function countAxis(most, y, left, width) {
  const powers = most < 10 ? [1, most] : [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8].filter((power) => power <= most);
  const step = Math.ceil(powers.length / 4);
  return powers.filter((_, index) => index % step === 0).map((power) => [
    rule(left, y(Math.log10(1 + power)), width - 8, y(Math.log10(1 + power)), "grid"),
    text(left - 4, y(Math.log10(1 + power)) + 4, power < 1e4 ? WHOLE.format(power) : `10^${Math.log10(power)}`, { class: "end" }),
  ]);
}

function valueTicks([low, high], x, y) {
  const ticks = [[low, "start"], [high, "end"]];
  const zero = x(0);
  if (low < 0 && high > 0 && zero > x(low) + 40 && zero < x(high) - 40) ticks.push([0, "middle"]);
  return ticks.map(([value, side]) => text(x(value), y, numberText(value), { class: side }));
}

/** Rows of dots on one axis: [{label, values, help, strong}] */
function dotPlot(title, rows) {
  const known = rows.filter(({ values }) => values.some((value) => value !== null && value !== undefined));
  if (!known.length) return null;
  const [width, left, right] = [340, 118, 286];
  const height = known.length * 20 + 8;
  const [low, high] = extent(known.flatMap(({ values }) => values).concat(0));
  const x = scale([low, high], left, right);
  const marks = known.map(({ label, values, help, strong }, index) => dotRow(label, values, help, strong, x, 20 * index + 14, width));
  const description = known.map(({ label, values }) => `${label} ${values.map((value) => numberText(value)).join(", ")}`).join("; ");
  return chart(width, height, title, `${description}.`, rule(x(0), 2, x(0), height - 4, "axis"), marks);
}

function dotRow(label, values, help, strong, x, y, width) {
  const [low, high] = extent([...values, 0]);
  return svg("g", { class: strong ? "strong" : "", "data-help": help },
    text(0, y + 4, label), rule(x(low), y, x(high), y, "stem"),
    values.map((value) => value !== null && svg("circle", { class: "dot", cx: x(value), cy: y, r: strong ? 5 : 4 })),
    text(width, y + 4, values.length === 1 ? numberText(values[0]) : `max ${numberText(extent(values)[1])}`, { class: "end" }));
}

/** Bars of classes: the mean of each, and the effect of ablation with two standard errors. */
function classBars(title, site, { mean, effect, error }, order) {
  const [row, labels, right] = [17, 96, 340];
  const height = order.length * row + 24;
  const middle = effect ? 214 : right;
  const left = { range: extent([...mean, 0]), from: labels, to: middle - 10 };
  const marks = [panel(left, "mean activation", "bar", mean, null, order, row)];
  if (effect) {
    const reach = effect.flatMap((value, index) => [value - 2 * (error?.[index] ?? 0), value + 2 * (error?.[index] ?? 0)]);
    marks.push(panel({ range: extent([...reach, 0]), from: middle, to: right - 4 }, "effect of ablation", "effect", effect, error, order, row));
  }
  const names = order.map((index, line) => text(labels - 6, line * row + 33, shorten(className(site, index), 15), { class: "end" }));
  const description = order.map((index) => `${className(site, index)}: mean ${numberText(mean[index])}` +
    `${effect ? `, effect ${numberText(effect[index])}` : ""}`).join("; ");
  return chart(right, height, title, `${description}.`, names, marks);
}

function panel({ range, from, to }, heading, names, values, errors, order, row) {
  const x = scale(range, from, to);
  const bars = order.map((index, line) => {
    const y = line * row + 29;
    const value = values[index];
    if (value === null || value === undefined) return null;
    const reach = 2 * (errors?.[index] ?? 0);
    const help = `${heading}: ${numberText(value)}${errors ? ` ± ${numberText(reach)}` : ""}`;
    return svg("g", { "data-help": help },
      svg("rect", { class: names, x: Math.min(x(0), x(value)), y: y - 5, width: Math.abs(x(value) - x(0)), height: 10 }),
      errors && rule(x(value - reach), y, x(value + reach), y, "error"));
  });
  return [text(from, 11, heading), text(from, 11, ""), rule(x(0), 18, x(0), order.length * row + 22, "axis"), bars];
}

function shorten(name, length) {
  return name.length > length ? `${name.slice(0, length - 1)}…` : name;
}

/** Where a value stands among the others: a tick for each channel, and this one marked. */
function strip(values, channel) {
  const range = extent(values);
  if (!range || values[channel] === null) return null;
  const x = scale(range, 2, 118);
  const ticks = values.filter((value) => value !== null).map((value) => `M${x(value).toFixed(1)} 3v8`).join("");
  return svg("svg", { class: "strip", viewBox: "0 0 120 14", "aria-hidden": "true" },
    svg("path", { class: "ticks", d: ticks }), rule(x(values[channel]), 0, x(values[channel]), 14, "mark"));
}
