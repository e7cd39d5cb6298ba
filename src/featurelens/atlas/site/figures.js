"use strict";
/* Figures: how they are named, explained, written and put in place among others. */

const PLAIN = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const TINY = new Intl.NumberFormat("en", { maximumSignificantDigits: 2, notation: "scientific" });
const WHOLE = new Intl.NumberFormat("en");

/** A number as text with three significant digits; unknown ones are a dash. */
function numberText(value, signed = false) {
  if (value == null) return "–";
  const size = Math.abs(value);
  const format = Number.isInteger(value) ? WHOLE : size < 1e-3 || size >= 1e6 ? TINY : PLAIN;
  const sign = value < 0 ? "−" : signed && value > 0 ? "+" : "";
  return sign + format.format(size).replace("E", "e");
}

/** A value of a figure as text: classes by name, truths by yes or no. */
function figureText(site, figure, value) {
  if (value == null) return "–";
  if (figure.key === "best_class") return className(site, value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return numberText(value, figure.signed);
}

function className(site, index) {
  return index == null ? "no label" : (site.classes?.[index] ?? `class ${index}`);
}

/** Whether a figure's values are words, which have no rank and no difference. */
function isWord({ key }) {
  return key === "best_class" || key === "dead";
}

/** The figures that are known; those that say what chance gives are shown beside their own figure. */
function shownFigures(figures, isKnown) {
  const nulls = new Set((figures ?? []).map((figure) => figure.null));
  return (figures ?? []).filter(({ key }) => !nulls.has(key) && isKnown(key));
}

/** The figures that a layer's table has a column of. */
function figuresOf(site, columns) {
  return shownFigures(site.figures, (key) => key in columns);
}

/** The figures that some of the layers have. */
function figuresOfLayers(site, layers) {
  return shownFigures(site.layer_figures, (key) => layers.some(({ figures }) => figures?.[key] != null));
}

function findFigure(site, word) {
  const wanted = word.trim().toLowerCase().replace(/^class$/, "best_class");
  return site.figures.find(({ key, title }) => [key, title].some((name) => name.toLowerCase() === wanted));
}

/** Links of the data lead to pages and nowhere else: no scripts in addresses. */
function safeLink(address) {
  if (!address) return null;
  const { protocol } = new URL(address, location.href);
  return ["http:", "https:", "file:"].includes(protocol) ? address : null;
}

/** The name of a figure, which explains itself and leads to its explanation. */
function term({ title, help, link: address }) {
  const href = safeLink(address);
  if (href) return link(href, { class: "term", "data-help": help }, title);
  return help ? element("button.term", { type: "button", "data-help": help }, title) : title;
}

/** Figures with their values, side by side. */
function figureList(site, figures, values) {
  const known = shownFigures(figures, (key) => values?.[key] != null);
  if (!known.length) return null;
  return element("dl.figures", known.map((figure) => element("div",
    element("dt", term(figure)),
    element("dd", figureText(site, figure, values[figure.key]), unit(figure), chance(figure, values)))));
}

function unit(figure) {
  return figure.unit ? element("small", ` ${figure.unit}`) : null;
}

/** What chance alone gives, for figures that name the one that says so. */
function chance(figure, values) {
  const value = values[figure.null];
  return value == null ? null : element("small", ` (chance ${numberText(value)})`);
}

/** Smallest and largest of the known values; null if there are none. */
function extent(values) {
  const known = values.filter((value) => value != null);
  return known.length ? [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))] : null;
}

/** The place of a channel among those of its layer, counted from the largest value. */
function place(values, channel) {
  return 1 + values.filter((value) => value != null && value > values[channel]).length;
}
