"""The training loop of all examples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from reference.data import Dataset

Batches = Iterable[tuple[Tensor, Tensor]]
Loss = Callable[[Any, Tensor, Tensor], Tensor]

TEST_BATCH = 1000
FAST = torch.channels_last  # faster convolutions on a CPU


@dataclass(frozen=True)
class History:
    """Losses (in nats) and accuracies (as fractions) of each epoch."""

    train_loss: tuple[float, ...]
    test_loss: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    best_epoch: int  # counted from 1
    seconds: float

    def __repr__(self) -> str:
        best = self.test_accuracy[self.best_epoch - 1]
        epochs = len(self.train_loss)
        return f"History({epochs} epochs, {best:.2%} test accuracy in epoch {self.best_epoch}, {self.seconds:.0f} s)"


def classification_loss(output: Any, labels: Tensor, images: Tensor) -> Tensor:
    """Return the cross-entropy, in nats, averaged over the batch; `images` are ignored."""
    return F.cross_entropy(logits_of(output), labels)


def fit(
    model: nn.Module,
    train: tuple[Tensor, Tensor] | Batches,
    test: tuple[Tensor, Tensor] | Batches,
    *,
    epochs: int,
    lr: float = 1e-3,
    anneal: bool = False,
    batch_size: int = 128,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    loss: Loss = classification_loss,
    augment: Callable[[Tensor], Tensor] | None = None,
    patience: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    on_epoch: Callable[[int, nn.Module], object] | None = None,
    progress: bool = True,
) -> History:
    """Train `model` and leave it with the weights of its best epoch, in eval mode.

    The same seed gives the same weights: the order of images, dropout and augmentation depend on the seed alone. The global
    generator is restored.

    Parameters
    ----------
    model
        Returns class scores ``(N, classes)``, or a tuple or list whose first item they are.
    train, test
        Tensors ``(images, labels)``, which is fastest, or a `DataLoader` of such batches.
    epochs
        Maximum number of epochs.
    lr, optimizer
        ``optimizer(parameters, lr=lr)`` creates the optimizer; use `functools.partial` for more settings.
    anneal
        Lower the learning rate to almost zero along a cosine, epoch by epoch.
    batch_size
        Used for tensors; a `DataLoader` has its own.
    loss
        ``loss(output, labels, images)``, averaged over the batch.
    augment
        Changes each batch of training images, such as `flip_and_shift`.
    patience
        Stop when test accuracy has not improved for this many epochs.
    seed
        For the order of the images, for dropout and for augmentation.
    device
        Where to train; default: the model's device.
    on_epoch
        Called as ``on_epoch(epoch, model)`` after each epoch, counted from 1, with the model in eval mode.
    progress
        Show a progress bar on a terminal; anywhere else, such as in a file or a notebook, print a line for each epoch.

    Raises
    ------
    ValueError
        If `epochs` or `patience` is below 1.
    """
    if epochs < 1 or (patience is not None and patience < 1):
        raise ValueError(f"epochs and patience must be at least 1; got {epochs} and {patience}")
    start = time.perf_counter()
    device = torch.device(device) if device is not None else next(model.parameters()).device
    model.to(device, memory_format=FAST)
    train, test = _on_device(train, device), _on_device(test, device)
    steps = optimizer(model.parameters(), lr=lr)
    seeds = torch.Generator().manual_seed(seed)
    records: list[tuple[float, float, float, float]] = []
    best_epoch, best_weights = 0, {}
    with tqdm(total=epochs, desc="training", unit="epoch", disable=None if progress else True) as bar:
        for epoch in range(1, epochs + 1):
            if anneal:
                for group in steps.param_groups:
                    group["lr"] = lr * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
            # Each epoch has its own seed, so random numbers drawn in `on_epoch` do not affect training.
            epoch_seed = int(torch.randint(2**62, (), generator=seeds))
            with own_randomness(epoch_seed, device):
                order = torch.Generator().manual_seed(epoch_seed)
                trained = _train_epoch(
                    model, _batches(train, batch_size, device, order), loss, steps, augment
                )
                tested = _evaluate(model, _batches(test, TEST_BATCH, device), loss)
            records.append((trained[0], tested[0], trained[1], tested[1]))
            if not best_epoch or tested[1] > records[best_epoch - 1][3]:
                best_epoch = epoch
                best_weights = {name: value.clone() for name, value in model.state_dict().items()}
            if on_epoch:
                on_epoch(epoch, model)
                model.eval()
            bar.update()
            bar.set_postfix(loss=f"{trained[0]:.3f}", test=f"{tested[1]:.2%}")
            if progress and bar.disable:  # no terminal
                line = f"epoch {epoch}/{epochs}: loss {trained[0]:.3f}, test accuracy {tested[1]:.2%}"
                print(line, flush=True)
            if patience is not None and epoch - best_epoch >= patience:
                break
    model.load_state_dict(best_weights)
    model.to(memory_format=torch.contiguous_format)
    columns = tuple(zip(*records, strict=True))
    return History(*columns, best_epoch=best_epoch, seconds=time.perf_counter() - start)


@torch.no_grad()
def accuracy(model: nn.Module, data: tuple[Tensor, Tensor] | Batches) -> float:
    """Return the fraction of `data` that `model` classifies correctly; its train or eval mode is restored."""
    device = next(model.parameters()).device
    training = model.training
    try:
        with own_randomness(0, device):  # a loader draws from the global generator even without shuffling
            return _evaluate(model, _batches(data, TEST_BATCH, device), classification_loss)[1]
    finally:
        model.train(training)


def reason_to_stop(history: History, data: Dataset) -> str | None:
    """Say why a network is not worth looking into, if it is hardly better than always guessing the largest class.

    Hardly: within three standard errors of what the guess reaches on the test images.
    """
    images = len(data.test_labels)
    guess = data.test_labels.bincount().max().item() / images
    best, learned = history.test_accuracy[history.best_epoch - 1], max(history.train_accuracy)
    if best > guess + 3 * math.sqrt(guess * (1 - guess) / images):
        return None
    each = len(data.train_labels) / len(data.classes)
    advice = (
        f"It has learned its training images ({learned:.0%}) and not what they have in common: it needs more of them "
        f"than {each:.0f} for each class."
        if learned > 2 * best
        else f"It has not learned its training images either ({learned:.0%}): try more --epochs, and see whether the "
        "images show what their folders say."
    )
    return (
        f"The network reads {best:.0%} of {images} test images correctly; always guessing the largest class "
        f"reaches {guess:.0%}. Figures of it would show noise. {advice}"
    )


def flip_and_shift(images: Tensor) -> Tensor:
    """Mirror a random half of photos ``(N, C, H, W)``, and shift the batch by up to an eighth of its size."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    height, width = images.shape[2:]
    up, left = height // 8, width // 8
    padded = F.pad(torch.where(mirrored, images.flip(3), images), (left, left, up, up), mode="reflect")
    top, start = (int(torch.randint(2 * room + 1, ())) for room in (up, left))
    return padded[:, :, top : top + height, start : start + width]


