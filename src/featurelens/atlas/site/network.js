"use strict";
/* The first page: the layers in order, what matters most, and how alike the layers are. */

/** What the data is, in a sentence. */
function dataSentence({ images, sample, input, classes, ablation }) {
  const parts = [`${numberText(images)} ${input.kind}s of ${input.shape.join(" × ")}`];
  if (classes) parts.push(`${numberText(classes.length)} classes`);
  if (sample && sample < images) parts.push(`neighbours and information from a sample of ${numberText(sample)}`);
  if (ablation) {
    parts.push(`ablation on ${numberText(ablation.images)} images, where ${ablation.metric} is ${numberText(ablation.baseline)}`);
  }
  return `${parts.join("; ")}.`;
}

async function networkPage(site) {
  const channels = site.layers.reduce((sum, layer) => sum + layer.channels, 0);
  const content = element("article", {},
    element("h1", {}, site.title),
    element("p", { class: "lead" }, dataSentence(site), ` ${numberText(site.layers.length)} layers, ${numberText(channels)} channels.`),
    notes(site.notes),
    importantChannels(site),
    section("Layers", { class: "wide" }, layerTable(site)),
    site.similarity && section("How alike the layers are", { help: similarityHelp(site) },
      heatmap("Similarity of layers", site.layers, site.layers, site.similarity)));
  return { title: site.title, content };
}

function similarityHelp({ layer_figures: figures }) {
  return figures.find(({ key }) => key === "similarity")?.help ?? "Similarity of each pair of layers on the same images.";
}

/** The channels with the largest values of one figure, from the sheet made for this page. */
function importantChannels(site) {
  const figure = site.figures.find(({ key }) => key === site.front?.figure);
  if (!figure || !site.front.largest.length) return null;
  const tiles = site.front.largest.map(([index, channel, value], rank) => {
    const layer = site.layers[index];
    return link(channelAddress(layer, channel), { class: "channel-link" }, frontTile(site, site.layers.length, rank, layer, channel),
      element("span", { class: "caption" }, shortName(layer, channel),
        element("span", { class: "quiet" }, numberText(value, figure.signed))));
  });
  return section(`What matters most: ${figure.title}`, { class: "wide", help: figure.help }, wall(`Largest ${figure.title}`, tiles));
}

/** A tile of the first page's own sheet: one row for each layer, then the largest channels. */
function frontTile(site, row, column, layer, channel) {
  const { columns } = site.front;
  const alt = `${layer.name}, channel ${channel}: image that maximizes it`;
  return tile(`${site.prefix}images/front.webp`, site.front, row + Math.floor(column / columns), column % columns, alt);
}

function layerTable(site) {
  const figures = shownFigures(site.layer_figures, (key) => site.layers.some((layer) => layer.figures?.[key] !== undefined));
  const reach = Object.fromEntries(figures.map(({ key }) => [key, extent(site.layers.map((layer) => layer.figures?.[key]).concat(0))]));
  const head = ["Layer", "Channels that stand for it", "Shape"].map((title) => element("th", { scope: "col" }, title));
  return element("table", { class: "layers" },
    element("thead", {}, element("tr", {}, head, figures.map((figure) => element("th", { scope: "col" }, term(figure))))),
    element("tbody", {}, site.layers.map((layer) => layerRow(layer, figures, reach))));
}

function layerRow(layer, figures, reach) {
  return element("tr", {},
    element("th", { scope: "row" }, link(layerAddress(layer), { class: "cut" }, layer.name), element("small", {}, layer.kind)),
    element("td", { class: "faces" }, layerFaces(layer)),
    element("td", { class: "shape" }, layer.shape.join(" × ")),
    figures.map((figure) => element("td", { "data-title": figure.title }, barCell(figure, layer.figures ?? {}, reach[figure.key]))));
}

function layerFaces({ site, index, ...layer }) {
  const channels = site.front?.layers[index] ?? [];
  return element("div", { class: "strip-of-tiles" }, channels.map((channel, column) =>
    link(channelAddress(layer, channel), { tabindex: "-1" }, frontTile(site, index, column, layer, channel))));
}

/** A number over a bar that shows it, with a tick where chance is. */
function barCell(figure, values, range) {
  const value = values[figure.key];
  if (value === null || value === undefined) return "–";
  const share = scale(range, 0, 100);
  const nothing = figure.null ? values[figure.null] : null;
  return [numberText(value, figure.signed), element("span", { class: "meter" },
    element("span", { style: { width: `${share(value)}%` } }),
    nothing !== null && nothing !== undefined &&
      element("i", { style: { left: `${Math.min(100, share(nothing))}%` }, title: `chance ${numberText(nothing)}` }))];
}
