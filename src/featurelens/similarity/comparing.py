"""Every layer of one network against every layer of it, or of another, in one pass over the data."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeAlias, final

import torch
from torch import nn

from featurelens._batches import Batch
from featurelens._channels import Unsuitable
from featurelens._checks import check_module, check_type, count, describe
from featurelens._hooks import unwrap
from featurelens._random import Seed
from featurelens._sharding import Share
from featurelens._structure import map_tensors
from featurelens.layers import Selector, choose
from featurelens.recording.dataset import DatasetPass
from featurelens.recording.engine import Engine, Keeper
from featurelens.recording.inputs import Inputs, Rows, checked_loader
from featurelens.similarity.base import FEWEST
from featurelens.similarity.layer_results import LayerSimilarityResult
from featurelens.similarity.pair_sums import PairSums
from featurelens.similarity.sketch import COLUMNS, WIDEST, Sketch
from featurelens.statistics.base import check_values
from featurelens.statistics.channel_blocks import with_float64
from featurelens.statistics.exact_sums import TOO_LARGE

Features: TypeAlias = list[dict[str, torch.Tensor]]
"""For each network the features ``(N, views, D)`` of every layer."""


def compare(
    model: nn.Module,
    other: nn.Module | Mapping[str, torch.Tensor] | None = None,
    *,
    loader: Iterable[Any],
    layers: Selector | Iterable[Selector],
    inputs: Inputs = None,
    rows: Rows = None,
    seed: Seed = 0,
    progress: bool = True,
) -> LayerSimilarityResult:
    """Compute the debiased linear CKA of every layer with every layer, in one pass over the data.

    Only sums over images are kept, about 4 MB for each pair of layers. The result is `similarity.cka` of all images at
    once, whatever the batches; ranks of torch.distributed share the work and all return it, the same to the bit. Outputs
    are flattened; those of more than 1,024 values are projected to random sums, and a note gives the standard error.

    Parameters
    ----------
    model
        Any module, as for `ActivationRecorder`.
    other
        A second network, which runs on the same batches, or other weights of the same one (a ``state_dict()``).
    layers
        As for `ActivationRecorder`, for both networks. The columns of the result are the layers of `other`.
    loader, inputs, rows, progress
        As in `ActivationRecorder.record`.
    seed
        For the projections.

    Raises
    ------
    TypeError, ValueError, LookupError
        If an argument is not one of the above, there are fewer than 4 images, or a layer does not return one tensor
        ``(N, ...)`` of finite real numbers.

    Notes
    -----
    For other measures, a null or an interval, record the layers and see `similarity.cka`, which names the papers.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> compare(model, loader=torch.rand(64, 1, 8, 8), layers=[nn.Conv2d, nn.Linear])
    LayerSimilarityResult(2 x 2 layers, debiased linear CKA, n=64)
    """
    check_module(model)
    second = _second(model, other)
    engines = [_engine(each, layers) for each in (model, second) if each is not None]
    loader = checked_loader(loader, progress=progress, caller="compare", inputs=inputs, rows=rows)
    dataset = DatasetPass(engines[0], loader, Share.find(None), inputs, rows, progress)
    origin, sums = _Comparison(engines, dataset, Sketch(seed)).run()
    if sums.n < FEWEST:
        raise ValueError(f"compare needs at least {FEWEST} images; got {sums.n}")
    return _result(origin, sums)


@final
class _Comparison:
    """One pass of one network or two over a worker's share of the data."""

    def __init__(self, engines: list[Engine], dataset: DatasetPass, sketch: Sketch) -> None:
        self.engines, self.dataset, self.sketch = engines, dataset, sketch
        self.widths: list[dict[str, int]] = [{} for _ in engines]

    def run(self) -> tuple[Features, PairSums]:
        """Return the features of the first image, and the sums over all shares."""
        share = self.dataset.share
        sums: PairSums | None = None
        origin: Features | None = None
        with share.together(), ExitStack() as stack:
            for context in (*(engine.visiting() for engine in self.engines), torch.no_grad()):
                stack.enter_context(context)
            if share.count > 1:
                origin = self._shared_origin()
            for batch in self.dataset.run():
                found = self._features(batch)
                origin = origin or _first_row(found)
                sums = sums or _sums_for(origin)
                sums.add(batch.first_row, _shifted(found, origin))
        if origin is None:
            raise ValueError(f"the loader yielded no batch; got {describe(self.dataset.loader)}")
        total = _sums_for(origin)
        for part in share.gather(sums):
            if part is not None:
                total.merge(part)
        return origin, total

    def _shared_origin(self) -> Features | None:
        """Return the first image's features to every rank: all must subtract the same."""
        share, batches = self.dataset.share, self.dataset.batches
        origin = None
        if share.index == 0:
            first = batches.only(0) or next(iter(batches.run(0)), None)
            origin = None if first is None else _first_row(self._features(first))
        share.gather(None)  # the first rank has not failed
        shared: Features | None = share.first_of(origin)
        return shared

    def _features(self, batch: Batch) -> Features:
        """Run the networks on one batch and return their layers' features."""
        where = f"batch {batch.number + 1}"
        args, kwargs, rows = batch.given
        if rows is None:
            raise ValueError(
                f"the model's input in {where} has no rows; got {describe(batch.value)}: pass "
                "rows=lambda batch: <number of rows>"
            )
        found = []
        for engine, widths in zip(self.engines, self.widths, strict=True):
            measures = {
                (choice.name, choice.call): partial(self._measured, choice.name, rows)
                for choice in engine.choices
            }
            # A network may change its input in place, and the next one needs it.
            given = (
                map_tensors(torch.Tensor.clone, (args, kwargs)) if len(self.engines) > 1 else (args, kwargs)
            )
            measured = engine.run(*given, where=where, output=False, measures=measures)
            for name, (_, width) in measured.items():
                if widths.setdefault(name, width) != width:
                    raise ValueError(
                        f"layer {name!r} must return as many values for every image; got {widths[name]} and, in {where}, "
                        f"{width}"
                    )
            found.append({name: features for name, (features, _) in measured.items()})
        return found

    def _measured(self, layer: str, rows: int, output: Any) -> tuple[torch.Tensor, int]:
        """Replace a layer's output by its features, and the number of values that an image has."""
        advice = "; choose layers that return one tensor (N, ...)"
        try:
            check_values(output)
        except (TypeError, ValueError) as error:
            raise Unsuitable(f"layer {layer!r} cannot be compared: {error}{advice}") from None
        if len(output) != rows:
            raise Unsuitable(
                f"layer {layer!r} returned {tuple(output.shape)} for a batch of {rows}: axis 0 is not the batch{advice}"
            )
        # A copy: it may be a view of the output, which a later layer may change in place.
        features = self.sketch(with_float64(output)).clone()
        if not bool(features.isfinite().all()):
            raise Unsuitable(f"layer {layer!r} returned NaN or infinite values, which have no similarity")
        return features, output[0].numel()


