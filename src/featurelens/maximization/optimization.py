"""The work of one run: guard the model once, check everything, then step after step for chunk after chunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, final

import torch
from torch import nn

from featurelens._checks import check_flag, check_number, check_whole, describe
from featurelens._guard import preserved
from featurelens.layers import Selector
from featurelens.maximization._streams import streams
from featurelens.maximization.adam import Adam
from featurelens.maximization.objective import Objective
from featurelens.maximization.parametrizations import Parametrization
from featurelens.maximization.plan import Layers, Plan
from featurelens.maximization.preparation import Preparation
from featurelens.maximization.relu import Rescue
from featurelens.maximization.result import MaximizationResult
from featurelens.maximization.terms import Diversity
from featurelens.maximization.transforms import Chain, as_chain
from featurelens.recording import ActivationRecorder, Activations


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to optimize."""

    transforms: Any
    steps: int
    lr: float
    optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer] | None
    autocast: bool
    redirect_relu: int
    chunk: int | None
    progress: bool

    @classmethod
    def checked(cls, **given: Any) -> Self:
        """Raise an error unless the settings make sense."""
        if isinstance(given["transforms"], Iterable) and not isinstance(given["transforms"], str):
            given["transforms"] = tuple(given["transforms"])  # a generator can be read only once
        settings = cls(**given)
        as_chain(settings.transforms, (8, 8))
        check_whole(settings.steps, argument="steps", least=1)
        check_whole(settings.redirect_relu, argument="redirect_relu", least=0)
        if settings.chunk is not None:
            check_whole(settings.chunk, argument="chunk", least=1)
        expected = "a positive number"
        if not 0 < check_number(settings.lr, argument="lr", expected=expected) < float("inf"):
            raise ValueError(f"lr must be {expected}; got {describe(settings.lr)}")
        if settings.optimizer is not None and not callable(settings.optimizer):
            raise TypeError(f"optimizer must be callable on parameters; got {describe(settings.optimizer)}")
        for argument in ("autocast", "progress"):
            check_flag(getattr(settings, argument), argument=argument)
        return settings

    def make_optimizer(self, parameters: torch.Tensor) -> Adam | torch.optim.Optimizer:
        if self.optimizer is None:
            return Adam(parameters, self.lr)
        made = self.optimizer([parameters])
        if not callable(getattr(made, "step", None)):
            raise TypeError(
                f"optimizer must return an optimizer, with a step(); it returned {describe(made)}"
            )
        return made


