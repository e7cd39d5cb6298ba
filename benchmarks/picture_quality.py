"""Measure what the settings of `ActivationMaximizer` do to its pictures, on three networks.

    python benchmarks/picture_quality.py --data FOLDER --data-dir DIR --keep outputs/networks --figure settings.png

The networks are the classifier of study C, that of study B, and a ResNet-18 for 32x32 images; each has a twin with
another seed, the judge. They are trained on the first run (a GPU helps: ``--device cuda``) and kept.

For each setting the table gives

- *score*: the mean activation of the channels,
- *roughness*: the root mean square of the discrete Laplacian, as a multiple of that of real images,
- *colour*: the mean over pixels of the largest channel less the smallest, likewise (for grey images, of contrast),
- *recognised*: how many of ten class images the judge recognises, and its mean probability.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import featurelens as fl

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from featurelens.objectives import laplacian, logit, total_variation
from reference import CifarClassifier, Dataset, MnistCNN, accuracy, fit, load, seeded

CHANNELS = 32
FAMILIES: dict[str, dict[str, dict[str, Any]]] = {
    "the default": {"": {}},
    "decay": {str(decay): {"decay": decay} for decay in (0.0, 1.0, 1.5, 2.0)},
    "lr": {str(lr): {"lr": lr} for lr in (0.005, 0.01, 0.05, 0.1)},
    "steps": {str(steps): {"steps": steps} for steps in (64, 1024)},
    "transforms": {
        "none": {"transforms": None},
        "twice as far": {
            "transforms": lambda size: [
                fl.transforms.Jitter(max(1, size // 8)),
                fl.transforms.RandomScale(0.8, 1.2),
                fl.transforms.RandomRotate(10),
            ]
        },
    },
    "penalty": {
        "total variation": {"penalty": total_variation()},
        "10 total variation": {"penalty": 10 * total_variation()},
        "10 laplacian": {"penalty": 10 * laplacian()},
    },
    "realism": {str(weight): {"realism": weight} for weight in (0.5, 2.0, 8.0)},
    "images": {
        "without statistics": {"statistics": False},
        "PixelImage": {"parametrization": fl.PixelImage},
        "PhaseImage": {"parametrization": fl.PhaseImage},
    },
}


@dataclass(frozen=True)
class Subject:
    """A network with its judge, the layer whose channels are looked at, those held to real images, and its data."""

    name: str
    model: nn.Module
    judge: nn.Module
    layer: str
    held: tuple[str, ...]
    data: Dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", default="cifar10", help="cifar10, or a folder: train/CLASS/IMAGE, test/CLASS/IMAGE"
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--keep", type=Path, default=Path("outputs/networks"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", nargs="*", default=["classifier", "mnist", "resnet"])
    parser.add_argument("--families", nargs="*", default=list(FAMILIES))
    parser.add_argument(
        "--figure", type=Path, help="write the pictures side by side to this file, one for each network"
    )
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}")
    for subject in subjects(options):
        count_detours(subject)
        compare(subject, options)


def resnet() -> nn.Module:
    """Return a ResNet-18 for 32x32 images: a first convolution of 3x3 pixels, and no first pooling."""
    from torchvision.models import resnet18

    model = resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, tuple[str, ...]]] = {
    "classifier": (CifarClassifier, "conv3", ("relu1", "relu2")),
    "mnist": (MnistCNN, "conv2", ("relu1",)),
    "resnet": (resnet, "layer3.0.conv2", ("layer1", "layer2")),
}


def subjects(options: argparse.Namespace) -> list[Subject]:
    """Train the networks, or load them from an earlier run."""
    options.keep.mkdir(parents=True, exist_ok=True)
    data: dict[str, Dataset] = {}
    found = []
    for name in options.networks:
        build, layer, held = NETWORKS[name]
        source = "mnist" if name == "mnist" else options.data
        data[source] = data.get(source) or load(source, options.data_dir)
        models = [trained(name, build, data[source], seed, options) for seed in (0, 1)]
        found.append(Subject(name, *models, layer, held, data[source]))
    return found


def trained(
    name: str, build: Callable[[], nn.Module], data: Dataset, seed: int, options: argparse.Namespace
) -> nn.Module:
    kept = options.keep / f"{name}_{seed}.pt"
    model = seeded(build, seed=seed).to(options.device)
    start = time.perf_counter()
    if kept.exists():
        model.load_state_dict(torch.load(kept, map_location="cpu", weights_only=True))
    else:
        fit(model, data.train, data.test, epochs=options.epochs, seed=seed, anneal=True)
        torch.save({key: value.half().cpu() for key, value in model.state_dict().items()}, kept)
        model.load_state_dict(torch.load(kept, weights_only=True))
    share, seconds = accuracy(model, data.test), time.perf_counter() - start
    print(f"{name}, seed {seed}: {share:.1%} of the test images ({seconds:.0f} s)", flush=True)
    return model.eval()


def compare(subject: Subject, options: argparse.Namespace) -> None:
    """Print the figures of every setting for one network."""
    real = subject.data.test_images[:512]
    rough, colourful = roughness(real), colour(real)
    print(
        f"\n{subject.name}, {subject.layer}: real images have roughness {rough:.3f}, colour {colourful:.3f}"
    )
    print(f"{'':32}{'score':>8}{'roughness':>11}{'colour':>8}{'recognised':>12}{'':>6}{'seconds':>9}")
    shown: dict[str, Tensor] = {}
    for family in options.families:
        for name, setting in FAMILIES[family].items():
            start = time.perf_counter()
            units = [fl.objectives.channel(subject.layer, int(k)) for k in channel_numbers(subject)]
            channels, scores = run(subject, setting, units)
            seconds = time.perf_counter() - start
            classes, _ = run(subject, setting, [logit(k) for k in range(10)])
            right, probability = recognised(subject.judge, classes)
            label = f"{family} {name}".strip()
            print(
                f"{label:32}{scores:8.2f}{roughness(channels) / rough:11.2f}"
                f"{colour(channels) / colourful:8.2f}{right:9} of 10{probability:6.2f}{seconds:9.1f}",
                flush=True,
            )
            shown[label] = torch.cat([channels[:4], classes[:4]])
    if options.figure:
        draw(shown, options.figure.with_stem(f"{options.figure.stem}_{subject.name}"), subject)


def count_detours(subject: Subject) -> None:
    """Print how many pictures, of every channel and every class, reach their objective by another path than real images."""
    real = subject.data.test_images[:2000]
    maximizer = fl.ActivationMaximizer(subject.model, sample=real[:64], progress=False)
    for wanted in (subject.layer, [logit(k) for k in range(10)]):
        found = maximizer.run(wanted).compare(real, progress=False)
        flagged = int(found.detours.sum())
        print(
            f"{subject.name}: {flagged} of {len(found)} pictures by another path than real images", flush=True
        )


def channel_numbers(subject: Subject) -> Tensor:
    module = subject.model.get_submodule(subject.layer)
    assert isinstance(module, nn.Conv2d)
    return torch.linspace(0, module.out_channels - 1, CHANNELS).long()


def run(subject: Subject, setting: dict[str, Any], objectives: list[fl.Objective]) -> tuple[Tensor, float]:
    """Return the images ``(N, C, H, W)`` for objectives under a setting, and their mean score without its penalty."""
    setting, images = dict(setting), subject.data.train_images
    shape, given = tuple(images.shape[1:]), {}
    if setting.pop("statistics", True):
        given["statistics"] = fl.ImageStatistics.fit(images[:64], progress=False)
    if "decay" in setting:
        given["decay"] = setting.pop("decay")
    kind, penalty = setting.pop("parametrization", fl.FourierImage), setting.pop("penalty", None)
    if weight := setting.pop("realism", None):
        device = next(subject.model.parameters()).device
        real = images[:512].to(device)
        parts = [fl.objectives.realism(subject.model, layer, real, progress=False) for layer in subject.held]
        penalty = -weight * sum(parts[1:], start=parts[0])
    if callable(setting.get("transforms")):
        setting["transforms"] = setting["transforms"](shape[-1])
    maximizer = fl.ActivationMaximizer(subject.model, kind(shape, **given), progress=False, **setting)
    made = maximizer.run([objective - penalty for objective in objectives] if penalty else objectives).images
    layer, numbers = objectives[0].layers[0], [objective.terms[0][1].index for objective in objectives]
    with torch.no_grad():
        found = fl.ActivationRecorder(subject.model, layer)(made.to(next(subject.model.parameters()).device))[
            layer
        ]
    values = found.flatten(2).mean(2) if found.ndim > 2 else found
    return made, float(values[range(len(numbers)), numbers].mean())


def roughness(images: Tensor) -> float:
    padded = nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    around = padded[..., 2:, 1:-1] + padded[..., :-2, 1:-1] + padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2]
    return float((around - 4 * images).square().mean().sqrt())


def colour(images: Tensor) -> float:
    if images.shape[1] == 1:
        return float(images.flatten(1).std(1).mean())
    return float((images.amax(1) - images.amin(1)).mean())


@torch.no_grad()
def recognised(judge: nn.Module, images: Tensor) -> tuple[int, float]:
    probabilities = judge(images.to(next(judge.parameters()).device)).softmax(1).cpu()
    own = probabilities[range(len(images)), range(len(images))]
    return int((probabilities.argmax(1) == torch.arange(len(images))).sum()), float(own.mean())


def draw(shown: dict[str, Tensor], path: Path, subject: Subject) -> None:
    """Draw a strip for each setting, in two columns: four channels, then four classes."""
    from matplotlib.figure import Figure

    rows = -(-len(shown) // 2)
    figure = Figure(figsize=(11, 0.62 * rows + 0.5), dpi=120, layout="constrained")
    figure.suptitle(
        f"{subject.name}: four channels of {subject.layer} and four classes under each setting", fontsize=11
    )
    axes = figure.subplots(rows, 2, squeeze=False).T.flatten()
    for ax in axes:
        ax.set_axis_off()
    for ax, (label, images) in zip(axes, shown.items(), strict=False):
        strip = torch.cat([nn.functional.pad(image, (0, 2), value=1.0) for image in images], dim=2)
        ax.imshow(strip.permute(1, 2, 0).squeeze(2), cmap="gray", vmin=0, vmax=1)
        ax.text(-4, strip.shape[1] / 2, label, ha="right", va="center", fontsize=8)
        ax.set_xlim(-85 * strip.shape[1] / 32, strip.shape[2])
    figure.savefig(path)


if __name__ == "__main__":
    main()
