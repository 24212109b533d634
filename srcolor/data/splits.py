"""Assignment of images to the splits by a hash, so that it depends on no other image."""

import hashlib
from collections.abc import Sequence

from srcolor.data.crops import SPLITS
from srcolor.errors import UserError

SHARES = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}


def hash_text(text: str) -> str:
    """Return the SHA-256 of a text, in hex; undecodable bytes of a file name are hashed as they are."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def position(digest: str) -> float:
    """Return a SHA-256, in hex, as a number in [0, 1).

    >>> position("c0" + 62 * "0")
    0.75
    """
    return int(digest[:16], 16) / 16**16


def split_at(number: float) -> str:
    """Return the split that a number in [0, 1) belongs to.

    >>> split_at(0.79), split_at(0.8), split_at(0.9)
    ('train', 'val', 'test')
    """
    return next(split for split in SPLITS if number < SHARES[split][1])


def assign_splits(
    hashes: Sequence[str], official: Sequence[str | None], groups: Sequence[str | None] | None = None
) -> list[str]:
    """Assign each image to a split.

    By the SHA-256 of the file, or of the text of its group, read as a number in [0, 1): below 0.8 train, below 0.9
    val, else test. So a file stays in its split when others are added or removed, and copies stay together. An empty
    split gets the image or the group whose number is nearest to it.

    Files that share their content or their group, directly or through other files, are in one split: the official one
    of a file among them, or else that of the largest number of the files without a group, or else that of the largest
    number of the groups. So no test image without a group leaves the test split because a group has a copy of it.

    Args:
        hashes: SHA-256 of each file, in hex.
        official: The split assigned by the source, or None. If the source has train and test but no val, val is
            taken from train.
        groups: The group of each file, or None. If None, no file has one.

    Raises:
        UserError: If there are fewer distinct images or groups than splits, or the files of a group are in several
            official splits.
    """
    groups = [None] * len(hashes) if groups is None else groups
    units = _units(hashes, groups)
    numbers: dict[str, tuple[bool, float]] = {}
    for unit, digest, group in zip(units, hashes, groups, strict=True):
        number = (True, position(digest)) if group is None else (False, position(hash_text(group)))
        numbers[unit] = max(number, numbers.get(unit, number))

    def distance(unit: str, split: str) -> float:
        low, high = SHARES[split]
        return max(low - numbers[unit][1], numbers[unit][1] - high, 0.0)

    splits: dict[str, str] = {}
    for unit, split, group in zip(units, official, groups, strict=True):
        if split is not None and splits.setdefault(unit, split) != split and group is not None:
            raise UserError(
                f"data.group: files of the group {group!r} are in the folders of two splits, {splits[unit]} and "
                f"{split}. Move them into one of the folders, or remove data.group."
            )
    for unit in units:
        splits.setdefault(unit, split_at(numbers[unit][1]))
    if "val" not in splits.values() and "val" not in official:
        for unit in [u for u, split in splits.items() if split == "train" and numbers[u][1] >= SHARES["test"][0]]:
            splits[unit] = "val"
    for empty in [split for split in SPLITS if split not in splits.values()]:
        counts = {split: list(splits.values()).count(split) for split in SPLITS}
        spare = [unit for unit, split in splits.items() if counts[split] > 1]
        if not spare:
            grouped = "" if set(groups) <= {None} else ", counting each group of data.group as one"
            raise UserError(
                f"{len(splits)} distinct usable image(s){grouped}: expected at least three, one each for training, "
                "validation and test. Add images."
            )
        splits[min(spare, key=lambda unit: distance(unit, empty))] = empty
    return [splits[unit] for unit in units]


def _units(hashes: Sequence[str], groups: Sequence[str | None]) -> list[str]:
    """Return a key for each file; files that share their content or their group, also indirectly, have the same."""
    parents: dict[str, str] = {}

    def top(key: str) -> str:
        while (parent := parents.setdefault(key, key)) != key:
            parents[key] = parents[parent]  # keeps the paths short
            key = parent
        return key

    for digest, group in zip(hashes, groups, strict=True):
        if group is not None:
            parents[top(digest)] = top(f"group {group}")
    return [top(digest) for digest in hashes]