def _second(model: nn.Module, other: object) -> nn.Module | None:
    """Return the second network, if there is one."""
    if other is None or other is model:
        return None
    if not isinstance(other, Mapping):
        expected = "a second nn.Module, a state dict, or None"
        check_type(other, nn.Module, argument="other", expected=expected)
        return check_module(other, argument="other")
    second = copy.deepcopy(unwrap(model))
    try:
        second.load_state_dict(other)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"other must be a state dict of {type(second).__name__}: {problem}") from None
    return second


def _engine(model: nn.Module, layers: Selector | Iterable[Selector]) -> Engine:
    model = unwrap(model)
    return Engine(model, choose(model, layers), Keeper(), {}, rewriting=None, evaluate=True, stop_early=False)


def _first_row(found: Features) -> Features:
    return [{name: features[:1] for name, features in each.items()} for each in found]


def _shifted(found: Features, origin: Features) -> torch.Tensor:
    """Return the features of all layers side by side, less those of the first image.

    That changes no similarity, and large offsets lose no digits.
    """
    for each, first in zip(found, origin, strict=True):
        if list(each) != list(first):
            raise ValueError(f"the layers' calls differ between batches: {list(first)} and then {list(each)}")
    pairs = [(each[name], first[name]) for each, first in zip(found, origin, strict=True) for name in each]
    device = pairs[0][0].device
    return torch.cat([(features - first.to(features)).flatten(1).to(device) for features, first in pairs], 1)


def _sums_for(origin: Features) -> PairSums:
    """Return empty sums for every pair that the result needs, layers being numbered over both networks."""
    layout = [(features.shape[1], features.shape[2]) for each in origin for features in each.values()]
    return PairSums(layout, _pairs(origin))


def _pairs(origin: Features) -> list[tuple[int, int]]:
    first, total = len(origin[0]), sum(map(len, origin))
    if len(origin) == 1:
        return [(one, other) for one in range(first) for other in range(one, first)]
    crossed = [(one, other) for one in range(first) for other in range(first, total)]
    return crossed + [(layer, layer) for layer in range(total)]


def _result(origin: Features, sums: PairSums) -> LayerSimilarityResult:
    rows, columns = tuple(origin[0]), tuple(origin[-1])
    hsic = sums.hsic()
    names = [name for each in origin for name in each]
    own = [sum(hsic[layer, layer]) for layer in range(len(names))]
    if not all(map(math.isfinite, own)):
        raise ValueError(TOO_LARGE)
    values = torch.zeros(len(rows), len(columns), dtype=torch.float64)
    spread = [0.0]  # halves of the differences between two estimates
    for one, other in itertools.product(range(len(rows)), range(len(names) - len(columns), len(names))):
        estimates = hsic.get((one, other)) or hsic[other, one]
        if own[one] > 0 and own[other] > 0:
            found = [each / (math.sqrt(own[one]) * math.sqrt(own[other])) for each in estimates]
            values[one, other - len(names)] = sum(found) / len(found)
            spread += [(found[0] - found[1]) / 2] if len(found) > 1 else []
    projected = sum(len(features[0]) > 1 for each in origin for features in each.values())
    error = math.sqrt(sum(each**2 for each in spread) / max(1, len(spread) - 1))
    notes = [_projected_note(projected, error)] if projected else []
    constant = [name for name, value in zip(names, own, strict=True) if value == 0]
    unclear = [name for name, value in zip(names, own, strict=True) if value < 0]
    for chosen, why in ((constant, "constant"), (unclear, "not measurable with so few images")):
        if chosen:
            listed = ", ".join(map(repr, dict.fromkeys(chosen)))
            notes.append(f"{listed}: {why}, so the similarity is given as 0")
    return LayerSimilarityResult(
        values=values, layers=rows, other_layers=columns, n=sums.n, notes=tuple(notes)
    )


def _projected_note(projected: int, error: float) -> str:
    return (
        f"{count(projected, 'layer')} of more than {WIDEST:,} values projected to 2 x {COLUMNS} random sums, which gives "
        f"values a standard error of about {error:.2g} or less"
    )
