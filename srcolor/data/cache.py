"""Decode once: pictures as bytes in one memory-mapped file, and the index of the crops in them.

A cache is a folder `<cache_dir>/<source>/<key>/` with `pixels.bin` (all pictures, one after the other,
height x width x 3 uint8), `index.json` (names) and `index.npz` (everything else that is known of them, and the
crops: see `cells`). With `data.cache=false` it has the index alone. It is built under a temporary name and renamed
when complete, so what lies under the final name is always whole; processes that need one cache at once wait for the
one that builds it. The key is a hash of every file's path, size and time and of the settings that the pixels depend
on. Where all caches exceed the limit, the least recently used are removed. Crops without content (`is_flat`) are left
out of every split, and counted.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from srcolor.data.crops import SPLIT, SPLITS, Pixels, Region, cells_of, is_flat, is_gray, sample
from srcolor.data.locks import locked
from srcolor.data.prints import fingerprint
from srcolor.errors import UserError

log = logging.getLogger(__name__)

SHARES = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}
FORMAT = 3
KEY = "[0-9a-f]" * 16  # names of caches and of their sources, as a pattern
ABANDONED = 3600  # seconds without a byte written, after which an unfinished cache is nobody's

R = TypeVar("R")
T = TypeVar("T")


class Item(NamedTuple):
    """A picture before it is decoded.

    Attributes:
        name: How people are told of it; unique in its source.
        stamp: Changes when the picture changes (a file's size and time).
        split: The split that the source itself gives it, if any.
    """

    name: str
    stamp: str
    split: str | None = None


class Source(Protocol):
    """What the cache must know of a source of pictures."""

    size: int

    def items(self) -> list[Item]:
        """Lists the pictures, in a fixed order."""

    def decode(self, item: Item) -> tuple[Pixels, str]:
        """Answers a picture, height x width x 3, and the SHA-256 of its file; raises if it cannot."""

    def regions(self, height: int, width: int) -> list[Region]:
        """Says which parts of a decoded picture crops are taken from."""

    def settings(self) -> dict[str, Any]:
        """Everything beside the files themselves that pixels and cells depend on."""


@dataclass
class Index:
    """What is known of a source once every picture has been read.

    Attributes:
        names: The n pictures, in order.
        shapes: Their heights and widths, (n, 2) int32.
        hashes: SHA-256 of each file, (n, 32).
        prints: Perceptual hash of each decoded picture, (n, 18), which near copies share; see `prints`.
        splits: Number of each picture's split, (n,); -1 where its regions go to different splits.
        cells: The crops, a row each; see `cells`.
        skipped: Names of unusable files, each with the reason.
        flat: How many cells were left out because they have no content.
    """

    names: list[str]
    shapes: NDArray[np.int32]
    hashes: NDArray[np.uint8]
    prints: NDArray[np.uint8]
    splits: NDArray[np.int8]
    cells: NDArray[np.int32]
    skipped: list[tuple[str, str]]
    flat: int

    def save(self, folder: Path) -> None:
        """Writes `index.json` and `index.npz`."""
        arrays = {key: value for key, value in self.__dict__.items() if isinstance(value, np.ndarray)}
        np.savez(folder / "index.npz", **arrays)  # type: ignore[arg-type]  # the stub takes any keyword for allow_pickle
        rest = {key: value for key, value in self.__dict__.items() if key not in arrays}
        (folder / "index.json").write_text(json.dumps(rest), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `save` wrote; raises whatever a damaged file makes the readers raise."""
        rest = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        with np.load(folder / "index.npz") as arrays:
            return cls(**rest, **arrays)


class Mapped:
    """Pictures of a cache, by number; the operating system keeps in memory what is used."""

    opened: ClassVar[weakref.WeakSet["Mapped"]] = weakref.WeakSet()  # by this process

    def __init__(self, folder: Path, shapes: NDArray[np.int32]) -> None:
        self.folder = folder
        self._path = folder / "pixels.bin"
        self._shapes = shapes
        self._offsets = np.concatenate([[0], np.cumsum(3 * shapes.prod(1, dtype=np.int64))])
        if self._path.stat().st_size != self._offsets[-1]:
            raise ValueError(f"pixels.bin has {self._path.stat().st_size} bytes")
        _ = self._file, self._bytes  # open while they are there: another process may remove this cache
        Mapped.opened.add(self)

    @cached_property
    def _file(self) -> BinaryIO:
        return open(self._path, "rb", buffering=0)

    @cached_property
    def _bytes(self) -> Pixels:
        return np.memmap(self._path, dtype=np.uint8, mode="r")

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the open file out: each worker process opens its own."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_file", "_bytes")}

    def crop(self, image: int, top: int, left: int, size: int) -> Pixels:
        """Answers size x size x 3."""
        width = self._shapes[image, 1]
        start = self._offsets[image] + 3 * top * width
        if width == size:  # one read; through the map, each first touch of a page costs more than the copy
            # Not seek and read: forked workers share the file's offset.
            read = os.pread(self._file.fileno(), 3 * size * size, start)
            return np.frombuffer(read, np.uint8).reshape(size, size, 3)
        rows = self._bytes[start : start + 3 * size * width].reshape(size, width, 3)
        return rows[:, left : left + size]


