"""Locks between processes. The kernel releases a lock when its holder ends, even by SIGKILL."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock of this file, waiting for another holder if necessary. Remove the file."""
    with _acquired(file):
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _acquired(file: Path) -> IO[str]:
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = file.open("w")
        except FileNotFoundError:  # the directory was removed meanwhile
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_open_as(file, lock):
            return lock
        lock.close()  # the previous holder removed the file: others would lock a new one


def _is_open_as(file: Path, lock: IO[str]) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False
