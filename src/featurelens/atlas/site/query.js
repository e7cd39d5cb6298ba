"use strict";
/* Conditions such as "importance > 0.02 and class = cat", and the channels that they leave, in order. */

const COMPARE = {
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  "=": (a, b) => a === b,
  "!=": (a, b) => a !== b,
};
const CONDITION = /^([^<>=!]+?)\s*(>=|<=|!=|=|>|<)\s*(.+)$/s;
// Classes may hold the word "and": it parts conditions only where a comparison follows before the next "and".
const BETWEEN = /\s+and\s+(?=(?:(?!\s+and\s)[^<>=!])+[<>=!]|(?:not )?dead\s*(?:$|\sand\s))/i;

function isCondition(text) {
  return CONDITION.test(text) || /^(not )?dead$/i.test(text.trim());
}

/** The conditions in a text; an error says which part is not one. */
function readConditions(site, text) {
  return text.split(BETWEEN).map((part) => part.trim()).filter(Boolean).map((part) => readCondition(site, part));
}

/** A condition: the figure it asks for, and whether a channel meets it. */
function readCondition(site, text) {
  if (/^(not )?dead$/i.test(text)) return deadCondition(!/^not/i.test(text));
  const [, word, sign, right] = CONDITION.exec(text) ?? [];
  if (!word) throw new Error(`"${text}" is not a condition: write a figure, a comparison and a value.`);
  if (word.toLowerCase() === "layer") {
    return { key: null, holds: (layer) => (sign === "!=") !== layer.name.includes(right.trim()) };
  }
  const figure = findFigure(site, word);
  const keys = site.figures.map(({ key }) => key).join(", ");
  if (!figure) throw new Error(`There is no figure "${word}"; there are ${keys}.`);
  if (figure.key === "best_class") return classCondition(site, sign, right);
  const value = right.trim().endsWith("%") ? parseFloat(right) / 100 : Number(right);
  if (Number.isNaN(value)) throw new Error(`"${right}" is not a number.`);
  const { key } = figure;
  return { key, holds: (_layer, columns, channel) => meets(columns[key]?.[channel], sign, value) };
}

/** Whether a known value meets a comparison; unknown ones meet none. */
function meets(value, sign, bound) {
  return value != null && COMPARE[sign](Number(value), bound);
}

function deadCondition(dead) {
  return { key: null, holds: (_layer, columns, channel) => Boolean(columns.dead?.[channel]) === dead };
}

function classCondition(site, sign, text) {
  const wanted = matchingClasses(site, text);
  return {
    key: null,
    holds(_layer, { best_class: best }, channel) {
      return best?.[channel] != null && (sign === "!=") !== wanted.has(best[channel]);
    },
  };
}

/** Indices of the classes of this name, or else of those that contain it. */
function matchingClasses(site, text) {
  const wanted = text.trim().toLowerCase();
  const names = (site.classes ?? []).map((name) => name.toLowerCase());
  const exact = names.indexOf(wanted);
  return new Set(exact >= 0 ? [exact] : [...names.keys()].filter((index) => names[index].includes(wanted)));
}

/** The channels of a layer that the state asks for, in its order. */
function chosenChannels(layer, columns, state) {
  const conditions = readConditions(layer.site, state.filter ?? "");
  if (state.dead) conditions.push(deadCondition(state.dead === "yes"));
  const wanted = state.class === undefined ? null : Number(state.class);
  const chosen = [];
  for (let channel = 0; channel < layer.channels; channel++) {
    if (wanted != null && columns.best_class?.[channel] !== wanted) continue;
    if (conditions.every(({ holds }) => holds(layer, columns, channel))) chosen.push(channel);
  }
  return sortChannels(chosen, columns[state.sort], state.order === "up" ? 1 : -1);
}

/** Channels by a column; unknown values stand last in both directions, ties by number. */
function sortChannels(channels, values, direction) {
  if (!values) return channels;
  const known = (channel) => values[channel] != null;
  const step = (a, b) => (known(a) ? direction * (values[a] - values[b]) : 0);
  return channels.sort((a, b) => known(b) - known(a) || step(a, b) || a - b);
}
