"use strict";
/* Two atlases side by side: the same layers, and of each channel what changed. */

/** The layers of both atlases in pairs; the manifest of the comparison says which channels belong together. */
function compareSites({ title, compared, layers }, [first, second]) {
  const pairs = new Map(layers.map((known) =>
    [known.name, { ...known, both: [findLayer(first, known.name), findLayer(second, known.name)] }]));
  return { ...first, title, titles: compared.map((each) => each.title), pairs };
}

function findPair({ pairs }, name) {
  const pair = pairs.get(name);
  if (!pair) throw new Error(`The layer "${name}" is not in both networks.`);
  return pair;
}

/** The channel of the second network that belongs to one of the first: the matched one, or that of the same number. */
function partner({ match, both }, channel) {
  const other = match ? match[channel] : channel;
  return other != null && other < both[1].channels ? other : null;
}

/** A figure in both networks, and its change from the first to the second. */
function change(pair, columns, key, channel) {
  const before = columns[0][key]?.[channel];
  const after = columns[1][key]?.[partner(pair, channel)];
  return [before, after, difference(before, after)];
}

function difference(before, after) {
  return before == null || after == null ? null : after - before;
}

/** The names of the two, with the letters that stand for them. */
function versus(titles) {
  return element("p.versus", titles.map((title, index) => element("span", element("b", "AB"[index]), ` ${title}`)));
}

async function comparedNetwork(site) {
  const pairs = [...site.pairs.values()];
  const figures = figuresOfLayers(site, pairs.map(({ both }) => both[0]));
  const headings = figures.flatMap((figure) => [term({ ...figure, title: `${figure.title}, A` }), "B", "B − A"]);
  const rows = pairs.map(({ name, both, similarity }) => [link(layerAddress(both[0]), name), numberText(similarity),
    ...figures.flatMap(({ key }) => {
      const values = both.map((layer) => layer.figures?.[key]);
      return [...values.map((value) => numberText(value)), changeCell(difference(...values))];
    })]);
  return { title: site.title, content: element("article", element("h1", site.title), versus(site.titles),
    element("p.lead", `${numberText(pairs.length)} layers are in both networks.`),
    scrollable("Layers of both networks", table("figures-table", ["Layer", "Similarity", ...headings], rows))) };
}

function changeCell(value) {
  return element("td.difference", numberText(value, true));
}

async function comparedLayer(site, state) {
  const pair = findPair(site, state.layer);
  const columns = await Promise.all(pair.both.map(readColumns));
  const figures = sharedFigures(site, columns).filter((figure) => !isWord(figure));
  const set = (key) => (value) => go({ ...readAddress(), [key]: value });
  const options = figures.map(({ key, title }) => [key, title]);
  if (pair.correlation) options.unshift(["match", "the match of activations"]);
  const [sort, sortBox] = choice("Changed most in", options, set("sort"));
  const [view, viewBox] = choice("View", [["", "wall"], ["table", "table"]], set("view"));
  const holder = element("div");
  const update = (now) => {
    sortBox.value = options.some(([key]) => key === now.sort) ? now.sort : options[0]?.[0];
    viewBox.value = now.view ?? "";
    const draw = now.view === "table" ? changesTable : changesWall;
    holder.replaceChildren(draw(pair, columns, figures, mostChanged(pair, columns, sortBox.value), sortBox.value));
  };
  update(state);
  return { title: pair.name, update, content: element("article", element("h1", pair.name), versus(site.titles),
    element("p.lead", matchSentence(pair)), element("div.controls", sort, view), holder) };
}

function matchSentence({ match, similarity }) {
  const how = match ? "Channels are matched by their activations." : "Channels of the same number stand side by side.";
  return similarity == null ? how : `${how} Similarity of the layer: ${numberText(similarity)}.`;
}

function sharedFigures(site, columns) {
  return figuresOf(site, columns[0]).filter(({ key }) => key in columns[1]);
}

