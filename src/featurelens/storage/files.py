"""Files that are complete or absent, also after a power cut, and one writer at a time."""

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
OPEN = ".open"
"""Ends the name of a file that is still being written."""


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` under a temporary name, and rename the file once it is safe on disk."""
    temporary = path.with_name(path.name + ".new")  # one that is left by a failure is overwritten next time
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
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
    """Lock `folder` for this process; the operating system unlocks it when the process ends, however it ends.

    Raises
    ------
    RuntimeError
        If another process, or another thread, is writing.
    """
    path = folder / LOCK
    handle = _locked(path)
    while not _is_at(path, handle):  # it was removed while it was opened: nobody else would see this lock
        os.close(handle)
        handle = _locked(path)
    _locks.add(handle)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        _locks.remove(handle)
        with suppress(OSError):
            path.unlink()
        os.close(handle)


_locks: set[int] = set()


def _unlock_in_fork() -> None:
    """Close a fork's copies of the locks: a DataLoader's workers may outlive a process that was killed."""
    while _locks:
        os.close(_locks.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_fork)


def _is_at(path: Path, handle: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _locked(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if sys.platform == "win32":
            os.lseek(handle, 1000, os.SEEK_SET)  # behind the text, which others could not read otherwise
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(handle, 200).decode(errors="replace")
        os.close(handle)
        if error.errno not in {errno.EAGAIN, errno.EACCES, errno.EDEADLK}:
            raise  # a file system without locks, say
        raise RuntimeError(
            f"{os.fspath(path.parent)!r} is being written by another run"
            + (f" ({holder})" if holder else "")
            + ": wait for it to end, or record to another folder"
        ) from None
    return handle
