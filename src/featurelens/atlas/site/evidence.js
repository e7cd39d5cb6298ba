"use strict";
/* What is known about one channel: pictures and whether to trust them, figures, real images, classes. */

/** The picture, the other seeds, the one that minimizes, and the filter of a first layer. */
function pictureSection(layer, channel, pictures) {
  const name = `${layer.name}, channel ${channel}`;
  const captions = (pictures?.others ?? []).map((score) => `other seed ${numberText(score)}`);
  if (pictures?.minimum != null) captions.push(`minimizes ${numberText(pictures.minimum)}`);
  const row = layer.sheets?.others ? captions.map((caption, column) => element("figure",
    sheetTile(layer, "others", channel, `${name}: image, ${caption}`, column), element("figcaption", caption))) : [];
  const filter = sheetTile(layer, "filters", channel, `${name}: its filter`);
  if (filter) row.push(element("figure.filter", filter, element("figcaption", "filter")));
  return section(pictures ? "Optimized image" : "Without an optimized image", null,
    pictures && [player(layer, channel), element("p", `activation ${numberText(pictures.score)}`),
      pictures.pixels && element("p.quiet", `the ${pictures.pixels.join(" × ")} pixels around what the unit sees`)],
    row.length > 0 && element("div.seeds", row));
}

/** Whether the picture shows what the channel responds to: the judgement, and the figures behind it. */
function trustSection(site, pictures) {
  if (!pictures) return null;
  const reached = dotPlot("Activation that each picture reaches", [
    ["optimized", [pictures.score], true], ["other seeds", pictures.others ?? []],
    ["strongest real", [pictures.strongest]], ["plain picture", [pictures.plain]], ["minimizing", [pictures.minimum]]]);
  const path = dotPlot("Path through the network", [
    ["this picture", [pictures.path], true], ["real images", [pictures.path_real]],
    ["random images", [pictures.path_random]]]);
  return section("Can the picture be trusted?", null,
    element(`p.verdict.${pictures.trusted ? "yes" : "no"}`, pictures.trusted ? "✓ " : "⚠ ", pictures.judgement),
    figureList(site, site.picture_figures, pictures), reached, path);
}

/** Every figure of the channel, and its place among those of the layer. */
function figuresSection(layer, channel, columns) {
  const { site } = layer;
  const rows = figuresOf(site, columns).map((figure) => {
    const values = columns[figure.key];
    const counted = typeof values[channel] === "number" && !isWord(figure);
    const nothing = { [figure.null]: columns[figure.null]?.[channel] };
    return [[term(figure), unit(figure)],
      element(isWord(figure) ? "td.words" : "td", figureText(site, figure, values[channel]), chance(figure, nothing)),
      counted && place(values, channel), counted && strip(values, channel)];
  });
  const rank = term({ title: "Rank", help: "Place among the channels of this layer; 1 is the largest value." });
  return section("Figures", null, table("figures-table.own", ["Figure", "Value", rank, "Among the layer"], rows));
}

function distributionSection({ histogram: counted }) {
  const title = "Distribution over the images";
  const help = "Each image of the sample counts once, with the channel's largest activation in it.";
  return counted && section(title, help, histogram(title, counted, "activation"));
}

const MOST_CLASSES = 20;

function classesSection(site, classes) {
  if (!classes || !site.classes) return null;
  const all = [...classes.mean.keys()];
  const strongest = [...all].sort((a, b) => classes.mean[b] - classes.mean[a]).slice(0, MOST_CLASSES);
  const few = all.length <= MOST_CLASSES;
  const holder = element("div", classBars(site, classes, few ? all : strongest));
  const more = element("button", { type: "button" }, `Show all ${all.length} classes`);
  more.addEventListener("click", () => {
    holder.replaceChildren(classBars(site, classes, all));
    more.remove();
  });
  const help = "Mean activation on the images of each class, and the effect of ablating the channel on them. " +
    "Lines: two standard errors to each side.";
  return section("Classes", help, holder, few ? null : more);
}

/** The strongest images, and those over the whole range, with two switches for what lies over them. */
function imagesSection(layer, channel, { strongest, range }, state) {
  if (!strongest?.length && !range?.length) return null;
  const images = (examples, first, what) =>
    element("div.image-row", examples.map((each, index) => realImage(layer, channel, each, first + index, what)));
  const part = section("Real images", null, imageSwitches(layer, [...strongest, ...range], state),
    element("h3", "Strongest"), images(strongest, 0, "strong image"),
    element("h3", "Over the range, by quantile"), images(range, strongest.length, "image over the range"));
  part.classList.add("images");
  for (const key of ["map", "field"]) part.classList.toggle(`no-${key}`, state[key] === "off");
  return part;
}

function imageSwitches(layer, examples, state) {
  const turn = (key) => (on) => {
    document.querySelectorAll(".images").forEach((part) => part.classList.toggle(`no-${key}`, !on));
    goQuietly({ ...readAddress(), [key]: on ? null : "off" });
  };
  return element("div.switches",
    layer.sheets?.maps && toggle("Map of the activation", state.map !== "off", turn("map")),
    examples.some(({ box }) => box) && toggle("Receptive field", state.field !== "off", turn("field")));
}
