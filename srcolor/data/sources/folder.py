"""Your own images: any tree of image files."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from srcolor.data.index import Item
from srcolor.data.sources.files import Files, file_stamp
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

    Split 80/10/10 by the content of each file. If every image is in a folder `train`, `val` or `test` directly under
    the root, those are the splits.

    Args:
        exclude: Images to exclude: paths relative to the root, with `*` as a wildcard.
    """

    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.root is None:
            raise UserError(
                "data=folder requires data.root=/full/path, the folder of your images; or set SRCOLOR_DATA."
            )
        super().__post_init__()

    def items(self) -> list[Item]:
        """Return the image files under the root, sorted by path, without hidden ones.

        Raises:
            UserError: If the root is not a folder or contains no images, or a pattern of `exclude` matches none.
        """
        if not self.folder.is_dir():
            problem = "is a file" if self.folder.exists() else "does not exist"
            raise UserError(
                f"data.root={self.folder} {problem}: expected a folder of images. If it was moved, set its new path "
                "with data.root=..."
            )
        files = sorted(_image_files(str(self.folder), ""))
        if not files:
            raise UserError(
                f"data.root={self.folder} contains no images: expected files ending in {', '.join(SUFFIXES)}, "
                "directly in it or in subfolders."
            )
        for pattern in self.exclude:
            if not any(fnmatchcase(name, pattern) for name, _ in files):
                raise UserError(
                    f"data.exclude: {pattern!r} matches no image in {self.folder} (paths there look like "
                    f"{files[0][0]})."
                )
        files = [(name, stamp) for name, stamp in files if not any(fnmatchcase(name, p) for p in self.exclude)]
        if not files:
            raise UserError(f"data.exclude={list(self.exclude)} excludes every image in {self.folder}.")
        splits = [SPLIT_FOLDERS.get(name.split("/")[0].lower()) if "/" in name else None for name, _ in files]
        official = None not in splits and len(set(splits)) > 1
        return [
            Item(name, stamp, split if official else None) for (name, stamp), split in zip(files, splits, strict=True)
        ]


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
