"use strict";
/* Two atlases side by side: the same layers, and of each channel what changed. */

/** The layers of both atlases in pairs; the manifest of the comparison says which channels belong together. */
function compareSites({ compared, layers }, [first, second]) {
  const pairs = new Map();
  for (const { name, ...known } of layers) {
    pairs.set(name, { name, first: findLayer(first, name), second: findLayer(second, name), ...known });
  }
  return { titles: compared.map(({ title }) => title), pairs };
}

function findPair({ comparison }, name) {
  const pair = comparison.pairs.get(name);
  if (!pair) throw new Error(`The layer "${name}" is not in both networks.`);
  return pair;
}

/** The channel of the second network that belongs to one of the first: the matched one, or that of the same number. */
function partner({ match, second }, channel) {
  const other = match ? match[channel] : channel;
  return other !== null && other < second.channels ? other : null;
}

/** Values of a figure in both networks, and the change from the first to the second. */
function change(pair, columns, key, channel) {
  const other = partner(pair, channel);
  const before = columns[0][key]?.[channel] ?? null;
  const after = other === null ? null : (columns[1][key]?.[other] ?? null);
  return { before, after, difference: before === null || after === null ? null : after - before };
}

async function comparedNetwork(site) {
  const { titles, pairs } = site.comparison;
  const all = [...pairs.values()];
  const figures = shownFigures(site.layer_figures, (key) => all.some(({ first }) => first.figures?.[key] !== undefined));
  const content = element("article", {}, element("h1", {}, site.title), versus(titles),
    element("p", { class: "lead" }, `${numberText(all.length)} layers are in both networks.`),
    scrollable("Layers of both networks", comparedTable(all, figures, titles)));
  return { title: site.title, content };
}

/** The names of the two, with the letters that stand for them. */
function versus(titles) {
  return element("p", { class: "versus" }, titles.map((title, index) => element("span", {}, element("b", {}, "AB"[index]), ` ${title}`)));
}

function comparedTable(pairs, figures, titles) {
  const alike = pairs.some(({ similarity }) => similarity !== null && similarity !== undefined);
  const head = [element("th", { scope: "col" }, "Layer"), alike && element("th", { scope: "col" }, "Similarity"),
    figures.map((figure) => [element("th", { scope: "col" }, term({ ...figure, title: `${figure.title}, A` })),
      element("th", { scope: "col" }, "B"), element("th", { scope: "col" }, "B − A")])];
  const rows = pairs.map(({ name, first, second, similarity }) => element("tr", {},
    element("th", { scope: "row" }, link(layerAddress(first), {}, name)), alike && element("td", {}, numberText(similarity)),
    figures.map(({ key }) => [first, second].map((layer) => element("td", {}, numberText(layer.figures?.[key]))).concat(
      differenceCell(first.figures?.[key], second.figures?.[key])))));
  return element("table", { class: "table", "aria-label": `Layers of ${titles.join(" and ")}` },
    element("thead", {}, element("tr", {}, head.flat(3).filter(Boolean))), element("tbody", {}, rows));
}

function differenceCell(before, after) {
  const known = [before, after].every((value) => value !== null && value !== undefined);
  return element("td", { class: "difference" }, known ? numberText(after - before, true) : "–");
}

async function comparedLayer(site, state) {
  const pair = findPair(site, state.layer);
  const columns = await Promise.all([readColumns(pair.first), readColumns(pair.second)]);
  const figures = figuresOf(site, columns[0]).filter(({ key }) => key in columns[1] && key !== "best_class");
  const view = element("div");
  const options = [...(pair.correlation ? [["match", "the match of activations"]] : []), ...figures.map(({ key, title }) => [key, title])];
  const [sort, box] = choice("Changed most in", options, (value) => go({ ...readAddress(), sort: value }));
  const update = (now) => {
    box.value = sortOfChange(pair, figures, now);
    view.replaceChildren(comparedWall(site, pair, columns, box.value));
  };
  update(state);
  const matched = pair.match ? "Channels are matched by the correlation of their activations." : "Channels of the same number stand side by side.";
  const content = element("article", {}, element("h1", {}, pair.name), versus(site.comparison.titles),
    element("p", { class: "lead" }, matched, pair.similarity !== null && pair.similarity !== undefined && ` Similarity of the layer: ${numberText(pair.similarity)}.`),
    element("div", { class: "controls" }, sort), view);
  return { title: pair.name, content, update };
}

