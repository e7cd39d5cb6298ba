"""One run of a maximizer: the model is guarded once, everything is checked, then images are optimized in chunks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

import torch

from featurelens._checks import describe
from featurelens._hooks import visiting
from featurelens._random import Seed
from featurelens.maximization.adam import Adam
from featurelens.maximization.evaluation import Evaluation, Layers, Outputs
from featurelens.maximization.objectives import Objective, channel
from featurelens.maximization.relu import RedirectedReLU
from featurelens.maximization.result import MaximizationResult
from featurelens.maximization.terms import ChannelTerm, Diversity
from featurelens.maximization.transforms import as_chain

if TYPE_CHECKING:
    from featurelens.maximization.maximizer import ActivationMaximizer, Wanted


@final
class Optimization:
    """One image for each objective of one call of `ActivationMaximizer.run`."""

    def __init__(self, maximizer: ActivationMaximizer, wanted: Sequence[Wanted]) -> None:
        self.maximizer, self.wanted = maximizer, wanted
        self.parametrization = maximizer.parametrization
        chosen = (item.layers if isinstance(item, Objective) else [item] for item in wanted)
        self.layers = Layers(maximizer.model, [selector for selectors in chosen for selector in selectors])
        self.root = _root(maximizer.seed)
        self.device = self.layers.device
        self.dtype = torch.float64 if self.layers.dtype == torch.float64 else torch.float32  # of parameters
        self.memory_format = torch.channels_last

    def run(self) -> MaximizationResult:
        """Optimize the images, and return them in the order of the objectives."""
        from tqdm import tqdm

        steps, progress = self.maximizer.steps, self.maximizer.progress
        with self._guarded():
            images, outputs = self._first_pass()
            objectives = [self.layers.renamed(objective) for objective in self._objectives(outputs)]
            Evaluation(self.layers, objectives).check(outputs, images)
            names = self._names(objectives)
            chunks = _chunks(
                objectives, self.maximizer.chunk or self._chunk(images.shape[2] * images.shape[3])
            )
            total, quiet = len(chunks) * steps, None if progress else True
            with tqdm(total=total, desc="maximizing", unit="step", disable=quiet) as bar:
                parts = [
                    self._optimize(
                        [objectives[row] for row in rows], [names[row] for row in rows], bar.update
                    )
                    for rows in chunks
                ]
        found, history, scores = zip(*parts, strict=True)
        order = torch.tensor([row for rows in chunks for row in rows]).argsort()
        return MaximizationResult(
            images=torch.cat(found)[order],
            history=torch.cat(history, dim=1)[:, order],
            scores=torch.cat(scores)[order],
            objectives=tuple(objectives),
            model=self.maximizer.model,
            preprocessing=self.maximizer.preprocessing,
        )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Restore the model, and the networks of the parametrization, when the block ends."""
        with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
            for module in (*self.parametrization.modules, self.maximizer.model):
                stack.enter_context(visiting(module, autograd=True))
                for parameter in module.parameters():
                    if parameter.requires_grad and not parameter.is_inference():
                        parameter.requires_grad_(False)  # only images need gradients
            _keep_memory()
            yield

    def _first_pass(self) -> tuple[torch.Tensor, Outputs]:
        """Run the model on two images to see whether everything fits, before anything is optimized."""
        parameters = self._start(0, ["first", "second"])
        images: object = self.parametrization.images(parameters)
        if not isinstance(images, torch.Tensor) or images.ndim != 4 or len(images) != len(parameters):
            raise ValueError(
                f"{self.parametrization!r} must give images (N, C, H, W), one for each row of its parameters; "
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
            self.layers.check(self._prepared(images))
        return images, self.layers.outputs(self._prepared(images))

    def _objectives(self, outputs: Outputs) -> Iterator[Objective]:
        """Yield the objectives, for a layer one for each of its channels."""
        for item in self.wanted:
            if isinstance(item, Objective):
                yield item
            else:
                yield from (channel(item, index) for index in range(self.layers.check_axis(item, outputs)))

    def _names(self, objectives: Sequence[Objective]) -> list[str]:
        """Return what images draw their random numbers by: the same for equal objectives but for their number.

        What a layer was called by plays no part.
        """
        seen: Counter[str] = Counter()
        names = []
        for objective in objectives:
            terms = self.layers.renamed(objective, exact=True).terms
            explicit = [
                (w, replace(t, axis=t.channel_axis) if isinstance(t, ChannelTerm) else t) for w, t in terms
            ]
            names.append(f"{explicit!r}/{seen[repr(explicit)]}")
            seen[repr(explicit)] += 1
        return names

    def _chunk(self, pixels: int) -> int:
        """How many images suit the cache of a processor, or keep an accelerator busy."""
        return max(8, 2**16 // pixels) if self.device.type == "cpu" else max(16, 2**22 // pixels)

    def _optimize(
        self, objectives: Sequence[Objective], names: Sequence[str], tick: Callable[[], Any]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Optimize a chunk; return its images, history and scores."""
        torch.default_generator.manual_seed(self.root % 2**63)  # for models that draw; the guard restores it
        evaluation = Evaluation(self.layers, objectives)
        parameters = self._start(self.root, names)
        before = self._score(evaluation, parameters, "at the start")
        chain = as_chain(self.maximizer.transforms, (before[0].shape[2], before[0].shape[3]))
        size = (self.maximizer.steps, chain.numbers)
        drawn = [torch.rand(size, generator=each) for each in _generators(self.root, "transforms", names)]
        numbers = torch.stack(drawn, dim=1).to(self.device, self.dtype)
        optimizer = self._optimizer(parameters)
        everyone = torch.ones(len(names), dtype=torch.bool, device=self.device)
        relus = RedirectedReLU(everyone, self.maximizer.redirect_relu)
        history = []
        for step in range(self.maximizer.steps):
            with relus if relus.on else nullcontext():
                images = self.parametrization.images(parameters)
                _check_finite(images, objectives, "image", f"in step {step + 1}")
                changed = self._prepared(chain(images, numbers[step]))
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.maximizer.autocast):
                    outputs = self.layers.outputs(changed)
                values = evaluation.diagonal(outputs, images)
                _check_finite(values[:, None], objectives, "value", f"in step {step + 1}")
                (parameters.grad,) = torch.autograd.grad(-values.sum(), [parameters])
            history.append(values.detach().cpu())
            optimizer.step()
            tick()
        after = self._score(evaluation, parameters, "at the end")
        better = after[1] >= before[1]
        images = torch.where(better[:, None, None, None], after[0], before[0])
        return images.cpu(), torch.stack(history), torch.where(better, after[1], before[1]).cpu()

    def _start(self, root: int, names: Sequence[str]) -> torch.Tensor:
        parameters = self.parametrization.start(_generators(root, "start", names))
        return parameters.to(self.device, self.dtype).requires_grad_()

    def _optimizer(self, parameters: torch.Tensor) -> Adam | torch.optim.Optimizer:
        if self.maximizer.optimizer is None:
            return Adam(parameters, self.maximizer.lr)
        made = self.maximizer.optimizer([parameters])
        if not callable(getattr(made, "step", None)):
            raise TypeError(
                f"optimizer must return an optimizer, with a step(); it returned {describe(made)}"
            )
        return made

    def _prepared(self, images: torch.Tensor) -> torch.Tensor:
        prepared = self.maximizer.preprocessing.for_model(images)
        return prepared.to(memory_format=self.memory_format) if prepared.ndim == 4 else prepared

    @torch.no_grad()
    def _score(
        self, evaluation: Evaluation, parameters: torch.Tensor, when: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        images = self.parametrization.images(parameters).clamp(0, 1)
        _check_finite(images, evaluation.objectives, "image", when)
        values = evaluation.diagonal(self.layers.outputs(self._prepared(images)), images)
        _check_finite(values[:, None], evaluation.objectives, "value", when)
        return images, values


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


def _keep_memory() -> None:
    """Let this process keep what it frees: asking the system for the same memory in each step costs up to half of it.

    The C library of Linux returns what is free above twice the largest block that was ever freed, up to 32 MiB.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


def _chunks(objectives: Sequence[Objective], size: int) -> list[list[int]]:
    """Split the rows into chunks so that images which are compared with each other stay together."""
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


def _check_finite(values: torch.Tensor, objectives: Sequence[Objective], what: str, when: str) -> None:
    """Raise an error that names the first objective whose row of `values` holds something not finite."""
    # The sum is finite if every value is: one read is all that the usual case costs.
    broken = ~values.detach().flatten(1).sum(1).isfinite()
    if bool(broken.any()):
        row = int(broken.nonzero()[0])
        raise RuntimeError(
            f"the {what} of objective {objectives[row]} is NaN or infinite {when}; nothing is returned. A smaller "
            "lr may help, if the model itself does not overflow"
        )
