"""The index of a source: every image's shape, hash and split, and the table of its crops.

`scan` reads every image once. Blank crops (`is_flat`) are excluded from every split, and counted.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from srcolor.data.crops import SPLIT, SPLITS, Pixels, Region, crop_grid, is_flat, is_gray, sample
from srcolor.data.splits import assign_splits
from srcolor.errors import UserError

R = TypeVar("R")
T = TypeVar("T")


class SourceError(UserError):
    """An error of an image that makes the whole source unusable: `scan` raises it, and does not skip the image."""


class Item(NamedTuple):
    """An image of a source before it is decoded.

    Attributes:
        name: Unique name in the source, shown to users.
        stamp: Changes when the image changes (a file's size and time).
        split: The split assigned by the source, if any.
        group: Images with the same group are in the same split; None without a group. It follows from the name and the
            source's settings.
    """

    name: str
    stamp: str
    split: str | None = None
    group: str | None = None


class Source(Protocol):
    """The interface of an image source for the index and the cache; `ImageDataModule` has the defaults.

    Attributes:
        size: Side of the crops.
        planes: Planes of a decoded image: 3 for RGB; 4 with a mask as the last. Crops, cache, flips and zoom treat
            all planes alike, except that zoom interpolates masks by nearest neighbor; content, colors, jitter and
            perceptual hashes use only the first three.
    """

    size: int
    planes: ClassVar[int]

    def items(self) -> list[Item]:
        """Return the images, in a fixed order."""

    def decode(self, item: Item) -> tuple[Pixels, str]:
        """Return an image, height x width x planes, and the SHA-256 of its file.

        Raises:
            SourceError: If the whole source is unusable.
            Exception: If the image is unusable, with the reason.
        """

    def regions(self, height: int, width: int) -> list[Region]:
        """Return the parts of a decoded image that crops are taken from."""

    def settings(self) -> dict[str, Any]:
        """Return everything other than the files that pixels and crops depend on."""

    def identity(self) -> str:
        """Return a string that identifies the source among caches, such as the path of its folder."""


@dataclass
class Index:
    """The result of `scan`.

    Attributes:
        names: The n usable images, in order.
        shapes: Height, width and planes of each, (n, 3) int32.
        hashes: SHA-256 of each file, (n, 32).
        splits: Split index of each image, (n,); -1 if its regions belong to different splits.
        crops: The crops, one per row; for the columns see `srcolor.data.crops`.
        skipped: Names of unusable files, each with the reason.
        flat: Number of blank crops, which are excluded.
    """

    names: list[str]
    shapes: NDArray[np.int32]
    hashes: NDArray[np.uint8]
    splits: NDArray[np.int8]
    crops: NDArray[np.int32]
    skipped: list[tuple[str, str]]
    flat: int

    def save(self, folder: Path) -> None:
        """Write `index.json` and `index.npz`."""
        arrays = {key: value for key, value in self.__dict__.items() if isinstance(value, np.ndarray)}
        np.savez(folder / "index.npz", **arrays)  # type: ignore[arg-type]  # the stub takes any keyword for allow_pickle
        rest = {key: value for key, value in self.__dict__.items() if key not in arrays}
        (folder / "index.json").write_text(json.dumps(rest), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the files written by `save`; a damaged file raises the error of its reader."""
        rest = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        with np.load(folder / "index.npz") as arrays:
            return cls(**rest, **arrays)


def scan(source: Source, items: Sequence[Item], keep: Callable[[Pixels], Any] = lambda pixels: None) -> Index:
    """Read every image once, in parallel, and index it.

    Args:
        source: Source of the images.
        items: Images of the source.
        keep: Called with the pixels of each usable image, in order.

    Raises:
        SourceError: If `decode` raises it.
        UserError: If no image is usable; see also `assign_splits`.
    """
    names: list[str] = []
    shapes: list[tuple[int, ...]] = []
    hashes: list[str] = []
    official: list[str | None] = []
    groups: list[str | None] = []
    crops: list[tuple[int, ...]] = []
    samples: list[Pixels] = []
    gray: list[NDArray[np.bool_]] = []
    skipped: list[tuple[str, str]] = []
    flat = 0

    def classify(limit: int) -> None:
        if len(samples) > limit:
            gray.append(is_gray(np.stack(samples)))
            samples.clear()

    def read(item: Item) -> tuple[Pixels, str, list[tuple[int, ...]], int] | str:
        try:
            pixels, digest = source.decode(item)
        except SourceError:
            raise
        except Exception as error:  # an arbitrary file can make a decoder raise anything
            return str(error) or type(error).__name__
        if pixels.ndim != 3 or pixels.shape[2] != source.planes:
            return f"decode returned {pixels.shape}, expected (height, width, planes={source.planes})"
        grid = list(crop_grid(source.regions(*pixels.shape[:2]), source.size))
        full = [crop for crop in grid if not is_flat(_cut(pixels, crop, source.size))]
        return pixels, digest, full, len(grid) - len(full)

    with on_threads() as map_ordered:
        results = map_ordered(read, items)
        for item, result in track(
            zip(items, results, strict=True), f"Reading {len(items)} images", len(items), transient=True
        ):
            if isinstance(result, str):
                skipped.append((item.name, result))
                continue
            pixels, digest, full, empty = result
            flat += empty
            if not full:
                skipped.append((item.name, "all crops are blank"))
                continue
            crops.extend((len(names), *crop) for crop in full)
            samples.extend(sample(_cut(pixels, crop, source.size)).copy() for crop in full)
            classify(1000)  # many at a time: a call costs more than a crop
            names.append(item.name)
            shapes.append(pixels.shape)
            hashes.append(digest)
            official.append(item.split)
            groups.append(item.group)
            keep(pixels)
    if not names:
        raise UserError(f"none of the {len(items)} images is usable:\n{by_reason(skipped)}")
    classify(0)
    table = np.column_stack([np.array(crops, np.int32), np.concatenate(gray)])
    splits = [-1] * len(names)
    if (table[:, SPLIT] < 0).any():
        splits = [SPLITS.index(split) for split in assign_splits(hashes, official, groups)]
    digests = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, 32)
    return Index(names, np.array(shapes, np.int32), digests, np.array(splits, np.int8), table, skipped, flat)


