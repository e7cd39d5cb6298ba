"""The .npy format: a header of a length known beforehand, then the rows; and the dtypes that it has no name for."""

from __future__ import annotations

import torch

_SAME_NAME = (
    torch.float16,
    torch.float32,
    torch.float64,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bool,
    torch.complex64,
    torch.complex128,
)


def dtype_name(dtype: torch.dtype) -> str:
    """Return ``"float32"`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def file_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype under which a file holds `dtype`: itself, or unsigned integers of its size (bfloat16, float8)."""
    if dtype in _SAME_NAME:
        return dtype
    return {1: torch.uint8, 2: torch.uint16}[dtype.itemsize]


def is_storable(tensor: torch.Tensor) -> bool:
    """Return whether a file can hold what is in `tensor`."""
    dense = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_nested or tensor.is_quantized)
    return dense and (tensor.dtype in _SAME_NAME or tensor.dtype.itemsize <= 2) and tensor.ndim > 0


def row_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Return the size of one row."""
    size = dtype.itemsize
    for length in shape:
        size *= length
    return size


def header(rows: int, shape: tuple[int, ...], dtype: torch.dtype, *, most_rows: int) -> bytes:
    """Return the head of a file of `rows`, as long as that of one of `most_rows`."""
    length = -(-(_PREFIX + len(_dictionary(most_rows, shape, dtype)) + 1) // 64) * 64
    text = _dictionary(rows, shape, dtype).ljust(length - _PREFIX - 1) + "\n"
    return b"\x93NUMPY\x01\x00" + (length - _PREFIX).to_bytes(2, "little") + text.encode("ascii")


_PREFIX = 10


def _dictionary(rows: int, shape: tuple[int, ...], dtype: torch.dtype) -> str:
    stored = file_dtype(dtype)
    kind = (
        "b" if stored is torch.bool else "c" if stored.is_complex else "f" if stored.is_floating_point else ""
    )
    kind = kind or ("i" if stored.is_signed else "u")
    order = "|" if stored.itemsize == 1 else "<"
    whole = f"({', '.join(map(str, (rows, *shape)))}{',' if not shape else ''})"
    return f"{{'descr': '{order}{kind}{stored.itemsize}', 'fortran_order': False, 'shape': {whole}, }}"
