"use strict";
/* Other channels that a channel has to do with: alike ones, its inputs and its outputs. */

function neighboursSection(site, neighbours) {
  if (!neighbours?.length) return null;
  const help = "Channels whose activations correlate most with this one's, over the sample of images.";
  return section("Neighbours", { help }, connectionList(neighbours.map(({ layer, channel, correlation }) =>
    [site.layers[layer], channel, correlation, 1])));
}

function inputsSection(site, inputs) {
  return weightsSection(site, inputs, "Inputs", "Channels of the layer before that this channel weighs most.");
}

function outputsSection(site, outputs) {
  return weightsSection(site, outputs, "Outputs", "Channels of the layer behind that weigh this channel most.");
}

function weightsSection(site, weighed, title, help) {
  if (!weighed?.channels?.length) return null;
  const layer = weighed.layer === null ? null : site.layers[weighed.layer];
  const reach = Math.max(...weighed.weights.map(Math.abs)) || 1;
  return section(title, { help }, connectionList(weighed.channels.map((channel, index) =>
    [layer, channel, weighed.weights[index], reach])));
}

/** Links to channels, each with a bar from the middle: to the left if negative. */
function connectionList(connections) {
  return element("ul", { class: "connections" }, connections.map(([layer, channel, value, reach]) => element("li", {},
    layer ? link(channelAddress(layer, channel), { class: "with-tile" }, bestTile(layer, channel),
      shortName(layer, channel)) : element("span", {}, `channel ${channel}`),
    signedBar(value, reach), element("span", { class: "number" }, numberText(value, true)))));
}

function signedBar(value, reach) {
  const share = 50 * Math.min(1, Math.abs(value) / reach);
  return element("span", { class: "signed", "aria-hidden": "true" }, element("span", {
    style: { left: `${value < 0 ? 50 - share : 50}%`, width: `${share}%`, background: colour(RED_BLUE, value < 0 ? 0.08 : 0.9) },
  }));
}
