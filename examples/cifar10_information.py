"""Study A: mutual information of six layers with the image, epoch by epoch, and how much of it is bias.

    python examples/cifar10_information.py                                  # downloads CIFAR-10 once
    python examples/cifar10_information.py --data my/cifar10 --epochs 10    # a folder: train/CLASS/IMAGE, test/...
    python examples/cifar10_information.py --tensorboard                    # then: tensorboard --logdir outputs

A CNN with six convolutions is trained on grayscale CIFAR-10. After every epoch the mutual information between images
and the feature maps of each layer is estimated three times: by the study's recipe (255 equal-width bins per map); by
the same recipe with every map paired with *another* image, which gives the null; and with 16 bins of equal count and
the bias corrected. The information plane is measured as well, with an explicit noise model.
"""

# %%
# Settings
# --------
#
# In a notebook, put what you would write on the command line in the place of ``command_line()``: ``["--epochs", "5"]``.

import argparse
import functools
import json
from contextlib import ExitStack
from pathlib import Path

import torch
from matplotlib.figure import Figure

import featurelens as fl
from reference import Dataset, GrayscaleCNN, History, command_line, fit, load, seeded
from reference.pictures import save

LAYERS = tuple(f"relu{number}" for number in range(1, 7))  # the feature maps after each ReLU, as in the study
PROBE, PLANE = 20, 1000  # number of images for the maps, and for the plane

parser = argparse.ArgumentParser(description="Study A: information in the layers of a CNN.")
parser.add_argument("--data", default="cifar10", help="cifar10, or a folder with one subfolder per class")
parser.add_argument("--data-dir", type=Path, default=Path("data"))
parser.add_argument(
    "--epochs", type=int, default=50, help="maximum; training stops when test accuracy no longer improves"
)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--device", default="cpu")
parser.add_argument("--tensorboard", action="store_true", help="also write to OUTPUT/tensorboard")
parser.add_argument("--output", type=Path, default=Path("outputs/cifar10_information"))
options = parser.parse_args(command_line())

# %%
# What is measured
# ----------------
#
# After every epoch, for the feature maps of 20 images in six layers: the study's estimate, the same with another image's
# maps, and the corrected estimate; and the information plane of 1,000 images.

Curves = dict[str, list[fl.SpatialMutualInformationResult]]


