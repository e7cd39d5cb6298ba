"""One run of a maximizer: the model is guarded once, everything is checked, then images are optimized in chunks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, final

import torch

from featurelens._checks import check_dense, check_type, describe, warn
from featurelens._progress import progress_bar
from featurelens._random import Seed
from featurelens.maximization.adam import Adam
from featurelens.maximization.evaluation import Evaluation, Layers, Outputs, differentiating
from featurelens.maximization.layouts import ANY, is_batch
from featurelens.maximization.objectives import Objective, channel
from featurelens.maximization.relu import RedirectedReLU
from featurelens.maximization.result import MaximizationResult
from featurelens.maximization.terms import Diversity
from featurelens.maximization.transforms import Chain

if TYPE_CHECKING:
    from featurelens.maximization.maximizer import ActivationMaximizer, Wanted


@final
class Optimization:
    """One image for each objective of one call of `ActivationMaximizer.run`."""

    def __init__(
        self,
        maximizer: ActivationMaximizer,
        wanted: Sequence[Wanted],
        start: torch.Tensor | None = None,
        record_every: int | None = None,
    ) -> None:
        self.maximizer, self.wanted, self.record_every = maximizer, wanted, record_every
        self.parametrization = maximizer.parametrization
        self.given = None if start is None else self.parametrization.from_image(_movable(start))
        chosen = (item.layers if isinstance(item, Objective) else [item] for item in wanted)
        self.layers = Layers(maximizer.model, [selector for selectors in chosen for selector in selectors])
        self.root = _root(maximizer.seed)
        self.device = self.layers.device
        self.dtype = torch.float64 if self.layers.dtype == torch.float64 else torch.float32  # of parameters
        self.memory_format = torch.channels_last

    def run(self) -> MaximizationResult:
        """Optimize the images, and return them in the order of the objectives."""
        with self._guarded():
            images, outputs = self._first_pass()
            objectives: list[Objective] = []
            for item in self.wanted:
                if isinstance(item, Objective):
                    objectives.append(self.layers.renamed(item))
                else:
                    every = range(self.layers.channels(item, outputs))
                    objectives += [self.layers.renamed(channel(item, index)) for index in every]
            objectives = [self.layers.with_axes(objective, outputs) for objective in objectives]
            Evaluation(self.layers, objectives).check(outputs, images)
            self._warn_of_probabilities(outputs)
            self._check_start(len(objectives))
            names = self._names(objectives)
            chunks = self._chunks(objectives, images[0, 0].numel())
            total, progress = len(chunks) * self.maximizer.steps, self.maximizer.progress
            parts = []
            with progress_bar(total=total, what="maximizing", unit="step", progress=progress) as bar:
                for rows in chunks:
                    evaluation = Evaluation(self.layers, [objectives[row] for row in rows])
                    parts.append(self._optimize(evaluation, rows, [names[row] for row in rows], bar.update))
        found, history, scores, frames = zip(*parts, strict=True)
        order = torch.tensor([row for rows in chunks for row in rows]).argsort()
        return MaximizationResult(
            images=torch.cat(found)[order],
            history=torch.cat(history, dim=1)[:, order],
            scores=torch.cat(scores)[order],
            objectives=tuple(objectives),
            frames=torch.cat(frames)[order] if self.record_every else None,
            model=self.maximizer.model,
            preprocessing=self.maximizer.preprocessing,
        )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Restore the model, and the networks of the parametrization, when the block ends."""
        with differentiating([*self.parametrization.modules, self.maximizer.model]):
            # The C library of Linux returns to the system what is free above twice the largest block that was ever
            # freed, up to 32 MiB. After this it keeps what a step frees: asking for it anew costs up to half of a step.
            torch.empty(2**25 - 2**16, dtype=torch.uint8)
            yield

    def _first_pass(self) -> tuple[torch.Tensor, Outputs]:
        """Run the model on two images, or one, to see whether everything fits, before anything is optimized."""
        parameters = self._start(0, ["first", "second"][: self.maximizer.chunk])
        images: object = self.parametrization.images(parameters)
        if not is_batch(images) or len(images) != len(parameters):
            raise ValueError(
                f"{self.parametrization!r} must give images {ANY}, one for each row of its parameters; "
                f"got {describe(images)} for parameters {tuple(parameters.shape)}"
            )
        low, high = float(images.detach().min()), float(images.detach().max())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"{self.parametrization!r} must give images in [0, 1]; got values from {low:.3g} to {high:.3g}"
            )
        try:
            self.layers.check(self._prepared(images))
        except RuntimeError:
            # Some models view what convolutions return as if it were contiguous.
            self.memory_format = torch.contiguous_format
            self.layers.check(self._prepared(images), may_fail=True)
        return images, self.layers.outputs(self._prepared(images))

    def _warn_of_probabilities(self, outputs: Outputs) -> None:
        """Warn if a layer returns probabilities: close to 1, their gradients vanish."""
        for name, call in self.layers.calls.items():
            rows = outputs[call].detach().float()
            if rows.ndim == 2 and rows.shape[1] > 1:
                rows = rows.exp() if bool((rows <= 0).all()) else rows
                if bool((rows >= 0).all()) and bool(((rows.sum(1) - 1).abs() < 1e-3).all()):
                    warn(
                        f"layer {name or 'the output'!r} returns probabilities, whose gradients vanish near 1: the images "
                        "will be weak. Choose the layer before the softmax, as in fl.objectives.channel('fc', 3)"
                    )

    def _names(self, objectives: Sequence[Objective]) -> list[str]:
        """Return what images draw their random numbers by: equal objectives are numbered, whatever they are called."""
        seen: Counter[str] = Counter()
        names = []
        for objective in objectives:
            name = repr(list(self.layers.renamed(objective, exact=True).terms))
            names.append(f"{name}/{seen[name]}")
            seen[name] += 1
        return names

    def _chunks(self, objectives: Sequence[Objective], pixels: int) -> list[list[int]]:
        """Split the rows into chunks so that images which are compared with each other stay together."""
        # By default what suits the cache of a processor, or keeps an accelerator busy.
        suited = max(8, 2**16 // pixels) if self.device.type == "cpu" else max(16, 2**22 // pixels)
        size = self.maximizer.chunk or suited
        together: dict[Any, list[int]] = {}
        for row, objective in enumerate(objectives):
            compared = any(isinstance(term, Diversity) for _, term in objective.terms)
            together.setdefault(objective if compared else row, []).append(row)
        chunks: list[list[int]] = [[]]
        for rows in together.values():
            if chunks[-1] and len(chunks[-1]) + len(rows) > size:
                chunks.append([])
            chunks[-1] += rows
        return chunks

    def _optimize(
        self, evaluation: Evaluation, rows: Sequence[int], names: Sequence[str], tick: Callable[[], Any]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Optimize a chunk; return its images, history, scores and frames."""
        torch.default_generator.manual_seed(self.root % 2**63)  # for models that draw; the guard restores it
        parameters = self._start(self.root, names, rows)
        first, first_scores = self._scored(evaluation, parameters, "at the start")
        chain = Chain(self.maximizer.transforms, tuple(first.shape[2:]))
        size = (self.maximizer.steps, chain.numbers)
        drawn = [
            torch.rand(size, generator=each, dtype=torch.float32)
            for each in _generators(self.root, "transforms", names)
        ]
        numbers = torch.stack(drawn, dim=1).to(self.device, self.dtype)
        optimizer = self._optimizer(parameters)
        everyone = torch.ones(len(names), dtype=torch.bool, device=self.device)
        relus = RedirectedReLU(everyone, self.maximizer.redirect_relu)
        history, frames = [], list[torch.Tensor]()
        for step in range(self.maximizer.steps):
            with relus if relus.on else nullcontext():
                images = self.parametrization.images(parameters)
                if self.record_every and step % self.record_every == 0:
                    frames.append(images.detach().cpu())
                changed = chain(images, numbers[step])
                values = self._values(evaluation, images, changed, f"in step {step + 1}")
                (parameters.grad,) = torch.autograd.grad(-values.sum(), [parameters])
            history.append(values.detach().cpu())
            optimizer.step()
            tick()
        last, last_scores = self._scored(evaluation, parameters, "at the end")
        better = last_scores >= first_scores
        images = torch.where(better.view(-1, *[1] * (first.ndim - 1)), last, first)
        scores = torch.where(better, last_scores, first_scores)
        return images.cpu(), torch.stack(history), scores.cpu(), torch.stack([*frames, images.cpu()], dim=1)

    def _check_start(self, objectives: int) -> None:
        if self.given is not None and len(self.given) not in (1, objectives):
            raise ValueError(
                f"start must hold one image, or one for each of {objectives} objectives; got {len(self.given)}"
            )

    def _start(self, root: int, names: Sequence[str], rows: Sequence[int] = (0, 0)) -> torch.Tensor:
        if self.given is None:
            parameters = self.parametrization.start(_generators(root, "start", names))
        else:
            parameters = self.given[[row if len(self.given) > 1 else 0 for row in rows[: len(names)]]]
        return parameters.to(self.device, self.dtype).requires_grad_()

    def _optimizer(self, parameters: torch.Tensor) -> Adam | torch.optim.Optimizer:
        if self.maximizer.optimizer is None:
            return Adam(parameters, self.maximizer.lr, per_image=self.parametrization.per_image)
        made = self.maximizer.optimizer([parameters])
        if not callable(getattr(made, "step", None)):
            raise TypeError(
                f"optimizer must return an optimizer, with a step(); it returned {describe(made)}"
            )
        return made

    def _prepared(self, images: torch.Tensor) -> torch.Tensor:
        prepared = self.maximizer.preprocessing.for_model(images)
        return prepared.to(memory_format=self.memory_format) if prepared.ndim == 4 else prepared

    def _values(
        self, evaluation: Evaluation, images: torch.Tensor, changed: torch.Tensor, when: str
    ) -> torch.Tensor:
        """Return ``(N,)``: each objective on its own one of `images`, which the model sees `changed`."""
        autocast = self.maximizer.autocast and torch.is_grad_enabled()  # scores are in full precision
        _check_finite(images, evaluation, "image", when)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            outputs = self.layers.outputs(self._prepared(changed))
        values = evaluation.diagonal(outputs, images)
        _check_finite(values[:, None], evaluation, "value", when)
        return values

    @torch.no_grad()
    def _scored(
        self, evaluation: Evaluation, parameters: torch.Tensor, when: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        images = self.parametrization.images(parameters).clamp(0, 1)
        return images, self._values(evaluation, images, images, when)


def _movable(images: torch.Tensor) -> torch.Tensor:
    """Return images whose pixels stay away from 0 and 1, where they would have no gradient."""
    check_type(images, torch.Tensor, argument="start", expected=f"images {ANY}")
    check_dense(images, argument="start")
    if 0 in images.shape or not images.is_floating_point() or not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError(f"start must be images of numbers in [0, 1]; got {describe(images)}")
    return images.detach().cpu().double().clamp(0.01, 0.99)


def _root(seed: Seed) -> int:
    """Return the number from which all generators of a run are seeded; None draws one from the operating system."""
    if isinstance(seed, torch.Generator):
        return int(torch.randint(2**62, (), generator=seed, device=seed.device))
    return torch.Generator().seed() if seed is None else seed


def _generators(root: int, purpose: str, names: Sequence[str]) -> list[torch.Generator]:
    """Return a CPU generator for each image, so that none depends on what it is batched with, or on the device."""
    # torch's CPU generator uses the lower 32 bits of a seed, so these must differ for neighbouring names.
    texts = [f"{root}/{purpose}/{name}".encode() for name in names]
    seeds = [int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little") for text in texts]
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _check_finite(values: torch.Tensor, evaluation: Evaluation, what: str, when: str) -> None:
    """Raise an error that names the first objective whose row of `values` holds something not finite."""
    # The sum is finite if every value is: one read is all that the usual case costs.
    broken = ~values.detach().flatten(1).sum(1).isfinite()
    if bool(broken.any()):
        row = int(broken.nonzero()[0])
        raise RuntimeError(
            f"the {what} of objective {evaluation.objectives[row]} is NaN or infinite {when}; nothing is returned. A smaller "
            "lr may help, if the model itself does not overflow"
        )
