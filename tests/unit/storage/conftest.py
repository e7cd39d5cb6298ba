"""Stores small enough to look at: shards of a few rows, and a checkpoint after every batch."""

import pytest

from featurelens.storage import layer_files, writer


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(layer_files, "SHARD_BYTES", 100)
    monkeypatch.setattr(writer, "CHECKPOINT_SECONDS", 0.0)
