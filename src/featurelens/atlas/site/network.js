"use strict";
/* The first page: what matters most, the layers in order, and how alike they are. */

async function networkPage(site) {
  const { layers, similarity } = site;
  const channels = layers.reduce((sum, layer) => sum + layer.channels, 0);
  const size = `${numberText(layers.length)} layers, ${numberText(channels)} channels.`;
  const alike = site.layer_figures?.find(({ key }) => key === "similarity")?.help;
  return { title: site.title, content: element("article",
    element("h1", site.title),
    element("p.lead", `${dataSentence(site)} ${size}`),
    notes(site.notes),
    importantChannels(site),
    section("Layers", null, layerTable(site)),
    similarity && section("How alike the layers are", alike, heatmap("Similarity of layers", layers, similarity))) };
}

/** What the data is, in a sentence. */
function dataSentence({ images, sample, input, classes, ablation }) {
  const parts = [`${numberText(images)} ${input.kind}s of ${input.shape.join(" × ")}`];
  if (classes) parts.push(`${numberText(classes.length)} classes`);
  if (sample < images) parts.push(`neighbours and information from a sample of ${numberText(sample)}`);
  if (ablation) {
    const { images: count, metric, baseline } = ablation;
    parts.push(`ablation on ${numberText(count)}, where ${metric} is ${numberText(baseline)}`);
  }
  return `${parts.join("; ")}.`;
}

/** The channels with the largest values of one figure, from the sheet made for this page. */
function importantChannels(site) {
  const figure = site.figures.find(({ key }) => key === site.front?.figure);
  if (!figure) return null;
  const tiles = site.front.largest.map(([index, channel, value], rank) => {
    const layer = site.layers[index];
    const picture = frontTile(layer, channel, site.layers.length, rank);
    return captionedLink(layer, channel, {}, picture, shortName(layer, channel), numberText(value, figure.signed));
  });
  const title = `What matters most: ${figure.title}`;
  return tiles.length ? section(title, figure.help, wall(title, tiles)) : null;
}

/** A tile of the first page's own sheet: one row for each layer, then the largest channels. */
function frontTile({ site, name }, channel, row, place) {
  const { columns } = site.front;
  const path = `${site.prefix}images/front.webp`;
  return tile(path, site.front, row + Math.floor(place / columns), place % columns, pictureText(name, channel));
}

function layerTable(site) {
  const figures = figuresOfLayers(site, site.layers);
  const ranges = figures.map(({ key }) => extent([0, ...site.layers.map((layer) => layer.figures?.[key])]));
  return table("layers", ["Layer", "Channels that stand for it", "Shape", ...figures.map(term)],
    site.layers.map((layer) => [
      [link(layerAddress(layer), { class: "cut" }, layer.name), element("small", layer.kind)],
      element("td.faces", layerFaces(layer)),
      element("td.shape", layer.shape.join(" × ")),
      ...figures.map((figure, index) => barCell(figure, layer.figures ?? {}, ranges[index]))]));
}

/** Thumbnails lead to channels by pointer; the keyboard finds them behind the layer's name. */
function layerFaces(layer) {
  const { site: { front }, index } = layer;
  const channels = front?.layers[index] ?? [...Array(Math.min(8, layer.channels)).keys()];
  const picture = (channel, place) => front ? frontTile(layer, channel, index, place) : bestTile(layer, channel);
  return element("div.row-of-tiles", channels.map((channel, place) =>
    link(channelAddress(layer, channel), { tabindex: -1 }, picture(channel, place))));
}

/** A number over a bar that shows it, with a tick where chance is. */
function barCell(figure, values, range) {
  const value = values[figure.key];
  const nothing = values[figure.null];
  const share = (number) => `${Math.min(100, scale(range, 0, 100)(number))}%`;
  return element("td", { "data-title": figure.title }, numberText(value, figure.signed),
    value != null && element("span.meter", element("span", { style: { width: share(value) } }),
      nothing != null && element("i", { style: { left: share(nothing) }, title: `chance ${numberText(nothing)}` })));
}
