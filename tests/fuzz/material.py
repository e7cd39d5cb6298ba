"""Valid results and objects to call: small, and made once."""

from functools import cache
from pathlib import Path

import torch
from matplotlib.figure import Figure

import featurelens as fl
from featurelens.statistics import (
    Activity,
    ClassSelectivity,
    Covariance,
    Histogram,
    JointCounts,
    Moments,
    MonoScore,
    Sample,
    TopK,
)
from tests.fuzz.users import batches, cnn, images, labels

EDGES = [0.0, 0.5, 1.0, 2.0]


@cache
def activations():
    return recorder()(images())


@cache
def streamed():
    statistics = [Activity(), ClassSelectivity(3), Covariance(), Histogram(EDGES), Moments(), TopK(3)]
    statistics += [JointCounts(3), MonoScore(images().flatten(1)), Sample(5)]
    return recorder().stream(batches(), statistics, progress=False)


@cache
def maximized():
    return maximizer().run(["conv1:0", "relu2:1"], record_every=1)


@cache
def compared():
    return maximized().compare(batches(), progress=False)


@cache
def ablated():
    return ablator().sweep(images(), progress=False)


@cache
def reconstructed():
    model = cnn().eval()
    decoder = fl.DeconvDecoder(model, "conv1")
    return fl.ChannelAblator(model, "conv1", decoder=decoder).sweep(images(), progress=False)


@cache
def importance():
    return ablator().importance(batches(), progress=False)


@cache
def curve():
    return ablator().curve(batches(), progress=False)


@cache
def channel_information():
    return fl.channel_information(activations()["conv1"], labels(), permutations=2, progress=False)


@cache
def layer_information():
    return fl.layer_information(cnn(), ["conv1", "relu2"], images(60), labels(60), null=None, progress=False)


@cache
def spatial():
    return fl.spatial_mutual_information(images(), activations()["conv1"], pairings=2, progress=False)


@cache
def estimate():
    return fl.mutual_information(images(60).flatten(1)[:, :1], labels(60), method="binned")


@cache
def probed():
    return fl.linear_probe(cnn(), "conv*", images(60), labels(60), folds=2, permutations=2, progress=False)


@cache
def similar():
    return fl.similarity.cka(images().flatten(1)[:, :3], images().flatten(1)[:, 3:5])


@cache
def layers_compared():
    return fl.compare(cnn(), loader=batches(), layers="conv*", progress=False)


@cache
def dimension():
    return fl.similarity.intrinsic_dimension(images(60).flatten(1)[:, :4])


@cache
def table():
    return fl.channel_table(streamed(), importance=importance())


@cache
def field():
    return fl.receptive_field(cnn(), "conv2", (1, 8, 8))


@cache
def image_statistics():
    return fl.ImageStatistics.fit(images(), progress=False)


@cache
def whitening():
    return fl.LatentWhitening.fit(images(60).flatten(1)[:, :3], progress=False)


def recorder():
    return fl.ActivationRecorder(cnn(), ["conv1", "relu2"])


def maximizer():
    return fl.ActivationMaximizer(cnn(), fl.FourierImage((1, 8, 8)), steps=2)


def ablator():
    return fl.ChannelAblator(cnn(), "conv1")


def atlas():
    return fl.Atlas(cnn(), batches(), "conv1", sample=12, ablation=6, steps=1, progress=False)


def plane():
    plane = fl.InformationPlane(cnn(), ["conv1", "relu2"], images(60), labels(60), null=None, confidence=None)
    plane.update(0, progress=False)
    return plane


def observer(**options):
    return fl.callbacks.Observer(cnn(), "conv*", images(), labels(), log=lambda values, step: None, **options)


def decoder():
    return fl.DeconvDecoder(cnn().eval(), "relu2")  # in train mode it moves running means, as a call does


def updated(statistic):
    """Return a statistic that has seen one batch."""
    statistic.update(activations()["conv1"], labels=labels())
    return statistic


def saved(result, name="saved.npz"):
    """Save a result in the present folder, and return its path."""
    result.save(name)
    return name


def stored(name="store"):
    recorder().record(batches(), to=name, progress=False)
    return name


@cache
def site_files():
    """The files of an atlas."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "site"
        atlas().build(root)
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def site(name="site"):
    for path, content in site_files().items():
        (Path(name) / path).parent.mkdir(parents=True, exist_ok=True)
        (Path(name) / path).write_bytes(content)
    return name


RESULTS = {
    "activations": activations,
    "stream": streamed,
    "statistic of a layer": lambda: streamed()["conv1"],
    "maximization": maximized,
    "comparison": compared,
    "ablation": ablated,
    "importance": importance,
    "curve": curve,
    "channel information": channel_information,
    "layer information": layer_information,
    "spatial information": spatial,
    "estimate": estimate,
    "probe": probed,
    "similarity": similar,
    "layers compared": layers_compared,
    "dimension": dimension,
    "table": table,
    "receptive field": field,
    "image statistics": image_statistics,
    "whitening": whitening,
    "objective": lambda: fl.objectives.channel("conv1", 0),
    "transform": lambda: fl.transforms.Jitter(2),
    "image": lambda: fl.FourierImage((1, 8, 8)),
    "estimator": lambda: fl.information.KSGMutualInformation(k=3),
    "statistic": Moments,
    "statistic with data": lambda: updated(Moments()),
    "statistics": lambda: [Moments(), TopK(2)],
    "statistic class": lambda: Moments,
    "top k": lambda: streamed()["conv1"].top_k,
    "histogram": lambda: streamed()["conv1"].histogram,
    "covariance": lambda: streamed()["conv1"].covariance,
    "joint counts": lambda: streamed()["conv1"].joint_counts,
    "axes": lambda: Figure().subplots(),
    "two axes": lambda: Figure().subplots(1, 2),
    "a figure": Figure,
    "recorder": recorder,
    "observer": observer,
    "optimizer": lambda: torch.optim.SGD,
}
