"""Examples as programs and as notebooks: the command line, and figures on the page."""

import sys
from pathlib import Path


def in_notebook() -> bool:
    """Say whether a kernel of Jupyter runs this program."""
    return "ipykernel.kernelapp" in sys.modules


def command_line() -> list[str]:
    """Return the arguments of the command line; a notebook has none, since its command line is the kernel's."""
    return [] if in_notebook() else sys.argv[1:]


def show(picture: Path) -> None:
    """Show a PNG file in a notebook."""
    if in_notebook():
        from IPython.display import Image, display

        display(Image(str(picture)))
