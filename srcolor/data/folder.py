"""A person's own pictures: any tree of image files."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from srcolor.data.cache import Item
from srcolor.data.files import Files, stamp
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
    """Pictures of any tree of JPEG, PNG, WebP, BMP and TIFF files; see `Files` for its arguments.

    Split 80/10/10 by the content of each file. Where every picture lies in a folder `train`, `val` or `test`
    directly under the root, those are the splits.
    """

    def __post_init__(self) -> None:
        """Checks the arguments."""
        if self.root is None:
            raise UserError("data=folder needs your pictures: give data.root=/full/path, or set SRCOLOR_DATA to it.")
        super().__post_init__()

    def items(self) -> list[Item]:
        """Lists the image files under the root, sorted by their path; hidden ones are left out.

        Raises:
            UserError: The root is no folder, or holds no image file.
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
