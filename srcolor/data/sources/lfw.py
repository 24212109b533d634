"""Labeled Faces in the Wild (Huang et al. 2007): 13,233 faces of 5,749 people, 250x250 pixels."""

import hashlib
from dataclasses import dataclass

from srcolor.data.cache import SHARES, Item
from srcolor.data.downloads import download_archive, fetch
from srcolor.data.sources.files import Files, stamp

# The archive that scikit-learn's `fetch_lfw_people` names; torchvision's own address no longer answers.
URL = "https://ndownloader.figshare.com/files/5976018"
SHA256 = "055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0"


@dataclass(kw_only=True, eq=False)
class LFW(Files):
    """The faces; downloaded to `root` on first use. See `Files` for its arguments.

    Split by person, 80/10/10 by the SHA-256 of the folder's name, so that no face of the test set
    is a face that was trained on.
    """

    def items(self) -> list[Item]:
        """Lists the faces, a folder a person."""
        folder = self.folder / "lfw"
        fetch(folder, lambda root: download_archive(URL, SHA256, root))
        return [
            Item(path.relative_to(self.folder).as_posix(), stamp(path), _split(path.parent.name))
            for path in sorted(folder.glob("*/*.jpg"))
        ]


def _split(person: str) -> str:
    place = int(hashlib.sha256(person.encode()).hexdigest()[:16], 16) / 16**16
    return next(split for split, (_, end) in SHARES.items() if place < end)
