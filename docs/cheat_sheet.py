"""Draw the cheat sheet: `python docs/cheat_sheet.py` writes images/cheat_sheet.svg and .pdf, one A4 page in landscape.

A test finds every name and keyword that stands in ``SECTIONS`` in featurelens, and every text of it in the SVG.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT, MARGIN, GUTTER, HEAD = 842, 595, 24, 12, 26  # points
COLUMNS = 3
SIZE, LINE = 7.4, 10.2  # of the text
INK, QUIET, BLUE, PALE = "#1f2328", "#57606a", "#0b4f8a", "#eef3f8"
CODE, TEXT = "DejaVu Sans Mono", "DejaVu Sans"

Section = tuple[str, list[tuple[str, str]]]

SECTIONS: list[Section] = [
    (
        "Select layers: one of these, or a list",
        [
            ('"conv1"', "exact name"),
            ('"layer*.conv2"', "glob; * matches dots, too"),
            ('"conv_2"', "second convolution"),
            ('"act#2"', "second call of act"),
            ("nn.ReLU", "type"),
            ("model.conv1", "module"),
            ("lambda name, layer: ...", "predicate"),
            ("fl.list_layers(model, images)", "names, shapes, calls"),
        ],
    ),
    (
        "Record",
        [
            ("recorder = fl.ActivationRecorder(model, layers)", ""),
            ("acts = recorder(images)", "one batch"),
            ("acts = recorder.record(loader)", "a data set"),
            ('recorder.record(loader, to="acts", resume=True)', "on disk"),
            ("with recorder as acts: model(images)", "your own forward"),
            ('acts["conv1"], acts.output', "a layer, the output"),
            ('reduce="mean"', '"max", a function, or a dict by layer'),
            ("stop_early=True", "end the pass after the last layer"),
            ("detach=False", "keep gradients, in a with block"),
            ("clone=False, dtype=..., device=...", "no copies; convert"),
            ('backend="rewrite"', "F.relu, x + y; see list_operations"),
            ('training="keep"', "do not switch to eval mode"),
            ("inputs=, rows=, labels=", "functions of a batch"),
            ('fl.ActivationStore("acts")["conv1"][:100]', "rows from disk"),
            ("fl.ActivationStore.merge(parts)", "join shard=(i, n)"),
            ("fl.insert_extractors(model, layers)", "copy, to keep"),
            ('fl.receptive_field(model, "conv1", (3, 64, 64))', ""),
        ],
    ),
    (
        "Statistics in one pass: s = fl.statistics",
        [
            ("found = recorder.stream(loader, [s.TopK(9), ...])", ""),
            ('stats = found["conv1"]', "one layer"),
            ("stats.moments.mean", "one statistic, by channel"),
            ("s.Moments()", "mean, variance, std, min, max"),
            ("s.Histogram()", "edges, counts, quantile"),
            ("s.TopK(9)", "values, rows, positions"),
            ("s.Covariance()", "correlation, effective_rank, nearest"),
            ("s.JointCounts(classes=10)", "counts, mean, variance"),
            ("s.Activity()", "dead, active_images, sparseness"),
            ("s.ClassSelectivity(classes=10)", "index, excess, p_value"),
            ("s.MonoScore(embeddings)", "score, baseline"),
            ("s.Sample(1000)", "values, rows, labels"),
            ("found.save(path), fl.StreamResult.merge(paths)", ""),
        ],
    ),
    (
        "Information",
        [
            ("fl.layer_information(model, layers, loader)", "labels"),
            ('..., against="inputs"', "with noise; finite"),
            ('..., per="channel"', "each channel by itself"),
            ("fl.mutual_information(x, y)", "any two arrays"),
            ('confidence=0.95, null="permutation", units="bits"', ""),
            ("fl.channel_information(acts, labels)", "per channel"),
            ("fl.spatial_mutual_information(images, maps)", "pixels"),
            ("fl.InformationPlane(model, layers, loader)", ".update(epoch)"),
            ("probe = fl.linear_probe(model, layers, loader)", ""),
            ("result.value, result.excess, result.p_value", ""),
            ("result.interval, result.null_mean, result.ceiling", ""),
            ("fl.information.KSGMutualInformation(k=5)", "few columns"),
            ("fl.information.CorrectedKSGMutualInformation()", "up to 5 columns"),
            ("fl.information.CopulaMutualInformation()", "many columns"),
            ("fl.information.ProbeMutualInformation()", "of a layer and labels"),
            ("fl.information.NoisyChannelMutualInformation()", "of a layer and its inputs"),
            ("fl.information.BinnedMutualInformation()", "counts, codes"),
            ("fl.channel_table(found, information=...)", "all in one table"),
        ],
    ),
    (
        "Similarity",
        [
            ("fl.compare(model, loader=loader, layers=layers)", ""),
            ('fl.similarity.cka(x, y, null="permutation")', "procrustes, rsa"),
            ("fl.similarity.nearest_channels(x, y, k=3)", ""),
            ("fl.similarity.intrinsic_dimension(x)", ""),
        ],
    ),
    (
        "Visualize: o = fl.objectives",
        [
            ("best = fl.ActivationMaximizer(model, sample=images)", ""),
            ("preprocess=normalize", "images are then in [0, 1]"),
            ("steps=, lr=, seed=, transforms=", "other settings"),
            ('pictures = best.run("conv2")', "every channel"),
            ('best.run(["conv2:3", o.logit(2)])', "some of them"),
            ('o.channel("block", 3, axis=-1)', "where the axis is not known"),
            ('o.neuron("conv2", 3, (4, 4))', "at one position"),
            ('o.direction("conv2", vector)', "o.layer_energy, o.custom"),
            ('... + o.diversity("conv2")', "o.realism(model, layer, loader)"),
            ("... - o.total_variation()", "o.laplacian, o.l2"),
            ("pictures.images, pictures.scores, pictures.history", ""),
            ("judged = pictures.compare(loader)", "against real images"),
            ("judged.stronger, judged.dead, judged.path", ""),
            ("pictures.save(folder), pictures.animate(path)", ""),
            ("fl.FourierImage((3, 64, 64), decay=1.5)", "without sample="),
            ("fl.PixelImage, fl.PhaseImage, fl.LatentImage", ""),
            ("fl.ImageStatistics.fit(loader)", "colours of your data"),
            ("fl.transforms.Jitter(4)", "Pad, RandomScale, RandomRotate"),
        ],
    ),
    (
        "Ablate",
        [
            ('ablator = fl.ChannelAblator(model, "conv2")', ""),
            ("fl.ChannelAblator.of_heads(model, attention)", "heads"),
            ("groups=, positions=, part=", "what is ablated together, where"),
            ("axis=-1", "channels last, where the type does not tell"),
            ('output="logits"', "what is measured of an output"),
            ("with ablator.ablated([3, 5]): model(images)", ""),
            ('ablator.sweep(images, mode="keep")', "each channel in turn"),
            ('worth = ablator.importance(loader, metric="loss")', ""),
            ("worth.top(5), worth.significant(), worth.p_value", ""),
            ("ablator.curve(loader, order=worth)", "more and more removed"),
            ('fill="mean"', '"zero", "resample" or a tensor'),
            ('fl.DeconvDecoder(model, "conv2")', "decoder=: to images"),
        ],
    ),
    (
        "Atlas, training, logs",
        [
            ('fl.Atlas(model, loader, layers).build("atlas")', ""),
            ("fl.atlas.compare_atlases(site, other, folder)", ""),
            ("fl.callbacks.Observer(model, layers, images, log=f)", ""),
            ("observer.on_batch_end(), observer.on_epoch_end()", ""),
            ("fl.callbacks.lightning_callback(observer)", "trainer_callback"),
            ("fl.TensorBoardWriter(folder).add(epoch, result)", "or a figure"),
        ],
    ),
    (
        "Plots: .plot() returns a Figure",
        [
            ('acts.plot("conv1", image=0)', "feature maps"),
            ("stats.top_k.plot(data)", "strongest images"),
            ("stats.histogram.plot()", "quantiles by channel"),
            ("stats.covariance.plot()", "correlations"),
            ("by_layer.plot()", "bars, with null and interval"),
            ("by_channel.plot()", "bars of the best channels"),
            ("plane.plot()", "paths over epochs"),
            ("probe.plot()", "accuracy by layer, with null"),
            ("similar.plot()", "heat map of layers"),
            ("pictures.plot()", "optimized images; plot_history, plot_frames"),
            ("judged.plot()", "beside real images; plot_paths"),
            ("swept.plot()", "reconstructions, or changes"),
            ("worth.plot()", "bars; plot_classes"),
            ("curve.plot()", "metric against channels removed"),
            ("fl.plotting.filters(model.conv1)", "image_grid, ..."),
        ],
    ),
    (
        "Every result",
        [
            ("print(result)", "one line, with units and cautions"),
            ("result.save(path), fl.StreamResult.load(path)", ""),
        ],
    ),
    (
        "Command line",
        [
            ("$ featurelens layers MODEL", "--size 224"),
            ("$ featurelens record MODEL --images DIR --out DIR", ""),
            ("$ featurelens atlas MODEL --images DIR --out DIR", ""),
            ("$ featurelens compare DIR DIR --out DIR", "two atlases"),
            ("MODEL", "torchvision:NAME, timm:NAME, MODULE:FUNCTION"),
            ("--weights FILE --layers PATTERN ... --plain --grey", ""),
        ],
    ),
]


@dataclass(frozen=True)
class Line:
    """One line of a column: texts at their distances from its left edge, and the height it takes."""

    texts: tuple[tuple[float, str, str], ...] = ()  # distance, font, text
    height: float = LINE
    title: bool = False


_FINE = 10  # at 72 dots per inch glyphs are rounded to whole points
_RENDERER = RendererAgg(10, 10, 72 * _FINE)


def width(text: str, font: str, size: float = SIZE) -> float:
    """Return the width of a text in points."""
    look = FontProperties(family=font, size=size)
    return float(_RENDERER.get_text_width_height_descent(text, look, False)[0]) / _FINE


def lines(section: Section, room: float) -> Iterator[Line]:
    """Lay out a section: meanings stand at the right edge, below their code where there is no room."""
    title, rows = section
    yield Line(((4, TEXT, title),), LINE * 1.5, title=True)
    for code, meaning in rows:
        if width(code, CODE) > room:
            raise ValueError(f"too wide: {code}")
        place = room - width(meaning, TEXT)
        if not meaning or place >= width(code, CODE) + 6:
            yield Line(((0, CODE, code), (place, TEXT, meaning)))
        else:
            yield Line(((0, CODE, code),))
            yield Line(((place, TEXT, meaning),))
    yield Line(height=LINE * 0.5)


def columns() -> list[list[Line]]:
    """Distribute the sections over the columns, in order, none of which may be too long."""
    room = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GUTTER) / COLUMNS
    longest = HEIGHT - 2 * MARGIN - HEAD
    found: list[list[Line]] = [[]]
    for section in SECTIONS:
        block = list(lines(section, room))
        if sum(line.height for line in [*found[-1], *block[:-1]]) > longest:
            found.append([])
        found[-1] += block
    if len(found) > COLUMNS or any(sum(line.height for line in column[:-1]) > longest for column in found):
        raise ValueError("the sections do not fit")
    return found


def draw() -> Figure:
    """Draw the sheet."""
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))

    def write(x: float, y: float, text: str, font: str, size: float = SIZE, **look: str) -> None:
        place = (x / WIDTH, 1 - y / HEIGHT)
        figure.text(*place, text, font=FontProperties(family=font, size=size), parse_math=False, **look)

    write(MARGIN, MARGIN + 10, "featurelens", TEXT, 14, color=BLUE, weight="bold")
    write(MARGIN + 104, MARGIN + 10, "look inside any PyTorch module", TEXT, 9, color=QUIET)
    write(WIDTH - MARGIN, MARGIN + 10, "import featurelens as fl", CODE, 9, color=INK, ha="right")
    step = (WIDTH - 2 * MARGIN + GUTTER) / COLUMNS
    for number, column in enumerate(columns()):
        left, y = MARGIN + number * step, MARGIN + HEAD
        for line in column:
            if line.title:
                box = (
                    left / WIDTH,
                    1 - (y + LINE * 1.15) / HEIGHT,
                    (step - GUTTER) / WIDTH,
                    LINE * 1.3 / HEIGHT,
                )
                figure.add_artist(_rectangle(figure, *box))
            for distance, font, text in line.texts:
                look = (
                    {"color": BLUE, "weight": "bold"}
                    if line.title
                    else {"color": INK if font == CODE else QUIET}
                )
                write(left + distance, y + LINE * 0.78, text, font, **look)
            y += line.height
    return figure


def _rectangle(figure: Figure, x: float, y: float, wide: float, high: float) -> object:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), wide, high, color=PALE, linewidth=0, transform=figure.transFigure)


def main() -> None:
    """Write both files."""
    with rc_context({"svg.hashsalt": "featurelens", "svg.fonttype": "path", "pdf.fonttype": 42}):
        figure = draw()
        figure.savefig(IMAGES / "cheat_sheet.svg", metadata={"Date": None, "Creator": None})
        figure.savefig(
            IMAGES / "cheat_sheet.pdf", metadata={"CreationDate": None, "Title": "featurelens: cheat sheet"}
        )


if __name__ == "__main__":
    main()
