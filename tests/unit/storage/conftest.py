"""Stores small enough to look at: shards of a few rows, and a checkpoint after every batch."""

import pytest

from featurelens.storage import shards, writer


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 100)
    monkeypatch.setattr(writer, "CHECKPOINT_SECONDS", 0.0)
