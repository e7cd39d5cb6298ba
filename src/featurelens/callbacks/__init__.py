"""Watch a network while it trains: in a loop of your own, PyTorch Lightning, or the Hugging Face ``Trainer``."""

from featurelens.callbacks.adapters import lightning_callback, trainer_callback
from featurelens.callbacks.observer import Observer

__all__ = ["Observer", "lightning_callback", "trainer_callback"]
