"use strict";
/* A layer's page: its own figures, and a wall or table of its channels that sorts and filters. */

async function layerPage(site, state) {
  const layer = findLayer(site, state.layer);
  const columns = await readColumns(layer);
  const view = element("div");
  const spread = element("div");
  const said = element("p.quiet", { role: "status" });
  const { controls, show } = layerControls(layer, columns);
  const update = (now) => {
    show(now);
    showChannels(layer, columns, now, { view, said, spread });
  };
  update(state);
  const [before, after] = [-1, 1].map((step) => nextLayer(layer, step));
  const content = element("article", turning(before, after, "layer"), layerHead(layer),
    element("div.controls", controls, said), spread, view);
  return { title: layer.name, content, update, keys: { ArrowLeft: before, ArrowRight: after } };
}

function nextLayer({ site, index }, step) {
  const next = site.layers[index + step];
  return next ? layerAddress(next) : null;
}

/** Links to what comes before and after. */
function turning(before, after, what) {
  const step = (href, label, key) =>
    href ? link(href, { "aria-keyshortcuts": key }, label) : element("span.quiet", label);
  return element("p.turning",
    step(before, `← previous ${what}`, "ArrowLeft"), step(after, `next ${what} →`, "ArrowRight"));
}

function layerHead(layer) {
  return [
    element("h1", layer.name),
    element("p.lead", `${layer.kind}, ${layer.shape.join(" × ")}, ${numberText(layer.channels)} channels`),
    figureList(layer.site, layer.site.layer_figures, layer.figures),
    notes(layer.notes), similarLayers(layer)];
}

function similarLayers({ site, index }) {
  const alike = site.similarity?.[index];
  if (!alike) return null;
  const others = site.layers.filter((layer) => layer.index !== index && alike[layer.index] != null);
  others.sort((a, b) => alike[b.index] - alike[a.index]);
  return others.length > 0 && element("p", "Most like: ", others.slice(0, 4).map((layer, rank) => [
    rank ? ", " : "", link(layerAddress(layer), layer.name), ` ${numberText(alike[layer.index])}`]));
}

/** The controls; each changes one key of the address and leaves the others. */
function layerControls({ site }, columns) {
  const change = (key) => (value) => go({ ...readAddress(), [key]: value });
  const figures = figuresOf(site, columns).map(({ key, title }) => [key, title]);
  const choices = {
    sort: choice("Sort by", [["", "channel"], ...figures], change("sort")),
    order: choice("Order", [["", "largest first"], ["up", "smallest first"]], change("order")),
    class: columns.best_class && choice("Class", [["", "any"], ...usedClasses(site, columns)], change("class")),
    dead: columns.dead && choice("Dead", [["", "any"], ["no", "alive"], ["yes", "dead"]], change("dead")),
    filter: filterBox(site.figures.map(({ key }) => key).join(", ")),
    view: choice("View", [["", "wall"], ["table", "table"]], change("view")),
  };
  const known = Object.entries(choices).filter(([, each]) => each);
  const show = (state) => {
    for (const [key, [, box]] of known) {
      const typing = key === "filter" && box === document.activeElement;
      if (!typing) box.value = state[key] ?? "";
    }
    choices.order[1].disabled = !state.sort;
  };
  return { controls: known.map(([, [control]]) => control), show };
}

function filterBox(keys) {
  const box = element("input", {
    type: "search", id: "filter", placeholder: "active > 0.1 and …", maxlength: 200, spellcheck: "false",
    "data-help": `Conditions such as "active > 0.1 and class = cat". Figures: ${keys}.`,
    input: () => goQuietly({ ...readAddress(), filter: box.value }),
  });
  return [element("div.control.grow", element("label", { for: "filter" }, "Filter"), box), box];
}

/** The classes that some channel of the layer answers most, with how many. */
function usedClasses(site, { best_class: best }) {
  const counts = new Map();
  for (const index of best) if (index != null) counts.set(index, (counts.get(index) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => a - b)
    .map(([index, count]) => [index, `${shorten(className(site, index), 40)} (${count})`]);
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
  const draw = state.view === "table" ? channelTable : layerWall;
  view.replaceChildren(draw(layer, columns, channels, state));
  const figure = layer.site.figures.find((each) => each.key === state.sort && !isWord(each) && each.key in columns);
  spread.replaceChildren(figure ? figureSpread(figure, channels.map((channel) => columns[figure.key][channel])) : "");
}

/** How a figure is spread over the channels that are shown. */
function figureSpread(figure, values) {
  const known = values.filter((value) => value != null);
  const [low, high] = extent(known) ?? [0, 0];
  if (low === high) return "";
  const parts = 24;
  const counts = new Array(parts).fill(0);
  const part = scale([low, high], 0, parts);
  for (const value of known) counts[Math.min(parts - 1, Math.floor(part(value)))]++;
  const edges = Array.from({ length: parts + 1 }, (_, index) => low + ((high - low) * index) / parts);
  return element("figure.card", histogram(`${figure.title} of the channels`, { edges, counts }, figure.unit),
    element("figcaption.quiet", `${figure.title} of ${numberText(known.length)} channels`));
}
