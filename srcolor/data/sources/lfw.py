"""Labeled Faces in the Wild (Huang et al. 2007): 13,233 faces of 5,749 people, 250x250 pixels."""

from dataclasses import dataclass

from srcolor.data.downloads import download_archive, fetch
from srcolor.data.index import Item
from srcolor.data.sources.files import Files, file_stamp
from srcolor.data.splits import hash_text, position, split_at

# The archive of scikit-learn's `fetch_lfw_people`; torchvision's URL is no longer available.
URL = "https://ndownloader.figshare.com/files/5976018"
SHA256 = "055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0"


@dataclass(kw_only=True, eq=False)
class LFW(Files):
    """Labeled Faces in the Wild; downloaded to `root` on first use. See `Files` for its arguments.

    Split by person, 80/10/10 by the SHA-256 of the folder's name, so that no person is in two splits.
    """

    def items(self) -> list[Item]:
        """Return the faces; each folder is a person."""
        folder = self.folder / "lfw"
        fetch(folder, lambda root: download_archive(URL, SHA256, root))
        return [
            Item(path.relative_to(self.folder).as_posix(), file_stamp(path), _split(path.parent.name))
            for path in sorted(folder.glob("*/*.jpg"))
        ]


def _split(person: str) -> str:
    return split_at(position(hash_text(person)))
