"""Study B: filters and feature maps of a small CNN on MNIST.

    python examples/mnist_features.py                   # downloads MNIST once; about a minute on two cores

Filters are the patterns a convolution looks for; feature maps show where it found them. The first layer's filters
respond to edges. The second layer's maps are smaller and show where combinations of edges occur. Hooks record the
maps while the network classifies, and are removed afterwards.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reference import MnistCNN, fit, load, seeded
from reference.pictures import first_look

STUDY_FILES = (
    "conv1_filters.png",
    "featuremaps_conv1.png",
    "featuremaps_conv2.png",
    "orig_and_conv1_grid.png",
    "training_loss.png",
    "training_accuracy.png",
)


def main(arguments: list[str] | None = None) -> None:
    """Train, draw the study's six figures, and print the results beside the study's."""
    parser = argparse.ArgumentParser(description="Study B: filters and feature maps on MNIST.")
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="folder of MNIST; downloaded if missing"
    )
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("outputs/mnist_features"))
    options = parser.parse_args(arguments)

    options.output.mkdir(parents=True, exist_ok=True)
    data = load("mnist", options.data_dir)
    model = seeded(MnistCNN, seed=options.seed)
    settings = {
        "epochs": options.epochs,
        "lr": 2e-3,
        "anneal": True,
        "seed": options.seed,
        "device": options.device,
    }
    history = fit(model, data.train, data.test, **settings)
    files = {file.name for file in first_look(model, data, history, options.output)}

    print(f"{'':22}{'study':>16}{'here':>16}")
    images = f"{len(data.train_labels):,} / {len(data.test_labels):,}"
    print(f"{'train / test images':22}{'60,000 / 10,000':>16}{images:>16}")
    print(f"{'convolutions':22}{2:>16}{2:>16}")
    print(f"{'its six files':22}{6:>16}{len(files & set(STUDY_FILES)):>16}")
    best = history.test_accuracy[history.best_epoch - 1]
    print(f"{'test accuracy':22}{'not reported':>16}{best:>16.2%}")
    print(f"{history.seconds:.0f} s; figures in {options.output}")


if __name__ == "__main__":
    main()
