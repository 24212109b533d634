"""Oxford 102 Flowers (Nilsback and Zisserman 2008): 8,189 photographs, with their official splits."""

from dataclasses import dataclass

from torchvision.datasets import Flowers102 as Torchvision

from srcolor.data.cache import Item
from srcolor.data.downloads import fetch
from srcolor.data.files import Files, stamp


@dataclass(kw_only=True, eq=False)
class Flowers102(Files):
    """The flowers, by torchvision; downloaded to `root` on first use. See `Files` for its arguments."""

    def items(self) -> list[Item]:
        """Lists the photographs of the official splits (1,020 train, 1,020 val, 6,149 test)."""
        fetch(self.folder / "flowers-102", lambda root: Torchvision(root, download=True))
        return [
            Item(path.relative_to(self.folder).as_posix(), stamp(path), split)
            for split in ("train", "val", "test")
            for path in sorted(Torchvision(self.folder, split)._image_files)
        ]
