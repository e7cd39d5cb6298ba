"use strict";
/* Other channels that a channel has to do with: alike ones, its inputs and its outputs. */

function connectionSections(site, { neighbours, inputs, outputs }) {
  const alike = (neighbours ?? []).map(({ layer, channel, correlation }) => [site.layers[layer], channel, correlation]);
  return [
    section("Neighbours", "Channels whose activations correlate most with this one's, over the sample of images.",
      connectionList(alike, 1)),
    weighed(site, "Inputs", "Channels of the layer before that this channel weighs most.", inputs),
    weighed(site, "Outputs", "Channels of the next layer that weigh this channel most.", outputs)];
}

function weighed(site, title, help, connected) {
  if (!connected) return null;
  const { layer, channels, weights } = connected;
  const list = channels.map((channel, index) => [site.layers[layer], channel, weights[index]]);
  return section(title, help, connectionList(list, Math.max(...weights.map(Math.abs)) || 1));
}

/** Links to channels, each with a bar from the middle: to the left if negative. */
function connectionList(connections, reach) {
  if (!connections.length) return null;
  return element("ul.connections", connections.map(([layer, channel, value]) => element("li",
    layer ? link(channelAddress(layer, channel), { class: "with-tile" }, bestTile(layer, channel),
      shortName(layer, channel)) : element("span", `channel ${channel}`),
    signedBar(value, reach), element("span.number", numberText(value, true)))));
}

function signedBar(value, reach) {
  const share = 50 * Math.min(1, Math.abs(value) / reach);
  const style = { left: `${value < 0 ? 50 - share : 50}%`, width: `${share}%` };
  style.background = colour(RED_BLUE, value < 0 ? 0.08 : 0.92);
  return element("span.signed", element("span", { style }));
}
