"""Study C: images that maximize the channels of a CIFAR-10 classifier, in four image spaces side by side.

    python examples/cifar10_visualization.py                                # downloads CIFAR-10 once; hours on a CPU
    python examples/cifar10_visualization.py --epochs 5 --vae-epochs 3      # a shorter run
    python examples/cifar10_visualization.py --data mnist                   # one channel, 28x28
    python examples/cifar10_visualization.py --stage features --steps 256   # reuse the saved weights

There are three stages. Each is saved in the output folder and not repeated. The first trains a classifier. The second trains
a variational autoencoder with a checkpoint after every epoch, so an interrupted run can be resumed. The third optimizes
images that maximize channels and class scores, over pixels, Fourier coefficients, the latent code of the autoencoder,
and that code decorrelated.
"""

# %%
# Settings
# --------
#
# In a notebook, put what you would write on the command line in the place of ``command_line()``: ``["--epochs", "5"]``.

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from sklearn.metrics import classification_report
from torch import Tensor, nn

import featurelens as fl
from reference import Dataset, History, command_line, fit, fitting_network, load, seeded
from reference.data import stratified_split
from reference.pictures import save, scatter
from reference.vae import VAE, VAEHistory, fit_vae, reconstruction_and_divergence

STAGES = ("classifier", "vae", "features")
STUDY = {"accuracy": "80.6% (76.8% on the JPEG copy)", "bce": "0.566"}

parser = argparse.ArgumentParser(description="Study C: feature visualization in four spaces.")
parser.add_argument(
    "--data", default="cifar10", help="cifar10, mnist, digits, or a folder with one subfolder per class"
)
parser.add_argument("--data-dir", type=Path, default=Path("data"))
parser.add_argument("--stage", choices=STAGES, default="features", help="the last stage to run")
parser.add_argument("--epochs", type=int, default=20, help="epochs of the classifier")
parser.add_argument("--vae-epochs", type=int, default=50)
parser.add_argument("--steps", type=int, default=1000, help="optimization steps per image")
parser.add_argument("--channels", type=int, default=8, help="number of channels shown per layer")
parser.add_argument("--laplacian", type=float, default=0.0, help="weight of the Laplacian penalty")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--device", default="cpu")
parser.add_argument("--output", type=Path, default=Path("outputs/cifar10_visualization"))
options = parser.parse_args(command_line())

options.output.mkdir(parents=True, exist_ok=True)

# %%
# The images, in three parts
# --------------------------


