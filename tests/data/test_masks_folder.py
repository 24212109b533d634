"""A folder of images and masks: what it reads, and every way in which it can be wrong."""

import hashlib
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from conftest import COMMON
from PIL import Image

from srcolor.data.pairs_segment import IGNORED
from srcolor.data.sources.masks import Masks
from srcolor.errors import UserError
from srcolor.images import Pair


def labels_of(rgb, classes=2):
    """Class numbers that can be recomputed from the image: bands of its red channel."""
    return (rgb[..., 0].astype(int) * classes // 256).astype(np.uint8)


def write(folder, name, classes=2, mask=None, seed=0, size=(48, 40), suffix=".png"):
    """Write an image and its mask; the default mask is `labels_of` the image."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    rgb = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(rgb).save(folder / "images" / f"{name}{suffix}")
    (Image.fromarray(labels_of(rgb, classes)) if mask is None else mask).save(folder / "masks" / f"{name}.png")
    return rgb


def whole(images, row):
    return Pair(images[:, :3], images[:, 3:], row)


def open_masks(root, stage="fit", **options):
    data = Masks(**(COMMON | {"pair": whole, "root": str(root)} | options))
    data.setup(stage)
    return data


def numbers_of(pair):
    return (pair.target[:, 0] * 255).round().to(torch.uint8).numpy()


@pytest.fixture
def root(tmp_path):
    for number in range(12):
        write(tmp_path, f"slide {number}", seed=number)
    return tmp_path


@pytest.mark.parametrize("crop", ["random", "center"])
def test_the_fourth_plane_has_the_class_numbers_of_the_mask(root, crop):
    data = open_masks(root, crop=crop, size=40, flips="dihedral")
    for split in ("train", "val", "test"):
        for pair in data.pairs(split):
            rgb = (pair.input * 255).round().permute(0, 2, 3, 1).numpy()
            assert (numbers_of(pair) == labels_of(rgb)).all()
    batch = next(iter(data.train_dataloader()))
    assert (batch.images[..., 3].numpy() == labels_of(batch.images[..., :3].numpy())).all()


@pytest.mark.parametrize("kind", ["1-bit", "gray 0 and 1", "gray 0 and 255", "palette"])
def test_every_kind_of_two_class_mask_is_read(tmp_path, kind):
    labels = np.zeros((40, 48), np.uint8)
    labels[10:20, 5:30] = 1
    gray = Image.fromarray(labels)
    palette = gray.convert("P")
    palette.putdata(labels.flatten().tolist())
    palette.putpalette([200, 0, 0, 0, 0, 90])
    bits = Image.fromarray(labels * 255)
    masks = {"1-bit": bits.convert("1"), "gray 0 and 1": gray, "gray 0 and 255": bits, "palette": palette}
    assert (masks[kind].mode, masks["palette"].mode) == ({"1-bit": "1", "palette": "P"}.get(kind, "L"), "P")
    for number in range(3):
        write(tmp_path, str(number), mask=masks[kind], seed=number)
    data = open_masks(tmp_path, size=40)
    for pair in data.pairs("train"):
        assert (numbers_of(pair) == labels[:, 4:44]).all()


def test_more_classes_and_an_ignored_number(tmp_path):
    labels = np.zeros((40, 48), np.uint8)
    labels[:10], labels[10:20], labels[20:30, :20] = 2, 7, 1
    for number in range(3):
        write(tmp_path, str(number), mask=Image.fromarray(labels), seed=number)
    data = open_masks(tmp_path, size=40, classes=3, ignore_index=7)
    expected = np.where(labels == 7, IGNORED, labels)[:, 4:44]
    assert all((numbers_of(pair) == expected).all() for pair in data.pairs("test"))


def test_with_two_classes_255_is_ignored_only_if_it_is_the_ignored_number(tmp_path):
    labels = np.zeros((40, 48), np.uint8)
    labels[:10], labels[10:20] = 255, 1
    for number in range(3):
        write(tmp_path, str(number), mask=Image.fromarray(labels), seed=number)
    counted, ignored = (open_masks(tmp_path, size=40, ignore_index=index) for index in (None, 255))
    assert all(set(np.unique(numbers_of(pair))) == {0, 1} for pair in counted.pairs("train"))
    assert all(set(np.unique(numbers_of(pair))) == {0, 1, IGNORED} for pair in ignored.pairs("train"))


def test_images_are_split_by_the_content_of_the_image_alone(root):
    data = open_masks(root)
    files = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (root / "images").iterdir()}
    assert {digest for split in ("train", "val", "test") for digest in data.digests(split)} == files


def test_folders_of_splits_are_honored_and_val_is_taken_from_train(tmp_path):
    for number in range(30):
        write(tmp_path / ("test" if number < 5 else "train"), str(number), seed=number, suffix=".bmp")
    data = open_masks(tmp_path)
    assert set(data.digests("test").values()) == {f"test/images/{number}.bmp" for number in range(5)}
    val = set(data.digests("val").values())
    assert val
    assert all(name.startswith("train/") for name in val)
    assert len(val) + len(data.digests("train")) == 25
    for number in range(30, 33):
        write(tmp_path / "val", str(number), seed=number)
    assert set(open_masks(tmp_path).digests("val").values()) == {f"val/images/{number}.png" for number in range(30, 33)}


def test_a_changed_mask_is_read_again(root):
    before = next(open_masks(root).pairs("test"))
    for path in (root / "masks").iterdir():
        Image.fromarray(1 - np.asarray(Image.open(path))).save(path)
    after = next(open_masks(root).pairs("test"))
    assert (numbers_of(after) == 1 - numbers_of(before)).all()


def test_suffixes_in_capitals_are_read_with_and_without_cache(root):
    for path in [*(root / "images").iterdir(), *(root / "masks").iterdir()]:
        path.rename(path.with_suffix(".PNG"))
    first, second = (next(open_masks(root, cache=cache).pairs("test")) for cache in (True, False))
    assert torch.equal(first.target, second.target)
    assert (numbers_of(first) == labels_of((first.input * 255).round().permute(0, 2, 3, 1).numpy())).all()


def test_an_image_that_is_too_small_is_skipped_with_its_mask(root):
    write(root, "tiny", size=(20, 20))
    data = open_masks(root)
    assert list(map(tuple, data.index.skipped)) == [("images/tiny.png", "shorter side is below data.min_side=32")]


def test_the_size_of_the_mask_is_that_of_the_image_as_shown(root):
    """A photograph that a camera stored sideways."""
    rgb = np.random.default_rng(50).integers(0, 256, (40, 64, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    Image.fromarray(rgb).save(root / "images" / "sideways.jpg", exif=exif)
    Image.fromarray(np.ones((64, 40), np.uint8)).save(root / "masks" / "sideways.png")
    assert open_masks(root).index.skipped == []


# -- bad input -----------------------------------------------------------------------------------------------------


def error_of(root, **options):
    with pytest.raises(UserError) as error:
        open_masks(root, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_an_image_without_a_mask_and_the_reverse_are_errors(root):
    (root / "masks" / "slide 3.png").unlink()
    (root / "masks" / "slide 4.png").unlink()
    assert "2 image(s) without a mask, first images/slide 3.png: expected images/NAME.jpg" in error_of(root)
    (root / "images" / "slide 3.png").unlink()
    (root / "images" / "slide 4.png").unlink()
    (root / "images" / "slide 5.png").unlink()
    assert "1 mask(s) without an image, first masks/slide 5.png: expected" in error_of(root)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Image.new("L", (48, 41)), "has 48x41 pixels, but its image has 48x40. Save both at the same size."),
        (Image.new("L", (48, 40), 3), "has the class number 3, expected 0 to 1. Set data.classes="),
        (Image.new("RGB", (48, 40)), "'s mode is RGB, expected class numbers in gray of up to 8 bits or in a palette."),
        (Image.new("I;16", (48, 40)), "'s mode is I;16, expected class numbers"),
    ],
)
def test_a_wrong_mask_is_an_error_that_names_the_file(root, mask, message):
    """Not one skipped file among many; also in a later run, which reads the cache."""
    write(root, "bad", mask=mask, seed=99)
    for _ in range(2):
        error = error_of(root)
        assert re.match(re.escape(f"{root}/masks/bad.png: the mask") + " ?" + re.escape(message), error)


@pytest.mark.parametrize("good", [0, 1, 11], ids=["all are bad", "most are bad", "one is bad"])
@pytest.mark.parametrize(
    ("bad", "reason"), [(Image.new("RGB", (48, 40)), "mode is RGB"), (Image.new("L", (48, 40), 7), "class number 7")]
)
def test_bad_masks_are_the_error_however_many_there_are(root, good, bad, reason):
    """With fewer than three good masks, not that the images are unusable or too few."""
    names = sorted(path.name for path in (root / "masks").iterdir())
    for name in names[good:]:
        bad.save(root / "masks" / name)
    error = error_of(root)
    assert error.startswith(f"{root}/masks/{names[good]}: the mask")
    assert reason in error
    assert error_of(root, cache=False) == error


def write_gray(path, numbers, depth):
    """Write a gray PNG of 2 or 4 bits per pixel, which Pillow cannot."""
    height, width = numbers.shape
    bits = ((numbers[..., None] >> np.arange(depth - 1, -1, -1)) & 1).reshape(height, -1).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1))
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)))
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (*parts, (b"IEND", b""))
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.parametrize("depth", [2, 4])
def test_gray_of_two_and_four_bits_is_read_unscaled(tmp_path, depth):
    labels = np.arange(48 * 40).reshape(40, 48) % 2**depth
    for number in range(3):
        write(tmp_path, str(number), seed=number)
        write_gray(tmp_path / "masks" / f"{number}.png", labels, depth)
    data = open_masks(tmp_path, size=40, classes=2**depth)
    assert all((numbers_of(pair) == labels[:, 4:44]).all() for pair in data.pairs("test"))


def test_the_conversion_that_the_error_suggests_works(root):
    write(root, "bad", mask=Image.new("RGB", (48, 40), "white"), seed=99)
    mask = root / "masks" / "bad.png"
    (command,) = re.findall(r"with (Image\.open\(mask\).*?save\(mask\))", error_of(root))
    exec(command, {"Image": Image, "mask": mask})
    open_masks(root)


def test_a_damaged_mask_is_an_error(root):
    (root / "masks" / "slide 2.png").write_bytes(b"no picture")
    assert "masks/slide 2.png: the mask cannot be read" in error_of(root)


@pytest.mark.parametrize("value", [0, 255])
def test_masks_without_any_foreground_are_an_error_in_training(root, value):
    for path in (root / "masks").iterdir():
        Image.fromarray(np.full((40, 48), value, np.uint8)).save(path)
    assert "all masks of the training split are empty" in error_of(root, ignore_index=255)
    open_masks(root, stage="test", ignore_index=255)


def test_two_images_of_the_same_name_are_an_error(root):
    Image.new("RGB", (48, 40)).save(root / "images" / "slide 1.jpg")
    assert "slide 1.jpg and slide 1.png share a name; names must be unique" in error_of(root)


def test_images_beside_folders_of_splits_are_an_error(root):
    write(root / "train", "one", seed=70)
    assert f"{root} has images/ and train/images/: expected only one. Remove the other." in error_of(root)


def test_a_folder_without_images_and_masks_is_an_error(tmp_path, root):
    assert "expected the folders images/ and masks/" in error_of(root / "images")
    assert "expected the folders images/ and masks/" in error_of(root / "nowhere")
    (root / "masks").rename(root / "labels")
    assert f"{root / 'masks'}: expected files ending in .png, found none" in error_of(root)
    assert "data=masks requires data.root=" in error_of_root_none()


def error_of_root_none():
    with pytest.raises(UserError) as error:
        Masks(**(COMMON | {"root": None}))
    return str(error.value)


@pytest.mark.parametrize("options", [{"classes": 1}, {"classes": 256}, {"ignore_index": -1}])
def test_numbers_out_of_range_are_errors(root, options):
    assert next(iter(options)) in error_of(root, **options)
