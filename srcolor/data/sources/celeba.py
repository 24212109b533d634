"""CelebA, aligned (Liu et al. 2015): 202,599 faces of 178x218 pixels, with their official splits."""

from dataclasses import dataclass

from torchvision.datasets import CelebA as Torchvision

from srcolor.data.downloads import fetch
from srcolor.data.index import Item
from srcolor.data.sources.files import Files, file_stamp


@dataclass(kw_only=True, eq=False)
class CelebA(Files):
    """CelebA, from torchvision; downloaded to `root` on first use. See `Files` for its arguments."""

    def items(self) -> list[Item]:
        """Return the faces of the official splits (162,770 train, 19,867 val, 19,962 test)."""
        folder = self.folder / Torchvision.base_folder
        fetch(folder, lambda root: Torchvision(root, download=True))
        return [
            Item(path.relative_to(self.folder).as_posix(), file_stamp(path), split)
            for split, official in (("train", "train"), ("val", "valid"), ("test", "test"))
            for path in (folder / "img_align_celeba" / name for name in Torchvision(self.folder, official).filename)
        ]
