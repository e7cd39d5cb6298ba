"use strict";
/* What is known about one channel: its pictures and whether to trust them, real images, distribution, classes. */

/** The picture, what it reached, and the other seeds. */
function pictureSection(layer, channel, pictures) {
  const name = `${layer.name}, channel ${channel}`;
  const captions = pictures && layer.sheets?.others ? [...pictures.others.map((score) => `other seed ${numberText(score)}`),
    `minimizes ${numberText(pictures.minimum)}`] : [];
  const row = captions.map((caption, column) => element("figure", {},
    sheetTile(layer, "others", channel, `${name}: image, ${caption}`, column), element("figcaption", {}, caption)));
  const filter = sheetTile(layer, "filters", channel, `${name}: its filter`);
  if (filter) row.push(element("figure", { class: "filter" }, filter, element("figcaption", {}, "filter")));
  return section(pictures ? "Optimized image" : "Without an optimized image", {},
    pictures && [player(layer, channel), element("p", {}, `activation ${numberText(pictures.score)}`)],
    row.length > 0 && element("div", { class: "seeds" }, row));
}

/** Whether the picture shows what the channel responds to: the judgement, and the figures behind it. */
function trustSection(site, pictures) {
  if (!pictures) return null;
  const helps = Object.fromEntries((site.picture_figures ?? []).map((figure) => [figure.key, figure]));
  const row = (key, label, values, strong = false) => ({ label, values, strong, help: helps[key]?.help });
  const reached = [
    row("score", "optimized", [pictures.score], true), row("others", "other seeds", pictures.others ?? []),
    row("strongest", "strongest real", [pictures.strongest]), row("plain", "plain picture", [pictures.plain]),
    row("minimum", "minimizing", [pictures.minimum])];
  const path = [
    row("path", "this picture", [pictures.path], true), row("path_real", "real images", [pictures.path_real]),
    row("path_random", "random images", [pictures.path_random])];
  const figures = (site.picture_figures ?? []).filter(({ key }) => ["path", "agreement", "plain"].includes(key));
  return section("Can the picture be trusted?", {},
    element("p", { class: pictures.trusted ? "verdict yes" : "verdict no" }, pictures.trusted ? "✓ " : "⚠ ", pictures.judgement),
    captioned("Activation reached", dotPlot("Activation reached by each picture", reached)),
    captioned("Path through the network", dotPlot("Path through the network", path)),
    figureList(site, figures, pictures));
}

function captioned(caption, drawing) {
  return drawing && element("figure", {}, element("figcaption", { class: "quiet" }, caption), drawing);
}

/** Every figure of the channel, and its place among those of the layer. */
function figuresSection(layer, channel, columns) {
  const { site } = layer;
  const rows = figuresOf(site, columns).map((figure) => {
    const values = columns[figure.key];
    const counted = values[channel] !== null && !["best_class", "dead"].includes(figure.key);
    const nothing = figure.null && columns[figure.null]?.[channel];
    return element("tr", {}, element("th", { scope: "row" }, term(figure), unit(figure)),
      element("td", {}, figureText(site, figure, values[channel]), chance(figure, { [figure.null]: nothing })),
      element("td", { class: "quiet" }, counted && place(values, channel)),
      element("td", {}, counted && strip(values, channel)));
  });
  const head = ["Figure", "Value", "Rank", "Among the layer"].map((title) => element("th", { scope: "col" }, title));
  return section("Figures", {}, element("table", { class: "table own" },
    element("thead", {}, element("tr", {}, head)), element("tbody", {}, rows)));
}

function distributionSection(details) {
  if (!details.histogram) return null;
  return section("Distribution of the activation", {}, histogram("Distribution of the activation", details.histogram, "activation"));
}

function classesSection(site, classes) {
  if (!classes || !site.classes) return null;
  const all = [...classes.mean.keys()];
  const most = 20;
  const chosen = all.length <= most ? all : [...all].sort((a, b) => classes.mean[b] - classes.mean[a]).slice(0, most);
  const drawing = classBars("Classes", site, classes, chosen);
  const holder = element("div", {}, drawing);
  const more = all.length > most && element("button", {
    type: "button",
    click() {
      holder.replaceChildren(classBars("Classes", site, classes, all));
      this.remove();
    },
  }, `Show all ${all.length} classes`);
  const help = "Mean activation on images of each class, and how much ablating the channel changes the metric on them; " +
    "the lines are two standard errors to each side.";
  return section("Classes", { help }, holder, more);
}

/** The strongest images, and those over the whole range, with two switches for what lies over them. */
function imagesSection(layer, channel, details, state) {
  const strongest = details.strongest ?? [];
  const range = details.range ?? [];
  if (!strongest.length && !range.length) return null;
  const part = section("Real images", { class: "wide images" }, imageSwitches(layer, strongest.concat(range), state),
    imageRow("Strongest", strongest.map((each, index) => realImage(layer, channel, each, index, "strong image"))),
    imageRow("Over the range, by quantile",
      range.map((each, index) => realImage(layer, channel, each, strongest.length + index, "image over the range"))));
  part.classList.toggle("no-map", state.map === "off");
  part.classList.toggle("no-field", state.field === "off");
  return part;
}

function imageSwitches(layer, examples, state) {
  const turn = (key) => (on) => {
    document.querySelectorAll(".images").forEach((part) => part.classList.toggle(`no-${key}`, !on));
    goQuietly({ ...readAddress(), [key]: on ? null : "off" });
  };
  return element("div", { class: "switches" },
    layer.sheets?.maps && toggle("Map of the activation", state.map !== "off", turn("map")),
    examples.some(({ box }) => box) && toggle("Receptive field", state.field !== "off", turn("field")));
}

function imageRow(title, figures) {
  return figures.length > 0 && [element("h3", {}, title), element("div", { class: "image-row" }, figures)];
}
