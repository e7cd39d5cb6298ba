"""Figures of the results; the only package that imports matplotlib.

Every function accepts tensors (any device, any real dtype, with or without gradients), NumPy arrays or results, and
returns a matplotlib `Figure` to which pyplot keeps no reference. Jupyter shows it as the last expression of a cell;
save it with ``figure.savefig("maps.png")``. With ``ax=``, the function draws on that Axes and returns its figure; if
pyplot made it, end the cell with a semicolon, as pyplot shows its figures by itself.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
