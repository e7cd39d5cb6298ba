"""`ActivationRecorder`: what layers return, for one batch, for a data set, or around the user's own forward."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Literal, final, overload

import torch
from torch import nn

from featurelens._checks import check_choice, check_flag, check_module, check_path, check_type, describe
from featurelens._hooks import unwrap
from featurelens._sharding import Share
from featurelens.layers import Selector, choose
from featurelens.recording.dataset import DatasetPass
from featurelens.recording.engine import Engine, Keeper
from featurelens.recording.in_memory import record_in_memory
from featurelens.recording.inputs import Inputs, Rows, checked_loader
from featurelens.recording.operations import operation_names
from featurelens.recording.reductions import Reduction, reductions
from featurelens.recording.rewrite import Rewriting
from featurelens.recording.streaming import Statistics, stream
from featurelens.recording.to_store import record_to_store
from featurelens.statistics import StreamResult
from featurelens.storage import ActivationStore
from featurelens.storage.activations import Activations


@final
class ActivationRecorder:
    """Records what chosen layers of a model return, and restores the model exactly.

    ::

        recorder = fl.ActivationRecorder(model, ["conv1", "layer*.conv2", nn.ReLU, "relu#1"])
        acts = recorder(images)                  # one batch
        acts = recorder.record(loader)           # a data set, concatenated
        with recorder as acts:                   # around your own forward
            logits = model(images)
        acts["conv1"]                            # (N, C, H, W)

    Parameters
    ----------
    model
        Any module, on any device, in any mode. If it is compiled or wrapped for parallel training, layers have the names
        of the module inside.
    layers
        One selector or several: exact name, glob, ordinal alias (``"conv_2"``), module, module type, or predicate
        ``(name, module) -> bool``. ``"act#1"`` is the first call of a module that is called several times; without
        ``#k`` every call is recorded. See `featurelens.layers`.
    backend
        "hooks" works on any model. "rewrite" traces the model's operations, so that functions and methods can be
        recorded as well, under the names of `list_operations` ("relu", "add").
    reduce
        What to keep of each output, computed before anything is stored: None for all of it, "mean" or "max" over all
        axes after the first two, `(N, C, H, W)` to `(N, C)`, or a function of the whole output. Outputs with three axes
        are read as `(N, C, L)` for `nn.Conv1d` and similar layers; other layers may return tokens `(N, L, D)` and need a
        function. A mapping from selectors reduces layers differently.
    detach
        Record without the autograd graph. With False, activations stay in the graph, so gradients of later layers with
        respect to them can be computed, as in Grad-CAM.
    clone
        Copy, so that later in-place operations cannot change recorded activations. With False nothing is copied, and
        changing a recorded output in place is an error.
    device, dtype
        Device and floating-point type of kept activations (``torch.float32`` under autocast); by default the output's.
    stop_early
        End the forward pass at the last call of the chosen layers; `output` is then None. A layer chosen by number
        (``"act#1"``) ends it at that call. For others, one complete pass counts the calls, and later passes with
        inputs of the same structure, shapes and dtypes end after as many: use True only if the number of calls
        depends on nothing else. If the model catches the exception that ends the pass, it runs to its end.
    training
        False runs the model in eval mode; ``"keep"`` leaves every module in the mode it is in.

    Raises
    ------
    LookupError
        If a selector matches no layer, or, on recording, if forward never reaches one.
    TypeError, ValueError
        If an argument is not one of the above.
    RuntimeError
        If the rewrite backend cannot trace the model; on recording, if the model rejects the batch or a layer was
        changed in place.

    Notes
    -----
    Hooks, modes, buffers (BatchNorm's statistics too), attributes and the global random state are restored when
    a call ends, even by an exception; a ``with`` block restores them too, except for random numbers drawn in it. The
    hooks backend runs the model on your data and nothing else. The rewrite backend also runs its Python code on
    placeholders, to trace it, and once more on inputs of a new shape, to compare the outputs.

    A batch that is a tensor, a list of texts or a list of dicts is the input. Of other tuples and lists the first item
    is the input, and the others are labels. The items of a dict go to the arguments of forward of the same name, or
    the one called "image", "input" or similar is the input. Where that is ambiguous, an error asks for ``inputs=``.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 10))
    >>> recorder = ActivationRecorder(model, ["conv_1", "linear_1"], reduce={"conv_1": "mean"})
    >>> recorder(torch.rand(2, 1, 8, 8))
    Activations(0: (2, 4), 3: (2, 10))
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Selector | Iterable[Selector],
        *,
        backend: Literal["hooks", "rewrite"] = "hooks",
        reduce: Reduction | Mapping[Selector, Reduction] = None,
        detach: bool = True,
        clone: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        stop_early: bool = False,
        training: Literal[False, "keep"] = False,
    ) -> None:
        check_choice(backend, ("hooks", "rewrite"), argument="backend")
        check_choice(training, (False, "keep"), argument="training")
        for value, argument in ((detach, "detach"), (clone, "clone"), (stop_early, "stop_early")):
            check_flag(value, argument=argument)
        floating = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        if dtype is not None and all(dtype is not kind for kind in floating):
            raise TypeError(f"dtype must be a floating-point torch.dtype; got {describe(dtype)}")
        self._wrapped = check_module(model)
        self.model = unwrap(model)
        self.backend, self.training, self.stop_early = backend, training, stop_early
        self._block: AbstractContextManager[Activations] | None = None  # while a block is open
        rewrites, evaluate = backend == "rewrite", training != "keep"
        operations = operation_names(self.model, evaluate=evaluate) if rewrites else ()
        choices = choose(self.model, layers, operations)
        self._engine = Engine(
            self.model,
            choices,
            Keeper(detach, clone, _device(device), dtype),
            reductions(self.model, choices, reduce, operations),
            rewriting=Rewriting(self.model, choices) if rewrites else None,
            evaluate=evaluate,
            stop_early=stop_early,
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the chosen layers, in order; with ``#k`` if one call was selected."""
        return self._engine.layers

    def __repr__(self) -> str:
        backend = "" if self.backend == "hooks" else f", backend={self.backend!r}"
        return f"ActivationRecorder({type(self.model).__name__}, {list(self.layers)}{backend})"

    def __call__(self, *args: Any, **kwargs: Any) -> Activations:
        """Run the model on one batch and return what the chosen layers returned.

        Parameters
        ----------
        *args, **kwargs
            The model's arguments, usually images `(N, C, H, W)`; tensors are moved to the model's device.
        """
        self._check_free()
        with self._engine.visiting():
            return self._engine.run(args, kwargs)

    @contextmanager
    def held(self) -> Iterator[Callable[..., Activations]]:
        """Guard the model once around many calls: yields a function that does the same as ``recorder(images)``.

        In the block the model is in the state in which a recorder runs it, and parameter flags may be changed.
        """
        self._check_free()
        with self._engine.visiting():
            yield lambda *args, **kwargs: self._engine.run(args, kwargs)

    @overload
    def record(
        self,
        loader: Iterable[Any],
        *,
        to: None = None,
        shard: tuple[int, int] | None = None,
        inputs: Inputs = None,
        rows: Rows = None,
        progress: bool = True,
    ) -> Activations: ...

    @overload
    def record(
        self,
        loader: Iterable[Any],
        *,
        to: str | os.PathLike[str],
        resume: bool = False,
        shard: tuple[int, int] | None = None,
        inputs: Inputs = None,
        rows: Rows = None,
        progress: bool = True,
    ) -> ActivationStore: ...

    def record(
        self,
        loader: Iterable[Any],
        *,
        to: str | os.PathLike[str] | None = None,
        resume: bool = False,
        shard: tuple[int, int] | None = None,
        inputs: Inputs = None,
        rows: Rows = None,
        progress: bool = True,
    ) -> Activations | ActivationStore:
        """Run the model over a data set and return what the chosen layers returned, joined along axis 0.

        Parameters
        ----------
        loader
            Yields batches, or is one (tensor, array, dict, or images and labels); the class's notes say which is the input.
        to
            A folder to write to, batch by batch, for data sets larger than memory. Under torch.distributed every rank
            makes the call and writes its share; rank 0 joins the shares, and all return the whole.
        resume
            Continue an interrupted recording in that folder: the files will be those of an uninterrupted run. Model,
            layers, reductions and data must be the same. The last saved batch is compared with the data, or all saved
            batches if the loader is not a DataLoader over a map-style data set.
        shard
            ``(index, count)``: one contiguous block of the batches, for a worker of an array job; `merge` joins the
            workers' stores. ``(0, 1)`` is everything, even in one of several ranks.
        inputs, rows
            Functions of a batch: the model's input, a tuple of positional or a dict of keyword arguments; and the number
            of rows, by default the length of the first input. If either is ambiguous, an error asks for it.
        progress
            Show a progress bar; without a terminal, write a line every ten seconds.

        Raises
        ------
        TypeError, ValueError
            If an argument is not one of the above, the loader yields no batch or cannot be shared out, axis 0 of an
            output is not the batch, or the recording to resume was made differently.
        OSError
            If the folder is not empty without `resume`, or a file cannot be written; it says how many rows were saved.
        RuntimeError
            If the model fails on a batch, another run is writing to the folder, or another rank failed.
        """
        dataset = self._dataset(loader, shard, inputs, rows, progress, alone=to is None and shard is None)
        check_flag(resume, argument="resume")
        if to is not None:
            folder = check_path(to, argument="to", expected="a folder's path")
            return record_to_store(dataset, folder.absolute(), resume=resume)
        if resume:
            raise ValueError("resume=True continues a recording on disk: pass its folder as to=")
        return record_in_memory(dataset)

    def stream(
        self,
        loader: Iterable[Any],
        statistics: Statistics | Mapping[Selector, Statistics],
        *,
        inputs: Inputs = None,
        rows: Rows = None,
        labels: Callable[[Any], Any] | None = None,
        shard: tuple[int, int] | None = None,
        progress: bool = True,
    ) -> StreamResult:
        """Run the model over a data set once and keep only statistics of the layers' outputs.

        ::

            result = recorder.stream(loader, {"conv1": [fl.statistics.Moments(), fl.statistics.TopK(9)]})
            result["conv1"].moments.mean             # (C,)
            result["conv1"].top_k.rows               # (C, 9): which images

        Statistics are computed inside the hook, from the layer's own memory, after `reduce`; `clone`, `device` and
        `dtype` have no effect. Sums over batches are exact: one process, many ranks and merged blocks give bitwise equal
        results, if the model returns the same activations everywhere.

        Parameters
        ----------
        loader, inputs, rows, progress
            As in `record`. Under torch.distributed every rank runs a block of the batches and returns the whole result.
        statistics
            One or several for every layer, or a mapping from selectors to them that covers every recorded layer.
        labels
            Function that returns the labels `(N,)` of a batch; by default they are the second item of a tuple or list,
            or the item "label", "labels", "target", "targets" or "y" of a dict.
        shard
            ``(index, count)``: one of `count` blocks of batches; `StreamResult.merge` joins their results.

        Raises
        ------
        TypeError, ValueError, LookupError
            If an argument is not one of the above, the loader yields no batch, a layer returns no tensor
            `(N, C, ...)`, or one that may be `(N, L, D)` without `reduce`, or labels are missing or out of range.
        RuntimeError
            If the model fails on a batch, or another rank failed.
        """
        dataset = self._dataset(loader, shard, inputs, rows, progress, caller="stream", labels=labels)
        return stream(dataset, statistics, labels, may_be_empty=shard is not None)

    def _dataset(
        self,
        loader: Iterable[Any],
        shard: tuple[int, int] | None,
        inputs: Inputs,
        rows: Rows,
        progress: bool,
        *,
        caller: str = "record",
        alone: bool = False,
        **functions: object,
    ) -> DatasetPass:
        loader = checked_loader(
            loader, progress=progress, caller=caller, inputs=inputs, rows=rows, **functions
        )
        self._check_free()
        share = Share() if alone else Share.find(shard)
        return DatasetPass(self._engine, loader, share, inputs, rows, progress)

    def __enter__(self) -> Activations:
        if isinstance(self._wrapped, nn.DataParallel) and len(self._wrapped.device_ids) > 1:
            raise RuntimeError(
                "hooks would see one device's part of the batch in DataParallel: record around model.module, "
                "or call recorder(images)"
            )
        self._check_free()
        block = self._engine.recording()
        activations = block.__enter__()
        self._block = block  # only once the block is open
        return activations

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._block is not None
        block, self._block = self._block, None
        block.__exit__(kind, error, trace)

    def _check_free(self) -> None:
        if self._block is not None:
            raise RuntimeError("this recorder is already recording; to nest recordings, make another one")


def _device(given: torch.device | str | None) -> torch.device | None:
    if given is None:
        return None
    expected = "a torch.device or its name, such as 'cuda:0'"
    check_type(given, str | torch.device, argument="device", expected=expected)
    try:
        return torch.device(given)
    except RuntimeError:
        raise ValueError(f"device must be {expected}; got {given!r}") from None