class Decoded:
    """Pictures decoded each time they are asked for (`data.cache=false`)."""

    def __init__(self, source: Source, items: Sequence[Item]) -> None:
        self._source = source
        self._items = items

    def crop(self, image: int, top: int, left: int, size: int) -> Pixels:
        """Answers size x size x 3."""
        return self._source.decode(self._items[image])[0][top : top + size, left : left + size]


def assign_splits(hashes: Sequence[str], given: Sequence[str | None]) -> list[str]:
    """Gives each picture its split.

    By the SHA-256 of the file, read as a number in [0, 1): below 0.8 train, below 0.9 val, else test. So
    a file keeps its split when others come or go, and copies stay together. A split that would stay
    empty gets the picture whose number is nearest to it.

    Args:
        hashes: SHA-256 of each file, hexadecimal.
        given: The split that the source gives, or None. Where it gives train and test but no val,
            val is taken from train.

    Raises:
        UserError: There are fewer different pictures than splits.
    """
    place = {name: int(name[:16], 16) / 16**16 for name in hashes}

    def distance(name: str, split: str) -> float:
        low, high = SHARES[split]
        return max(low - place[name], place[name] - high, 0.0)

    splits: dict[str, str] = {}
    for name, split in zip(hashes, given, strict=True):
        if split is None:
            split = next(s for s in SPLITS if place[name] < SHARES[s][1])
        splits.setdefault(name, split)
    if "val" not in splits.values() and "val" not in given:
        for name in [n for n, split in splits.items() if split == "train" and place[n] >= SHARES["test"][0]]:
            splits[name] = "val"
    for empty in [split for split in SPLITS if split not in splits.values()]:
        counts = {split: list(splits.values()).count(split) for split in SPLITS}
        spare = [name for name, split in splits.items() if counts[split] > 1]
        if not spare:
            raise UserError(
                f"{len(splits)} different usable picture(s): expected at least three, one each for training, "
                "validation and test. Add pictures."
            )
        splits[min(spare, key=lambda name: distance(name, empty))] = empty
    return [splits[name] for name in hashes]


def scan(source: Source, items: Sequence[Item], keep: Callable[[Pixels], Any] = lambda pixels: None) -> Index:
    """Reads every picture once, in parallel, and says what is in it.

    Args:
        source: Where the pictures come from.
        items: Its pictures.
        keep: Called with the pixels of each usable picture, in order.

    Raises:
        UserError: No picture is usable, or fewer than there are splits.
    """
    names: list[str] = []
    shapes: list[tuple[int, ...]] = []
    hashes: list[str] = []
    prints: list[NDArray[np.uint8]] = []
    given: list[str | None] = []
    cells: list[tuple[int, ...]] = []
    samples: list[Pixels] = []
    gray: list[NDArray[np.bool_]] = []
    skipped: list[tuple[str, str]] = []
    flat = 0

    def judge(most: int) -> None:
        if len(samples) > most:
            gray.append(is_gray(np.stack(samples)))
            samples.clear()

    def read(item: Item) -> tuple[Pixels, str, NDArray[np.uint8], list[tuple[int, ...]], int] | str:
        try:
            pixels, digest = source.decode(item)
        except Exception as error:  # a foreign file can make a decoder raise anything
            return str(error) or type(error).__name__
        found = list(cells_of(source.regions(*pixels.shape[:2]), source.size))
        full = [cell for cell in found if not is_flat(_cut(pixels, cell, source.size))]
        return pixels, digest, fingerprint(Image.fromarray(pixels)), full, len(found) - len(full)

    with _reading(os.cpu_count() or 1) as results_of:
        results = results_of(read, items)
        for item, result in track(
            zip(items, results, strict=True), f"Reading {len(items)} pictures", len(items), transient=True
        ):
            if isinstance(result, str):
                skipped.append((item.name, result))
                continue
            pixels, digest, own_print, full, empty = result
            flat += empty
            if not full:
                skipped.append((item.name, "no crop has content"))
                continue
            cells.extend((len(names), *cell) for cell in full)
            samples.extend(sample(_cut(pixels, cell, source.size)).copy() for cell in full)
            judge(1000)  # many at a time: a call costs more than a crop
            names.append(item.name)
            shapes.append(pixels.shape[:2])
            hashes.append(digest)
            prints.append(own_print)
            given.append(item.split)
            keep(pixels)
    if not names:
        raise UserError(f"none of {len(items)} pictures is usable:\n{by_reason(skipped)}")
    judge(0)
    table = np.column_stack([np.array(cells, np.int32), np.concatenate(gray)])
    splits = [-1] * len(names)
    if (table[:, SPLIT] < 0).any():
        splits = [SPLITS.index(split) for split in assign_splits(hashes, given)]
    digests = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, 32)
    places = np.array(splits, np.int8)
    return Index(names, np.array(shapes, np.int32), digests, np.stack(prints), places, table, skipped, flat)


