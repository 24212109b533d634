"""Image files of every kind, and the bundled photographs."""

import socket

import numpy as np
import pytest
from conftest import COMMON, FILES
from data_helpers import folder, names
from PIL import Image

from srcolor.data import crops
from srcolor.data.index import Item
from srcolor.data.sources import photos
from srcolor.data.sources.folder import Folder
from srcolor.data.sources.photos import Photos
from srcolor.errors import UserError


def read(tmp_path, picture, name="picture.png", size=32, **options):
    picture.save(tmp_path / name, **options)
    data = Folder(**(COMMON | FILES | {"root": str(tmp_path), "size": size}))
    return data.decode(Item(name, ""))[0]


def test_gray_of_16_bits_is_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 32).round().astype(np.uint16)
    pixels = read(tmp_path, Image.fromarray(np.tile(ramp, (32, 1))))
    expected = (ramp / 257).round().astype(int)
    assert np.abs(pixels[0, :, 0].astype(int) - expected).max() == 0
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_exif_orientation_is_applied(tmp_path):
    upright = Image.new("RGB", (32, 32), "white")
    upright.paste("red", (0, 0, 32, 16))  # red above
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    pixels = read(tmp_path, upright.rotate(180), "p.jpg", exif=exif, quality=95)
    assert pixels[4, 16, 1] < 60
    assert pixels[28, 16, 1] > 200


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    name = "picture.tif" if mode == "CMYK" else "picture.png"
    pixels = read(tmp_path, Image.new("RGB", (32, 32), (255, 255, 255)).convert(mode), name)
    assert pixels.shape == (32, 32, 3)
    assert (pixels > 250).all()


def test_transparency_becomes_white(tmp_path):
    assert (read(tmp_path, Image.new("RGBA", (32, 32), (255, 0, 0, 0))) == 255).all()


def test_the_largest_centered_square_is_taken(tmp_path):
    wide = Image.new("RGB", (96, 32), "blue")
    wide.paste("white", (32, 0, 64, 32))
    assert (read(tmp_path, wide) == 255).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "missing", r"missing does not exist"),
        (lambda path: (path / "file.png").touch() or path / "file.png", r"file.png is a file"),
        (lambda path: path, r"contains no images"),
    ],
)
def test_a_root_without_images_is_an_error(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        folder(make(tmp_path))


def test_the_nine_photographs_load_without_a_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("tried to reach the network"))
    for name in photos.SPLIT:
        pixels = photos.load(name)
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert min(pixels.shape[:2]) >= 300


def test_photographs_are_split_as_documented():
    data = Photos(**(COMMON | {"size": 128, "holdout": "photo"}))
    data.setup()
    assert names(data, "val") == {"chelsea"}
    assert names(data, "test") == {"astronaut"}
    assert len(names(data, "train")) == 7


def test_holdout_by_region_keeps_a_gap_between_splits():
    data = Photos(**(COMMON | {"size": 128, "holdout": "region"}))
    data.setup()
    assert names(data, "train") == names(data, "val") == names(data, "test") == set(photos.SPLIT)
    for image in range(9):
        spans = []
        for split in crops.SPLITS:
            table = data._splits[split].table
            table = table[table[:, crops.IMAGE] == image]
            axis = (
                (crops.FIRST_TOP, crops.LAST_TOP)
                if data.index.shapes[image][0] > data.index.shapes[image][1]
                else (
                    crops.FIRST_LEFT,
                    crops.LAST_LEFT,
                )
            )
            spans.append((table[:, axis[0]].min(), table[:, axis[1]].max() + 128))
        (_, train_end), (val_start, val_end), (test_start, _) = spans
        assert train_end + 16 <= val_start
        assert val_end + 16 <= test_start
