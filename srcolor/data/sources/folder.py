"""A person's own pictures: any tree of image files."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from srcolor.data.cache import Item
from srcolor.data.sources.files import Files, stamp
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
    """Pictures of any tree of JPEG, PNG, WebP, BMP and TIFF files; see `Files` for the other arguments.

    Split 80/10/10 by the content of each file. Where every picture lies in a folder `train`, `val` or `test`
    directly under the root, those are the splits.

    Args:
        exclude: Pictures that are left out: their paths from the root, with `*` for anything.
    """

    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Checks the arguments."""
        if self.root is None:
            raise UserError("data=folder needs your pictures: give data.root=/full/path, or set SRCOLOR_DATA to it.")
        super().__post_init__()

    def items(self) -> list[Item]:
        """Lists the image files under the root, sorted by their path; hidden ones are left out.

        Raises:
            UserError: The root is no folder, or holds no image file; or nothing there is as `exclude` says.
        """
        if not self.folder.is_dir():
            what = "is a file" if self.folder.exists() else "does not exist"
            raise UserError(
                f"data.root={self.folder} {what}: expected a folder with pictures. If it was moved, give its new "
                "place with data.root=..."
            )
        found = sorted(_pictures(str(self.folder), ""))
        if not found:
            raise UserError(
                f"data.root={self.folder} holds no picture: expected files ending in {', '.join(SUFFIXES)}, "
                "directly in it or in folders below."
            )
        for pattern in self.exclude:
            if not any(fnmatchcase(name, pattern) for name, _ in found):
                raise UserError(f"data.exclude: no picture is called {pattern} in {self.folder}, first {found[0][0]}.")
        found = [(name, when) for name, when in found if not any(fnmatchcase(name, p) for p in self.exclude)]
        if not found:
            raise UserError(f"data.exclude={list(self.exclude)} leaves no picture of {self.folder}.")
        splits = [SPLIT_FOLDERS.get(name.split("/")[0].lower()) if "/" in name else None for name, _ in found]
        official = None not in splits and len(set(splits)) > 1
        return [
            Item(name, when, split if official else None) for (name, when), split in zip(found, splits, strict=True)
        ]


def _pictures(folder: str, below: str) -> Iterator[tuple[str, str]]:
    """Yields the path from the root and the stamp of every image file, in no order; strings, as there may be many."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}). Make it readable, or move it away.") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _pictures(entry.path, f"{below}{entry.name}/")
        elif entry.name.lower().endswith(SUFFIXES):
            yield f"{below}{entry.name}", stamp(entry)
