"""Locks between processes that need the same files, on one machine or on a shared file system."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock for the files of `path` alone; wait for the process that holds it.

    The lock is a file beside them, `<path>.lock`, which stays: if it were removed, two processes could hold it. The
    system releases the lock of a process that was killed.

    Args:
        path: A file or folder; need not exist.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("Waiting for another process, which is making %s", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
