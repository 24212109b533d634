"""Oxford-IIIT Pet (Parkhi et al. 2012): 7,349 photographs of cats and dogs, with their official splits."""

from dataclasses import dataclass

from torchvision.datasets import OxfordIIITPet

from srcolor.data.downloads import fetch
from srcolor.data.index import Item
from srcolor.data.sources.files import Files, file_stamp


@dataclass(kw_only=True, eq=False)
class OxfordPets(Files):
    """Oxford-IIIT Pet, from torchvision; downloaded to `root` on first use. See `Files` for its arguments."""

    def items(self) -> list[Item]:
        """Return the photographs of the official splits, `trainval` and `test`; val is taken from `trainval`."""
        folder = self.folder / "oxford-iiit-pet"
        fetch(folder, lambda root: OxfordIIITPet(root, download=True))
        lists = {
            split: (folder / "annotations" / f"{official}.txt").read_text(encoding="utf-8").splitlines()
            for split, official in (("train", "trainval"), ("test", "test"))
        }  # each line starts with the name of a photograph
        return [
            Item(path.relative_to(self.folder).as_posix(), file_stamp(path), split)
            for split, lines in lists.items()
            for path in sorted(folder / "images" / f"{line.split()[0]}.jpg" for line in lines)
        ]