@dataclass(frozen=True)
class Parts:
    """All images, split into 80, 10 and 10 % within each class."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, data: Dataset, *, seed: int) -> Self:
        images = torch.cat([data.train_images, data.test_images])
        labels = torch.cat([data.train_labels, data.test_labels])
        rest, test = stratified_split(labels, 0.1, seed=seed)
        train, validation = (rest[part] for part in stratified_split(labels[rest], 1 / 9, seed=seed))
        return cls(*((images[part], labels[part]) for part in (train, validation, test)), data.classes)


data = load(options.data, options.data_dir, seed=options.seed)
parts = Parts.of(data, seed=options.seed)
sizes = ", ".join(str(len(labels)) for _, labels in (parts.train, parts.validation, parts.test))
print(data, "in parts of", sizes)

# %%
# First stage: a classifier
# -------------------------
#
# It is trained, or loaded if an earlier run saved it.


def classifier_stage(data: Dataset, parts: Parts, options: argparse.Namespace) -> nn.Module:
    """Train the classifier or load the saved one, and report on the test images."""
    model = fitting_network(data.channels, data.size, len(data.classes), seed=options.seed).to(options.device)
    kept = options.output / "classifier.pt"
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        model.load_state_dict(state["weights"])
        history = History(**state["history"])
    else:
        history = fit(model, parts.train, parts.validation, epochs=options.epochs, seed=options.seed)
        torch.save({"weights": model.state_dict(), "history": asdict(history)}, kept)
    model.eval()
    labels, predictions = parts.test[1], predicted(model, parts.test[0])
    save(classifier_pictures(history, labels, predictions, parts.classes), options.output)
    text = classification_report(labels, predictions, target_names=parts.classes, digits=3, zero_division=0)
    (options.output / "classification_report.txt").write_text(text)
    print(f"\nclassifier: {history}\n{text}")
    print(f"test accuracy {(labels == predictions).float().mean():.1%} (study: {STUDY['accuracy']})")
    return model


def predicted(model: nn.Module, images: Tensor) -> Tensor:
    scores = fl.ActivationRecorder(model, model).record(images.split(1000), progress=False)[""]
    return scores.argmax(1).cpu()


def classifier_pictures(
    history: History, labels: Tensor, predictions: Tensor, classes: tuple[str, ...]
) -> dict[str, Figure]:
    """Draw loss, accuracy and the confusion matrix."""
    curves = {
        measure: {
            "train": getattr(history, f"train_{measure}"),
            "validation": getattr(history, f"test_{measure}"),
        }
        for measure in ("loss", "accuracy")
    }
    return {
        "classifier_loss": fl.plotting.training_curves(curves["loss"], ylabel="loss (nats)"),
        "classifier_accuracy": fl.plotting.training_curves(
            curves["accuracy"], ylabel="accuracy", best=history.best_epoch
        ),
        "confusion": fl.plotting.confusion_matrix((labels, predictions), classes=classes),
    }


classifier = classifier_stage(data, parts, options)
if options.stage == "classifier":
    raise SystemExit

# %%
# Second stage: a variational autoencoder
# ---------------------------------------
#
# Its decoder turns codes into images like those it was trained on.

SHOWN = 2000  # number of test images in the figure of the latent space


def vae_stage(data: Dataset, parts: Parts, options: argparse.Namespace) -> VAE:
    """Train the autoencoder or resume an earlier run, and draw what it learned."""
    vae = seeded(lambda: VAE(data.channels, data.size), seed=options.seed).to(options.device)
    history = fit_vae(
        vae,
        parts.train[0],
        parts.test[0],
        epochs=options.vae_epochs,
        checkpoint=options.output / "vae.pt",
        seed=options.seed,
    )
    images = parts.test[0][:1000].to(options.device)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(options.seed)).to(options.device)
    with torch.no_grad():
        losses = [float(reconstruction_and_divergence(vae, batch)[0]) for batch in (images, noise)]
    print(f"\nautoencoder: {history} (study: BCE {STUDY['bce']})")
    print(
        f"BCE of real images {losses[0]:.3f}, of noise {losses[1]:.3f}: it reconstructs images like its training data only"
    )
    save(vae_pictures(vae, history, parts, options), options.output)
    return vae


@torch.no_grad()
def vae_pictures(
    vae: VAE, history: VAEHistory, parts: Parts, options: argparse.Namespace
) -> dict[str, Figure]:
    """Draw the curves, originals above their reconstructions, and the latent means by class."""
    step = max(1, len(parts.test[0]) // SHOWN)  # spread over the classes: a folder is sorted by class
    images, labels = (part[::step][:SHOWN] for part in parts.test)
    several = torch.arange(10) * (len(images) // 10)
    means = torch.cat([vae.encode(batch.to(options.device))[0].cpu() for batch in images.split(500)])
    rebuilt = vae.decoder(means[several].to(options.device)).cpu()
    points = TSNE(random_state=options.seed, init="pca").fit_transform(means.numpy())
    curves = {"train": history.train_bce, "test": history.test_bce}
    return {
        "vae_loss": fl.plotting.training_curves(curves, ylabel="binary cross-entropy (nats per pixel)"),
        "vae_divergence": fl.plotting.training_curves(
            {"train": history.train_kl, "test": history.test_kl}, ylabel="KL from the prior (nats)"
        ),
        "vae_reconstructions": fl.plotting.image_grid(
            torch.cat([images[several], rebuilt]),
            columns=10,
            labels=["original"] * 10 + ["reconstruction"] * 10,
            title="Test images and their reconstructions by the autoencoder",
        ),
        "vae_latents": scatter(
            points, labels, parts.classes, title=f"Latent means of {len(labels)} test images (t-SNE)"
        ),
    }


vae = vae_stage(data, parts, options)
if options.stage == "vae":
    raise SystemExit

# %%
# Third stage: images that maximize channels
# ------------------------------------------
#
# Channels of every ReLU and all class scores, over pixels, Fourier coefficients, and the latent code of the autoencoder, plain
# and decorrelated. What counts is how the activations compare with those of the strongest real images.


def features_stage(classifier: nn.Module, vae: VAE, parts: Parts, options: argparse.Namespace) -> None:
    """Maximize channels and class scores in every space, draw the images side by side, and compare with real ones."""
    test = parts.test[0].to(options.device)
    wanted = channels_of(classifier, test, options.channels) | {
        "class scores": [("", k) for k in range(len(parts.classes))]
    }
    chosen = [channel for channels in wanted.values() for channel in channels]
    objectives = [
        fl.objectives.exponential(fl.objectives.channel(*channel)) for channel in chosen
    ]  # as in the study
    if options.laplacian:
        objectives = [objective - options.laplacian * fl.objectives.laplacian() for objective in objectives]
    images, strengths = {}, {"real images, strongest": activations(classifier, test, chosen).max(0).values}
    for name, space in spaces(vae, parts, options).items():
        maximizer = fl.ActivationMaximizer(classifier, space, steps=options.steps, seed=options.seed)
        images[name] = maximizer.run(objectives).images
        strengths[name] = activations(classifier, images[name].to(options.device), chosen).diagonal()
    start, report = 0, [f"{'mean activation':26}" + "".join(f"{layer:>14}" for layer in wanted)]
    for layer, channels in wanted.items():
        rows = slice(start, start := start + len(channels))
        names = parts.classes if layer == "class scores" else [f"{layer}:{number}" for _, number in channels]
        shown = {name: (made[rows], strengths[name][rows]) for name, made in images.items()}
        save({f"features_{layer.replace(' ', '_')}": side_by_side(shown, names)}, options.output)
    for name, values in strengths.items():
        means = [float(part.mean()) for part in values.split([len(channels) for channels in wanted.values()])]
        report.append(f"{name:26}" + "".join(f"{mean:14.3f}" for mean in means))
    text = "\n".join(report)
    (options.output / "features.txt").write_text(text + "\n")
    print(f"\n{text}\nfigures in {options.output}")


def channels_of(classifier: nn.Module, images: Tensor, most: int) -> dict[str, list[tuple[str, int]]]:
    """Choose up to `most` channels of each ReLU, evenly spaced among those that some image activates."""
    acts = fl.ActivationRecorder(classifier, nn.ReLU, reduce="mean").record(
        images.split(1000), progress=False
    )
    chosen = {}
    for layer, values in acts.items():
        alive = (values.amax(0) > 0).nonzero().flatten()
        places = torch.linspace(0, len(alive) - 1, min(most, len(alive))).round().long()
        chosen[layer] = [(layer, int(alive[place])) for place in places]
    return chosen


def activations(classifier: nn.Module, images: Tensor, channels: list[tuple[str, int]]) -> Tensor:
    """Return the mean activation of each of the channels on each image, ``(N, channels)``."""
    layers = list(dict.fromkeys(layer for layer, _ in channels))
    recorder = fl.ActivationRecorder(classifier, [layer or classifier for layer in layers], reduce="mean")
    acts = recorder.record(images.split(1000), progress=False)
    return torch.stack([acts[layer][:, number] for layer, number in channels], dim=1).cpu()


@torch.no_grad()
def spaces(vae: VAE, parts: Parts, options: argparse.Namespace) -> dict[str, fl.Parametrization]:
    """Return the four image spaces by name."""
    images = parts.train[0]
    latents = torch.cat([vae.encode(batch.to(options.device))[0].cpu() for batch in images.split(1000)])
    whitening = fl.LatentWhitening.fit(latents)
    shape = tuple(images.shape[1:])
    return {
        "pixels": fl.PixelImage(shape),
        "Fourier, decorrelated": fl.FourierImage(shape, statistics=fl.ImageStatistics.fit(images)),
        "latent code": fl.LatentImage(vae.decoder, vae.latent_dim),
        "latent code, decorrelated": fl.LatentImage(vae.decoder, vae.latent_dim, whitening=whitening),
    }


def side_by_side(shown: dict[str, tuple[Tensor, Tensor]], names: Sequence[str]) -> Figure:
    """Draw one row per space and one column per objective, each image with its activation."""
    figure = Figure(figsize=(1 + 0.95 * len(names), 1.45 * len(shown)), dpi=150, layout="constrained")
    for ax, (space, (images, strengths)) in zip(figure.subplots(len(shown)), shown.items(), strict=True):
        labels = [f"{name}\n{value:.2g}" for name, value in zip(names, strengths, strict=True)]
        fl.plotting.image_grid(images, columns=len(names), labels=labels, title=space, ax=ax)
    return figure


features_stage(classifier, vae, parts, options)