def _cut(pixels: Pixels, cell: Sequence[int], size: int) -> Pixels:
    return pixels[cell[0] : cell[0] + size, cell[1] : cell[1] + size]


def by_reason(skipped: Sequence[tuple[str, str]], most: int = 10) -> str:
    """Lists skipped files, a line a reason, at most so many names each.

    >>> print(by_reason([("a.jpg", "empty"), ("b.jpg", "empty"), ("c.jpg", "empty")], most=2))
      empty: a.jpg, b.jpg and 1 more
    """
    names: dict[str, list[str]] = {}
    for name, reason in skipped:
        names.setdefault(reason, []).append(name)
    lines = []
    for reason, files in names.items():
        more = f" and {len(files) - most} more" if len(files) > most else ""
        lines.append(f"  {reason}: {', '.join(files[:most])}{more}")
    if len(lines) > most:
        lines[most:] = [f"  and {len(lines) - most} more reasons"]
    return "\n".join(lines)


@contextmanager
def _reading(threads: int) -> Iterator[Callable[[Callable[[Item], R], Sequence[Item]], Iterator[R]]]:
    """A `map` on threads that is never far ahead of its reader, and gives up when the reader is stopped."""
    pool = ThreadPoolExecutor(threads)

    def results(read: Callable[[Item], R], items: Sequence[Item]) -> Iterator[R]:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > 4 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield results
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def open_cache(
    source: Source, root: str, cache_dir: Path, items: Sequence[Item], limit_gb: float
) -> tuple[Index, Mapped]:
    """Open a source's cache; build it first if it is missing or damaged.

    Args:
        source: Where the pictures come from.
        root: What identifies the source among others: a folder's path, say.
        cache_dir: Where caches lie.
        items: The source's pictures.
        limit_gb: How large all caches in `cache_dir` may become, in 10^9 bytes.

    Returns:
        The index and the pictures.

    Raises:
        UserError: As `scan`; or the cache would be too large, or its folder cannot be written.
    """
    folder = _folder(source, root, cache_dir, items)

    def read() -> tuple[Index, Mapped]:
        index = Index.load(folder)
        return index, Mapped(folder, index.shapes)

    def write(unfinished: Path) -> None:
        written, limit = 0, int(limit_gb * 1e9)
        room = _make_room(cache_dir, written, limit)
        with open(unfinished / "pixels.bin", "wb") as file:

            def keep(pixels: Pixels) -> None:
                nonlocal written, room
                written += pixels.nbytes
                if written > limit:
                    raise UserError(
                        f"the cache of {len(items)} pictures takes more than data.cache_limit_gb={limit_gb:g}. Raise "
                        "it, shrink large pictures with data.max_side=..., or decode on the fly with data.cache=false "
                        "data.workers=2."
                    )
                if written > room:
                    room = _make_room(cache_dir, written, limit)
                file.write(np.ascontiguousarray(pixels).data)

            scan(source, items, keep).save(unfinished)

    try:
        return _read_or_build(folder, read, write)
    except OSError as error:
        raise UserError(
            f"cannot write the cache {folder}: {error}. Name another place with data.cache_dir=..., or "
            "decode on the fly with data.cache=false data.workers=2."
        ) from error


