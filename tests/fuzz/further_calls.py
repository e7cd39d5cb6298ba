"""Valid calls, continued: maximization, ablation, results, plotting, the atlas, TensorBoard and callbacks."""

from functools import wraps
from inspect import signature

import torch
from torch import nn

import featurelens as fl
from featurelens import callbacks, information, objectives, plotting, similarity, transforms
from featurelens.atlas import AtlasSite, compare_atlases
from tests.fuzz import material as m
from tests.fuzz.calls import CALLS, ablated, add, board, entered, own
from tests.fuzz.users import batches, cnn, images, labels

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
