"""Locks between processes that need the same files, on one machine or on a shared file system."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock of `path`; wait if another process holds it.

    The lock is the file `<path>.lock`, which is never removed: otherwise two processes could hold it. The
    operating system releases the lock of a killed process.

    Args:
        path: A file or folder; it need not exist.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("Waiting for another process that is creating %s", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