function sortOfChange({ correlation }, figures, { sort }) {
  if (figures.some(({ key }) => key === sort) || (sort === "match" && correlation)) return sort;
  return correlation ? "match" : (figures.find(({ key }) => key === "importance") ?? figures[0])?.key;
}

function comparedWall(site, pair, columns, sort) {
  const figure = site.figures.find(({ key }) => key === sort);
  const changed = (channel) => (figure ? Math.abs(change(pair, columns, sort, channel).difference ?? -1) : 1 - (pair.correlation[channel] ?? -2));
  const channels = [...Array(pair.first.channels).keys()].sort((a, b) => changed(b) - changed(a) || a - b);
  const tiles = channels.map((channel) => link(channelAddress(pair.first, channel, { sort }), { class: "channel-link pair" },
    pairTiles(pair, channel), element("span", { class: "caption" }, pairName(pair, channel),
      element("span", { class: "quiet" }, figure ? changeText(figure, change(pair, columns, sort, channel)) : `r ${numberText(pair.correlation[channel])}`))));
  return wall(`Channels of ${pair.name} in both networks`, tiles);
}

function pairTiles(pair, channel) {
  const other = partner(pair, channel);
  return element("span", { class: "both" }, bestTile(pair.first, channel),
    other === null ? element("span", { class: "tile missing" }, "none") : bestTile(pair.second, other));
}

function pairName(pair, channel) {
  const other = partner(pair, channel);
  return other === channel ? String(channel) : `${channel} · ${other ?? "none"}`;
}

function changeText(figure, { before, after }) {
  return `${numberText(before, figure.signed)} → ${numberText(after, figure.signed)}`;
}

async function comparedChannel(site, state) {
  const [layer, channel] = findChannel(site, state.channel);
  const pair = findPair(site, layer.name);
  const other = partner(pair, channel);
  const columns = await Promise.all([readColumns(pair.first), readColumns(pair.second)]);
  const known = [[pair.first, channel], [pair.second, other]];
  const halves = await Promise.all(known.map(([each, number], index) => comparedHalf(site, each, number, index, state)));
  const content = element("article", {}, element("h1", {}, `${layer.name}:${pairName(pair, channel)}`), versus(site.comparison.titles),
    element("div", { class: "stack changes" }, changesSection(site, pair, columns, channel)), element("div", { class: "halves" }, halves));
  const step = (next) => (next >= 0 && next < layer.channels ? channelAddress(layer, next, state.sort ? { sort: state.sort } : {}) : null);
  return { title: `${layer.name}:${channel}`, content, trail: [[layer.name, layerAddress(layer, { sort: state.sort })]],
    keys: { ArrowLeft: step(channel - 1), ArrowRight: step(channel + 1) } };
}

/** One network's channel, and the way to its own page. */
async function comparedHalf(site, layer, channel, index, state) {
  const title = site.comparison.titles[index];
  if (channel === null) return element("div", {}, element("p", {}, `${title} has no such channel.`));
  const details = await readDetails(layer, channel);
  const page = `${encodePath(layer.site.prefix)}index.html${channelAddress(layer, channel)}`;
  return element("div", { class: "stack" }, element("p", { class: "versus" }, element("b", {}, "AB"[index]), " ", link(page, {}, `${title}, ${layer.name}:${channel}`)),
    pictureSection(layer, channel, details.pictures), imagesSection(layer, channel, details, state),
    distributionSection(details), classesSection(layer.site, details.classes));
}

function changesSection(site, pair, columns, channel) {
  const figures = figuresOf(site, columns[0]).filter(({ key }) => key in columns[1]);
  const head = ["Figure", "A", "B", "B − A"].map((title) => element("th", { scope: "col" }, title));
  return section("What changed", {}, element("table", { class: "table own" }, element("thead", {}, element("tr", {}, head)),
    element("tbody", {}, figures.map((figure) => changeRow(pair, columns, figure, channel)))));
}

function changeRow(pair, columns, figure, channel) {
  const { before, after } = change(pair, columns, figure.key, channel);
  const words = ["best_class", "dead"].includes(figure.key);
  return element("tr", {}, element("th", { scope: "row" }, term(figure)),
    element("td", {}, figureText(pair.first.site, figure, before)), element("td", {}, figureText(pair.second.site, figure, after)),
    words ? element("td", {}, before === after ? "same" : "changed") : differenceCell(before, after));
}

