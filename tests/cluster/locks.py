"""Locks between processes; the kernel gives a lock back when its holder ends, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock that this file stands for; wait for whoever holds it, and leave no file."""
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
        except FileNotFoundError:  # the folder went meanwhile
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_open_as(file, lock):
            return lock
        lock.close()  # the holder before removed its file: whoever comes next locks another


def _is_open_as(file: Path, lock: IO[str]) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False
