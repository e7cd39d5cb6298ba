"""`DeconvDecoder`: from a layer of a convolutional network back to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import nn

from featurelens._checks import check_choice, check_module, check_type, count, describe
from featurelens._hooks import unwrap
from featurelens._random import Seed, check_seed, make_generator
from featurelens.ablation.mirroring import Convolution, Normalization, Size, Step, read_chain
from featurelens.layers import Selector, choose


@final
@dataclass(frozen=True, eq=False)
class Encoding:
    """What an encoder made of images, and what its decoder needs to go back.

    Attributes
    ----------
    features
        `(N, C, h, w)`, what the last of the encoder's steps returned.
    switches
        For each step, where its windows had their maxima; None for all but pooling.
    sizes
        For each step, the height and width of its input.
    """

    features: torch.Tensor
    switches: tuple[torch.Tensor | None, ...]
    sizes: tuple[Size, ...]


@final
class DeconvDecoder(nn.Module):
    """Goes back from a layer to the image, through the mirror of every step of the encoder.

    Convolutions are mirrored by transposed ones, ReLU by ReLU, and max pooling by unpooling, which puts each value
    where its window had the maximum. Tied to the encoder's own weights this is the deconvolutional network of
    Zeiler & Fergus (2014, "Visualizing and Understanding Convolutional Networks"), which needs no training and
    shows the pattern that a channel responds to, on a scale of its own. With learned weights it is trained as a
    branch, and then gives images on the scale of those it was trained on::

        decoder = fl.DeconvDecoder(encoder, weights="learned")
        code = decoder.encode(images)
        logits = head(code.features.flatten(1))
        loss = F.cross_entropy(logits, labels) + 2 * F.mse_loss(decoder.decode(code), images)

    Parameters
    ----------
    encoder
        A chain of Conv2d, ReLU, MaxPool2d, BatchNorm2d and Dropout, of any strides, paddings, dilations and groups;
        ReLU and max pooling may be functions. It is not copied, and not a part of the decoder: its parameters
        are not among ``decoder.parameters()``.
    layer
        Decode from this layer of `encoder`, what follows it being left aside; by default from its output.
    weights
        "tied" goes back through the encoder's present weights, "learned" through weights of the decoder's own.
        BatchNorm gives its scale to the tied way back and has no counterpart in the learned one.
    seed
        For the first values of learned weights.

    Raises
    ------
    TypeError
        If `encoder` is not a module, or `seed` not a seed.
    LookupError
        If it has no such layer.
    ValueError
        If `weights` is not one of the above, or a step on the way has no mirror (a skip connection, average pooling, a linear layer); the message names it.
    RuntimeError
        If the way cannot be traced, as where it depends on the data.

    Examples
    --------
    >>> encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> decoder = DeconvDecoder(encoder)
    >>> decoder
    DeconvDecoder(tied: 2, 1, 0)
    >>> decoder(torch.rand(2, 1, 9, 9)).shape
    torch.Size([2, 1, 9, 9])
    """

    def __init__(
        self,
        encoder: nn.Module,
        layer: Selector | None = None,
        *,
        weights: Literal["tied", "learned"] = "tied",
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        check_choice(weights, ("tied", "learned"), argument="weights")
        check_seed(seed)
        encoder = unwrap(check_module(encoder, argument="encoder"))
        if next(encoder.children(), None) is None:
            encoder = nn.Sequential(encoder)
        steps = read_chain(encoder, None if layer is None else _exact(encoder, layer))
        if not any(isinstance(step, Convolution) for step in steps):
            raise ValueError(
                f"the encoder has no convolution to go back through; its steps are {_listed(steps)}"
            )
        self.weights = weights
        if weights == "learned":
            steps = _with_own_weights(steps, seed)
        own = [step.own for step in steps if isinstance(step, Convolution) and step.own is not None]
        self.deconvolutions = nn.ModuleList(own)
        self._steps = tuple(steps)
        self._encoder = (encoder,)  # in a tuple it is not a submodule

    @property
    def encoder(self) -> nn.Module:
        """The module that is gone back through, which is not a submodule."""
        return self._encoder[0]

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the encoder's steps, functions among them, in the order of the forward pass."""
        return tuple(step.name for step in self._steps)

    def encode(self, images: torch.Tensor, *, layer: nn.Module | None = None) -> Encoding:
        """Run the encoder, up to `layer` if one is given, and note where pooling took its values from.

        Gradients flow and modules are in their own modes, as in a call of the encoder itself.

        Raises
        ------
        TypeError, ValueError
            If `images` are not `(N, C, H, W)`, or `layer` is not called once on the way.
        """
        check_type(images, torch.Tensor, argument="images", expected="a tensor (N, C, H, W)")
        if images.ndim != 4 or 0 in images.shape:
            raise ValueError(f"images must be (N, C, H, W), none of them 0; got {describe(images)}")
        features = images
        switches, sizes = [], []
        for step in self._steps[: self._end(layer)]:
            sizes.append((features.shape[2], features.shape[3]))
            features, places = step.run(features)
            switches.append(places)
        return Encoding(features, tuple(switches), tuple(sizes))

    def decode(self, encoding: Encoding, *, features: torch.Tensor | None = None) -> torch.Tensor:
        """Go back from what `encode` returned to images `(N, C, H, W)`.

        Parameters
        ----------
        encoding
            Where to start, with the switches and sizes of every step.
        features
            Decode these instead of the encoding's own: `(V * N, C, h, w)`, V variants of every image, variant by
            variant.

        Raises
        ------
        TypeError, ValueError
            If `encoding` is not one, or the features do not fit it.
        """
        check_type(encoding, Encoding, argument="encoding", expected="what encode returns")
        if features is not None:
            check_type(features, torch.Tensor, argument="features", expected="a tensor (V * N, C, h, w)")
        maps = encoding.features if features is None else features
        if maps.shape[1:] != encoding.features.shape[1:] or len(maps) % len(encoding.features):
            expected = ", ".join(map(str, encoding.features.shape[1:]))
            raise ValueError(
                f"features must be (V * {len(encoding.features)}, {expected}), V variants of every image; "
                f"got {describe(maps)}"
            )
        steps = self._steps[: len(encoding.sizes)]
        for step, size, switches in zip(
            reversed(steps), reversed(encoding.sizes), reversed(encoding.switches), strict=True
        ):
            maps = step.back(maps, size, switches)
        return maps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode and decode: the full reconstruction of images `(N, C, H, W)`."""
        return self.decode(self.encode(images))

    def mirrors(self, layer: nn.Module) -> bool:
        """Whether `layer` is one of the encoder's steps."""
        return any(step.module is layer for step in self._steps)

    def __repr__(self) -> str:
        return f"DeconvDecoder({self.weights}: {', '.join(reversed(self.layers))})"

    def _end(self, layer: nn.Module | None) -> int:
        if layer is None:
            return len(self._steps)
        places = [place for place, step in enumerate(self._steps, 1) if step.module is layer]
        if len(places) != 1:
            raise ValueError(
                f"layer must be a module that is called once on the way, through {_listed(self._steps)}; got "
                f"{describe(layer)}, called {count(len(places), 'time')}"
            )
        return places[0]


def _exact(encoder: nn.Module, layer: Selector) -> str:
    choices = choose(encoder, layer)
    if len(choices) != 1 or choices[0].call is not None:
        raise ValueError(f"layer must be a single layer that is called once; got {describe(layer)}")
    return choices[0].name


def _with_own_weights(steps: list[Step], seed: Seed) -> list[Step]:
    """Give every convolution a mirror of its own, and leave the global generator as it was."""
    drawn = int(torch.randint(2**62, (), generator=make_generator(seed)))
    changed: list[Step] = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(drawn)
        for step in steps:
            if isinstance(step, Convolution):
                changed.append(step.learned())
            elif isinstance(step, Normalization):
                changed.append(Normalization(step.module, step.name, tied=False))
            else:
                changed.append(step)
    return changed


def _listed(steps: tuple[Step, ...] | list[Step]) -> str:
    return ", ".join(step.name for step in steps) or "none"
