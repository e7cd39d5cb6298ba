"""A decoder in the place of what follows the layer."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import nn

from featurelens._checks import describe
from featurelens._failure import explain
from featurelens._hooks import submodule
from featurelens.ablation.decoder import DeconvDecoder, Encoding
from featurelens.ablation.replay import Diverged, Memory, check_features
from featurelens.ablation.suffix import Suffix, behind_strong, check_same, guarded, remember
from featurelens.ablation.variants import Filling, ablate
from featurelens.layers import Choice


@final
class DecoderSuffix(Suffix):
    """A decoder, which makes images of the layer's output; the rest of the model does not run."""

    def __init__(
        self,
        model: nn.Module,
        choice: Choice,
        axis: int | None,
        filling: Filling,
        images: torch.Tensor,
        decoder: nn.Module,
    ) -> None:
        self.decoder, self.images, self.layer = decoder, images, choice.name
        self.guards = [model, decoder]
        self.encoding: Encoding | None = None
        if isinstance(decoder, DeconvDecoder):
            self.guards.append(decoder.encoder)
            self.features = self._encoded(decoder, submodule(model, choice.name), choice, axis)
        else:
            self.features = one_call(remember(model, choice, axis, images))
        self.axis = filling.axis % self.features.ndim
        self.fill = filling.values(self.features, choice.call or 1)
        self.largest = 4 * max(self.features.numel(), images.numel())
        self.baseline = self.run(self.features.new_zeros(1, self.channels, dtype=torch.bool))[0]
        try:
            self._probe()
        except (Diverged, RuntimeError, ValueError) as error:
            self.notes = (f"the decoder ran once for every variant ({str(error).strip()})",)

    def run(self, mask: torch.Tensor) -> torch.Tensor:
        if self.notes and len(mask) > 1:
            return torch.cat([self.run(row[None]) for row in mask])
        variants = self.features.expand(len(mask), *self.features.shape)
        return self._decoded(ablate(variants, mask, self.fill, self.axis).flatten(0, 1))

    def _probe(self) -> None:
        """Raise an error unless plain features give what they gave alone, also beside and behind others."""
        nothing_and_all = torch.tensor([[False], [True]], device=self.features.device)
        outputs = self.run(nothing_and_all.expand(2, self.channels))
        check_same(outputs[0], self.baseline, outputs[1])
        behind = self._decoded(behind_strong(self.features))
        check_same(behind[1], self.baseline, outputs[1])

    def _decoded(self, batch: torch.Tensor) -> torch.Tensor:
        """Return what the decoder makes `(V, N, ...)` of V variants one after the other."""
        try:
            with guarded(*self.guards):
                decoded = self._decode(batch)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise RuntimeError(
                f"the decoder failed on what layer {self.layer!r} returned ({describe(batch)}): "
                f"{type(error).__name__}: {reason}"
            ) from error
        if not isinstance(decoded, torch.Tensor) or decoded.ndim == 0 or len(decoded) != len(batch):
            raise ValueError(
                f"the decoder must make images (N, ...) of {describe(batch)}; it made {describe(decoded)}"
            )
        return decoded.reshape(-1, len(self.features), *decoded.shape[1:])

    def _encoded(
        self, decoder: DeconvDecoder, layer: nn.Module, choice: Choice, axis: int | None
    ) -> torch.Tensor:
        with guarded(*self.guards):
            try:
                self.encoding = decoder.encode(self.images, layer=layer)
            except Exception as error:
                raise RuntimeError(explain(error, decoder.encoder, "a batch", (self.images,), {})) from error
        return check_features(self.encoding.features, choice.name, len(self.images), axis)

    def _decode(self, batch: torch.Tensor) -> Any:
        if isinstance(self.decoder, DeconvDecoder) and self.encoding is not None:
            return self.decoder.decode(self.encoding, features=batch)
        return self.decoder(batch)


def one_call(memory: Memory) -> torch.Tensor:
    """Return what the layer returned in its only call."""
    if len(memory.features) > 1:
        name = memory.choice.name
        raise ValueError(
            f"layer {name!r} is called {len(memory.features)} times, and a decoder takes one of them: ask for {name + '#1'!r}"
        )
    return next(iter(memory.features.values()))
