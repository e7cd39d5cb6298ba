"""featurelens looks inside any :class:`torch.nn.Module`.

>>> import featurelens as fl
>>> import torch
>>> from torch import nn
>>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
>>> acts = fl.ActivationRecorder(model, ["conv_1", nn.ReLU])(torch.rand(2, 1, 8, 8))
>>> {name: tuple(activation.shape) for name, activation in acts.items()}
{'0': (2, 4, 6, 6), '1': (2, 4, 6, 6)}

Public names stand in ``__init__.pyi`` and are imported when they are first used, so that ``import featurelens`` costs no
more than ``import torch``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
