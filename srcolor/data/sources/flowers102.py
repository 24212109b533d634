"""Oxford 102 Flowers (Nilsback and Zisserman 2008): 8,189 photographs, with their official splits."""

from dataclasses import dataclass

from scipy.io import loadmat
from torchvision.datasets import Flowers102 as Torchvision

from srcolor.data.downloads import fetch
from srcolor.data.index import Item
from srcolor.data.sources.files import Files, file_stamp


@dataclass(kw_only=True, eq=False)
class Flowers102(Files):
    """Oxford 102 Flowers, from torchvision; downloaded to `root` on first use. See `Files` for its arguments."""

    def items(self) -> list[Item]:
        """Return the photographs of the official splits (1,020 train, 1,020 val, 6,149 test)."""
        folder = self.folder / "flowers-102"
        fetch(folder, lambda root: Torchvision(root, download=True))
        numbers = loadmat(folder / "setid.mat")
        return [
            Item(path.relative_to(self.folder).as_posix(), file_stamp(path), split)
            for split, official in (("train", "trnid"), ("val", "valid"), ("test", "tstid"))
            for path in sorted(folder / "jpg" / f"image_{number:05d}.jpg" for number in numbers[official].flat)
        ]
