"""Study D: rewrite a network so that it keeps the features of selected convolutions.

    python examples/extractor_rewrite.py                          # a VGG-style network, digits as image files
    python examples/extractor_rewrite.py --images my/photos       # your own folder: my/photos/CLASS/IMAGE

Convolutions are named conv_1, conv_2, ... in order. An extractor, an identity module that keeps its input, is inserted
after conv_1, conv_2 and conv_4. A random image from the folder is drawn without axes and run through the new network;
then the features are read from the extractors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

import featurelens as fl
from reference import load, seeded
from reference.pictures import save

CHOSEN = ("conv_1", "conv_2", "conv_4")


def main(arguments: list[str] | None = None) -> None:
    """Rewrite the network, run one image, and draw the features in the extractors."""
    parser = argparse.ArgumentParser(description="Study D: insert extractors into a network.")
    parser.add_argument(
        "--images", type=Path, help="a folder with one subfolder per class; default: digits, written as files"
    )
    parser.add_argument("--seed", type=int, default=0, help="selects the image and the random weights")
    parser.add_argument("--output", type=Path, default=Path("outputs/extractor_rewrite"))
    options = parser.parse_args(arguments)

    folder = options.images or digits_as_files(options.output / "digits")
    image, label = random_image(folder, options.seed)
    from torchvision.models import vgg11

    model = seeded(lambda: vgg11(weights=None), seed=options.seed).eval()
    batch = torch.nn.functional.interpolate(image.expand(1, 3, -1, -1), size=(64, 64), mode="bilinear")

    tapped = fl.insert_extractors(model, CHOSEN)
    with torch.no_grad():
        difference = (tapped(batch) - model(batch)).abs().max().item()
    figures = {"image": without_axes(image[0])}
    for name in CHOSEN:
        feature = tapped.extractors[name].feature
        figures[name] = fl.plotting.feature_maps(
            feature, limit=32, title=f"{name} of vgg11, an image of {label!r}"
        )
        print(f"{name}: layer {tapped.extractors[name].layer!r}, feature {tuple(feature.shape)}")
    save(figures, options.output)
    same = list(tapped.state_dict()) == list(model.state_dict())
    print(f"{'':36}{'study':>18}{'here':>18}")
    print(f"{'extractors after':36}{'conv_1, _2, _4':>18}{', '.join(CHOSEN).replace(', conv', ', '):>18}")
    print(f"{'largest difference of the output':36}{'not reported':>18}{difference:>18.1e}")
    print(f"{'state_dict keys as the original':36}{'not reported':>18}{'yes' if same else 'no':>18}")
    print(f"figures in {options.output}")


def digits_as_files(folder: Path) -> Path:
    """Write scikit-learn's test digits as ``folder/CLASS/NUMBER.png``."""
    from torchvision.transforms.functional import to_pil_image

    data = load("digits")
    for number, (image, label) in enumerate(zip(*data.test, strict=True)):
        place = folder / data.classes[int(label)]
        place.mkdir(parents=True, exist_ok=True)
        to_pil_image(image).save(place / f"{number:04}.png")
    return folder


def random_image(folder: Path, seed: int) -> tuple[torch.Tensor, str]:
    """Return a random image `(1, C, H, W)` from a labelled folder and its label; depends on `seed` alone."""
    data = load(folder, seed=seed, training=False)
    images, labels = (
        torch.cat([data.train_images, data.test_images]),
        torch.cat([data.train_labels, data.test_labels]),
    )
    index = int(torch.randint(len(labels), (), generator=torch.Generator().manual_seed(seed)))
    return images[index : index + 1], data.classes[int(labels[index])]


def without_axes(image: torch.Tensor) -> Figure:
    """Draw one image `(C, H, W)` without axes."""
    figure = Figure(figsize=(3, 3))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()
    return figure


if __name__ == "__main__":
    main()
