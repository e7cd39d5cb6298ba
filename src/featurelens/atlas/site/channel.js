"use strict";
/* A channel's page. */

async function channelPage(site, state) {
  const [layer, channel] = findChannel(site, state.channel);
  const [columns, details] = await Promise.all([readColumns(layer), readDetails(layer, channel)]);
  const around = element("div");
  const keys = {};
  // What lies over the images stays as it is on the way from channel to channel.
  const update = (now) => {
    const [back, on, where] = channelsAround(layer, columns, channel, now);
    Object.assign(keys, { ArrowLeft: back, ArrowRight: on });
    around.replaceChildren(turning(back, on, "channel"), element("h1", {}, `${layer.name}:${channel}`), element("p", { class: "lead" }, where));
  };
  update(state);
  const content = element("article", { class: "channel" },
    element("div", { class: "wide" }, around, notes(details.notes)),
    element("div", { class: "stack" }, pictureSection(layer, channel, details.pictures), trustSection(site, details.pictures)),
    element("div", { class: "stack" }, imagesSection(layer, channel, details, state),
      element("div", { class: "halves" },
        element("div", { class: "stack" }, figuresSection(layer, channel, columns), distributionSection(details)),
        element("div", { class: "stack" }, classesSection(site, details.classes), neighboursSection(site, details.neighbours),
          inputsSection(site, details.inputs), outputsSection(site, details.outputs)))));
  return { title: `${layer.name}:${channel}`, content, update, keys, trail: [[layer.name, layerAddress(layer, walk(state))]] };
}

/** Previous and next channel in the order of the wall that the reader came from. */
function channelsAround(layer, columns, channel, state) {
  let order = [...Array(layer.channels).keys()];
  const chosen = chosenChannels(layer, columns, walk(state));
  if (chosen.includes(channel)) order = chosen;
  const here = order.indexOf(channel);
  const kept = { ...walk(state), map: state.map, field: state.field };
  const to = (next) => (next === undefined ? null : channelAddress(layer, next, kept));
  const figure = layer.site.figures.find(({ key }) => key === state.sort);
  const where = `${numberText(here + 1)} of ${numberText(order.length)} channels` +
    `${figure ? ` by ${figure.title}` : ""}${order.length < layer.channels ? ", filtered" : ""}`;
  return [to(order[here - 1]), to(order[here + 1]), where];
}