def _cut(pixels: Pixels, crop: Sequence[int], size: int) -> Pixels:
    return pixels[crop[0] : crop[0] + size, crop[1] : crop[1] + size]


def by_reason(skipped: Sequence[tuple[str, str]], limit: int = 10) -> str:
    """Group skipped files by reason: one line per reason, with up to `limit` names.

    >>> print(by_reason([("a.jpg", "empty"), ("b.jpg", "empty"), ("c.jpg", "empty")], limit=2))
      empty: a.jpg, b.jpg and 1 more
    """
    names: dict[str, list[str]] = {}
    for name, reason in skipped:
        names.setdefault(reason, []).append(name)
    lines = []
    for reason, files in names.items():
        more = f" and {len(files) - limit} more" if len(files) > limit else ""
        lines.append(f"  {reason}: {', '.join(files[:limit])}{more}")
    if len(lines) > limit:
        lines[limit:] = [f"  and {len(lines) - limit} more reasons"]
    return "\n".join(lines)


@contextmanager
def on_threads() -> Iterator[Callable[[Callable[[T], R], Sequence[T]], Iterator[R]]]:
    """Provide an ordered `map` on threads that runs slightly ahead of its consumer and is canceled with it."""
    threads = os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)

    def map_ordered(function: Callable[[T], R], arguments: Sequence[T]) -> Iterator[R]:
        pending: deque[Future[R]] = deque()
        for argument in arguments:
            pending.append(pool.submit(function, argument))
            if len(pending) > 4 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    try:
        yield map_ordered
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
