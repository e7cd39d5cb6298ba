"use strict";
/* A layer's page: its own figures, and a wall or table of its channels that sorts and filters. */

async function layerPage(site, state) {
  const layer = findLayer(site, state.layer);
  const columns = await readColumns(layer);
  const view = element("div");
  const said = element("p", { role: "status", class: "quiet" });
  const spread = element("div", { class: "spread" });
  const controls = layerControls(layer, columns);
  const content = element("article", {},
    layerHead(layer),
    element("div", { class: "controls" }, controls.elements, said), spread, view);
  const update = (now) => {
    controls.show(now);
    showChannels(layer, columns, now, { view, said, spread });
  };
  update(state);
  return { title: layer.name, content, update, trail: [], keys: { ArrowLeft: nextLayer(layer, -1), ArrowRight: nextLayer(layer, 1) } };
}

function nextLayer(layer, step) {
  const next = layer.site.layers[layer.index + step];
  return next ? layerAddress(next) : null;
}

function layerHead(layer) {
  const { site } = layer;
  return [
    turning(nextLayer(layer, -1), nextLayer(layer, 1), "layer"),
    element("h1", {}, layer.name),
    element("p", { class: "lead" }, `${layer.kind}, ${layer.shape.join(" × ")}, ${numberText(layer.channels)} channels`),
    figureList(site, site.layer_figures ?? [], layer.figures ?? {}),
    notes(layer.notes), similarLayers(layer)];
}

/** Links to what comes before and behind. */
function turning(back, on, what) {
  const step = (href, label, key) => (href ? link(href, { rel: key, title: `arrow key` }, label) : element("span", { class: "quiet" }, label));
  return element("p", { class: "turning" }, step(back, `← previous ${what}`, "prev"), step(on, `next ${what} →`, "next"));
}

function similarLayers({ site, index, name }) {
  if (!site.similarity) return null;
  const others = site.layers.filter((layer) => layer.name !== name && site.similarity[index][layer.index] !== null);
  others.sort((a, b) => site.similarity[index][b.index] - site.similarity[index][a.index]);
  if (!others.length) return null;
  return element("p", {}, "Most like: ", others.slice(0, 4).map((layer, rank) => [rank ? ", " : "",
    link(layerAddress(layer), {}, layer.name), ` ${numberText(site.similarity[index][layer.index])}`]));
}

/** The controls; each changes one key of the address and leaves the others. */
function layerControls(layer, columns) {
  const { site } = layer;
  const change = (key) => (value) => go({ ...readAddress(), [key]: value });
  const figures = figuresOf(site, columns);
  const [sort, sortBox] = choice("Sort by", [["", "channel"], ...figures.map(({ key, title }) => [key, title])], change("sort"));
  const [order, orderBox] = choice("Order", [["", "largest first"], ["up", "smallest first"]], change("order"));
  const [wanted, classBox] = choice("Class", [["", "any"], ...usedClasses(site, columns)], change("class"));
  const [dead, deadBox] = choice("Dead", [["", "any"], ["no", "alive"], ["yes", "dead"]], change("dead"));
  const [view, viewBox] = choice("View", [["", "wall"], ["table", "table"]], change("view"));
  const filterBox = element("input", {
    type: "search", placeholder: "active > 0.1 and …", maxlength: "200", spellcheck: "false",
    input: () => goQuietly({ ...readAddress(), filter: filterBox.value }),
  });
  const filter = element("label", { class: "control grow" }, "Filter", filterBox);
  const elements = [sort, order, columns.best_class && wanted, columns.dead && dead, filter, view];
  const boxes = { sort: sortBox, order: orderBox, class: classBox, dead: deadBox, view: viewBox, filter: filterBox };
  return { elements, show: (state) => showControls(boxes, state) };
}

function showControls(boxes, state) {
  for (const [key, box] of Object.entries(boxes)) {
    if (box !== document.activeElement || box.tagName === "SELECT") box.value = state[key] ?? "";
  }
  boxes.order.disabled = !state.sort;
}

/** The classes that some channel of the layer answers most, with how many. */
function usedClasses(site, { best_class: best = [] }) {
  const counts = new Map();
  for (const index of best) if (index !== null) counts.set(index, (counts.get(index) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => a - b).map(([index, count]) => [index, `${className(site, index)} (${count})`]);
}

function showChannels(layer, columns, state, { view, said, spread }) {
  let channels = [];
  try {
    channels = chosenChannels(layer, columns, state);
    said.textContent = channels.length === layer.channels ? "" : `${channels.length} of ${layer.channels} channels`;
  } catch (error) {
    // While a condition is being typed it is not one yet: say so and leave what is shown.
    said.textContent = error.message;
    if (view.childElementCount) return;
  }
  view.replaceChildren(state.view === "table" ? channelTable(layer, columns, channels, state) : layerWall(layer, columns, channels, state));
  const figure = layer.site.figures.find(({ key }) => key === state.sort && key !== "best_class" && key in columns);
  spread.replaceChildren(...(figure ? [figureSpread(figure, columns[figure.key], channels)] : []));
}

/** How a figure is spread over the channels that are shown. */
function figureSpread(figure, values, channels) {
  const known = channels.map((channel) => values[channel]).filter((value) => value !== null).map(Number);
  const range = extent(known);
  if (!range || range[0] === range[1]) return "";
  const parts = 24;
  const counts = new Array(parts).fill(0);
  const part = scale(range, 0, parts);
  for (const value of known) counts[Math.min(parts - 1, Math.floor(part(value)))]++;
  const edges = Array.from({ length: parts + 1 }, (_, index) => range[0] + ((range[1] - range[0]) * index) / parts);
  return element("figure", { class: "card" }, histogram(`${figure.title} of the channels`, { edges, counts }, figure.unit),
    element("figcaption", { class: "quiet" }, `${figure.title} of ${numberText(known.length)} channels`));
}
