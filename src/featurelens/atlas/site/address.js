"use strict";
/* The address holds the state of a page, so that a view can be sent to someone: #layer=conv1&sort=information */

function readAddress() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

function address(state) {
  const known = Object.entries(state).filter(([, value]) => value != null && value !== "");
  return `#${new URLSearchParams(known)}`.replaceAll("%3A", ":");
}

/** What a wall passes on to its channels: the order and the choice in which they are walked. */
function walk({ sort, order, filter, class: wanted, dead }) {
  return { sort, order, filter, class: wanted, dead };
}

function layerAddress(layer, state = {}) {
  return address({ layer: layer.name, ...state });
}

function channelAddress(layer, channel, state = {}) {
  return address({ channel: `${layer.name}:${channel}`, ...state });
}

/** Go to a state; the back button returns. */
function go(state) {
  location.hash = address(state);
}

/** Go to a state without a step in the history, for changes while typing. */
function goQuietly(state) {
  history.replaceState(history.state, "", address(state));
  route();
}
