"""A decoder in the place of what follows a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from featurelens._checks import check_module, describe, first_line
from featurelens._failure import explained
from featurelens._hooks import unwrap
from featurelens.ablation.decoder import DeconvDecoder
from featurelens.ablation.layer import AblatedLayer
from featurelens.ablation.replay import Change, PlainPass
from featurelens.ablation.suffix import Output, Suffix


@final
@dataclass
class DecoderSuffix(Suffix):
    """A decoder, which makes images of the layer's output; the rest of the model does not run."""

    one_by_one = "the decoder ran once for every variant"
    decoder: nn.Module

    def __post_init__(self) -> None:
        self.decode: Callable[[torch.Tensor], Any] = self.decoder
        images = self.images
        if isinstance(decoder := self.decoder, DeconvDecoder):
            if len(self.given.args) + len(self.given.kwargs) > 1:
                raise ValueError(
                    "a DeconvDecoder decodes a model of images alone; the batch holds more inputs"
                )
            try:
                encoding = decoder.encode(images, layer=self.layer.module)
            except Exception as error:
                raise explained(error, decoder.encoder, "a batch", (images,), {}) from error
            self.features = self.layer.check(encoding.features, len(images))
            self.decode = lambda features: decoder.decode(encoding, features=features)
        else:
            (self.features, *more) = PlainPass(self.layer, self.given).features.values()
            if more:
                name = self.layer.choice.name
                raise ValueError(
                    f"layer {name!r} is called {len(more) + 1} times, but a decoder decodes one call: "
                    f"choose one, such as {name + '#1'!r}"
                )
        self.calls = {1: self.features}
        self.fills = {1: self.replacement.values(self.features, self.layer.choice.call or 1)}
        self.front = self.layer, self.fills[1]
        self.largest = 4 * max(self.features.numel(), images.numel())
        self.baseline = self._alone(torch.zeros(self.channels, dtype=torch.bool, device=self.features.device))

    def _edge(self) -> list[int]:
        return list(range(len(self.features)))  # all, as a decoder takes variants of every image

    def _outputs_of(self, rows: torch.Tensor, change: Change) -> torch.Tensor:
        return self._decoded(change(self.features, 1))

    def is_squashed(self) -> bool:
        return False

    def _alone(self, row: torch.Tensor) -> torch.Tensor:
        return self._decoded(self.layer.ablate(self.features[None], row[None], self.fills[1])[0])

    def _decoded(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the decoder's output `(R, ...)` for variants one after the other."""
        self.rewind()
        try:
            decoded = self.decode(batch)
        except Exception as error:
            raise RuntimeError(
                f"the decoder failed on the output of layer {self.layer.name!r} ({describe(batch)}): "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
        if not isinstance(decoded, torch.Tensor) or decoded.ndim == 0 or len(decoded) != len(batch):
            raise ValueError(
                f"the decoder must return images (N, ...) for {describe(batch)}; it returned {describe(decoded)}"
            )
        return decoded


def check_decoder(decoder: Any, layer: AblatedLayer, output: Output) -> nn.Module:
    """Return a decoder that starts from the layer, or raise an error; it goes with no `output`."""
    if output is not None:
        raise ValueError("pass a decoder or output=, not both: with a decoder the model's output is not used")
    module = unwrap(check_module(decoder, argument="decoder"))
    if isinstance(module, DeconvDecoder) and not module.mirrors(layer.module):
        raise ValueError(
            f"the decoder does not start from layer {layer.name!r}: it mirrors {', '.join(module.layers)} of "
            f"{type(module.encoder).__name__}, and the layer must be one of these modules"
        )
    return module
