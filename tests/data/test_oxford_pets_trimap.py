"""Oxford-IIIT Pet with trimaps, from local files of the same layout."""

import numpy as np
import pytest
from conftest import COMMON, FILES
from PIL import Image
from skimage import data as photos

from srcolor.data.pairs_segment import IGNORED, segment
from srcolor.data.sources.oxford_pets_trimap import OxfordPetsTrimap

NAMES = {"trainval": [f"cat_{number}" for number in range(20)], "test": [f"dog_{number}" for number in range(4)]}


def trimap():
    """A pet (1) inside of a border (3) on background (2)."""
    values = np.full((48, 40), 2, np.uint8)
    values[10:38, 8:32] = 3
    values[14:34, 12:28] = 1
    return values


@pytest.fixture
def pets(tmp_path):
    folder = tmp_path / "oxford-iiit-pet"
    for name in ("images", "annotations/trimaps"):
        (folder / name).mkdir(parents=True)
    photo = Image.fromarray(photos.coffee())
    for split, names in NAMES.items():
        (folder / "annotations" / f"{split}.txt").write_text("".join(f"{name} 1 1 1\n" for name in names))
        for number, name in enumerate(names):
            corner = (9 * number, 7 * number + (200 if split == "test" else 0))
            photo.crop((*corner, corner[0] + 40, corner[1] + 48)).save(folder / "images" / f"{name}.jpg")
            Image.fromarray(trimap()).save(folder / "annotations" / "trimaps" / f"{name}.png")
    return tmp_path


def test_the_pet_is_class_1_the_background_0_and_the_border_is_ignored(pets):
    data = OxfordPetsTrimap(
        root=str(pets), **COMMON | FILES | {"size": 40, "pair": lambda x, row: segment(x, row, 1, 2)}
    )
    data.setup("fit")
    expected = np.array([0, 1, 0, IGNORED])[trimap()][4:44]  # the center square
    pair = next(data.pairs("test"))
    assert len(data.digests("test")) == 4
    for background, pet in pair.target.numpy():
        assert np.array_equal(pet, expected == 1)
        assert np.array_equal(background, expected == 0)


def test_a_trimap_with_other_values_is_skipped_with_a_reason(pets):
    Image.fromarray(np.full((48, 40), 9, np.uint8)).save(
        pets / "oxford-iiit-pet" / "annotations" / "trimaps" / "cat_3.png"
    )
    data = OxfordPetsTrimap(root=str(pets), **COMMON | FILES)
    data.setup("fit")
    (skipped,) = data.index.skipped
    assert tuple(skipped) == ("oxford-iiit-pet/images/cat_3.jpg", "its trimap has values other than 1, 2 and 3")