class Measurements:
    """Mutual information in every layer, measured after each epoch."""

    def __init__(self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.recorder = fl.ActivationRecorder(model, LAYERS)
        # A folder is sorted by class: draw the probe at random from all classes, always in the same order.
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        images, labels = images[order], labels[order]
        self.images = images[:PROBE]
        self.usual: Curves = {name: [] for name in LAYERS}
        self.honest: Curves = {name: [] for name in LAYERS}
        self.plane = fl.InformationPlane(model, LAYERS, images[:PLANE], labels[:PLANE])

    def update(self, epoch: int, _: torch.nn.Module) -> None:
        for name, maps in self.recorder(self.images).items():
            usual = fl.spatial_mutual_information(self.images, maps, legacy=True, null="cross_image", seed=0)
            self.usual[name].append(usual)
            self.honest[name].append(
                fl.spatial_mutual_information(self.images, maps, confidence=0.95, seed=0)
            )
        self.plane.update(epoch)


# %%
# With ``--tensorboard``, TensorBoard gets the same, and what else there is to watch in a training.


class Board:
    """Writes the same run to TensorBoard."""

    def __init__(
        self, writer: fl.TensorBoardWriter, found: Measurements, data: Dataset, evaluation: torch.Tensor
    ) -> None:
        self.writer, self.found, self.classes, self.evaluation = writer, found, data.classes, evaluation

    def update(self, epoch: int, model: torch.nn.Module, test: tuple[torch.Tensor, torch.Tensor]) -> None:
        images, labels = test
        output = fl.ActivationRecorder(model, model, reduce=lambda scores: scores.argmax(1, keepdim=True))
        predictions = output.record(images.split(1000), progress=False)[""].flatten()
        confusion = fl.plotting.confusion_matrix((labels, predictions), classes=self.classes)
        self.writer.add(epoch, confusion, tag="confusion")
        plane = self.found.plane
        for tag, curves in (
            ("spatial information", self.found.honest),
            ("input information", plane.inputs),
            ("label information", plane.labels),
        ):
            self.writer.add(epoch, {name: results[-1] for name, results in curves.items()}, tag=tag)
        self.writer.add(epoch, fl.ActivationRecorder(model, LAYERS)(self.evaluation))

    def finish(
        self, history: History, model: torch.nn.Module, test: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        parts = ("train", "test")
        for epoch in range(len(history.train_loss)):
            curves = {
                measure: {part: getattr(history, f"{part}_{measure}")[epoch] for part in parts}
                for measure in ("loss", "accuracy")
            }
            self.writer.training(epoch + 1, curves)
        self.writer.add(0, self.evaluation[0], tag="evaluation image")
        self.writer.graph(model, self.evaluation)
        images, labels = (part[:: len(part) // PLANE or 1] for part in test)  # from every class
        vectors = fl.ActivationRecorder(model, "relu6", reduce="mean")(images)["relu6"]
        self.writer.embedding(vectors, labels=[self.classes[int(label)] for label in labels], sprites=images)


# %%
# Train and measure
# -----------------
#
# With the study's settings, until the test accuracy no longer improves. The last test image is kept apart, to look at.

data = load(options.data, options.data_dir, seed=options.seed)
train, test = ((images.mean(1, keepdim=True), labels) for images, labels in (data.train, data.test))
evaluation, test = test[0][-1:], (test[0][:-1], test[1][:-1])
model = seeded(GrayscaleCNN, seed=options.seed).to(options.device)
found = Measurements(model, *test)
options.output.mkdir(parents=True, exist_ok=True)

with ExitStack() as stack:
    board = None
    if options.tensorboard:
        writer = stack.enter_context(fl.TensorBoardWriter(options.output / "tensorboard"))
        board = Board(writer, found, data, evaluation)

    def on_epoch(epoch: int, model: torch.nn.Module) -> None:
        found.update(epoch, model)
        if board:
            board.update(epoch, model, test)

    history = fit(
        model,
        train,
        test,
        epochs=options.epochs,
        optimizer=functools.partial(torch.optim.Adam, eps=1e-7),
        batch_size=100,
        patience=5,
        seed=options.seed,
        on_epoch=on_epoch,
    )
    if board:
        board.finish(history, model, test)
torch.save(model.state_dict(), options.output / "best_weights.pt")
found.plane.save(options.output / "information_plane.pt")

# %%
# Six figures
# -----------
#
# The study's four, the information plane and the training curves. In the figure of the information, the usual estimate stands
# beside its null, and each layer's excess over the null beside both.


def information_over_epochs() -> Figure:
    """Draw the usual estimate with its null, and beside it each layer's excess over the null."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    last = found.usual["relu6"]
    fl.plotting.training_curves(
        {
            "255 bins, its own image": [result.value for result in last],
            "255 bins, another image": [result.null_mean for result in last],
            "16 bins corrected, its own": [result.value for result in found.honest["relu6"]],
            "16 bins corrected, another": [result.null_mean for result in found.honest["relu6"]],
        },
        ylabel="information (nats)",
        title="relu6: the usual estimate is bias",
        ax=left,
    )
    fl.plotting.training_curves(
        {name: [result.excess for result in results] for name, results in found.honest.items()},
        ylabel="information above the null (nats)",
        title="All six layers, 16 bins corrected, minus the null",
        ax=right,
    )
    return figure


acts = fl.ActivationRecorder(model, ["relu1", "relu6"])(evaluation)
accuracy = {"train": history.train_accuracy, "test": history.test_accuracy}
figures = {
    "input": fl.plotting.image_grid(evaluation.cpu(), title="The evaluation image"),
    "first_layer": fl.plotting.feature_maps(acts["relu1"], title="First layer, after its ReLU"),
    "last_layer": fl.plotting.feature_maps(acts["relu6"], title="Last layer, after its ReLU"),
    "information": information_over_epochs(),
    "information_plane": found.plane.plot(),
    "training_accuracy": fl.plotting.training_curves(accuracy, ylabel="accuracy", best=history.best_epoch),
}
save(figures, options.output)

# %%
# The results, beside the study's
# -------------------------------
#
# In the best epoch, in nats: the estimate from the image's own maps, and that from another image's.

STUDY_ACCURACY = 0.701  # the study's published weights on the JPEG copy of the test set
STUDY_VALUE = {"relu1": 1.719, "relu2": 1.007, "relu3": 2.073, "relu4": 1.943, "relu5": 2.501, "relu6": 2.587}
STUDY_NULL = {"relu1": 1.620, "relu2": 0.958, "relu3": 2.068, "relu4": 1.901, "relu5": 2.508, "relu6": 2.563}

best = history.best_epoch - 1
rows = {}
print(f"{'':8}{'study, 255 bins':>22}{'here, 255 bins':>22}{'here, 16 corrected':>22}")
print(f"{'':8}{'own   other':>22}{'own   other':>22}{'own   other':>22}")
for name in LAYERS:
    usual, honest = found.usual[name][best], found.honest[name][best]
    rows[name] = [
        (STUDY_VALUE[name], STUDY_NULL[name]),
        (usual.value, usual.null_mean),
        (honest.value, honest.null_mean),
    ]
    print(f"{name:8}" + "".join(f"{f'{own:.3f}   {other:.3f}':>22}" for own, other in rows[name]))
reached = history.test_accuracy[best]
print(f"test accuracy {reached:.2%} in epoch {best + 1} (study: {STUDY_ACCURACY:.1%} on the JPEG copy)")
print(f"{history.seconds:.0f} s for {len(history.train_loss)} epochs; figures in {options.output}")
(options.output / "figures.json").write_text(
    json.dumps({"accuracy": reached, "epoch": best + 1, "layers": rows}, indent=1)
)
