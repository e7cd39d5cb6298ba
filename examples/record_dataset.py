"""Record a data set with ResNet-18: activations on disk, statistics, and the strongest images of each channel.

    python examples/record_dataset.py                            # downloads CIFAR-10 once, trains for two epochs
    python examples/record_dataset.py --weights resnet18.pt      # a state_dict, from this example or your own
    python examples/record_dataset.py --data my/images           # a folder: train/CLASS/IMAGE, test/...
    torchrun --nproc-per-node 4 examples/record_dataset.py --weights resnet18.pt

Pretrained ImageNet weights are not part of the torchvision package, so the example first trains a ResNet-18 briefly on part
of the images; that is enough for channels to respond to something. Then it runs over the training set twice. The first
pass writes the mean of every channel in four layers to a store, from which any rows can be read; if it is killed, run it
again with the same output and it continues. The second pass keeps statistics only: moments, histograms, joint counts with
the labels, and the nine strongest images of every channel. The figures crop these images to the receptive field of the
strongest unit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, TensorDataset

import featurelens as fl
from reference import Dataset, fit, load, seeded
from reference.pictures import save

LAYERS = ("layer1", "layer2", "layer3", "layer4")
SHOWN = (
    "maxpool",
    "layer1.0",
)  # receptive fields of 11 and 27 pixels; from layer1.1 on they cover a small image
PICTURED = 12  # channels per figure


def main(arguments: list[str] | None = None) -> None:
    """Train or load the network, record, compute statistics, draw."""
    parser = argparse.ArgumentParser(description="Record a data set through ResNet-18.")
    parser.add_argument(
        "--data", default="cifar10", help="cifar10, digits, or a folder with one subfolder per class"
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--weights", type=Path, help="a state_dict file; default: train the network")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train", type=int, default=10_000, help="number of images to train on")
    parser.add_argument("--images", type=int, help="number of images to record; default: all")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("outputs/record_dataset"))
    options = parser.parse_args(arguments)

    with one_of_many() as leads:
        options.output.mkdir(parents=True, exist_ok=True)
        data = load(options.data, options.data_dir, seed=options.seed)
        model = network(data, options, announce=leads)
        images, labels = coloured(data.train_images), data.train_labels
        chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(options.seed))
        chosen = chosen[: options.images].sort().values
        images, labels = images[chosen], labels[chosen]
        loader = DataLoader(TensorDataset(images, labels), batch_size=options.batch)

        store = record(model, loader, options.output / "activations")
        result = measure(model, loader, len(data.classes))
        if leads:
            result.save(options.output / "statistics.pt")
            files = save(pictures(model, images, result), options.output)
            report(store, result, labels, data)
            print(f"{', '.join(file.name for file in files)} in {options.output}")


@contextlib.contextmanager
def one_of_many() -> Iterator[bool]:
    """Join the process group under torchrun; yield whether this process prints and draws."""
    if "RANK" not in os.environ:
        yield True
        return
    distributed.init_process_group("gloo")
    try:
        yield distributed.get_rank() == 0
    finally:
        distributed.destroy_process_group()


def coloured(images: Tensor) -> Tensor:
    """Expand images to the three channels that ResNet expects."""
    return images.expand(-1, 3, -1, -1)


def network(data: Dataset, options: argparse.Namespace, *, announce: bool) -> nn.Module:
    """Return a ResNet-18 with the given weights, or train one on part of the data."""
    from torchvision.models import resnet18

    def build() -> nn.Module:
        model: nn.Module = resnet18(num_classes=len(data.classes))
        return model

    model = seeded(build, seed=options.seed).to(options.device)
    if options.weights is not None:
        model.load_state_dict(torch.load(options.weights, weights_only=True, map_location=options.device))
        return model.eval()
    # A folder is sorted by class: draw both parts at random from all classes.
    generator = torch.Generator().manual_seed(options.seed)
    part = torch.randperm(len(data.train_labels), generator=generator)[: options.train]
    test = torch.randperm(len(data.test_labels), generator=generator)[:2000]
    history = fit(
        model,
        (coloured(data.train_images[part]), data.train_labels[part]),
        (coloured(data.test_images[test]), data.test_labels[test]),
        epochs=options.epochs,
        anneal=True,
        seed=options.seed,
        progress=announce,
    )
    if announce:
        torch.save(model.state_dict(), options.output / "resnet18.pt")
        print(f"trained on {len(part)} images: {history}")
    return model.eval()


def record(model: nn.Module, loader: DataLoader, folder: Path) -> fl.ActivationStore:
    """Write the mean of every channel in four layers, for every image, to a store on disk."""
    return fl.ActivationRecorder(model, LAYERS, reduce="mean").record(loader, to=folder, resume=True)


def measure(model: nn.Module, loader: DataLoader, classes: int) -> fl.StreamResult:
    """Compute statistics of whole feature maps in one pass."""
    recorder = fl.ActivationRecorder(model, [*SHOWN, "layer4"])
    maps = [fl.statistics.Moments(), fl.statistics.Histogram(), fl.statistics.TopK(9)]
    return recorder.stream(
        loader,
        {
            **dict.fromkeys(SHOWN, maps),
            "layer4": [*maps, fl.statistics.Covariance(), fl.statistics.JointCounts(classes)],
        },
    )


def pictures(model: nn.Module, images: Tensor, result: fl.StreamResult) -> dict[str, Figure]:
    """Draw the strongest images of channels in three layers, and the statistics of the last layer."""
    figures = {}
    for layer in SHOWN:
        found = result[layer]
        lively = found.moments.variance.argsort(descending=True, stable=True)[:PICTURED].sort().values
        field = fl.receptive_field(model, layer, tuple(images.shape[1:]))
        figures[f"strongest_{layer}"] = fl.plotting.strongest_images(
            found.top_k,
            images,
            channels=lively.tolist(),
            receptive_field=field,
            title=f"Strongest images of the {PICTURED} channels of {layer} with the largest variance",
        )
    last = result["layer4"]
    known = fl.ChannelInformationResult.from_counts(last.joint_counts)
    figures["strongest_layer4"] = fl.plotting.strongest_images(
        last.top_k,
        images,
        channels=known.top(PICTURED),
        title="Strongest images of the channels of layer4 with most information about the class",
    )
    figures["values_layer4"] = last.histogram.plot()
    figures["correlations_layer4"] = last.covariance.plot()
    figures["information_layer4"] = known.plot(title="Information of the channels of layer4 about the class")
    return figures


def report(store: fl.ActivationStore, result: fl.StreamResult, labels: Tensor, data: Dataset) -> None:
    """Print what the store holds, and the statistics of the last layer."""
    print(store)
    print(result)
    last = result["layer4"]
    binned, gaussian = (
        fl.ChannelInformationResult.from_counts(last.joint_counts, method=how)
        for how in ("binned", "gaussian")
    )
    print(f"layer4 and the class, from the stream: {binned}")
    print(f"the same with normal classes: most {float(gaussian.values.max()):.3f} nats")
    again = fl.channel_information(store["layer4"][:], labels)
    print(f"the same from the store: most {float(again.values.max()):.3f} nats in channel {again.top(1)[0]}")
    best = binned.top(1)[0]
    rows = last.top_k.rows[best]
    names = ", ".join(data.classes[int(labels[row])] for row in rows.tolist())
    print(f"channel {best} responds most to: {names}")
    dead = int((last.moments.max <= 0).sum())
    print(f"{dead} of {len(last.moments.max)} channels never respond")


if __name__ == "__main__":
    main()
