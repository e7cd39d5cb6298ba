"use strict";
/* Reading data files. They are scripts, because a page opened from disk may not fetch JSON. */

const atlas = {
  // The script element hands the content to whoever inserted it, so two atlases can be read into one page.
  receive(_name, content) {
    document.currentScript.content = content;
  },
};

const reading = new Map();

/** A path as an address: names of folders may hold any character. */
function encodePath(path) {
  return path.split("/").map(encodeURIComponent).join("/");
}

/** What the data file at a path holds; each file is read once. */
function read(path) {
  if (!reading.has(path)) reading.set(path, insertScript(path));
  return reading.get(path);
}

function insertScript(path) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = encodePath(path);
    script.onload = () => {
      script.remove();
      resolve(script.content);
    };
    script.onerror = () => {
      reading.delete(path);
      reject(new Error(`The file ${path} is missing. If the atlas is still being built, come back later.`));
    };
    document.head.append(script);
  });
}

/** An atlas: its manifest, with each layer knowing its place and its atlas. */
async function readSite(prefix) {
  const site = { prefix, ...(await read(`${prefix}data/manifest.js`)) };
  if (site.format !== 1) throw new Error(`This atlas has format ${site.format}; these pages read format 1.`);
  site.layers = (site.layers ?? []).map((layer, index) => ({ ...layer, index, site }));
  return site;
}

/** The number of a channel's block, as files are named. */
function blockName(layer, channel) {
  return String(Math.floor(channel / layer.site.block)).padStart(4, "0");
}

/** Figures of all channels of a layer: an array for each key. */
async function readColumns(layer) {
  return (await read(`${layer.site.prefix}data/${layer.folder}/table.js`)).columns;
}

async function readDetails(layer, channel) {
  const block = await read(`${layer.site.prefix}data/${layer.folder}/${blockName(layer, channel)}.js`);
  return block.channels[channel - block.first];
}

function findLayer(site, name) {
  const layer = site.layers.find((each) => each.name === name);
  if (!layer) throw new Error(`There is no layer "${name}" in this atlas.`);
  return layer;
}

/** "conv1:3" as a layer and a channel. Names of layers may hold colons themselves. */
function findChannel(site, text) {
  const [, name, digits] = /^(.*):(\d+)$/s.exec(text) ?? [];
  if (name === undefined) throw new Error(`"${text}" is not a channel: write layer:channel, such as conv1:3.`);
  const layer = findLayer(site, name);
  const channel = Number(digits);
  if (channel >= layer.channels) {
    throw new Error(`The layer "${name}" has channels 0 to ${layer.channels - 1}; ${channel} is not one of them.`);
  }
  return [layer, channel];
}
