"""A valid call of every public function, class and method; the session changes one or two of its arguments."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import Any

import torch
from torch import nn

import featurelens as fl
from featurelens import callbacks, information, objectives, plotting, similarity, statistics, transforms
from featurelens.atlas import AtlasSite, compare_atlases
from tests.fuzz import material as m
from tests.fuzz.users import batches, cnn, images, labels

RESUMED = {
    "ActivationRecorder.record",
    "ActivationRecorder.record to",
    "Atlas.build",
    "Atlas.build_share",
    "TensorBoardWriter.add",
    "TensorBoardWriter.graph",
    "TensorBoardWriter.training",
    "TensorBoardWriter.embedding",
}
"""What is written bit by bit: an interrupted run may leave files, from which another goes on."""

CALLS = {}
"""Name -> what returns the function to call; and what returns its arguments, by name (``*name`` is spread)."""

BASE = {
    "model": cnn,
    "layers": lambda: ["conv1", "relu2"],
    "layer": lambda: "conv1",
    "loader": batches,
    "images": images,
    "labels": labels,
    "path": lambda: "new.npz",
    "folder": lambda: "new",
    "progress": lambda: False,
    "permutations": lambda: 2,
    "x": lambda: images(100).flatten(1)[:, :2],
    "y": lambda: images(100).flatten(1)[:, 1:3],
    "shape": lambda: (1, 8, 8),
    "seed": lambda: 0,
    "k": lambda: 2,
    "units": lambda: "bits",
    "epoch": lambda: 1,
    "channels": lambda: [0, 2],
}


@dataclasses.dataclass(frozen=True)
class Call:
    function: Callable[[], Callable[..., Any]]
    arguments: Mapping[str, Callable[[], Any]]
    may_leave_files: bool = False


def add(name, function, /, **arguments):
    """Register a call; arguments that the signature requires and that are not given come from `BASE`."""
    CALLS[name] = Call(function, arguments, name in RESUMED)


def parameters(function):
    return {name: p for name, p in signature(function).parameters.items() if name != "self"}


def base(call, function):
    """Return the arguments of a valid call, as functions that make them."""
    made = dict(call.arguments)
    for name, parameter in parameters(function).items():
        if name in made or parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            continue
        if parameter.default is Parameter.empty or name in ("progress", "permutations"):
            made[name] = BASE[name]
    return made


def entered(method, inside):
    """Return what enters the context manager that `method` returns, and runs a function inside it."""

    @wraps(method)
    def enter(*args, **kwargs):
        with method(*args, **kwargs) as value:
            return inside(value)

    return enter


def board(method):
    """Return a method of an open TensorBoardWriter."""

    @wraps(getattr(fl.TensorBoardWriter, method))
    def write(**arguments):
        with fl.TensorBoardWriter("runs") as writer:
            return getattr(writer, method)(**arguments)

    return write


def own(value):
    return lambda: value


def ablated():
    ablator = m.ablator()
    return entered(ablator.ablated, lambda _: ablator.model(images()))


# record
add("list_layers", own(fl.list_layers), **{"*sample": lambda: (images(),)})
add("list_operations", own(fl.list_operations))
add("receptive_field", own(fl.receptive_field))
add("insert_extractors", own(fl.insert_extractors), sample=images)
add("ActivationRecorder", own(fl.ActivationRecorder))
add("ActivationRecorder.__call__", m.recorder, **{"*args": lambda: (images(),)})
add("ActivationRecorder.record", lambda: m.recorder().record)
add("ActivationRecorder.record to", lambda: m.recorder().record, to=lambda: "store")
add(
    "ActivationRecorder.stream",
    lambda: m.recorder().stream,
    statistics=lambda: [statistics.Moments(), statistics.TopK(2)],
)
add("ActivationRecorder.held", lambda: entered(m.recorder().held, lambda run: run(images())))
add("TappedModule.forward", lambda: fl.insert_extractors(cnn(), "conv1"), **{"*args": lambda: (images(),)})
add("ReceptiveField.box", lambda: m.field().box, position=lambda: (1, 2))
add("Activations", own(fl.Activations), layers=lambda: {"conv1": images()})
add("Activations.__getitem__", lambda: m.activations().__getitem__, name=lambda: "conv1")
add("Activations.plot", lambda: m.activations().plot)
add("Activations.save", lambda: m.activations().save)
add("Activations.load", own(fl.Activations.load), path=lambda: m.saved(m.activations()))
add("ActivationStore", own(fl.ActivationStore), path=m.stored)
add("ActivationStore.__getitem__", lambda: fl.ActivationStore(m.stored()).__getitem__, name=lambda: "conv1")
add("ActivationStore.merge", own(fl.ActivationStore.merge), paths=lambda: [m.stored()])
add("StoredLayer.__getitem__", lambda: fl.ActivationStore(m.stored())["conv1"].__getitem__, rows=lambda: 2)
add("LayerTable.__getitem__", lambda: fl.list_layers(cnn()).__getitem__, index=lambda: 0)

# statistics
for made in (
    *(statistics.Activity(), statistics.ClassSelectivity(3), statistics.Covariance(), statistics.Moments()),
    *(statistics.Histogram(m.EDGES), statistics.JointCounts(3), statistics.MonoScore(images().flatten(1))),
    *(statistics.Sample(5), statistics.TopK(2)),
):
    kind, settings = type(made), {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
    add(f"statistics.{kind.__name__}", own(kind), **{name: own(value) for name, value in settings.items()})
    add(
        f"statistics.{kind.__name__}.update",
        lambda kind=kind, settings=settings: kind(**settings).update,
        values=lambda: images(channels=4),
        labels=labels,
    )
    add(
        f"statistics.{kind.__name__}.merge",
        lambda kind=kind, settings=settings: m.updated(kind(**settings)).merge,
        other=lambda kind=kind, settings=settings: m.updated(kind(**settings)),
    )
add("StreamResult.__getitem__", lambda: m.streamed().__getitem__, name=lambda: "conv1")
add("StreamResult.save", lambda: m.streamed().save)
add("StreamResult.load", own(fl.StreamResult.load), path=lambda: m.saved(m.streamed()))
add("StreamResult.merge", own(fl.StreamResult.merge), parts=lambda: [m.streamed()])
add("CovarianceResult.nearest", lambda: m.streamed()["conv1"].covariance.nearest)
add("CovarianceResult.plot", lambda: m.streamed()["conv1"].covariance.plot)
add("HistogramResult.plot", lambda: m.streamed()["conv1"].histogram.plot)
add("HistogramResult.quantile", lambda: m.streamed()["conv1"].histogram.quantile, q=lambda: 0.5)
add("TopKResult.plot", lambda: m.streamed()["conv1"].top_k.plot, images=images)
add(
    "channel_table",
    own(fl.channel_table),
    statistics=m.streamed,
    information=lambda: {"conv1": m.channel_information()},
    importance=m.importance,
    comparison=m.compared,
)
add("ChannelTable.__getitem__", lambda: m.table().__getitem__, name=lambda: "mean")
add("ChannelTable.head", lambda: m.table().head)
add("ChannelTable.row", lambda: m.table().row, channel=lambda: "conv1:1")
add("ChannelTable.select", lambda: m.table().select, **{"*names": lambda: ("mean", "std")})
add("ChannelTable.sort", lambda: m.table().sort, by=lambda: "mean")
add("ChannelTable.to_csv", lambda: m.table().to_csv)
add("ChannelTable.where", lambda: m.table().where, mask=lambda: torch.arange(len(m.table())) > 3)

# information
add("mutual_information", own(fl.mutual_information))
add(
    "mutual_information binned",
    own(fl.mutual_information),
    method=lambda: "binned",
    bins=lambda: 4,
    y=lambda: labels(100),
)
for made in (
    *(information.AutomaticMutualInformation(effort="fast"), information.BinnedMutualInformation(bins=3)),
    *(information.CopulaMutualInformation(), information.CorrectedKSGMutualInformation(surrogates=1)),
    *(information.KSGMutualInformation(k=3), information.LatentMutualInformation(dim=1, steps=20)),
    *(information.NeuralMutualInformation(steps=5, rotations=1), information.NoisyChannelMutualInformation()),
    *(information.ProbeMutualInformation(folds=2), information.RenyiMutualInformation()),
):
    kind, settings = type(made), {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
    add(f"information.{kind.__name__}", own(kind), **{name: own(value) for name, value in settings.items()})
    more = {"y": lambda: labels(100)} if "Probe" in kind.__name__ else {}
    add(f"information.{kind.__name__}.estimate", own(made.estimate), **more)
add("channel_information", own(fl.channel_information), activations=lambda: images(channels=4))
add(
    "layer_information",
    own(fl.layer_information),
    loader=lambda: images(60),
    against=lambda: labels(60),
    null=own(None),
)
add(
    "layer_information inputs",
    own(fl.layer_information),
    loader=lambda: images(60),
    against=lambda: "inputs",
    layers=lambda: "conv1",
    null=own(None),
    estimator=lambda: information.KSGMutualInformation(k=3),
)
add(
    "layer_information channels",
    own(fl.layer_information),
    loader=lambda: images(60),
    against=lambda: labels(60),
    per=lambda: "channel",
)
add(
    "linear_probe",
    own(fl.linear_probe),
    loader=lambda: images(60),
    labels=lambda: labels(60),
    folds=lambda: 2,
)
add(
    "spatial_mutual_information",
    own(fl.spatial_mutual_information),
    activations=lambda: images(channels=2),
    pairings=lambda: 2,
)
add("InformationPlane", own(fl.InformationPlane), loader=lambda: images(60), labels=lambda: labels(60))
add("InformationPlane.update", lambda: m.plane().update)
add("InformationPlane.resume", lambda: m.plane().resume, path=lambda: m.saved(m.plane()))
add("InformationPlane.save", lambda: m.plane().save)
add("InformationPlane.plot", lambda: m.plane().plot)
add("InformationPlane.load", own(fl.InformationPlane.load), path=lambda: m.saved(m.plane()))
add("ChannelInformationResult.__getitem__", lambda: m.channel_information().__getitem__, channel=lambda: 1)
add(
    "ChannelInformationResult.from_counts",
    own(fl.ChannelInformationResult.from_counts),
    counts=lambda: m.streamed()["conv1"].joint_counts,
)
add("ChannelInformationResult.top", lambda: m.channel_information().top)
add("LayerInformationResult.__getitem__", lambda: m.layer_information().__getitem__, name=lambda: "conv1")

# similarity
for made in (
    similarity.cka,
    similarity.procrustes,
    similarity.rsa,
    similarity.nearest_channels,
    similarity.intrinsic_dimension,
):
    add(f"similarity.{made.__name__}", own(made))
add("compare", own(fl.compare))

# maximization
for made in (objectives.channel, objectives.neuron, objectives.logit):
    add(f"objectives.{made.__name__}", own(made), index=lambda: 1)
for made in (
    objectives.diversity,
    objectives.layer_energy,
    objectives.l2,
    objectives.laplacian,
    objectives.total_variation,
    objectives.realism,
):
    add(f"objectives.{made.__name__}", own(made))
add("objectives.custom", own(objectives.custom), function=lambda: lambda y: y.flatten(1).sum(1))
add("objectives.direction", own(objectives.direction), vector=lambda: [1.0, 0.0, 0.0, 0.0])
add("objectives.exponential", own(objectives.exponential), objective=lambda: objectives.channel("conv1", 0))
add("transforms.Jitter", own(transforms.Jitter), pixels=lambda: 2)
add("transforms.Pad", own(transforms.Pad), pixels=lambda: 2)
add("transforms.RandomRotate", own(transforms.RandomRotate), degrees=lambda: 5)
add("transforms.RandomScale", own(transforms.RandomScale), low=lambda: 0.9, high=lambda: 1.1)
for made in (fl.FourierImage, fl.PhaseImage, fl.PixelImage):
    add(made.__name__, own(made))
    add(f"{made.__name__}.from_image", lambda made=made: made((1, 8, 8)).from_image)
add(
    "LatentImage",
    own(fl.LatentImage),
    decoder=lambda: nn.Sequential(nn.Linear(3, 64), nn.Unflatten(1, (1, 8, 8))),
    latent_dim=lambda: 3,
)
add(
    "LatentImage.from_image",
    lambda: fl.LatentImage(nn.Sequential(nn.Linear(3, 64), nn.Unflatten(1, (1, 8, 8))), 3).from_image,
)
add("ImageStatistics.fit", own(fl.ImageStatistics.fit), loader=images)
add("ImageStatistics.amplitudes", lambda: m.image_statistics().amplitudes, **{"*size": lambda: (8, 8)})
add("LatentWhitening.fit", own(fl.LatentWhitening.fit), loader=lambda: images(60).flatten(1)[:, :3])
add("LatentWhitening.whiten", lambda: m.whitening().whiten, latents=lambda: torch.ones(2, 3))
add("LatentWhitening.unwhiten", lambda: m.whitening().unwhiten, coordinates=lambda: torch.ones(2, 3))
add(
    "ActivationMaximizer",
    own(fl.ActivationMaximizer),
    parametrization=lambda: fl.FourierImage((1, 8, 8)),
    steps=lambda: 2,
)


@wraps(fl.ActivationMaximizer.__init__)
def maximize(**arguments):
    return fl.ActivationMaximizer(**arguments).run("conv1:0")


def maximize_objective(**arguments):
    return m.maximizer().run(**arguments)


add("ActivationMaximizer and run", own(maximize), sample=images, steps=lambda: 2)
add("ActivationMaximizer.run", lambda: m.maximizer().run, objectives=lambda: ["conv1:0", "relu2:1"])
for name in ("channel", "neuron", "direction", "custom", "diversity", "layer_energy"):

    def run(name=name, **arguments):
        return m.maximizer().run(getattr(objectives, name)(**arguments))

    run.__signature__ = signature(getattr(objectives, name))
    add(f"objectives.{name} and run", own(run), **CALLS[f"objectives.{name}"].arguments)
add("MaximizationResult.compare", lambda: m.maximized().compare)
add("MaximizationResult.animate", lambda: m.maximized().animate, path=lambda: "new.gif")
add("MaximizationResult.plot_frames", lambda: m.maximized().plot_frames)
add("MaximizationResult.plot_history", lambda: m.maximized().plot_history)
add(
    "MaximizationResult.load", own(fl.MaximizationResult.load), folder=lambda: m.saved(m.maximized(), "saved")
)
add("MaximizationResult.save", lambda: m.maximized().save)
add("RealImageComparison.plot_paths", lambda: m.compared().plot_paths)

# ablation
add("ChannelAblator", own(fl.ChannelAblator))
add(
    "ChannelAblator.of_heads",
    own(fl.ChannelAblator.of_heads),
    model=lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    layer=lambda: "self_attn",
)
add("ChannelAblator.ablated", ablated)
for name in ("curve", "importance", "sweep"):
    add(f"ChannelAblator.{name}", lambda name=name: getattr(m.ablator(), name))
add("ImportanceResult.order", lambda: m.importance().order)
add("ImportanceResult.significant", lambda: m.importance().significant)
add("ImportanceResult.top", lambda: m.importance().top)
add("ImportanceResult.plot_classes", lambda: m.importance().plot_classes)
add("DeconvDecoder", own(fl.DeconvDecoder), encoder=cnn, layer=lambda: "relu2")
add("DeconvDecoder.forward", lambda: m.decoder().forward)
add("DeconvDecoder.encode", lambda: m.decoder().encode)
add("DeconvDecoder.decode", lambda: m.decoder().decode, encoding=lambda: m.decoder().encode(images()))
add("DeconvDecoder.mirrors", lambda: m.decoder().mirrors, layer=nn.ReLU)


# save, load, to and plot of results
RESULTS = {
    fl.AblationResult: m.ablated,
    fl.ImportanceResult: m.importance,
    fl.AblationCurve: m.curve,
    fl.ChannelInformationResult: m.channel_information,
    information.LayerInformationResult: m.layer_information,
    fl.SpatialMutualInformationResult: m.spatial,
    fl.MutualInformationResult: m.estimate,
    information.LinearProbeResult: m.probed,
    similarity.SimilarityResult: m.similar,
    similarity.LayerSimilarityResult: m.layers_compared,
    similarity.IntrinsicDimensionResult: m.dimension,
    fl.RealImageComparison: m.compared,
    fl.MaximizationResult: m.maximized,
}
for kind, result in RESULTS.items():
    for method in ("save", "plot", "to"):
        if hasattr(kind, method) and f"{kind.__name__}.{method}" not in CALLS:
            add(f"{kind.__name__}.{method}", lambda result=result, method=method: getattr(result(), method))
    if f"{kind.__name__}.load" not in CALLS:
        add(f"{kind.__name__}.load", own(kind.load), path=lambda result=result: m.saved(result()))

# plotting
DRAWN = {
    "ablation_change": m.ablated,
    "ablation_gallery": m.reconstructed,
    "reconstructions": m.reconstructed,
    "channel_bars": m.channel_information,
    "class_importance": m.importance,
    "importance": m.importance,
    "channel_correlations": lambda: m.streamed()["conv1"].covariance,
    "channel_quantiles": lambda: m.streamed()["conv1"].histogram,
    "frames": m.maximized,
    "maximization": m.maximized,
    "maximization_history": m.maximized,
    "layer_bars": m.layer_information,
    "layer_similarity": m.layers_compared,
    "pair_matrix": m.spatial,
    "probe_curve": m.probed,
    "strongest_images": lambda: m.streamed()["conv1"].top_k,
}
for name, result in DRAWN.items():
    more = {"images": images} if name == "strongest_images" else {}
    add(f"plotting.{name}", own(getattr(plotting, name)), result=result, **more)
add("plotting.ablation_curves", own(plotting.ablation_curves), curves=lambda: {"a": m.curve()})
add("plotting.comparison", own(plotting.comparison), comparison=m.compared)
add("plotting.paths", own(plotting.paths), comparison=m.compared)
add("plotting.confusion_matrix", own(plotting.confusion_matrix), matrix=lambda: torch.eye(3))
add(
    "plotting.confusion_matrix of labels", own(plotting.confusion_matrix), matrix=lambda: (labels(), labels())
)
add("plotting.feature_maps", own(plotting.feature_maps), maps=lambda: images(channels=4))
add(
    "plotting.input_and_feature_maps",
    own(plotting.input_and_feature_maps),
    inputs=images,
    maps=lambda: images(channels=4),
)
add("plotting.filters", own(plotting.filters), weight=lambda: images(channels=3))
add("plotting.image_grid", own(plotting.image_grid))
add("plotting.information_curves", own(plotting.information_curves), curves=lambda: {"conv1": [0.1, 0.2]})
add(
    "plotting.information_plane",
    own(plotting.information_plane),
    x=lambda: {"conv1": [0.1, 0.2]},
    y=lambda: {"conv1": [0.1, 0.2]},
    units=lambda: "nats",
)
add(
    "plotting.training_curves",
    own(plotting.training_curves),
    curves=lambda: {"train": [0.1, 0.2]},
    ylabel=lambda: "loss",
)
add("plotting.write_animation", own(plotting.write_animation), result=m.maximized, path=lambda: "new.gif")
add(
    "plotting.write_images",
    own(plotting.write_images),
    images=lambda: images(2),
    paths=lambda: ["1.png", "2.png"],
)

# atlas, TensorBoard and callbacks
add("Atlas", own(fl.Atlas))
add("Atlas.build", lambda: m.atlas().build)
add("Atlas.called", lambda: fl.Atlas(cnn(), batches()).called)
add("Atlas.build_share", lambda: m.atlas().build_share, shard=lambda: (0, 2))
add("atlas.AtlasSite", own(AtlasSite), folder=m.site)
add("atlas.AtlasSite.__getitem__", lambda: AtlasSite(m.site()).__getitem__, channel=lambda: "conv1:1")
add("atlas.AtlasSite.read", lambda: AtlasSite(m.site()).read, name=lambda: "manifest")
add("atlas.compare_atlases", own(compare_atlases), one=m.site, other=lambda: m.site("other"))
add("TensorBoardWriter", lambda: entered(fl.TensorBoardWriter, repr), log_dir=lambda: "runs")
add("TensorBoardWriter.add", lambda: board("add"), result=m.layer_information)
add("TensorBoardWriter.embedding", lambda: board("embedding"), vectors=lambda: images().flatten(1))
add("TensorBoardWriter.graph", lambda: board("graph"), sample=images)
add("TensorBoardWriter.training", lambda: board("training"), values=lambda: {"loss": {"train": 0.5}})
add("callbacks.Observer", own(callbacks.Observer), log=lambda: lambda values, step: None)
add("callbacks.Observer.on_batch_end", lambda: m.observer(every=1).on_batch_end)
add("callbacks.Observer.on_epoch_end", lambda: m.observer().on_epoch_end)
add("callbacks.lightning_callback", own(callbacks.lightning_callback), observer=m.observer)
add("callbacks.trainer_callback", own(callbacks.trainer_callback), observer=m.observer)
