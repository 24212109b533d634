"""Decode once: pictures as bytes in one memory-mapped file, and the index of the crops in them.

A cache is a folder `<cache_dir>/<source>/<key>/` with `pixels.bin` (all pictures, one after the other,
height x width x 3 uint8), `cells.npy` and `index.json`. It is built under a temporary name and renamed when
complete, so what lies under the final name is always whole. The key is a hash of every file's path,
size and time and of the settings that the pixels depend on.

The crops are *cells*: every region of a picture is divided into as many size x size squares as fit, spread
evenly. Evaluation takes the cells; training with random crops moves each by up to half its size,
inside its region. Cells without content (`is_flat`) are left out of every split, and counted.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from srcolor.errors import UserError

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
SHARES = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}
FORMAT = 1
ABANDONED = 3600  # seconds without a byte written, after which an unfinished cache is nobody's

Pixels = NDArray[np.uint8]
R = TypeVar("R")


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


class Region(NamedTuple):
    """A part of a picture that crops are taken from: rows top to bottom, columns left to right.

    `split` is set where a source gives the parts of one picture to different splits.
    """

    top: int
    bottom: int
    left: int
    right: int
    split: str | None = None


class Source(Protocol):
    """What the cache must know of a source of pictures."""

    size: int

    def items(self) -> list[Item]:
        """Lists the pictures, in a fixed order."""

    def measure(self, item: Item) -> tuple[int, int]:
        """Answers the height and width that `decode` will give, without decoding; (0, 0) if it cannot."""

    def decode(self, item: Item) -> tuple[Pixels, str]:
        """Answers a picture, height x width x 3, and the SHA-256 of its file; raises if it cannot."""

    def regions(self, height: int, width: int) -> list[Region]:
        """Says which parts of a decoded picture crops are taken from."""

    def settings(self) -> dict[str, Any]:
        """Everything beside the files themselves that pixels and cells depend on."""


# Columns of a row of `cells`: the picture, the cell's corner, the first and the last position that a random
# window may take, and the split's number (-1: the picture's own).
IMAGE, TOP, LEFT, FIRST_TOP, LAST_TOP, FIRST_LEFT, LAST_LEFT, SPLIT = range(8)


@dataclass
class Index:
    """What is known of a source once every picture has been read.

    Attributes:
        names: The pictures, in order.
        shapes: Their heights and widths.
        hashes: SHA-256 of each file.
        splits: The split of each picture.
        skipped: Names of unusable files, each with the reason.
        flat: How many cells were left out because they have no content.
    """

    names: list[str] = field(default_factory=list)
    shapes: list[tuple[int, int]] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    flat: int = 0


class Mapped:
    """Pictures of a cache, by number; the operating system keeps in memory what is used."""

    def __init__(self, folder: Path, shapes: Sequence[tuple[int, int]]) -> None:
        self._path = folder / "pixels.bin"
        self._shapes = shapes
        self._offsets = np.concatenate([[0], np.cumsum([3 * h * w for h, w in shapes], dtype=np.int64)])
        _ = self._bytes  # open while it is there: a newer cache may replace this one

    @cached_property
    def _bytes(self) -> Pixels:
        return np.memmap(self._path, dtype=np.uint8, mode="r")

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the map itself out: each worker process opens its own."""
        return {key: value for key, value in self.__dict__.items() if key != "_bytes"}

    def __getitem__(self, image: int) -> Pixels:
        """Answers height x width x 3."""
        data = self._bytes[self._offsets[image] : self._offsets[image + 1]]
        return data.reshape(*self._shapes[image], 3)


class Decoded:
    """Pictures decoded each time they are asked for (`data.cache=false`)."""

    def __init__(self, source: Source, items: Sequence[Item]) -> None:
        self._source = source
        self._items = items

    def __getitem__(self, image: int) -> Pixels:
        """Answers height x width x 3."""
        return self._source.decode(self._items[image])[0]


def is_flat(crop: Pixels) -> bool:
    """Says whether a crop has no content: in every channel a standard deviation below 1/255.

    >>> is_flat(np.full((128, 128, 3), 7, np.uint8))
    True
    """
    # The spread of a sample of the pixels is never more than the spread of all: mostly it settles it.
    sample = crop[::8, ::8].reshape(-1, 3).astype(np.float64)
    if (sample.var(0) * len(sample) >= crop.shape[0] * crop.shape[1]).any():
        return False
    return bool((crop.reshape(-1, 3).std(0, dtype=np.float64) < 1.0).all())


