"""Decode once: images as bytes in one memory-mapped file.

A cache is a folder `<cache_dir>/<source>/<key>/` with `pixels.bin` (all images, one after the other, height x width x
planes uint8) and the index (`index.json`, `index.npz`). With `data.cache=false` it has the index alone. It is built
under a temporary name and renamed when complete, so a folder under its final name is always complete; if multiple
processes need the same cache, one builds it and the others wait. The key is a hash of the path, size and time of every
file and of the settings that pixels and crops depend on. If all caches together exceed the limit after a build, the
least recently used are removed.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from srcolor.data.crops import Pixels
from srcolor.data.index import Index, Item, Source, scan
from srcolor.data.locks import locked
from srcolor.errors import UserError

log = logging.getLogger(__name__)

FORMAT = 4
KEY = "[0-9a-f]" * 16  # glob pattern of the names of caches and their sources
ABANDONED = 3600  # seconds without a write after which an unfinished cache is considered abandoned

T = TypeVar("T")


class Mapped:
    """The images of a cache; the operating system keeps recently used parts in memory."""

    opened: ClassVar[weakref.WeakSet["Mapped"]] = weakref.WeakSet()  # by this process

    def __init__(self, folder: Path, shapes: NDArray[np.int32]) -> None:
        self.folder: Path | None = folder
        self._path = folder / "pixels.bin"
        self._shapes = shapes
        self._offsets = np.concatenate([[0], np.cumsum(shapes.prod(1, dtype=np.int64))])
        if self._path.stat().st_size != self._offsets[-1]:
            raise ValueError(f"pixels.bin has {self._path.stat().st_size} bytes, expected {self._offsets[-1]}")
        _ = self._file, self._bytes  # open now: another process may remove this cache
        Mapped.opened.add(self)

    @cached_property
    def _file(self) -> BinaryIO:
        return open(self._path, "rb", buffering=0)

    @cached_property
    def _bytes(self) -> Pixels:
        return np.memmap(self._path, dtype=np.uint8, mode="r")

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the open file: each worker process opens its own."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_file", "_bytes")}

    def image(self, row: int) -> Pixels:
        """Return an image, height x width x planes."""
        return self._bytes[self._offsets[row] : self._offsets[row + 1]].reshape(self._shapes[row])

    def crop(self, row: int, top: int, left: int, size: int) -> Pixels:
        """Return size x size x planes of an image."""
        _, width, planes = self._shapes[row].tolist()
        if width == size:  # one read; through the map, the first access of each page costs more than the copy
            # Not seek and read: forked workers share the file's offset.
            content = os.pread(self._file.fileno(), planes * size * size, self._offsets[row] + planes * top * width)
            return np.frombuffer(content, np.uint8).reshape(size, size, planes)
        return self.image(row)[top : top + size, left : left + size]


class OnTheFly:
    """Images that are decoded at each access (`data.cache=false`).

    Args:
        source: Source of the images.
        items: Usable images of the source.
        folder: Folder of the saved index; None if it could not be saved.
    """

    def __init__(self, source: Source, items: Sequence[Item], folder: Path | None) -> None:
        self.folder = folder
        self._source = source
        self._items = items

    def image(self, row: int) -> Pixels:
        """Return an image, height x width x planes."""
        return self._source.decode(self._items[row])[0]

    def crop(self, row: int, top: int, left: int, size: int) -> Pixels:
        """Return size x size x planes of an image."""
        return self.image(row)[top : top + size, left : left + size]


def open_cache(source: Source, items: Sequence[Item], cache_dir: Path, limit_gb: float) -> tuple[Index, Mapped]:
    """Open the cache of a source; build it first if it is missing or damaged.

    Args:
        source: Source of the images.
        items: Images of the source.
        cache_dir: Folder of all caches.
        limit_gb: Maximum size of all caches in `cache_dir`, in 10^9 bytes. Until a build is complete they may exceed
            it by the size of the new one.

    Returns:
        The index and the images.

    Raises:
        UserError: See `scan`; also if the cache alone exceeds the limit, or its folder is not writable.
    """
    folder = _folder(source, items, cache_dir)

    def read() -> tuple[Index, Mapped]:
        index = Index.load(folder)
        return index, Mapped(folder, index.shapes)

    def write(unfinished: Path) -> None:
        size, limit = 0, int(limit_gb * 1e9)
        with open(unfinished / "pixels.bin", "wb") as file:

            def keep(pixels: Pixels) -> None:
                nonlocal size
                size += pixels.nbytes
                if size > limit:
                    raise UserError(
                        f"the cache of {len(items)} images exceeds data.cache_limit_gb={limit_gb:g}. Raise the limit, "
                        "shrink large images with data.max_side=..., or decode on the fly with data.cache=false "
                        "data.workers=2."
                    )
                file.write(np.ascontiguousarray(pixels).data)

            scan(source, items, keep).save(unfinished)
        evict(cache_dir, limit - size)

    try:
        return _read_or_build(folder, read, write)
    except OSError as error:
        raise UserError(
            f"cannot write the cache {folder}: {error}. Choose another location with data.cache_dir=..., or decode on "
            "the fly with data.cache=false data.workers=2."
        ) from error


def open_index(source: Source, items: Sequence[Item], cache_dir: Path) -> tuple[Index, OnTheFly]:
    """Open the index of a source whose images are decoded at each access.

    The index is saved like a cache, without pixels, so only the first run reads every image. If it cannot be saved,
    every run does.

    Args:
        source: Source of the images.
        items: Images of the source.
        cache_dir: Folder of all caches.

    Returns:
        The index and the images.

    Raises:
        UserError: See `scan`.
    """
    folder = _folder(source, items, cache_dir)
    stored: Path | None = folder
    try:
        index = _read_or_build(
            folder, lambda: Index.load(folder), lambda unfinished: scan(source, items).save(unfinished)
        )
    except OSError as error:
        log.warning("Could not save the index %s (%s); all images will be re-read every time.", folder, error)
        stored, index = None, scan(source, items)
    by_name = {item.name: item for item in items}
    return index, OnTheFly(source, [by_name[name] for name in index.names], stored)


def evict(cache_dir: Path, limit: int) -> None:
    """Remove the least recently used caches until the rest is within `limit` bytes; keep those open in this process."""
    in_use = {images.folder for images in Mapped.opened}
    caches: list[tuple[float, int, Path]] = []
    for index in cache_dir.glob(f"{KEY}/{KEY}/index.json"):
        folder = index.parent
        with suppress(FileNotFoundError):  # another process removes it
            size = sum(file.stat().st_size for file in folder.iterdir())
            caches.append((folder.stat().st_mtime, size, folder))
    total = sum(size for _, size, _ in caches)
    for _, size, folder in sorted(caches):
        if total > limit and folder not in in_use:
            log.info("Removing the cache %s, to stay within data.cache_limit_gb", folder)
            with suppress(OSError):  # another process removes it
                aside = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder.parent))
                folder.rename(aside / folder.name)
                shutil.rmtree(aside, ignore_errors=True)
                total -= size


def _folder(source: Source, items: Sequence[Item], cache_dir: Path) -> Path:
    """Return the folder of the cache of these images with these settings."""
    key = hashlib.sha256(json.dumps([FORMAT, source.planes, source.settings()], sort_keys=True).encode())
    for item in items:
        key.update(repr((item.name, item.stamp, item.split)).encode())  # the group follows from the settings
    return cache_dir / hashlib.sha256(source.identity().encode()).hexdigest()[:16] / key.hexdigest()[:16]


def _read_or_build(folder: Path, read: Callable[[], T], write: Callable[[Path], None]) -> T:
    """Read a cache; build it first if it is missing or damaged.

    Args:
        folder: Folder of the cache.
        read: Reads it.
        write: Writes its files into the folder passed to it.

    Raises:
        OSError: If it cannot be written.
    """
    result = _read_valid(read, folder)
    if result is None:
        with locked(folder):
            result = _read_valid(read, folder)  # another process may have built it meanwhile
            if result is None:
                _build(folder, read, write)
                result = read()
    with suppress(OSError):  # the cache belongs to another user
        os.utime(folder)  # for `evict`
    return result


def _read_valid(read: Callable[[], T], folder: Path) -> T | None:
    """Read a cache; return None if it is missing or damaged."""
    try:
        return read()
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file can make a reader raise anything
        log.warning("The cache %s is damaged (%s) and is rebuilt.", folder, error)
        return None


def _build(folder: Path, read: Callable[[], Any], write: Callable[[Path], None]) -> None:
    for other in folder.parent.glob("unfinished-*"):  # of processes that were killed
        with suppress(FileNotFoundError):  # another process completes it
            if all(time.time() - path.stat().st_mtime > ABANDONED for path in (other, *other.iterdir())):
                shutil.rmtree(other, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder.parent))
    try:
        write(unfinished)
        try:
            unfinished.rename(folder)
        except OSError:
            # The existing folder is damaged, or an index without pixels; or, on a file system without working locks,
            # another process completed the same cache first, which is equivalent.
            if _read_valid(read, folder) is None:
                shutil.rmtree(folder)
                unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
