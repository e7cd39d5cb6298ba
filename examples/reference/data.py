"""Labelled images in memory: scikit-learn's digits, MNIST, CIFAR-10, or your own folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

NAMES = ("digits", "mnist", "cifar10")
COMMON_SIZE = 64  # pixels per side; images in a folder are resized to this square if their sizes differ
TEST_SHARE = 0.2  # for data without a split


class DataError(SystemExit):
    """The data cannot be used; the message, one line that ends the program, says which file or folder, and why."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Training and test images ``(N, C, H, W)`` in [0, 1] with their labels ``(N,)``."""

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        return self.train_images, self.train_labels

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        return self.test_images, self.test_labels

    @property
    def channels(self) -> int:
        return self.train_images.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        return tuple(self.train_images.shape[2:])

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.train_images.shape[1:]))
        images = f"{len(self.train_labels)} + {len(self.test_labels)} images of {shape}"
        return f"Dataset({self.name!r}, {images}, {len(self.classes)} classes)"


def load(
    source: str | Path, data_dir: str | Path = "data", *, seed: int = 0, training: bool = True
) -> Dataset:
    """Load a data set by name, or the images of a folder.

    Parameters
    ----------
    source
        ``"digits"`` (scikit-learn's, enlarged to MNIST's 28x28), ``"mnist"``, ``"cifar10"``, or a folder: either ``FOLDER/train/CLASS/IMAGE`` and
        ``FOLDER/test/CLASS/IMAGE``, or ``FOLDER/CLASS/IMAGE``, of which a fifth of every class becomes the test
        set. Images of different sizes are resized to 64x64 (scaled, then centre-cropped).
    data_dir
        The folder of MNIST and CIFAR-10; they are downloaded to it if missing.
    seed
        For the split of digits and of a folder without train and test.
    training
        Whether you will train a network; then a folder needs at least two classes and test images.

    Raises
    ------
    DataError
        If `source` is neither a name nor a folder with images, an image cannot be read, or a data set is not in
        `data_dir` and cannot be downloaded.

    Examples
    --------
    >>> load("digits")
    Dataset('digits', 1438 + 359 images of 1x28x28, 10 classes)
    """
    if source == "digits":
        return _digits(seed)
    if source in ("mnist", "cifar10"):
        return _torchvision(str(source), Path(data_dir))
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(f"no data set {str(source)!r}: name a folder or one of {', '.join(NAMES)}")
    data = _folder(folder, seed)
    if training:
        _check_trainable(data, folder)
    return data


def stratified_split(labels: Tensor, share: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return the indices of training and test images; the test set is a `share` of each class."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    in_test = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = order[labels[order] == label]
        in_test[members[: round(share * len(members))]] = True
    return (~in_test).nonzero().flatten(), in_test.nonzero().flatten()


def _split(name: str, images: Tensor, labels: Tensor, classes: tuple[str, ...], seed: int) -> Dataset:
    train, test = stratified_split(labels, TEST_SHARE, seed=seed)
    return Dataset(name, images[train], labels[train], images[test], labels[test], classes)


def _digits(seed: int) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy(digits.images / 16).float()[:, None]  # (N, 1, 8, 8), too coarse to look into
    enlarged = F.interpolate(small, scale_factor=3, mode="bicubic").clamp(0, 1)
    images = F.pad(enlarged, (2, 2, 2, 2))  # the margin keeps strokes off the edge
    classes = tuple(str(name) for name in digits.target_names)
    return _split("digits", images, torch.from_numpy(digits.target).long(), classes, seed)


def _torchvision(name: str, data_dir: Path) -> Dataset:
    from torchvision import datasets

    source = datasets.MNIST if name == "mnist" else datasets.CIFAR10
    try:
        train, test = (source(data_dir, train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{name} is not in {data_dir} and could not be downloaded ({error}); without a network, put "
            "torchvision's files there, name a folder of images, or use 'digits', which needs no download"
        ) from error
    pairs = [_tensors(np.asarray(part.data), torch.as_tensor(part.targets)) for part in (train, test)]
    classes = tuple(label.split(" - ")[0] for label in train.classes)  # MNIST's are called "9 - nine"
    return Dataset(name, *pairs[0], *pairs[1], classes)


def _tensors(pixels: np.ndarray, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Convert bytes ``(N, H, W)`` or ``(N, H, W, C)`` to images ``(N, C, H, W)`` in [0, 1]."""
    images = torch.from_numpy(pixels)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255), labels


def _folder(folder: Path, seed: int) -> Dataset:
    from torchvision.datasets import ImageFolder

    parts = [folder / "train", folder / "test"]
    divided = all(part.is_dir() for part in parts)
    try:
        trees = [ImageFolder(str(part)) for part in (parts if divided else [folder])]
    except FileNotFoundError as error:  # no class folder, or one without images
        reason = str(error).partition(". Supported")[0].partition(f" in {folder}")[0]
        raise DataError(f"{folder} must hold CLASS/IMAGE: {reason.rstrip('.').lower()}") from error
    classes = tuple(trees[0].classes)
    if tuple(trees[-1].classes) != classes:
        different = ", ".join(sorted(set(classes) ^ set(trees[-1].classes)))
        raise DataError(f"train and test of {folder} must have the same classes; they differ in {different}")
    pixels = _read([path for tree in trees for path, _ in tree.samples])
    labels = torch.tensor([label for tree in trees for label in tree.targets])
    images, labels = _tensors(pixels, labels)
    if not divided:
        return _split(folder.name, images, labels, classes, seed)
    first = len(trees[0])
    return Dataset(folder.name, images[:first], labels[:first], images[first:], labels[first:], classes)


def _check_trainable(data: Dataset, folder: Path) -> None:
    if len(data.classes) < 2:
        raise DataError(
            f"{folder} holds one class, {data.classes[0]!r}: training needs two or more class folders"
        )
    for part, labels in (("training", data.train_labels), ("test", data.test_labels)):
        if not len(labels):
            raise DataError(f"{folder} leaves no image for the {part} set: give three or more of each class")


def _read(paths: list[str]) -> np.ndarray:
    """Read images as ``(N, H, W)`` bytes if all are grey, else as ``(N, H, W, 3)``."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        headers = list(pool.map(_header, paths, chunksize=256))
        mode = "L" if all(mode in ("1", "L") for mode, _ in headers) else "RGB"
        size = headers[0][1] if len({size for _, size in headers}) == 1 else None
        return np.stack(list(pool.map(lambda path: _pixels(path, mode, size), paths, chunksize=256)))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """Open an image; any problem with the file becomes a `DataError` of one line."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            yield image
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not an image") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _header(path: str) -> tuple[str, tuple[int, int]]:
    with _opened(path) as image:
        return image.mode, image.size


def _pixels(path: str, mode: str, size: tuple[int, int] | None) -> np.ndarray:
    from PIL import Image, ImageOps

    with _opened(path) as image:
        picture = image.convert(mode)
    if size is None:
        picture = ImageOps.fit(picture, (COMMON_SIZE, COMMON_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(picture)