def logits_of(output: Any) -> Tensor:
    """Return the class scores: the output itself, or its first item."""
    return output[0] if isinstance(output, tuple | list) else output


def _train_epoch(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    augment: Callable[[Tensor], Tensor] | None,
) -> tuple[float, float]:
    """Train one epoch; return mean loss and accuracy, measured before each step."""
    model.train()
    meter = _Meter()
    for images, labels in batches:
        shown = _fast(augment(images)) if augment else images
        output = model(shown)
        value = loss(output, labels, shown)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        meter.add(value, output, labels)
    return meter.means()


@torch.no_grad()
def _evaluate(model: nn.Module, batches: Batches, loss: Loss) -> tuple[float, float]:
    model.eval()
    meter = _Meter()
    for images, labels in batches:
        output = model(images)
        meter.add(loss(output, labels, images), output, labels)
    return meter.means()


class _Meter:
    """Means over images, summed on the device, because reading a number after each batch would stall it."""

    def __init__(self) -> None:
        self.images = 0
        self.sums: Tensor | None = None

    def add(self, loss: Tensor, output: Any, labels: Tensor) -> None:
        right = (logits_of(output).detach().argmax(1) == labels).sum()
        sums = torch.stack([loss.detach().float() * len(labels), right.float()])
        self.sums = sums if self.sums is None else self.sums + sums
        self.images += len(labels)

    def means(self) -> tuple[float, float]:
        if self.sums is None:
            raise ValueError("there is no image to train or test on")
        loss, right = (self.sums / self.images).tolist()
        return loss, right


def _on_device(
    data: tuple[Tensor, Tensor] | Batches, device: torch.device
) -> tuple[Tensor, Tensor] | Batches:
    if _is_pair(data):
        images, labels = data
        return images.to(device), labels.to(device)
    return data


def _is_pair(data: object) -> bool:
    return isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(x, Tensor) for x in data)


def _batches(
    data: tuple[Tensor, Tensor] | Batches,
    size: int,
    device: torch.device,
    order: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches on `device`: from tensors, shuffled if `order` is given; from a loader, unchanged."""
    if not _is_pair(data):
        for images, labels in data:
            yield _fast(images.to(device)), labels.to(device)
        return
    images, labels = data
    index = torch.arange(len(images)) if order is None else torch.randperm(len(images), generator=order)
    for chosen in index.split(size):
        here = chosen.to(labels.device)
        yield _fast(images[here].to(device)), labels[here].to(device)


def _fast(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=FAST) if images.ndim == 4 else images


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators, which dropout and loaders use, and restore them afterwards."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.random.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
