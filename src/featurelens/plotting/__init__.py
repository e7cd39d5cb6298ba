"""Figures of what featurelens finds; the only room that knows matplotlib.

Every function accepts tensors (any device, any real dtype, with or without gradients), NumPy arrays or results, and
returns a matplotlib `Figure` that belongs to the caller. Jupyter shows it as the value of a cell; a file is
``figure.savefig("maps.png")``. With ``ax=`` the picture is drawn on that Axes, and the figure is the one it lies on.
Pyplot keeps no reference.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
