"""`ActivationStore`: activations of a data set on disk, read row by row on request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Self, final

from featurelens._checks import check_path
from featurelens._html import paragraph, table
from featurelens._lookup import find
from featurelens.storage.activations import Activations
from featurelens.storage.files import digest_of
from featurelens.storage.layer_files import StoredLayer, check_digest, locate
from featurelens.storage.manifest import Manifest
from featurelens.storage.merging import join_parts


@final
class ActivationStore(Mapping[str, StoredLayer]):
    """Activations of a data set on disk: an ordered mapping from layer names to rows.

    `ActivationRecorder.record` makes one with ``to=path``; ``ActivationStore(path)`` opens it again, and reads only its
    manifest. Lookup accepts the same names as `Activations`. A layer's files are ordinary .npy files, listed with their
    rows and sha256 in ``manifest.json``.

    Parameters
    ----------
    path
        The folder. An incomplete recording can be opened too; it has the rows saved so far.

    Raises
    ------
    FileNotFoundError
        If there is no store.
    ValueError
        If its manifest was changed, or has another format.

    Examples
    --------
    >>> import tempfile, torch
    >>> import featurelens as fl
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
    >>> folder = tempfile.TemporaryDirectory()
    >>> loader = [torch.rand(5, 1, 8, 8), torch.rand(3, 1, 8, 8)]
    >>> fl.ActivationRecorder(model, ["conv_1", "relu_1"], reduce="mean").record(loader, to=folder.name)
    ActivationStore(8 rows, 0: (4,) float32, 1: (4,) float32)
    >>> store = fl.ActivationStore(folder.name)
    >>> store["conv_1"][[6, 0]].shape
    torch.Size([2, 4])
    >>> store.verify()
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = check_path(
            path, expected="a folder's path"
        ).absolute()  # the working directory may change
        self._manifest = Manifest.read(self.path)
        self._layers = {
            name: StoredLayer(name, layer, self.path) for name, layer in self._manifest.layers.items()
        }

    @property
    def rows(self) -> int:
        """Number of rows in every layer."""
        return self._manifest.rows

    @property
    def complete(self) -> bool:
        """Whether the recording was finished."""
        return self._manifest.complete

    def __getitem__(self, name: str) -> StoredLayer:
        return self._layers[find(name, self._layers, self._manifest.aliases)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        layers = [f"{name}: {layer.shape} {layer.dtype}" for name, layer in self._manifest.layers.items()]
        return f"ActivationStore({', '.join([self._rows_in_words(), *layers])})"

    def _repr_html_(self) -> str:
        rows: list[tuple[object, ...]] = [("layer", "shape", "dtype", "files")]
        for name, layer in self._manifest.layers.items():
            rows.append((name, self._layers[name].shape, layer.dtype, len(layer.all_shards)))
        return paragraph(f"{os.fspath(self.path)}: {self._rows_in_words()}") + table(rows)

    def read(self) -> Activations:
        """Read everything into memory."""
        return Activations({name: layer[:] for name, layer in self.items()}, aliases=self._manifest.aliases)

    @classmethod
    def merge(
        cls,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        to: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Join the parts that the workers of an array job recorded into one store, in the order of the data set.

        Each worker calls ``recorder.record(loader, to=path, shard=(index, count))``; afterwards
        ``fl.ActivationStore.merge(path)`` writes a manifest for the whole. The rows stay in the parts' folders. Under
        torch.distributed `record` does this itself.

        Parameters
        ----------
        paths
            The folder that all workers recorded to, or a list of the parts' own folders.
        to
            Where to put the manifest; by default the folder that contains the parts.

        Raises
        ------
        TypeError
            If `paths` or `to` are not paths.
        FileNotFoundError
            If there are no parts.
        FileExistsError
            If there is another store at `to`.
        ValueError
            If a part is missing, incomplete or given twice, or if the parts were recorded differently.

        Examples
        --------
        >>> import tempfile, torch
        >>> import featurelens as fl
        >>> recorder = fl.ActivationRecorder(torch.nn.Sequential(torch.nn.Linear(3, 2)), "linear_1")
        >>> loader = torch.rand(10, 3).split(2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for index in range(2):
        ...         part = recorder.record(loader, to=folder, shard=(index, 2))
        ...     fl.ActivationStore.merge(folder)
        ActivationStore(10 rows, 0: (2,) float32)
        """
        return cls(join_parts(paths, to))

    def verify(self) -> None:
        """Read every file and compare it with its checksum.

        Raises
        ------
        OSError
            If files are missing or have changed since they were written; the message names them.
        RuntimeError
            If the recording was incomplete when the store was opened, and has been resumed since.
        """
        damaged = []
        for shard in (shard for layer in self._manifest.layers.values() for shard in layer.all_shards):
            try:
                path = locate(self.path, shard)
                if not shard.file.endswith(path.name):
                    raise RuntimeError(
                        f"{os.fspath(self.path)!r} was written to since it was opened: open it again to verify it"
                    )
                check_digest(digest_of(path, shard.bytes), path, shard)
            except OSError as error:
                damaged.append(str(error))
        if damaged:
            raise OSError("; ".join(damaged))

    def _rows_in_words(self) -> str:
        return f"{self.rows} rows{'' if self.complete else ', not complete'}"
