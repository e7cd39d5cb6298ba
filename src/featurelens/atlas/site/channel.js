"use strict";
/* A channel's page. */

async function channelPage(site, state) {
  const [layer, channel] = findChannel(site, state.channel);
  const [columns, details] = await Promise.all([readColumns(layer), readDetails(layer, channel)]);
  const name = `${layer.name}:${channel}`;
  const head = element("div");
  const keys = {};
  // What lies over the images stays as it is on the way from channel to channel.
  const update = (now) => {
    const { before, after, where } = channelsAround(layer, columns, channel, now);
    Object.assign(keys, { ArrowLeft: before, ArrowRight: after });
    head.replaceChildren(turning(before, after, "channel"), element("h1", name), element("p.lead", where));
  };
  update(state);
  const content = element("article.channel",
    element("div.wide", head, notes(details.notes)),
    element("div.stack", pictureSection(layer, channel, details.pictures), trustSection(site, details.pictures)),
    element("div.stack", imagesSection(layer, channel, details, state), element("div.halves",
      element("div.stack", figuresSection(layer, channel, columns), distributionSection(details)),
      element("div.stack", classesSection(site, details.classes), connectionSections(site, details)))));
  return { title: name, content, update, keys, trail: [[layer.name, layerAddress(layer, walk(state))]] };
}

/** The channels before and after, in the order of the wall that the reader came from. */
function channelsAround(layer, columns, channel, state) {
  const chosen = chosenChannels(layer, columns, walk(state));
  const order = chosen.includes(channel) ? chosen : [...Array(layer.channels).keys()];
  const here = order.indexOf(channel);
  const kept = { ...walk(state), map: state.map, field: state.field };
  const to = (next) => (next == null ? null : channelAddress(layer, next, kept));
  const figure = layer.site.figures.find(({ key }) => key === state.sort);
  const where = `${numberText(here + 1)} of ${numberText(order.length)} channels` +
    `${figure ? ` by ${figure.title}` : ""}${order.length < layer.channels ? ", filtered" : ""}`;
  return { before: to(order[here - 1]), after: to(order[here + 1]), where };
}