@final
class Optimization:
    """A block in which images are optimized for a model that comes back as it was."""

    def __init__(
        self,
        model: nn.Module,
        parametrization: Parametrization,
        preparation: Preparation,
        layers: Layers,
        settings: Settings,
    ) -> None:
        self.model, self.layers, self.settings = model, layers, settings
        self.parametrization, self.preparation = parametrization, preparation
        self.recorder = ActivationRecorder(model, layers.names, detach=False)
        first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
        self.device, self.dtype = first.device, first.dtype
        self.parameter_dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
        self.memory_format = torch.channels_last

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            for module in self.parametrization.modules:
                stack.enter_context(preserved(module, evaluate=True))
            self.forward: Callable[..., Activations] = stack.enter_context(self.recorder.held())
            # Gradients are wanted for the images alone; the guard gives the parameters their flags back.
            for module in (self.model, *self.parametrization.modules):
                for parameter in module.parameters():
                    if parameter.requires_grad and not parameter.is_inference():
                        parameter.requires_grad_(False)
            keep_memory()
            self._first, self._probed = self._probe()
            if (calls := self.layers.only_calls(self._probed)) is not None:
                early = ActivationRecorder(self.model, calls, detach=False, stop_early=True)
                self.forward = stack.enter_context(early.held())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def channels(self, selector: Selector) -> int:
        """Return how many channels a layer has."""
        output = self.layers.output(selector, self._probed)
        self.layers.check_axis(selector, tuple(output.shape))
        return int(output.shape[1])

    def run(self, objectives: Sequence[Objective], root: int) -> MaximizationResult:
        """Optimize one image for each objective."""
        from tqdm import tqdm

        objectives = [self.layers.named(objective) for objective in objectives]
        Plan(self.layers, objectives, self.device).check(self._probed, self._first)
        names = _names([self.layers.identity(objective) for objective in objectives])
        chunks = _chunks(objectives, self.settings.chunk or self._chunk())
        show = None if self.settings.progress else True
        parts = []
        with tqdm(
            total=len(chunks) * self.settings.steps, desc="maximizing", unit="step", disable=show
        ) as bar:
            for rows in chunks:
                plan = Plan(self.layers, [objectives[row] for row in rows], self.device)
                parts.append(self._optimize(plan, [names[row] for row in rows], root, bar.update))
        images, history, scores = zip(*parts, strict=True)
        order = torch.tensor([row for rows in chunks for row in rows]).argsort()
        return MaximizationResult(
            images=torch.cat(images)[order],
            history=torch.cat(history, dim=1)[:, order],
            scores=torch.cat(scores)[order],
            objectives=tuple(objectives),
            model=self.model,
            preparation=self.preparation,
        )

    def _optimize(
        self, plan: Plan, names: Sequence[str], root: int, tick: Callable[[], Any]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        torch.default_generator.manual_seed(root % 2**63)  # for models that draw; the guard gives it back
        parameters = self._start(root, names)
        before = self._score(plan, parameters, "at the start")
        chain = as_chain(self.settings.transforms, (before[0].shape[2], before[0].shape[3]))
        numbers = self._numbers(chain, root, names)
        optimizer = self.settings.make_optimizer(parameters)
        rescue = Rescue(len(names), self.settings.redirect_relu, self.device)
        history = []
        for step in range(self.settings.steps):
            with rescue.step():
                images = self.parametrization.images(parameters)
                _check_finite(images, plan, "image", f"in step {step + 1}")
                changed = chain(images, numbers[step])
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.autocast):
                    activations = self._look(changed)
                values = plan.diagonal(activations, images)
                _check_finite(values[:, None], plan, "value", f"in step {step + 1}")
                (parameters.grad,) = torch.autograd.grad(-values.sum(), [parameters])
            history.append(values.detach().cpu())
            optimizer.step()
            tick()
        after = self._score(plan, parameters, "at the end")
        better = after[1] >= before[1]
        images = torch.where(better[:, None, None, None], after[0], before[0])
        return images.cpu(), torch.stack(history), torch.where(better, after[1], before[1]).cpu()

    def _chunk(self) -> int:
        """How many images suit the cache of a processor, or keep an accelerator busy."""
        pixels = self._first.shape[2] * self._first.shape[3]
        return max(8, 2**16 // pixels) if self.device.type == "cpu" else max(16, 2**22 // pixels)

    def _start(self, root: int, names: Sequence[str]) -> torch.Tensor:
        parameters = self.parametrization.start(streams(root, "start", names))
        return parameters.to(self.device, self.parameter_dtype).requires_grad_()

    def _numbers(self, chain: Chain, root: int, names: Sequence[str]) -> torch.Tensor:
        size = (self.settings.steps, chain.numbers)
        drawn = [torch.rand(size, generator=stream) for stream in streams(root, "transforms", names)]
        return torch.stack(drawn, dim=1).to(self.device, self.parameter_dtype)

    def _look(self, images: torch.Tensor) -> Activations:
        prepared = self.preparation.for_model(images).to(self.dtype)
        return self.forward(prepared.to(memory_format=self.memory_format) if prepared.ndim == 4 else prepared)

    @torch.no_grad()
    def _score(self, plan: Plan, parameters: torch.Tensor, when: str) -> tuple[torch.Tensor, torch.Tensor]:
        images = self.parametrization.images(parameters).clamp(0, 1)
        _check_finite(images, plan, "image", when)
        values = plan.diagonal(self._look(images), images)
        _check_finite(values[:, None], plan, "value", when)
        return images, values

    def _probe(self) -> tuple[torch.Tensor, Activations]:
        """Run the model on two first images, before anything is optimized."""
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
            return images, self._look(images)
        except RuntimeError:
            # Some models view what convolutions return as if it were contiguous.
            self.memory_format = torch.contiguous_format
            return images, self._look(images)


def keep_memory() -> None:
    """Let this process keep what it frees: asking the system for the same memory in each step costs up to half of it.

    The C library of Linux gives back what is free above twice the largest block that ever was freed, up to 32 MiB.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


def _names(identities: Sequence[str]) -> list[str]:
    """Tell objectives that are the same apart by number: what images draw their random numbers by."""
    seen: Counter[str] = Counter()
    names = []
    for identity in identities:
        names.append(f"{identity}/{seen[identity]}")
        seen[identity] += 1
    return names


def _chunks(objectives: Sequence[Objective], size: int) -> list[list[int]]:
    """Share out the rows so that images which are compared with each other stay together."""
    together: dict[Any, list[int]] = {}
    for row, objective in enumerate(objectives):
        mixed = any(isinstance(term, Diversity) for _, term in objective.terms)
        together.setdefault(objective if mixed else row, []).append(row)
    chunks: list[list[int]] = [[]]
    for rows in together.values():
        if chunks[-1] and len(chunks[-1]) + len(rows) > size:
            chunks.append([])
        chunks[-1] += rows
    return chunks


def _check_finite(values: torch.Tensor, plan: Plan, what: str, when: str) -> None:
    """Raise an error that names the first objective whose row of `values` holds something not finite."""
    # The sum is finite if every value is; reading once is all that the usual case costs.
    broken = ~values.detach().flatten(1).sum(1).isfinite()
    if bool(broken.any()):
        row = int(broken.nonzero()[0])
        raise RuntimeError(
            f"the {what} of objective {plan.labels[row]} is NaN or infinite {when}; nothing is given back. A smaller "
            "lr may help, if the model itself does not overflow"
        )
