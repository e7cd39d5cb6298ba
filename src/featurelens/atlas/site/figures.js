"use strict";
/* Figures: how they are named, explained, written and put in place among others. */

const PLAIN = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const TINY = new Intl.NumberFormat("en", { maximumSignificantDigits: 2, notation: "scientific" });
const WHOLE = new Intl.NumberFormat("en");

/** A number as text with three significant digits; unknown ones are a dash. */
function numberText(value, signed = false) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const format = Number.isInteger(value) ? WHOLE : size < 1e-3 || size >= 1e6 ? TINY : PLAIN;
  const sign = value < 0 ? "−" : signed && value > 0 ? "+" : "";
  return sign + format.format(size).replace("E", "e");
}

/** A value of a figure as text: classes by name, dead by yes or no. */
function figureText(site, figure, value) {
  if (value === null || value === undefined) return "–";
  if (figure.key === "best_class") return className(site, value);
  if (figure.key === "dead" && typeof value === "boolean") return value ? "yes" : "no";
  return numberText(value, figure.signed);
}

function className(site, index) {
  return index === null || index === undefined ? "no label" : (site.classes?.[index] ?? `class ${index}`);
}

/** The figures that are known; those that say what chance gives are shown beside their own figure. */
function shownFigures(figures, isKnown) {
  const nulls = new Set(figures.map((figure) => figure.null));
  return (figures ?? []).filter(({ key }) => !nulls.has(key) && isKnown(key));
}

/** The figures that a layer's table has a column of. */
function figuresOf(site, columns) {
  return shownFigures(site.figures, (key) => key in columns);
}

function findFigure(site, word) {
  const wanted = word.trim().toLowerCase().replace(/^class$/, "best_class");
  return site.figures.find((figure) => [figure.key, figure.title].some((name) => name.toLowerCase() === wanted));
}

/** Links of the data lead to pages and nowhere else: no scripts in addresses. */
function safeLink(address) {
  if (!address) return null;
  const { protocol } = new URL(address, location.href);
  return ["http:", "https:", "file:"].includes(protocol) ? address : null;
}

/** The name of a figure, which explains itself and leads to its explanation. */
function term({ title, help, link: address = null }) {
  const href = safeLink(address);
  if (!help && !href) return element("span", {}, title);
  const attributes = { class: "term", "data-help": help };
  return href ? link(href, attributes, title) : element("button", { type: "button", ...attributes }, title);
}

/** Figures with their values, side by side. */
function figureList(site, figures, values) {
  const known = shownFigures(figures, (key) => values[key] !== null && values[key] !== undefined);
  if (!known.length) return null;
  return element("dl", { class: "figures" }, known.map((figure) => element("div", {},
    element("dt", {}, term(figure)),
    element("dd", {}, figureText(site, figure, values[figure.key]), unit(figure), chance(figure, values)))));
}

function unit(figure) {
  return figure.unit ? element("small", {}, ` ${figure.unit}`) : null;
}

/** What chance alone gives, for figures that name the one that says so. */
function chance(figure, values) {
  const value = figure.null ? values[figure.null] : null;
  return value === null || value === undefined ? null : element("small", {}, ` (chance ${numberText(value)})`);
}

/** Smallest and largest of the known values; null if there are none. */
function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null || value === undefined) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low > high ? null : [Number(low), Number(high)];
}

/** The place of a channel among those of its layer, counted from the largest value. */
function place(values, channel) {
  return 1 + values.reduce((above, value) => above + (value !== null && value > values[channel]), 0);
}
