"use strict";
/* Making elements. Texts become text nodes and never markup, so names in the data can hold anything. */

function element(tag, attributes = {}, ...children) {
  return complete(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return complete(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function complete(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "style") setStyle(node, value);
    else if (typeof value === "function") node.addEventListener(key, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// The security policy forbids style attributes; properties set one by one are allowed.
function setStyle(node, properties) {
  for (const [key, value] of Object.entries(properties)) node.style.setProperty(key, value);
}

/** A part of a page with a heading; nothing if it has no content. */
function section(title, { class: names = "", help = null } = {}, ...children) {
  const content = children.flat(Infinity).filter(Boolean);
  if (!content.length) return null;
  const heading = element("h2", {}, help ? term({ title, help }) : title);
  return element("section", { class: names }, heading, content);
}

function link(href, attributes, ...children) {
  return element("a", { href, ...attributes }, ...children);
}

/** Sentences about a layer or a channel. */
function notes(sentences) {
  if (!sentences?.length) return null;
  return element("ul", { class: "notes", "aria-label": "Notes" }, sentences.map((text) => element("li", {}, text)));
}

/** A labelled choice; options are pairs of a value and a text. */
function choice(label, options, change) {
  const select = element("select", { change: () => change(select.value) },
    options.map(([value, text]) => element("option", { value }, text)));
  return [element("label", { class: "control" }, label, select), select];
}

/** A labelled switch. */
function toggle(label, on, change) {
  const box = element("input", { type: "checkbox", change: () => change(box.checked) });
  box.checked = on;
  return element("label", { class: "control" }, box, label);
}
