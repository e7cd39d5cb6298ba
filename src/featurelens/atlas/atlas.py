"""`Atlas`: from a network and its images to a site with a page for every channel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from featurelens._checks import (
    as_list,
    check_dense,
    check_flag,
    check_module,
    check_path,
    check_type,
    check_whole,
    count,
    describe,
)
from featurelens._hooks import check_weights, named_modules, unwrap
from featurelens._random import random_state_kept
from featurelens._sharding import Share
from featurelens.atlas.building import Build
from featurelens.atlas.site_folder import AtlasSite
from featurelens.atlas.source import Source
from featurelens.layers import Selector, list_layers
from featurelens.recording import ActivationRecorder

PICTURES = 5
"""Optimized images of a channel: one, three of other seeds, and one that minimizes it if it can be negative."""

SIZES = ("out_channels", "out_features", "num_features")
"""Attributes that tell a layer's number of channels."""


def weighted(name: str, module: nn.Module) -> bool:
    """Whether a module is a convolution or linear layer."""
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)


@final
class Atlas:
    """A static site with a page for every channel: images that maximize it, real images, figures with their nulls.

    ::

        atlas = fl.Atlas(model, loader, layers="layer*", classes=names)
        print(atlas)                             # what it will do
        site = atlas.build("atlas/")             # an interrupted build goes on where it stopped
        site.open()                              # in the browser, from the disk

    Parameters
    ----------
    model
        Any module that takes images `(N, C, H, W)`, signals ``(N, C, L)`` or volumes ``(N, C, D, H, W)``. It runs in eval
        mode and is restored afterwards.
    loader
        Yields batches of them in the same order each time, with labels if there are any; or one tensor, or a tensor and
        labels. It is read twice, and images shown are loaded once more.
    layers
        Selectors as for `ActivationRecorder`; by default every convolution and linear layer that is called. Pages show them
        in the order in which the model holds them.
    classes
        Names of the classes, by label; by default those of the loader's data set (``loader.dataset.classes``), or the numbers
        up to the largest label of a tensor. Without them nothing is shown by class.
    preprocess
        What the model needs before its first layer, a function of `(N, C, H, W)` in [0, 1]: the loader then yields images
        in [0, 1].
    inputs, labels
        Functions of a batch that return its images and labels, where these are not its first and second item.
    title
        Name of the network on the pages; by default the class's name.
    sample
        Number of random images for figures that compare images or channels: neighbours, information, quantiles.
    ablation
        Number of random images on which every channel is ablated; 0 leaves ablation out, as do data without labels.
    steps
        Optimization steps of each image; 0 leaves optimized images out.
    seed
        The same seed gives the same files.
    progress
        Show progress bars; without a terminal, write a line every ten seconds.

    Raises
    ------
    LookupError
        If a selector matches no layer.
    TypeError, ValueError
        If an argument is not one of the above, or the loader shuffles.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> images, labels = torch.rand(40, 1, 8, 8), torch.arange(40) % 10
    >>> print(Atlas(model, (images, labels), steps=8))
    Atlas of Sequential: 14 channels of 2 layers, 0, 3
      40 images: two forward passes each
      ablation: 14 channels on 40 images, 560 passes behind the layers
      optimized images: 5 of 8 steps for 14 channels, 560 passes both ways
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Iterable[Any],
        layers: Selector | Iterable[Selector] | None = None,
        *,
        classes: Sequence[str] | None = None,
        preprocess: Callable[[Any], Any] | None = None,
        inputs: Callable[[Any], Any] | None = None,
        labels: Callable[[Any], Any] | None = None,
        title: str | None = None,
        sample: int = 2048,
        ablation: int = 256,
        steps: int = 128,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        self.model = unwrap(check_module(model))
        check_weights(self.model)
        self.source = Source(loader, preprocess=preprocess, inputs=inputs, labels=labels)
        self._layers_named = layers is not None
        self.recorder = _in_order(ActivationRecorder(self.model, weighted if layers is None else layers))
        if classes is not None:
            classes = as_list(classes, argument="classes", expected="a list of names")
            if not all(isinstance(name, str) for name in classes):
                raise TypeError(f"classes must be a list of names; got {describe(classes)}")
        self.classes = self.source.classes if classes is None else tuple(classes)
        if title is not None:
            check_type(title, str, argument="title", expected="text")
        self.title = title or type(self.model).__name__
        self.sample = check_whole(sample, argument="sample", least=4)
        self.ablation = check_whole(ablation, argument="ablation", least=0)
        self.steps = check_whole(steps, argument="steps", least=0)
        self.seed = check_whole(seed, argument="seed")
        self.progress = check_flag(progress, argument="progress")

    @random_state_kept()
    def build(self, folder: str | os.PathLike[str]) -> AtlasSite:
        """Write the site to `folder`; an interrupted build goes on where it stopped, and ends with the same files.

        Under torch.distributed every rank makes the call and does its share, and rank 0 writes the pages.

        Parameters
        ----------
        folder
            A new or empty folder, or that of a build of the same atlas; if it is finished, nothing is done.

        Raises
        ------
        TypeError, ValueError
            If the loader's batches are not as described above, or differ when they are read again.
        OSError
            If a file cannot be written, or the folder holds anything but this atlas.
        RuntimeError
            If the model fails on a batch.
        """
        path, share = _folder(folder), Share.find(None)
        Build(self, path, share).run()
        share.gather(None)
        return AtlasSite(path)

    @random_state_kept()
    def build_share(self, folder: str | os.PathLike[str], shard: tuple[int, int]) -> None:
        """Do one of several workers' share of the work, as in an array job; `build` then does what is left.

        Layers are measured before channels are ablated and optimized: where the shares of all workers are not measured
        yet, a worker ends after its own, and the call is made again when all have ended.

        Parameters
        ----------
        folder
            The same for every worker.
        shard
            ``(index, count)``: which of `count` shares.

        Raises
        ------
        TypeError, ValueError, OSError, RuntimeError
            As for `build`; ValueError also if the loader has no length or no fixed order.
        """
        Build(self, _folder(folder), replace(Share.find(shard), joined=False)).run(write=False)

    def called(self, images: torch.Tensor) -> ActivationRecorder:
        """Return a recorder of the layers named by the user, or else of those that the model calls for `images`.

        Not called are auxiliary classifiers, or the output projection of `nn.MultiheadAttention`, whose weights alone are used.

        Raises
        ------
        TypeError, ValueError
            If `images` are not a batch of at least one.
        """
        check_type(images, torch.Tensor, argument="images", expected="a batch of images")
        check_dense(images, argument="images")
        if self._layers_named:
            return self.recorder
        if not images.ndim or not len(images):
            raise ValueError(f"images must be a batch (N, ...) of at least one; got {describe(images)}")
        table = list_layers(self.model, self.source.prepared(images[:2]))
        calls = {layer.name for layer in table if layer.calls}
        return ActivationRecorder(self.model, [name for name in self.recorder.layers if name in calls])

    def __str__(self) -> str:
        layers, channels = self.recorder.layers, self._channels()
        every = "every channel" if channels is None else count(channels, "channel")
        images = self.source.number_of_images
        ablated = self.ablation if images is None else min(self.ablation, images)
        passes = (channels or 0) * ablated, (channels or 0) * PICTURES * self.steps
        lines = [
            f"Atlas of {self.title}: {every} of {count(len(layers), 'layer')}, {', '.join(layers)}",
            f"{'every image' if images is None else count(images, 'image')}: two forward passes each",
            f"ablation{'' if self.classes else ', if the images have labels'}: {every} on {count(ablated, 'image')}{_passes(passes[0], 'passes behind the layers')}",
            f"optimized images: {PICTURES} of {count(self.steps, 'step')} for {every}{_passes(passes[1], 'passes both ways')}",
        ]
        return "\n  ".join(lines[:2] + lines[2:3] * (ablated > 0) + lines[3:] * (self.steps > 0))

    def _channels(self) -> int | None:
        """Return the number of channels of all layers, where their types tell."""
        modules = named_modules(self.model)
        sizes = [
            getattr(modules.get(name.partition("#")[0]), attribute, None)
            for name in self.recorder.layers
            for attribute in SIZES
        ]
        known = [size for size in sizes if isinstance(size, int)]
        return sum(known) if len(known) == len(self.recorder.layers) else None

    def __repr__(self) -> str:
        return f"Atlas({type(self.model).__name__}, {len(self.recorder.layers)} layers)"


def _in_order(recorder: ActivationRecorder) -> ActivationRecorder:
    """Return a recorder of the same layers, in the order in which the model holds them."""
    place = {name: number for number, name in enumerate(named_modules(recorder.model, all_names=True))}
    layers = sorted(recorder.layers, key=lambda name: place[name.partition("#")[0]])
    return ActivationRecorder(recorder.model, layers)


def _folder(folder: object) -> Path:
    return check_path(folder, argument="folder", expected="a folder's path")


def _passes(number: int, what: str) -> str:
    return f", {number:,} {what}" if number else ""
