"""A folder of images without classes, as a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import torch
from torch.utils.data import Dataset

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@final
class Photos(Dataset[torch.Tensor]):
    """The images in `folder`, by name.

    Raises
    ------
    ValueError
        If there are none.
    """

    def __init__(self, folder: Path, transform: Callable[[Any], torch.Tensor]) -> None:
        self.files = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
        self.transform = transform
        if not self.files:
            raise ValueError(f"{folder} holds no images ({', '.join(sorted(ENDINGS))})")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        from PIL import Image

        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB"))
