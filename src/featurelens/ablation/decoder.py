"""`DeconvDecoder`: map a layer of a convolutional network back to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import nn

from featurelens._checks import check_choice, check_dense, check_module, check_type, count, describe
from featurelens._failure import explained
from featurelens._hooks import on_device_of, unwrap
from featurelens._random import Seed, check_seed, make_generator
from featurelens.ablation.deconvolution import Convolution, Size, read_chain
from featurelens.layers import Selector, choose


@final
@dataclass(frozen=True, eq=False)
class Encoding:
    """An encoder's output for a batch of images, and what the decoder needs to decode it.

    Attributes
    ----------
    features
        `(N, C, h, w)`, the output of the last step.
    switches
        For each pooling step, the positions of the maxima in its windows; None for other steps.
    sizes
        For each step, the height and width of its input.
    """

    features: torch.Tensor
    switches: tuple[torch.Tensor | None, ...]
    sizes: tuple[Size, ...]


@final
class DeconvDecoder(nn.Module):
    """Maps a layer's output back to image space by mirroring every step of the encoder.

    Convolutions are mirrored by transposed ones, ReLU by ReLU, and max pooling by unpooling, which puts each value
    where its window had the maximum. With weights tied to the encoder's, this is the deconvolutional network of
    Zeiler & Fergus (2014, "Visualizing and Understanding Convolutional Networks"). It needs no training and shows the
    pattern that a channel responds to, on an arbitrary scale: the gradient of the layer's rectified output, with each
    ReLU's gradient replaced by a ReLU. With learned weights it is trained as a branch of the model, and returns images
    on the scale of its training images::

        decoder = fl.DeconvDecoder(encoder, weights="learned")
        code = decoder.encode(images)
        logits = head(code.features.flatten(1))
        loss = F.cross_entropy(logits, labels) + 2 * F.mse_loss(decoder.decode(code), images)

    Parameters
    ----------
    encoder
        A chain of Conv2d, ReLU, PReLU, LeakyReLU, MaxPool2d, BatchNorm2d and Dropout, with any strides, paddings,
        dilations and groups; ReLU and max pooling may be functions. It is neither copied nor a submodule of the decoder:
        its parameters are not among ``decoder.parameters()``.
    layer
        Decode from this layer of `encoder` and ignore what follows it; by default from the encoder's output.
    weights
        "tied" decodes with the encoder's current weights, "learned" with the decoder's own. BatchNorm scales the maps
        if weights are tied and is skipped if they are learned.
    sign
        The part of the features that tied weights decode. "positive" is what a channel responds to: negative features,
        which a convolution returns before its ReLU, become 0. "negative" decodes these alone: what a channel rejects.
        Learned weights decode features as they are.
    seed
        For the initial values of learned weights.

    Raises
    ------
    TypeError
        If `encoder` is not a module, or `seed` not a seed.
    LookupError
        If the encoder has no such layer.
    ValueError
        If `weights` or `sign` is not one of the above, or a step has no mirror (a skip connection, average pooling, a
        linear layer); the message names it.
    RuntimeError
        If the encoder cannot be traced, for example because its forward depends on the data.

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
        sign: Literal["positive", "negative"] = "positive",
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        check_choice(weights, ("tied", "learned"), argument="weights")
        check_choice(sign, ("positive", "negative"), argument="sign")
        if weights == "learned" and sign == "negative":
            raise ValueError(
                "sign='negative' is for tied weights; learned weights decode features of both signs"
            )
        check_seed(seed)
        encoder = unwrap(check_module(encoder, argument="encoder"))
        if next(encoder.children(), None) is None:
            encoder = nn.Sequential(encoder)
        steps = read_chain(encoder, None if layer is None else _exact_name(encoder, layer))
        if not any(isinstance(step, Convolution) for step in steps):
            listed = ", ".join(step.name for step in steps) or "none"
            raise ValueError(f"the encoder has no convolution to mirror; its steps are {listed}")
        if weights == "learned":
            drawn = int(torch.randint(2**62, (), generator=make_generator(seed)))
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(drawn)
                steps = [step.learned() for step in steps]
        own = [step.own for step in steps if isinstance(step, Convolution) and step.own is not None]
        self.weights, self.sign, self.deconvolutions = weights, sign, nn.ModuleList(own)
        self._steps = tuple(steps)
        self._encoder = (encoder,)  # in a tuple it is not a submodule

    @property
    def encoder(self) -> nn.Module:
        """The encoder, which is not a submodule."""
        return self._encoder[0]

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the encoder's steps, including functions, in the order of the forward pass."""
        return tuple(step.name for step in self._steps)

    def encode(self, images: torch.Tensor, *, layer: nn.Module | None = None) -> Encoding:
        """Run the encoder, up to `layer` if one is given, and record where pooling found its maxima.

        Gradients flow and modules keep their modes, as in a call of the encoder.

        Raises
        ------
        TypeError, ValueError
            If `images` are not `(N, C, H, W)`, or `layer` is not a step that runs once.
        RuntimeError
            If the encoder fails on the images.
        """
        check_type(images, torch.Tensor, argument="images", expected="a tensor (N, C, H, W)")
        check_dense(images, argument="images")
        if images.ndim != 4 or 0 in images.shape:
            raise ValueError(f"images must be (N, C, H, W) with no empty dimension; got {describe(images)}")
        end = len(self._steps)
        if layer is not None:
            places = [place for place, step in enumerate(self._steps, 1) if step.module is layer]
            if len(places) != 1:
                raise ValueError(
                    f"layer must be one of the steps {', '.join(self.layers)}, called once; got {describe(layer)}, "
                    f"called {count(len(places), 'time')}"
                )
            end = places[0]
        features, switches, sizes = on_device_of(self.encoder, images), [], []
        for step in self._steps[:end]:
            sizes.append((features.shape[2], features.shape[3]))
            try:
                features, places_of_maxima = step.run(features)
            except Exception as error:
                raise explained(error, self.encoder, "images", (images,), {}) from error
            switches.append(places_of_maxima)
        return Encoding(features, tuple(switches), tuple(sizes))

    def decode(self, encoding: Encoding, *, features: torch.Tensor | None = None) -> torch.Tensor:
        """Decode the result of `encode` to images `(N, C, H, W)`; of signed features, the part that `sign` names.

        Parameters
        ----------
        encoding
            The result of `encode`: features, and the switches and sizes of every step.
        features
            Decode these instead of the encoding's own: `(V * N, C, h, w)`, V variants of every image, all images of a
            variant together.

        Raises
        ------
        TypeError, ValueError
            If `encoding` is not an `Encoding`, or the features do not fit it.
        """
        check_type(encoding, Encoding, argument="encoding", expected="what encode returns")
        if features is not None:
            check_type(features, torch.Tensor, argument="features", expected="a tensor (V * N, C, h, w)")
            check_dense(features, argument="features")
        maps = encoding.features if features is None else features
        if maps.shape[1:] != encoding.features.shape[1:] or len(maps) % len(encoding.features):
            expected = ", ".join(map(str, encoding.features.shape[1:]))
            raise ValueError(
                f"features must be (V * {len(encoding.features)}, {expected}), V variants of every image; "
                f"got {describe(maps)}"
            )
        if self.weights == "tied":
            maps = maps.clamp_min(0) if self.sign == "positive" else maps.clamp_max(0)
        steps = list(zip(self._steps, encoding.sizes, encoding.switches, strict=False))
        for step, size, switches in reversed(steps):
            maps = step.back(maps, size, switches)
        return maps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode and decode: the full reconstruction of images `(N, C, H, W)`."""
        return self.decode(self.encode(images))

    def mirrors(self, layer: nn.Module) -> bool:
        """Return whether `layer` is one of the encoder's steps."""
        return any(step.module is layer for step in self._steps)

    def __repr__(self) -> str:
        weights = self.weights + (", negative part" if self.sign == "negative" else "")
        return f"DeconvDecoder({weights}: {', '.join(reversed(self.layers))})"


def _exact_name(encoder: nn.Module, layer: Selector) -> str:
    choices = choose(encoder, layer)
    if len(choices) != 1 or choices[0].call is not None:
        raise ValueError(f"layer must select one layer that is called once; got {describe(layer)}")
    return choices[0].name
