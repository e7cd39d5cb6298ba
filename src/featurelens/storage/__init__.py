"""Activations in files: written shard by shard, gone on with after any end, read row by row."""

from featurelens.storage.merging import merge
from featurelens.storage.reading import StoredLayer
from featurelens.storage.store import ActivationStore

__all__ = ["ActivationStore", "StoredLayer", "merge"]
