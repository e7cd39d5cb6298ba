"""Visit a model, run a batch up to a layer, and go on from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from featurelens._batches import Given
from featurelens._hooks import on_device_of, visiting
from featurelens.ablation.decoder import DeconvDecoder
from featurelens.ablation.decoder_suffix import DecoderSuffix
from featurelens.ablation.layer import AblatedLayer
from featurelens.ablation.masks import Filler, Replacement
from featurelens.ablation.suffix import ModelSuffix, Output, Suffix


@contextmanager
def following(
    layer: AblatedLayer,
    given: Given,
    fill: Filler | Mapping[int, torch.Tensor],
    generator: torch.Generator,
    output: Output = None,
    decoder: nn.Module | None = None,
) -> Iterator[Suffix]:
    """Visit the model, run a batch up to the layer, and give the block what comes after it, or the decoder."""
    args, kwargs = on_device_of(layer.model, (given.args, given.kwargs))
    given = Given(args, kwargs, given.rows)
    replacement = Replacement(fill, layer.channel_axis, given.rows or 0, generator)
    with ExitStack() as stack:
        rewind = stack.enter_context(visiting(layer.model))
        if decoder is None:
            yield ModelSuffix(layer, given, replacement, rewind, output)
            return
        if isinstance(decoder, DeconvDecoder):
            stack.enter_context(visiting(decoder.encoder))
        rewind = stack.enter_context(visiting(decoder))
        yield DecoderSuffix(layer, given, replacement, rewind, decoder)
