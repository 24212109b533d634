"""Your own images: any tree of image files."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from srcolor.data.index import Item
from srcolor.data.sources.files import Files, file_stamp
from srcolor.data.sources.roots import check_separate, prefixes
from srcolor.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(kw_only=True, eq=False)
class Folder(Files):
    """Any tree of JPEG, PNG, WebP, BMP and TIFF files; see `Files` for the other arguments.

    Split 80/10/10 by the content of each file. If every image of a root is in a folder `train`, `val` or `test`
    directly under it, those are the splits of its images.

    Args:
        root: The folder, or a list of separate folders; `~` is expanded. With several, the name of an image starts with
            the name of its folder, and with those of the folders above it if two have the same name.
        exclude: Images to exclude: their names, with `*` as a wildcard.
        group: Regular expression with one group, searched in each path relative to its root. Files in which the group
            matches the same text, such as the number of a person, are in one split, by the SHA-256 of this text. Other
            files are split by content. See `assign_splits` for files that belong to several groups or official splits.
    """

    exclude: Sequence[str] = ()
    group: str | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.root is None or (not isinstance(self.root, str) and not self.root):
            raise UserError(
                "data=folder requires data.root=/full/path, the folder of your images; or set SRCOLOR_DATA."
            )
        super().__post_init__()
        check_separate(self.folders)
        self._prefixes = prefixes(self.folders)
        self._pattern = None if self.group is None else _compile(self.group)
        self._training = False

    def setup(self, stage: str | None = None) -> None:
        """See `ImageDataModule`; in training (`fit`), `group` must match a file. A test may be of another root."""
        self._training = stage == "fit"
        super().setup(stage)

    def items(self) -> list[Item]:
        """Return the image files under the roots, sorted by name, without hidden ones.

        Raises:
            UserError: If a root is not a folder or contains no images, a pattern of `exclude` matches none, the images
                of a root are all excluded, or `group` matches none in training.
        """
        files = {prefix: _list(folder) for prefix, folder in zip(self._prefixes, self.folders, strict=True)}
        names = [f"{prefix}{path}" for prefix, listed in files.items() for path, _ in listed]
        where = " and ".join(map(str, self.folders))
        for pattern in self.exclude:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(
                    f"data.exclude: {pattern!r} matches no image in {where} (paths there look like {names[0]}). "
                    "Correct the pattern, or remove it."
                )
        items: list[Item] = []
        for prefix, folder in zip(self._prefixes, self.folders, strict=True):
            kept = [
                (path, stamp)
                for path, stamp in files[prefix]
                if not any(fnmatchcase(f"{prefix}{path}", pattern) for pattern in self.exclude)
            ]
            if not kept:
                raise UserError(f"data.exclude={list(self.exclude)} excludes every image in {folder}.")
            splits = [SPLIT_FOLDERS.get(path.split("/")[0].lower()) if "/" in path else None for path, _ in kept]
            official = None not in splits and len(set(splits)) > 1
            items += [
                Item(f"{prefix}{path}", stamp, split if official else None, self._group_of(path))
                for (path, stamp), split in zip(kept, splits, strict=True)
            ]
        if self._training and self.group is not None and all(item.group is None for item in items):
            raise UserError(
                f"data.group={self.group} matches no image in {where} (paths there look like "
                f"{items[0].name}). Correct the expression, or remove it with data.group=null."
            )
        return sorted(items, key=lambda item: item.name)

    def _group_of(self, path: str) -> str | None:
        match = None if self._pattern is None else self._pattern.search(path)
        return None if match is None else match[1]

    def path(self, name: str) -> Path:
        """See `Files`."""
        prefix, folder = next(
            (prefix, folder)
            for prefix, folder in zip(self._prefixes, self.folders, strict=True)
            if name.startswith(prefix)
        )
        return folder / name.removeprefix(prefix)

    def settings(self) -> dict[str, Any]:
        """See `Source`."""
        return super().settings() | ({} if self.group is None else {"group": self.group})

    def identity(self) -> str:
        """Return the folders."""
        return os.pathsep.join(sorted(map(str, self.folders)))


def _compile(pattern: str) -> re.Pattern[str]:
    example = r"""Expected one group, around the text that files of one split share: 'data.group="person_(\d+)_"'."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"data.group={pattern} is not a regular expression ({error}). {example}") from None
    if compiled.groups != 1:
        raise UserError(f"data.group={pattern} has {compiled.groups} groups. {example}")
    return compiled


def _list(root: Path) -> list[tuple[str, str]]:
    """Return the relative path and the stamp of every image file under a root, sorted.

    Raises:
        UserError: If the root is not a folder or contains no images.
    """
    if not root.is_dir():
        problem = "is a file" if root.exists() else "does not exist"
        raise UserError(
            f"data.root={root} {problem}: expected a folder of images. If it was moved, set its new path with "
            "data.root=..."
        )
    files = sorted(_image_files(str(root), ""))
    if not files:
        raise UserError(
            f"data.root={root} contains no images: expected files ending in {', '.join(SUFFIXES)}, directly in it or "
            "in subfolders."
        )
    return files


def _image_files(folder: str, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the relative path and the stamp of every image file, unordered; strings, as there may be many."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}). Make it readable, or move it away.") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _image_files(entry.path, f"{prefix}{entry.name}/")
        elif entry.name.lower().endswith(SUFFIXES):
            yield f"{prefix}{entry.name}", file_stamp(entry)
