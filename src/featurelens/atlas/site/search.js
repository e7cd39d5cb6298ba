"use strict";
/* Search over the whole atlas: a channel, layers by name, classes, or conditions on figures. */

const MOST_FOUND = 240;

/** Names to be offered while the reader types. */
function offerNames(site) {
  const figures = site.figures.filter((figure) => !isWord(figure)).map(({ key }) => `${key} > `);
  const names = [...site.layers.map(({ name }) => name), ...(site.classes ?? []), ...figures];
  document.getElementById("suggestions").replaceChildren(...names.map((value) => element("option", { value })));
}

/** What is searched is kept in the address; a channel is gone to at once. */
function submitSearch(site, text) {
  try {
    location.hash = channelAddress(...findChannel(site, text.trim()));
  } catch {
    go({ search: text.trim() });
  }
}

async function searchPage(site, { search }) {
  const parts = await (isCondition(search) ? foundByCondition(site, search) : foundByName(site, search));
  const found = parts.filter(Boolean);
  const nothing = element("p", "Nothing found. Search for ", element("code", "layer:channel"),
    ", a layer, a class, or a range such as ", element("code", "importance > 0.02 and class = cat"), ".");
  const title = `Search: ${search}`;
  return { title, content: element("article", element("h1", title), found.length ? found : nothing) };
}

async function foundByName(site, search) {
  const layers = site.layers.filter(({ name }) => name.toLowerCase().includes(search.toLowerCase()));
  const items = layers.map((layer) => element("li", link(layerAddress(layer), layer.name),
    ` ${layer.kind}, ${numberText(layer.channels)} channels`));
  const ofClass = (index) => channelsWhere(site, `Channels for ${className(site, index)}`,
    [classCondition(site, "=", site.classes[index])], preferred(site));
  const classes = [...matchingClasses(site, search)].slice(0, 5);
  const named = items.length > 0 && section("Layers", null, element("ul.plain", items));
  return [named, ...(await Promise.all(classes.map(ofClass)))];
}

async function foundByCondition(site, search) {
  const conditions = readConditions(site, search);
  const key = conditions.map((condition) => condition.key).find(Boolean) ?? preferred(site);
  return [await channelsWhere(site, "Channels", conditions, key)];
}

/** The figure that found channels are sorted by if none is asked for. */
function preferred(site) {
  return ["importance", "information"].find((key) => site.figures.some((figure) => figure.key === key));
}

/** A wall of the channels of all layers that meet the conditions, the largest first. */
async function channelsWhere(site, title, conditions, key) {
  const tables = await Promise.all(site.layers.map(readColumns));
  const found = site.layers.flatMap((layer, index) => {
    const columns = tables[index];
    const channels = [...Array(layer.channels).keys()];
    return channels.filter((channel) => conditions.every(({ holds }) => holds(layer, columns, channel)))
      .map((channel) => ({ layer, channel, value: columns[key]?.[channel] }));
  });
  if (!found.length) return null;
  found.sort((a, b) => (a.value == null) - (b.value == null) || b.value - a.value);
  const figure = site.figures.find((each) => each.key === key);
  const count = `${numberText(found.length)} channels${figure ? `, by ${figure.title}` : ""}` +
    `${found.length > MOST_FOUND ? `; the first ${MOST_FOUND} are shown` : ""}.`;
  const tiles = found.slice(0, MOST_FOUND).map(({ layer, channel, value }) =>
    channelLink(layer, channel, {}, shortName(layer, channel), figure && figureText(site, figure, value)));
  return section(title, null, element("p.quiet", { role: "status" }, count), wall(title, tiles));
}
