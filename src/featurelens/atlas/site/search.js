"use strict";
/* Search over the whole atlas: a channel, layers by name, classes, or conditions on figures. */

const MOST_FOUND = 240;

/** Names to be offered while the reader types. */
function offerNames(site) {
  const names = [...site.layers.map(({ name }) => name), ...(site.classes ?? []),
    ...site.figures.filter(({ key }) => key !== "best_class").map(({ key }) => `${key} > `)];
  document.getElementById("suggestions").replaceChildren(...names.map((value) => element("option", { value })));
}

/** What is searched is kept in the address; a channel is gone to at once. */
function submitSearch(site, text) {
  try {
    const [layer, channel] = findChannel(site, text.trim());
    location.hash = channelAddress(layer, channel);
  } catch {
    go({ search: text.trim() });
  }
}

async function searchPage(site, { search }) {
  const parts = isCondition(search) ? await foundByCondition(site, search) : await foundByName(site, search);
  const found = parts.filter(Boolean);
  const content = element("article", {}, element("h1", {}, `Search: ${search}`),
    found.length ? found : element("p", {}, "Nothing found. Search for ", element("code", {}, "layer:channel"), ", a layer, a class, or a range such as ",
      element("code", {}, "importance > 0.02 and class = cat"), "."));
  return { title: `Search: ${search}`, content };
}

async function foundByName(site, search) {
  const layers = site.layers.filter(({ name }) => name.toLowerCase().includes(search.toLowerCase()));
  const classes = matchingClasses(site, search);
  const ofClasses = await Promise.all([...classes].slice(0, 5).map((index) =>
    channelsWhere(site, [classCondition(site, "=", site.classes[index])], preferred(site), `Channels for ${className(site, index)}`)));
  return [
    section("Layers", { class: "wide" }, layers.length > 0 && element("ul", { class: "plain" }, layers.map((layer) => element("li", {},
      link(layerAddress(layer), {}, layer.name), ` ${layer.kind}, ${numberText(layer.channels)} channels`)))),
    ...ofClasses];
}

/** The figure that search results are sorted by if none is asked for. */
function preferred(site) {
  return ["importance", "information"].find((key) => site.figures.some((figure) => figure.key === key));
}

async function foundByCondition(site, search) {
  const conditions = readConditions(site, search);
  const key = conditions.map((condition) => condition.key).find(Boolean) ?? preferred(site);
  return [await channelsWhere(site, conditions, key, "Channels")];
}

/** A wall of the channels of all layers that meet the conditions, the largest first. */
async function channelsWhere(site, conditions, key, title) {
  const tables = await Promise.all(site.layers.map(readColumns));
  const found = [];
  site.layers.forEach((layer, index) => {
    for (let channel = 0; channel < layer.channels; channel++) {
      if (!conditions.every(({ holds }) => holds(layer, tables[index], channel))) continue;
      found.push({ layer, channel, value: tables[index][key]?.[channel] ?? null });
    }
  });
  if (!found.length) return null;
  found.sort((a, b) => (a.value === null) - (b.value === null) || b.value - a.value);
  const figure = site.figures.find((each) => each.key === key);
  const count = `${numberText(found.length)} channels${figure ? `, by ${figure.title}` : ""}` +
    `${found.length > MOST_FOUND ? `; the first ${MOST_FOUND} are shown` : ""}.`;
  const tiles = found.slice(0, MOST_FOUND).map(({ layer, channel, value }) => channelLink(layer, channel, {},
    shortName(layer, channel),
    figure && element("span", { class: "quiet" }, figureText(site, figure, value))));
  return section(title, { class: "wide" }, element("p", { class: "quiet", role: "status" }, count), wall(title, tiles));
}
