"""The user's images: batch by batch as the loader yields them, or by their rows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, final

import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, Subset, TensorDataset

from featurelens._batches import SHUFFLING, Batches, Given, sampler_of
from featurelens._checks import check_dense, describe
from featurelens._sharding import Share
from featurelens._structure import first_tensor
from featurelens.recording.inputs import as_loader, labels_of

BATCH = 64
"""Images in a batch of data that are one tensor."""

Function = Callable[[Any], Any]


class Rows(NamedTuple):
    """Images `(N, C, ...)` as the loader yields them, the first one's row of the data set, and their labels."""

    first: int
    images: torch.Tensor
    labels: torch.Tensor | None


@final
class Source:
    """Images and labels in the batches of `loader`, and what the model is given of them."""

    def __init__(
        self,
        loader: Any,
        *,
        preprocess: Function | None = None,
        inputs: Function | None = None,
        labels: Function | None = None,
    ) -> None:
        for argument, function in (("preprocess", preprocess), ("inputs", inputs), ("labels", labels)):
            if function is not None and not callable(function):
                raise TypeError(f"{argument} must be a function; got {describe(function)}")
        self.loader = _in_batches(loader)
        self.preprocess, self._inputs, self._labels = preprocess, inputs, labels

    def images(self, batch: Any) -> torch.Tensor:
        """Return the images in a batch."""
        found = first_tensor(batch)
        if self._inputs is not None:
            found = self._inputs(batch)
            if not isinstance(found, torch.Tensor):
                raise TypeError(
                    "inputs must return the images of a batch, as one tensor: an atlas is of a model with one input; got "
                    f"{describe(found)}"
                )
        if found is not None:
            check_dense(found, argument="the loader's images")
        if found is None or found.ndim not in (3, 4, 5):
            raise ValueError(
                "the loader must yield images (N, C, H, W), signals (N, C, L) or volumes (N, C, D, H, W); "
                f"got {describe(batch if found is None else found)}: pass inputs=lambda batch: batch[...]"
            )
        return found

    def labels(self, batch: Any) -> torch.Tensor | None:
        """Return the labels in a batch, if they are classes `(N,)`."""
        found = labels_of(batch, self._labels)
        whole = isinstance(found, torch.Tensor) and found.ndim == 1 and not found.is_floating_point()
        return found if whole else None

    def for_model(self, batch: Any) -> torch.Tensor:
        """Return what the model is given of a batch."""
        return self.prepared(self.images(batch))

    def prepared(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the model is given of images; the function may work in place."""
        return images if self.preprocess is None else self.preprocess(images.clone())

    @property
    def number_of_batches(self) -> int | None:
        """Number of batches, if the loader tells it and yields them in the same order each time."""
        loader: Any = self.loader
        if isinstance(loader, DataLoader) and not _by_index(loader):
            return None
        try:
            return len(loader)
        except TypeError:
            return None

    @property
    def number_of_images(self) -> int | None:
        """Number of images, if the loader tells it."""
        try:
            return len(self.loader.dataset) if isinstance(self.loader, DataLoader) else None  # type: ignore[arg-type]
        except TypeError:
            return None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, as far as the data set tells."""
        data = getattr(self.loader, "dataset", None)
        while isinstance(data, Subset):
            data = data.dataset
        names = getattr(data, "classes", None)
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            return tuple(names)
        if isinstance(data, TensorDataset) and len(data.tensors) > 1:
            labels = self.labels(data.tensors)
            return None if labels is None else tuple(str(label) for label in range(int(labels.max()) + 1))
        return None

    def batches(self) -> Iterator[Rows]:
        """Yield every batch."""
        for batch in self._batches().run():
            yield Rows(batch.first_row, self.images(batch.value), self.labels(batch.value))

    def first_images(self) -> torch.Tensor:
        """Return the images of the first batch.

        Raises
        ------
        ValueError
            If there is none, or another pass over the data yields other images.
        """
        for batch in self.loader:
            first = self.images(batch)
            if not _same(first, self._first_images_again(len(first))):
                raise ValueError(
                    "the loader must yield the same images in the same order each time it is read; the first batch differs: "
                    "pass one that does not shuffle or augment"
                )
            return first
        raise ValueError(f"the loader yielded no batch; got {describe(self.loader)}")

    def _first_images_again(self, number: int) -> torch.Tensor:
        """Return the first images as `chunks` loads them."""
        if _by_index(self.loader):
            return torch.cat([chunk.images for chunk in self.chunks(range(number))])
        return self.images(next(iter(self.loader)))

    def take(self, rows: Sequence[int]) -> Rows:
        """Return the images of these rows of the data set, in the order given."""
        wanted = sorted(set(rows))
        parts = list(self.chunks(wanted))
        if len(shapes := {tuple(part.images.shape[1:]): None for part in parts}) > 1:
            raise ValueError(
                f"the loader must yield images of one shape; got {' and '.join(map(str, shapes))}"
            )
        place = torch.searchsorted(torch.tensor(wanted), torch.tensor(list(rows)))
        labels = [part.labels for part in parts if part.labels is not None]
        return Rows(
            wanted[0],
            torch.cat([part.images for part in parts])[place],
            torch.cat(labels)[place] if len(labels) == len(parts) else None,
        )

    def chunks(self, wanted: Sequence[int]) -> Iterator[Rows]:
        """Yield the images of these rows, which ascend, some at a time.

        Of a DataLoader over a map-style data set, only these images are loaded; other loaders are read again.
        """
        loader: Any = self.loader
        if not _by_index(loader):
            for batch in self.batches():
                first, after = batch.first, batch.first + len(batch.images)
                inside = [
                    row - first for row in wanted[bisect_left(wanted, first) : bisect_left(wanted, after)]
                ]
                if inside:
                    labels = None if batch.labels is None else batch.labels[inside]
                    yield Rows(first + inside[0], batch.images[inside], labels)
            return
        for start in range(0, len(wanted), BATCH):
            part = wanted[start : start + BATCH]
            batch = loader.collate_fn([loader.dataset[row] for row in part])
            yield Rows(part[0], self.images(batch), self.labels(batch))

    def _batches(self) -> Batches:
        return Batches(self.loader, Share(), given=lambda batch: Given((), {}, len(self.images(batch))))


def _in_batches(loader: Any) -> Iterable[Any]:
    """Return a loader; data that are one tensor, or images and labels, in batches."""
    single = as_loader(loader)
    if single is loader or not isinstance(single, list) or isinstance(single[0], dict):
        if not isinstance(single, Iterable) or isinstance(single, str | torch.nn.Module):
            raise TypeError(f"loader must yield batches of images; got {describe(loader)}")
        if isinstance(single, Iterator):
            raise TypeError(
                "loader must be one that can be read several times, such as a DataLoader or a list of batches; got "
                f"{describe(loader)}"
            )
        if isinstance(sampler_of(single), SHUFFLING):
            raise ValueError(
                "loader must yield the same images in the same order each time; it shuffles: pass shuffle=False"
            )
        return single
    tensors = single[0] if isinstance(single[0], list | tuple) else (single[0],)
    check_dense(tensors[0], argument="the loader's images")
    return DataLoader(TensorDataset(*tensors), batch_size=BATCH)


def _by_index(loader: Any) -> bool:
    """Whether images can be loaded by their rows: a DataLoader over a map-style data set from its first to its last item."""
    return (
        isinstance(loader, DataLoader)
        and type(loader).__iter__ is DataLoader.__iter__
        and type(loader.batch_sampler) is BatchSampler  # a user's own may take the items in any order
        and type(loader.batch_sampler.sampler) is SequentialSampler
    )


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether images are equal; NaN equals NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | (one.isnan() & other.isnan())).all())
