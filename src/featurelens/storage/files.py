"""Files that are there whole or not at all, also after a power cut, and one writer at a time."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".lock"
_HELD = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}
OPEN = ".open"
"""What the name of a file ends with while it is being written."""


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` under a temporary name, and give it its own once it is safe on disk."""
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def digest_of(path: Path, size: int) -> hashlib._Hash:
    """Return the sha256 of the first `size` bytes of a file; that of all is what ``sha256sum`` prints."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (part := file.read(min(size, 2**20))):
            digest.update(part)
            size -= len(part)
    return digest


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` safe on disk."""
    if sys.platform == "win32":  # where folders cannot be opened, and names are written through
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; the operating system lets go of it if the process dies, however it dies.

    Raises
    ------
    RuntimeError
        If another process, or another thread, holds it.
    """
    handle = _locked(folder / LOCK)
    _locks.add(handle)
    try:
        yield
    finally:
        _locks.remove(handle)
        # Removed while it is held: who waits for a removed file notices, as the name then means another.
        with suppress(OSError):
            (folder / LOCK).unlink()
        os.close(handle)


_locks: set[int] = set()


def _let_go() -> None:
    """In a fork, close what it has of the locks: a DataLoader's workers may outlive a process that was killed."""
    for handle in _locks:
        os.close(handle)
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _locked(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle)
        except OSError as error:
            holder = os.read(handle, 200).decode(errors="replace")
            os.close(handle)
            if error.errno not in _HELD:
                raise  # a file system without locks, say
            raise RuntimeError(
                f"{os.fspath(path.parent)!r} is being written by another run"
                + (f" ({holder})" if holder else "")
                + ": wait for it to end, or record to another folder"
            ) from None
        try:
            same = os.path.samestat(os.fstat(handle), path.stat())
        except FileNotFoundError:
            same = False
        if same:
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return handle
        os.close(handle)


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        os.lseek(handle, 1000, os.SEEK_SET)  # behind the text, which others could not read otherwise
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
