"""A valid call of every public function, class and method; the session changes one or two of its arguments."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import Any

import torch

import featurelens as fl
from featurelens import information, similarity, statistics
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