def open_index(source: Source, root: str, cache_dir: Path, items: Sequence[Item]) -> tuple[Index, Decoded]:
    """Open the index of a source whose pictures are decoded each time they are used.

    The index is stored like a cache, without pixels: only the first start reads every picture. Where it cannot be
    stored, every start does.

    Args:
        source: Where the pictures come from.
        root: What identifies the source among others: a folder's path, say.
        cache_dir: Where caches lie.
        items: The source's pictures.

    Returns:
        The index and the pictures.

    Raises:
        UserError: As `scan`.
    """
    folder = _folder(source, root, cache_dir, items)
    try:
        index = _read_or_build(
            folder, lambda: Index.load(folder), lambda unfinished: scan(source, items).save(unfinished)
        )
    except OSError as error:
        log.warning("Cannot store the index %s (%s): every start will read all pictures.", folder, error)
        index = scan(source, items)
    usable = {item.name: item for item in items}
    return index, Decoded(source, [usable[name] for name in index.names])


def _folder(source: Source, root: str, cache_dir: Path, items: Sequence[Item]) -> Path:
    """Return where the cache of these pictures lies, with these settings."""
    stamps = hashlib.sha256(json.dumps([FORMAT, source.settings()], sort_keys=True).encode())
    for item in items:
        stamps.update(repr(tuple(item)).encode())
    return cache_dir / hashlib.sha256(root.encode()).hexdigest()[:16] / stamps.hexdigest()[:16]


def _read_or_build(folder: Path, read: Callable[[], T], write: Callable[[Path], None]) -> T:
    """Read a cache; build it first if it is missing or damaged.

    Args:
        folder: Where it lies.
        read: Reads it.
        write: Writes its files into the folder that it is given.

    Raises:
        OSError: It cannot be written.
    """
    result = _try_to(read, folder)
    if result is None:
        with locked(folder):
            result = _try_to(read, folder)  # another process may have built it meanwhile
            if result is None:
                _build(folder, read, write)
                result = read()
    with suppress(OSError):  # the cache is another user's
        os.utime(folder)  # for `_make_room`
    return result


def _try_to(read: Callable[[], T], folder: Path) -> T | None:
    """Read a cache; return None if it is missing or damaged."""
    try:
        return read()
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file can make a reader raise anything
        log.warning("The cache %s is damaged (%s) and is rebuilt.", folder, error)
        return None


def _build(folder: Path, read: Callable[[], Any], write: Callable[[Path], None]) -> None:
    for left in folder.parent.glob("unfinished-*"):  # by processes that were killed
        with suppress(FileNotFoundError):  # another process completes it
            if all(time.time() - path.stat().st_mtime > ABANDONED for path in (left, *left.iterdir())):
                shutil.rmtree(left, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder.parent))
    try:
        write(unfinished)
        try:
            unfinished.rename(folder)
        except OSError:
            # What is there is damaged, or an index without pixels; or, where locks do not reach other machines,
            # another process was first with the same cache, which serves as well.
            if _try_to(read, folder) is None:
                shutil.rmtree(folder)
                unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _make_room(cache_dir: Path, needed: int, limit: int) -> int:
    """Remove the least recently used caches until `needed` more bytes are within the limit.

    Those that this process uses stay.

    Returns:
        How many bytes there is room for; the whole limit if there is nothing left to remove.
    """
    in_use = {pictures.folder for pictures in Mapped.opened}
    found: list[tuple[float, int, Path]] = []
    for index in cache_dir.glob(f"{KEY}/{KEY}/index.json"):
        folder = index.parent
        with suppress(FileNotFoundError):  # another process removes it
            size = sum(file.stat().st_size for file in folder.iterdir())
            found.append((folder.stat().st_mtime, size, folder))
    total = sum(size for _, size, _ in found)
    for _, size, folder in sorted(found):
        if total + needed <= limit:
            return limit - total
        if folder not in in_use:
            log.info("Removing the cache %s, to stay within data.cache_limit_gb", folder)
            with suppress(OSError):  # another process removes it
                aside = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder.parent))
                folder.rename(aside / folder.name)
                shutil.rmtree(aside, ignore_errors=True)
                total -= size
    return limit - total if total + needed <= limit else limit