def cells_of(regions: Sequence[Region], size: int) -> Iterator[tuple[int, ...]]:
    """Divides regions into cells; yields the columns of `cells` after the picture's number."""
    for region in regions:
        number = -1 if region.split is None else SPLITS.index(region.split)
        for top in _spread(region.top, region.bottom, size):
            for left in _spread(region.left, region.right, size):
                yield (
                    top,
                    left,
                    max(region.top, top - size // 2),
                    min(region.bottom - size, top + size // 2),
                    max(region.left, left - size // 2),
                    min(region.right - size, left + size // 2),
                    number,
                )


def _spread(first: int, last: int, size: int) -> list[int]:
    count = (last - first) // size
    if count < 2:
        return [first + (last - first - size) // 2] * count
    return [first + round(i * (last - first - size) / (count - 1)) for i in range(count)]


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


def scan(
    source: Source, items: Sequence[Item], keep: Callable[[Pixels], Any] = lambda pixels: None
) -> tuple[Index, NDArray[np.int32]]:
    """Reads every picture once, in parallel, and says what is in it.

    Args:
        source: Where the pictures come from.
        items: Its pictures.
        keep: Called with the pixels of each usable picture, in order.

    Returns:
        The index, and the cells, (n, 8) int32.

    Raises:
        UserError: No picture is usable, or fewer than there are splits.
    """
    index = Index()
    cells: list[tuple[int, ...]] = []
    given: list[str | None] = []

    def read(item: Item) -> tuple[Pixels, str, list[tuple[int, ...]], int] | str:
        try:
            pixels, digest = source.decode(item)
        except Exception as error:  # a foreign file can make a decoder raise anything
            return str(error) or type(error).__name__
        found = list(cells_of(source.regions(*pixels.shape[:2]), source.size))
        full = [c for c in found if not is_flat(pixels[c[0] : c[0] + source.size, c[1] : c[1] + source.size])]
        return pixels, digest, full, len(found) - len(full)

    with _reading(os.cpu_count() or 1) as results_of:
        results = results_of(read, items)
        for item, result in track(
            zip(items, results, strict=True), f"Reading {len(items)} pictures", len(items), transient=True
        ):
            if isinstance(result, str):
                index.skipped.append((item.name, result))
                continue
            pixels, digest, full, flat = result
            index.flat += flat
            if not full:
                index.skipped.append((item.name, "no crop has content"))
                continue
            cells.extend((len(index.names), *cell) for cell in full)
            index.names.append(item.name)
            index.shapes.append((pixels.shape[0], pixels.shape[1]))
            index.hashes.append(digest)
            given.append(item.split)
            keep(pixels)
    if not index.names:
        raise UserError(f"none of {len(items)} pictures is usable:\n{by_reason(index.skipped)}")
    table = np.array(cells, dtype=np.int32)
    if (table[:, SPLIT] < 0).any():
        index.splits = assign_splits(index.hashes, given)
    else:
        index.splits = ["parts"] * len(index.names)
    return index, table


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
) -> tuple[Index, NDArray[np.int32], Mapped]:
    """Opens a source's cache, and builds it first if it is not there or damaged; older ones make room.

    Args:
        source: Where the pictures come from.
        root: What identifies the source among others: a folder's path, say.
        cache_dir: Where caches lie.
        items: The source's pictures.
        limit_gb: How large a cache may become, in 10^9 bytes.

    Returns:
        The index, the cells, (n, 8) int32, and the pictures.

    Raises:
        UserError: As `scan`; or the cache would be too large, or its folder cannot be written.
    """
    stamps = {"format": FORMAT, "settings": source.settings(), "items": items}
    key = hashlib.sha256(json.dumps(stamps, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_dir / hashlib.sha256(root.encode()).hexdigest()[:16] / key
    for _ in range(3):  # a run with other settings may replace what was just built
        opened = _open(folder)
        if opened is not None:
            return opened
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _make_room(source, folder, items, limit_gb)
            _build(source, folder, items)
        except OSError as error:
            raise UserError(
                f"cannot write the cache {folder}: {error}. Name another place with data.cache_dir=..., or "
                "decode on the fly with data.cache=false data.workers=2."
            ) from error
    raise UserError(f"the cache {folder} is replaced by other runs. Give each run a data.cache_dir=... of its own.")


def _open(folder: Path) -> tuple[Index, NDArray[np.int32], Mapped] | None:
    """Opens a cache; None if it is missing or damaged."""
    try:
        index = Index(**json.loads((folder / "index.json").read_text(encoding="utf-8")))
        cells = np.load(folder / "cells.npy")
        size = (folder / "pixels.bin").stat().st_size
        if size != sum(3 * height * width for height, width in index.shapes):
            raise ValueError(f"pixels.bin has {size} bytes")
        return index, cells, Mapped(folder, index.shapes)
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file can make a reader raise anything
        log.warning("The cache %s is damaged (%s) and built anew.", folder, error)
        return None


def _make_room(source: Source, folder: Path, items: Sequence[Item], limit_gb: float) -> None:
    """Removes what killed processes left, and checks the size, by the pictures' headers, before any is decoded."""
    for left in folder.parent.glob("unfinished-*"):
        if all(time.time() - path.stat().st_mtime > ABANDONED for path in (left, *left.iterdir())):
            shutil.rmtree(left, ignore_errors=True)
    needed = 3 * sum(height * width for height, width in map(source.measure, items))
    free = shutil.disk_usage(folder.parent).free
    for room, what in ((limit_gb * 1e9, f"data.cache_limit_gb={limit_gb:g}"), (free, f"the {free / 1e9:.3g} GB free")):
        if needed > room:
            raise UserError(
                f"the cache of {len(items)} pictures takes {needed / 1e9:.3g} GB, more than {what} in {folder.parent}. "
                "Shrink large pictures with data.max_side=..., name another place with data.cache_dir=..., or decode "
                "on the fly with data.cache=false data.workers=2."
            )


def _build(source: Source, folder: Path, items: Sequence[Item]) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder.parent))
    try:
        with open(unfinished / "pixels.bin", "wb") as file:
            index, cells = scan(source, items, lambda pixels: file.write(np.ascontiguousarray(pixels).data))
        np.save(unfinished / "cells.npy", cells)
        (unfinished / "index.json").write_text(json.dumps(asdict(index)), encoding="utf-8")
        try:
            unfinished.rename(folder)
        except OSError:
            # Either another process was first with the same cache, which serves as well, or it is damaged.
            if _open(folder) is None:
                shutil.rmtree(folder)
                unfinished.rename(folder)
        for older in folder.parent.iterdir():
            if older != folder and not older.name.startswith("unfinished-"):
                shutil.rmtree(older, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
