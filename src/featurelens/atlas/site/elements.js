"use strict";
/* Making elements. Texts become text nodes and never markup, so names in the data can hold anything. */

/** element("p.quiet", {title: "…"}, children…); attributes may be left out, children that are nothing too. */
function element(name, ...content) {
  const [tag, ...names] = name.split(".");
  const node = document.createElement(tag);
  if (names.length) node.className = names.join(" ");
  return complete(node, content);
}

function svg(tag, ...content) {
  return complete(document.createElementNS("http://www.w3.org/2000/svg", tag), content);
}

function complete(node, content) {
  const [first, ...others] = content;
  const attributes = Object.getPrototypeOf(first ?? "") === Object.prototype ? first : {};
  for (const [key, value] of Object.entries(attributes)) setAttribute(node, key, value);
  const children = (attributes === first ? others : content).flat(Infinity);
  node.append(...children.filter((child) => child != null && child !== false && child !== ""));
  return node;
}

function setAttribute(node, key, value) {
  if (value == null || value === false) return;
  // The security policy forbids style attributes; properties set one by one are allowed.
  if (key === "style") for (const [name, part] of Object.entries(value)) node.style.setProperty(name, part);
  else if (typeof value === "function") node.addEventListener(key, value);
  else node.setAttribute(key, value);
}

function link(href, ...content) {
  const node = element("a", ...content);
  node.setAttribute("href", href);
  return node;
}

/** A part of a page with a heading, which may explain itself; nothing if it has no content. */
function section(title, help, ...children) {
  const content = children.flat(Infinity).filter(Boolean);
  return content.length ? element("section", element("h2", term({ title, help })), content) : null;
}

/** A table from headings and rows; the first cell of a row is its heading. */
function table(names, headings, rows) {
  const cell = (tag, scope) => (content) =>
    content instanceof HTMLTableCellElement ? content : element(tag, { scope }, content);
  return element(`table.${names}`,
    element("thead", element("tr", headings.map(cell("th", "col")))),
    element("tbody", rows.map(([first, ...others]) =>
      element("tr", cell("th", "row")(first), others.map(cell("td", null))))));
}

/** Wide content scrolls by itself, so that the page does not; the keyboard reaches it. */
function scrollable(label, content) {
  return element("div.scroll", { tabindex: 0, role: "region", "aria-label": label }, content);
}

/** Sentences about a layer or a channel. */
function notes(sentences) {
  if (!sentences?.length) return null;
  return element("ul.notes", { "aria-label": "Notes" }, sentences.map((text) => element("li", text)));
}

/** A labelled choice; options are pairs of a value and a text. */
function choice(label, options, change) {
  const id = `choose-${label.toLowerCase().replaceAll(" ", "-")}`;
  const select = element("select", { id, change: () => change(select.value) },
    options.map(([value, text]) => element("option", { value }, text)));
  return [element("div.control", element("label", { for: id }, label), select), select];
}

/** A labelled switch. */
function toggle(label, on, change) {
  const box = element("input", { type: "checkbox", change: () => change(box.checked) });
  box.checked = on;
  return element("label.control", box, label);
}
