"""What a newcomer does with the wheel, in an environment and a folder that hold nothing else: `nox -s wheel` runs it.

The first argument is the README, whose ten lines are run.
"""

import importlib.metadata
import importlib.resources
import re
import subprocess
import sys
from pathlib import Path

MODULE = """from torch import nn

def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
"""


def main() -> None:
    package_is_whole()
    ten_lines(Path(sys.argv[1]).read_text())
    layers_at_the_command_line()
    small_atlas()
    print("The wheel is whole.")


def package_is_whole() -> None:
    """The package is the installed one, knows its version, is typed, and carries the pages of the atlas."""
    import featurelens as fl

    assert Path(fl.__file__).is_relative_to(sys.prefix), fl.__file__
    assert fl.__version__ == importlib.metadata.version("featurelens")
    files = importlib.resources.files("featurelens")
    pages = {path.name.rpartition(".")[2] for path in (files / "atlas" / "site").iterdir()}
    assert pages >= {"html", "css", "js"}, pages
    assert all((files / name).is_file() for name in ("py.typed", "__init__.pyi", "plotting/__init__.pyi"))
    assert all(getattr(fl, name) is not None for name in fl.__all__)


def ten_lines(readme: str) -> None:
    """The README's ten lines run, and leave a figure."""
    exec(re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)[0], {})  # noqa: S102
    assert Path("conv1.png").stat().st_size > 5000


def layers_at_the_command_line() -> None:
    """`featurelens layers` lists a network that lies in the folder."""
    Path("mine.py").write_text(MODULE)
    command = [str(Path(sys.executable).parent / "featurelens"), "layers", "mine:network"]
    done = subprocess.run(
        [*command, "--channels", "1", "--size", "8"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "conv_1" in done.stdout, done.stdout


def small_atlas() -> None:
    """An atlas of a small network opens with its table of layers."""
    import torch
    from torch import nn

    import featurelens as fl

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    data = torch.rand(32, 1, 8, 8), torch.arange(32) % 2
    fl.Atlas(model, data, steps=4, progress=False).build("atlas")
    assert Path("atlas/index.html").is_file()


if __name__ == "__main__":
    main()