/** Channels of the first network, those that changed most first, and those that cannot be compared last. */
function mostChanged(pair, columns, sort) {
  const changed = [...Array(pair.both[0].channels).keys()].map((channel) => {
    if (sort === "match") return -(pair.correlation[channel] ?? Infinity);
    const by = change(pair, columns, sort, channel)[2];
    return by == null ? -1 : Math.abs(by);
  });
  return [...changed.keys()].sort((a, b) => changed[b] - changed[a] || a - b);
}

function changesWall(pair, columns, figures, channels, sort) {
  const figure = figures.find(({ key }) => key === sort);
  const value = (channel) => figure ? change(pair, columns, sort, channel).slice(0, 2)
    .map((each) => numberText(each, figure.signed)).join(" → ") : `r ${numberText(pair.correlation[channel])}`;
  return wall(`Channels of ${pair.name} in both networks`, channels.map((channel) => captionedLink(
    pair.both[0], channel, { sort }, pairTiles(pair, channel), pairName(pair, channel), value(channel))));
}

function changesTable(pair, columns, figures, channels, sort) {
  const headings = ["Channel", ...figures.map(({ title, help }) => term({ title: `${title}, B − A`, help }))];
  const rows = channels.map((channel) => [
    link(channelAddress(pair.both[0], channel, { sort }), { class: "with-tile" },
      pairTiles(pair, channel), pairName(pair, channel)),
    ...figures.map(({ key }) => numberText(change(pair, columns, key, channel)[2], true))]);
  return scrollable(`Changes of the channels of ${pair.name}`, table("figures-table", headings, rows));
}

function pairTiles(pair, channel) {
  const other = partner(pair, channel);
  const second = other == null ? missingTile("none") : bestTile(pair.both[1], other);
  return element("span.both", bestTile(pair.both[0], channel), second);
}

function pairName(pair, channel) {
  const other = partner(pair, channel);
  return other === channel ? String(channel) : `${channel} · ${other ?? "none"}`;
}

async function comparedChannel(site, state) {
  const [layer, channel] = findChannel(site, state.channel);
  const pair = findPair(site, layer.name);
  const columns = await Promise.all(pair.both.map(readColumns));
  const channels = [channel, partner(pair, channel)];
  const halves = await Promise.all(channels.map((each, index) => comparedHalf(site, pair.both[index], each, index, state)));
  const order = mostChanged(pair, columns, state.sort ?? (pair.correlation ? "match" : null));
  const step = (by) => order[order.indexOf(channel) + by];
  const to = (next) => (next == null ? null : channelAddress(layer, next, { sort: state.sort }));
  const [before, after] = [to(step(-1)), to(step(1))];
  const content = element("article", turning(before, after, "channel"),
    element("h1", `${layer.name}:${pairName(pair, channel)}`), versus(site.titles),
    element("div.stack.changes", changesSection(site, pair, columns, channel)), element("div.halves", halves));
  return { title: `${layer.name}:${channel}`, content, keys: { ArrowLeft: before, ArrowRight: after },
    trail: [[layer.name, layerAddress(layer, { sort: state.sort })]] };
}

/** One network's channel, and the way to its own page. */
async function comparedHalf(site, layer, channel, index, state) {
  if (channel == null) return element("p", `${site.titles[index]} has no such channel.`);
  const details = await readDetails(layer, channel);
  const page = `${encodePath(layer.site.prefix)}index.html${channelAddress(layer, channel)}`;
  return element("div.stack",
    element("p.versus", element("b", "AB"[index]), link(page, `${site.titles[index]}, ${layer.name}:${channel}`)),
    pictureSection(layer, channel, details.pictures), imagesSection(layer, channel, details, state),
    distributionSection(details), classesSection(layer.site, details.classes));
}

function changesSection(site, pair, columns, channel) {
  const rows = sharedFigures(site, columns).map((figure) => {
    const [before, after, by] = change(pair, columns, figure.key, channel);
    const value = (index, known) => figureText(pair.both[index].site, figure, known);
    return [term(figure), value(0, before), value(1, after),
      isWord(figure) ? (before === after ? "same" : "changed") : changeCell(by)];
  });
  return section("What changed", null, table("figures-table.own", ["Figure", "A", "B", "B − A"], rows));
}
