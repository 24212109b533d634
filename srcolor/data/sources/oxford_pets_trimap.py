"""Oxford-IIIT Pet with its trimaps: where the animal is in each photograph."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from srcolor.data.crops import Pixels
from srcolor.data.index import Item
from srcolor.data.pairs_segment import IGNORED
from srcolor.data.sources.files import file_stamp
from srcolor.data.sources.oxford_pets import OxfordPets
from srcolor.errors import UserError

# Values of a trimap (1 pet, 2 background, 3 border) to class numbers: the border, which either may own, is ignored.
CLASS_NUMBERS = np.array([IGNORED, 1, 0, IGNORED], np.uint8)


@dataclass(kw_only=True, eq=False)
class OxfordPetsTrimap(OxfordPets):
    """Oxford-IIIT Pet for segmentation: class 0 is background, class 1 the pet; see `Files` for the arguments."""

    planes = 4

    def items(self) -> list[Item]:
        """See `OxfordPets`; the stamp of a photograph includes that of its trimap."""
        photographs = super().items()
        return [Item(i.name, f"{i.stamp} {file_stamp(self.trimap(i.name))}", i.split) for i in photographs]

    def trimap(self, name: str) -> Path:
        """Return the trimap of a photograph."""
        return self.folder / "oxford-iiit-pet" / "annotations" / "trimaps" / f"{Path(name).stem}.png"

    def decode(self, item: Item) -> tuple[Pixels, str]:
        """See `Files`; the fourth plane has class numbers, 255 where ignored.

        Raises:
            UserError: If the trimap has a value other than 1, 2 and 3.
        """
        rgb, digest = super().decode(item)
        with Image.open(self.trimap(item.name)) as file:
            trimap = np.asarray(file)
        if trimap.ndim != 2 or trimap.max() > 3:
            raise UserError("its trimap has values other than 1, 2 and 3")
        numbers = Image.fromarray(CLASS_NUMBERS[trimap])
        return np.dstack([rgb, self.fit(numbers, Image.Resampling.NEAREST)]), digest
