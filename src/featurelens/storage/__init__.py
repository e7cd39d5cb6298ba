"""Activations in memory and on disk; those on disk are written shard by shard and read row by row."""

from featurelens.storage.activations import Activations
from featurelens.storage.layer_files import StoredLayer
from featurelens.storage.store import ActivationStore

__all__ = ["ActivationStore", "Activations", "StoredLayer"]
