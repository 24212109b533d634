import hashlib
import inspect
import logging
import os
import pickle
import shutil
import socket
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import COMMON, FILES
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from PIL import Image
from skimage import data as skimage_data
from torch.utils.data import DataLoader
from torchvision.transforms import functional as tv

from srcolor.cli import schema
from srcolor.data import augment, cache, crops, draws, pairs
from srcolor.data.datamodule import Crops, ImageDataModule
from srcolor.data.index import Index, Item
from srcolor.data.sampler import EpochSampler
from srcolor.data.sources import photos
from srcolor.data.sources.folder import Folder
from srcolor.data.sources.photos import Photos
from srcolor.errors import UserError


def folder(root, **changes):
    data = Folder(**(COMMON | FILES | {"root": str(root)} | changes))
    data.setup()
    return data


def batches(loader):
    return [tuple(part.clone() for part in batch) for batch in loader]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, two in zip(first, second, strict=True):
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a, b)


# -- splits -------------------------------------------------------------------------------------------------


def names(data, split):
    return {data.name(split, row).split("@")[0] for row in range(len(data._splits[split]))}


def test_splits_are_disjoint_and_complete(pictures):
    data = folder(pictures)
    parts = [names(data, split) for split in crops.SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 24


def test_the_split_follows_the_hash_of_the_files_bytes(pictures):
    data = folder(pictures)
    place = {p.relative_to(pictures).as_posix(): p for p in pictures.rglob("*.png")}
    shares = {n: int(hashlib.sha256(p.read_bytes()).hexdigest()[:16], 16) / 16**16 for n, p in place.items()}
    assert names(data, "val") == {n for n, s in shares.items() if 0.8 <= s < 0.9}
    assert names(data, "test") == {n for n, s in shares.items() if s >= 0.9}


def test_splits_are_stable_when_files_come_and_go_and_copies_stay_together(pictures, tmp_path):
    before = folder(pictures)
    root = tmp_path / "more"
    shutil.copytree(pictures, root)
    gone = next(iter(names(before, "train")))
    (root / gone).unlink()
    for name in names(before, "test") | names(before, "val"):
        shutil.copy(root / name, root / name.replace(".png", "_copy.png"))
    Image.effect_noise((40, 40), 50).convert("RGB").save(root / "new.png")
    after = folder(root)
    for split in crops.SPLITS:
        assert names(before, split) - {gone} <= names(after, split)
    for split in ("val", "test"):
        assert {n.replace(".png", "_copy.png") for n in names(before, split)} <= names(after, split)


def test_three_pictures_are_enough_and_two_are_not(pictures, tmp_path):
    for i, path in enumerate(sorted(pictures.rglob("*.png"))[:2]):
        shutil.copy(path, tmp_path / f"{i}.png")
    with pytest.raises(UserError, match=r"2 different usable picture.*at least three"):
        folder(tmp_path)
    shutil.copy(sorted(pictures.rglob("*.png"))[2], tmp_path / "2.png")
    data = folder(tmp_path)
    assert [len(names(data, split)) for split in crops.SPLITS] == [1, 1, 1]


def test_folders_named_after_the_splits_are_honoured(pictures, tmp_path):
    files = sorted(pictures.rglob("*.png"))
    for i, path in enumerate(files[:6]):
        where = tmp_path / ("train", "validation", "test")[i // 2]
        where.mkdir(exist_ok=True)
        shutil.copy(path, where / path.name)
    data = folder(tmp_path)
    assert names(data, "val") == {f"validation/{p.name}" for p in files[2:4]}
    assert names(data, "test") == {f"test/{p.name}" for p in files[4:6]}


# -- arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", schema.options("data"))
def test_the_configuration_lists_every_argument_with_its_default(name):
    """Hydra sets only keys that are listed, without a `+`."""
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        node = compose("train", [f"data={name}"]).data
    parameters = inspect.signature(get_class(node._target_)).parameters
    assert set(node) - {"_target_"} == set(parameters)
    defaults = {key: value.default for key, value in parameters.items() if value.default is not value.empty}
    assert set(parameters) - set(defaults) <= {"root", "size", "pair", "scale"}
    other = {key for key, value in defaults.items() if node[key] != value and (node[key], value) != ([], ())}
    assert other == ({"crop", "flips"} if name == "photographs" else set())


# -- the same batches, however they are made ------------------------------------------------------------------


def test_two_forked_workers_read_the_crops_that_were_asked_for(tmp_path):
    """Forked processes share the offset of a file that was opened before: a seek of one moves the other's read."""
    count, size = 20_000, 4
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    (tmp_path / "pixels.bin").write_bytes(pixels.tobytes())
    table = np.zeros((count, 9), np.int32)
    table[:, crops.IMAGE] = np.arange(count)
    pictures = cache.Mapped(tmp_path, np.array([[size, size, 3]] * count, np.int32))
    split = Crops(pictures, table, size, move=False)
    sampler = EpochSampler(count, 1000, seed=0, length=10 * count)
    loader = DataLoader(split, sampler=sampler, batch_size=None, num_workers=2, multiprocessing_context="fork")
    read = wrong = 0
    for batch in loader:
        read += len(batch.row)
        wrong += int((batch.images.numpy() != pixels[batch.row.numpy()]).any((1, 2, 3)).sum())
    assert (read, wrong) == (200_000, 0)


@pytest.mark.parametrize("crop", ["center", "random"])
def test_decoding_on_the_fly_gives_the_batches_of_the_cache_with_workers_and_without(pictures, crop):
    options = {"crop": crop, "flips": "dihedral"}
    expected = batches(folder(pictures, **options).train_dataloader())
    assert_same(batches(folder(pictures, **options, workers=2).train_dataloader()), expected)
    assert_same(batches(folder(pictures, **options, cache=False).train_dataloader()), expected)
    assert_same(batches(folder(pictures, **options, cache=False, workers=2).train_dataloader()), expected)


def test_draws_belong_to_the_position_in_the_epoch_not_to_the_batch(pictures):
    whole = batches(folder(pictures, crop="random", batch_size=100).train_dataloader())[0]
    parts = batches(folder(pictures, crop="random", batch_size=3).train_dataloader())
    for number in range(3):
        assert torch.equal(torch.cat([part[number] for part in parts]), whole[number])


def test_epochs_differ_and_come_again(pictures):
    loader = folder(pictures, crop="random").train_dataloader()
    first = batches(loader)
    loader.sampler.set_epoch(1)
    second = batches(loader)
    assert not torch.equal(first[0][0], second[0][0])
    loader.sampler.set_epoch(0)
    assert_same(batches(loader), first)


def test_an_epoch_goes_through_every_row_equally_often():
    order, table = draws.epoch(seed=0, number=3, rows=7, length=21)
    assert order.bincount().tolist() == [3] * 7
    parts = [draws.epoch(seed=0, number=n, rows=7, length=4)[0] for n in range(7)]
    assert torch.cat(parts).bincount().tolist() == [4] * 7
    assert sorted(torch.cat(parts)[:7].tolist()) == list(range(7))
    assert table.shape == (21, draws.COLUMNS)
    other, _ = draws.epoch(seed=1, number=3, rows=7, length=21)
    assert order.tolist() != other.tolist()


def test_evaluation_crops_are_the_cells_of_a_grid(pictures):
    data = folder(pictures, size=16, crop="random")
    (batch,) = batches(folder(pictures, size=16, crop="random", batch_size=1000).test_dataloader())
    name, _, corner = data.name("test", 1).partition("@")
    top, left = map(int, corner.split(","))
    pixels = np.asarray(Image.open(pictures / name))[top : top + 16, left : left + 16]
    assert np.array_equal(batch[0][1].numpy(), pixels)
    assert len(batch[0]) == 9 * len(names(data, "test"))


# -- the cache -------------------------------------------------------------------------------------------------


def test_a_changed_file_is_read_again(pictures, tmp_path):
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    one = folder(root)
    name = next(iter(names(one, "train")))
    Image.new("RGB", (48, 48), "red").save(root / name)
    assert name not in names(folder(root), "train")  # it has no content now


def test_a_cache_is_built_once_and_leaves_no_unfinished_folder(pictures, tmp_path, monkeypatch):
    first = batches(folder(pictures, cache_dir=str(tmp_path)).test_dataloader())
    assert not list(tmp_path.rglob("unfinished*"))
    monkeypatch.setattr(Folder, "decode", lambda *_: pytest.fail("decoded again"))
    assert_same(batches(folder(pictures, cache_dir=str(tmp_path)).test_dataloader()), first)


def test_a_cache_that_is_cut_short_while_it_is_built_is_not_used(pictures, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cache.np, "savez", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            folder(pictures, cache_dir=str(tmp_path))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".lock"}
    folder(pictures, cache_dir=str(tmp_path))


def test_a_second_start_without_a_cache_of_pixels_decodes_nothing(pictures, tmp_path, monkeypatch):
    options = {"cache": False, "cache_dir": str(tmp_path), "crop": "random", "size": 16}
    first = folder(pictures, **options)
    assert not list(tmp_path.rglob("pixels.bin"))
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "decode", lambda *_: pytest.fail("decoded again"))
        second = folder(pictures, **options)
    assert second.index.names == first.index.names
    assert_same(batches(second.train_dataloader()), batches(first.train_dataloader()))
    assert_same(
        batches(folder(pictures, **options | {"cache": True}).train_dataloader()), batches(first.train_dataloader())
    )
    assert len(list(tmp_path.rglob("index.json"))) == 1


def test_where_an_index_cannot_be_stored_every_start_reads_all_pictures(pictures, tmp_path, caplog):
    (tmp_path / "file").touch()
    data = folder(pictures, cache=False, cache_dir=str(tmp_path / "file"))
    assert len(data.index.names) == 24
    assert "every start will read all pictures" in caplog.text


def test_a_source_that_only_decodes_decodes_each_picture_once(tmp_path):
    decoded = []

    class Noise(ImageDataModule):
        def items(self):
            return [Item(f"{i}", "") for i in range(9)]

        def decode(self, item):
            decoded.append(item.name)
            pixels = np.random.default_rng(int(item.name)).integers(0, 256, (32, 32, 3), np.uint8)
            return pixels, hashlib.sha256(pixels.data).hexdigest()

        def identity(self):
            return "noise"

    data = Noise(**(COMMON | {"cache_dir": str(tmp_path)}))
    data.setup()
    assert sorted(decoded) == [f"{i}" for i in range(9)]


def sizes(cache_dir):
    """The sizes of the pictures of each cache that is there."""
    return {int(Index.load(path.parent).shapes[0, 0]) for path in cache_dir.rglob("pixels.bin")}


def test_the_least_recently_used_caches_make_room(pictures, tmp_path, monkeypatch):
    other = tmp_path / "somebody" / "page"  # not ours
    other.mkdir(parents=True)
    (other / "index.json").write_text("x" * 100_000)
    options = {"cache_dir": str(tmp_path), "cache_limit_gb": 150e-6}  # 24 * 3 * 32² = 73.7 kB
    for time, size in enumerate((32, 24, 16)):
        data = folder(pictures, **options, size=size)
        os.utime(data._splits["test"].images.folder, (time, time))
    assert sizes(tmp_path) == {16, 24, 32}  # of one source
    monkeypatch.setattr(cache.Mapped, "opened", weakref.WeakSet())  # as in another process
    monkeypatch.setattr(Folder, "decode", lambda *_: pytest.fail("decoded again"))
    folder(pictures, **options, size=32)  # the last used now
    monkeypatch.undo()
    monkeypatch.setattr(cache.Mapped, "opened", weakref.WeakSet())
    folder(pictures, **options, size=28)  # 56.4 kB
    assert sizes(tmp_path) == {28, 32}
    assert not list(tmp_path.rglob("unfinished-*"))
    assert (other / "index.json").exists()


def test_a_cache_that_this_process_uses_stays(pictures, tmp_path):
    options = {"cache_dir": str(tmp_path), "cache_limit_gb": 100e-6}
    used = folder(pictures, **options, size=32)
    folder(pictures, **options, size=28)
    assert sizes(tmp_path) == {28, 32}
    assert len(batches(used.train_dataloader()))


def test_a_cache_larger_than_the_limit_leaves_nothing(pictures, tmp_path):
    with pytest.raises(UserError, match=r"of 24 pictures is larger than data\.cache_limit_gb=7e-05\. Raise it"):
        folder(pictures, cache_dir=str(tmp_path), cache_limit_gb=70e-6)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".lock"}


def test_the_stored_index_has_its_arrays_and_nothing_else(pictures, tmp_path):
    folder(pictures, cache_dir=str(tmp_path))
    (file,) = tmp_path.rglob("index.npz")
    with np.load(file) as arrays:
        assert set(arrays) == {"shapes", "hashes", "splits", "crops"}


@pytest.mark.parametrize("cached", [True, False])
def test_of_two_processes_one_decodes_and_the_other_waits_for_it(cached, pictures, tmp_path, meeting):
    class Noted(Folder):
        def decode(self, item):
            meeting.made(item.name)
            return super().decode(item)

    def work():
        data = Noted(**(COMMON | FILES | {"root": str(pictures), "cache_dir": str(tmp_path), "cache": cached}))
        data.setup()
        return data.index.hashes.tobytes()

    first, second = meeting.of(work)
    assert first == second
    assert len(meeting.file.read_text().splitlines()) == 24


# -- pictures of every kind ----------------------------------------------------------------------------------


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


def test_transparent_parts_become_white(tmp_path):
    assert (read(tmp_path, Image.new("RGBA", (32, 32), (255, 0, 0, 0))) == 255).all()


def test_the_largest_centred_square_is_taken(tmp_path):
    wide = Image.new("RGB", (96, 32), "blue")
    wide.paste("white", (32, 0, 64, 32))
    assert (read(tmp_path, wide) == 255).all()


def test_unusable_files_are_skipped_and_named(pictures, tmp_path):
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    (root / "empty.jpg").touch()
    (root / "text.jpg").write_text("no picture")
    whole = next(root.rglob("*.png")).read_bytes()
    (root / "short.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (20, 200)).save(root / "narrow.png")
    data = folder(root)
    assert {name for name, _ in data.index.skipped} == {"empty.jpg", "text.jpg", "short.png", "narrow.png"}
    data.write_splits(tmp_path / "split.csv")
    rows = (tmp_path / "split.csv").read_text().splitlines()
    assert any(row == "narrow.png,skipped,0,,a side shorter than data.min_side=32" for row in rows)
    assert len(rows) == 1 + 24 + 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "missing", r"missing does not exist"),
        (lambda path: (path / "file.png").touch() or path / "file.png", r"file.png is a file"),
        (lambda path: path, r"holds no picture"),
    ],
)
def test_a_root_that_is_no_folder_of_pictures(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        folder(make(tmp_path))


def test_no_usable_picture_is_an_error_with_reasons(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"none of 1 pictures is usable:\n  not a readable image: text.jpg"):
        folder(tmp_path)


# -- flat crops --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spread", "flat"), [(0.0, True), (0.9, True), (1.2, False), (40.0, False)])
def test_is_flat_means_a_standard_deviation_below_one_level(spread, flat):
    values = np.random.default_rng(0).normal(128, spread, (128, 128, 3)).round().clip(0, 255).astype(np.uint8)
    assert crops.is_flat(values) == flat


def test_a_single_bright_pixel_between_the_samples_is_content():
    values = np.zeros((128, 128, 3), np.uint8)
    values[33:49, 33:49] = 255
    assert not crops.is_flat(values)


def test_no_split_of_the_photographs_has_a_flat_crop():
    data = Photos(**(COMMON | {"size": 128, "holdout": "photo"}))
    data.setup()
    assert data.index.flat > 0  # the dark corners of the retina
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert (batch.images.flatten(1, 2).double().std(1, correction=0).amax(1) >= 1).all()


# -- the photographs ---------------------------------------------------------------------------------------------


def test_the_nine_photographs_load_without_a_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("tried to reach the network"))
    for name in photos.SPLIT:
        pixels = photos.load(name)
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert min(pixels.shape[:2]) >= 300


def test_photographs_are_split_as_the_documentation_says():
    data = Photos(**(COMMON | {"size": 128, "holdout": "photo"}))
    data.setup()
    assert names(data, "val") == {"chelsea"}
    assert names(data, "test") == {"astronaut"}
    assert len(names(data, "train")) == 7


def test_holdout_by_region_keeps_a_gap_between_the_splits_of_every_photograph():
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


# -- augmentation ------------------------------------------------------------------------------------------------


def table(**columns):
    draw = torch.full((1, draws.COLUMNS), 0.9)
    for name, values in columns.items():
        draw[0, getattr(draws, name)] = torch.tensor(values)
    return draw


def test_horizontal_flip_mirrors_left_and_right_only():
    image = torch.rand(1, 3, 4, 4)
    flipped = augment.flip(image, table(FLIPS=[0.1, 0.1, 0.1]), "horizontal")
    assert torch.equal(flipped, image.flip(3))
    assert torch.equal(augment.flip(image, table(), "horizontal"), image)
    assert torch.equal(augment.flip(image, table(FLIPS=[0.1, 0.1, 0.1]), "none"), image)


def test_dihedral_flips_are_the_eight_symmetries_of_the_square():
    image = torch.arange(4.0).reshape(1, 1, 2, 2)
    found = set()
    for number in range(8):
        bits = [0.1 if number >> bit & 1 else 0.9 for bit in range(3)]
        found.add(tuple(augment.flip(image, table(FLIPS=bits), "dihedral").flatten().tolist()))
    assert len(found) == 8


def test_zoom_takes_a_smaller_window():
    across, down = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="xy")
    ramps = torch.stack([across, down])[None]
    share, top, left = 0.6, 0.25, 0.5  # of the side; of the room above and below; of that at the sides
    zoomed = augment.zoom(ramps, table(ZOOM=[(1 - share) / 0.5, top, left]), 0.5)
    places = (torch.arange(32) + 0.5) * share - 0.5
    room = 32 * (1 - share)
    torch.testing.assert_close(zoomed[0, 0], (places + room * left).expand(32, 32), atol=1e-4, rtol=0)
    torch.testing.assert_close(zoomed[0, 1], (places + room * top)[:, None].expand(32, 32), atol=1e-4, rtol=0)
    assert torch.equal(augment.zoom(ramps, table(), 1), ramps)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_jitter_is_torchvisions_color_jitter_at_the_same_factors(order):
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    uniform = [0.05, 0.9, 0.7, 0.2]
    ranks = [order.index(step) / 4 for step in range(4)]
    ours = augment.jitter(image, table(JITTER=uniform, ORDER=ranks), strength=0.3)
    shift = [(u * 2 - 1) * 0.3 for u in uniform]
    steps = {
        0: lambda x: tv.adjust_brightness(x, 1 + shift[0]),
        1: lambda x: tv.adjust_contrast(x, 1 + shift[1]),
        2: lambda x: tv.adjust_saturation(x, 1 + shift[2]),
        3: lambda x: tv.adjust_hue(x, shift[3]),
    }
    theirs = image
    for step in order:
        theirs = steps[step](theirs)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_jitter_gives_each_image_its_own_factors_and_order():
    batch = torch.rand(4, 3, 8, 8)
    draw = torch.rand(4, draws.COLUMNS, generator=torch.Generator().manual_seed(0))
    whole = augment.jitter(batch, draw, 0.2)
    for i in range(4):
        torch.testing.assert_close(augment.jitter(batch[i : i + 1], draw[i : i + 1], 0.2), whole[i : i + 1])


def test_a_datamodule_goes_to_a_worker_process_without_its_trainer(pictures):
    data = folder(pictures, cache=False, pair=pairs.block_mean)
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, hook=lambda: None)  # cannot be pickled
    crops = pickle.loads(pickle.dumps(data.train_dataloader().dataset))
    assert np.array_equal(crops.images.crop(0, 0, 0, 32), data._splits["train"].images.crop(0, 0, 0, 32))


# -- colour --------------------------------------------------------------------------------------------------------


def toned(name):
    """What a photograph without colours of its own looks like."""
    photo = np.asarray(Image.fromarray(skimage_data.coffee()[:384, :384]).convert("L"), np.float64)[..., None] / 255
    tones = {"gray": [255, 255, 255], "nearly gray": [255, 250, 246], "sepia": [255, 225, 180], "blue": [170, 200, 255]}
    return (photo * tones[name]).round().astype(np.uint8)


@pytest.mark.parametrize("name", ["gray", "nearly gray", "sepia", "blue"])
def test_gray_and_toned_pictures_have_no_colour(name):
    assert crops.is_gray(crops.sample(toned(name))[None]).all()


def test_photographs_have_colour():
    for crop in (skimage_data.coffee()[:384, :384], skimage_data.astronaut()[:128, 200:328]):
        assert not crops.is_gray(crops.sample(crop)[None])[0]


def test_drop_gray_leaves_them_out_of_every_split_and_counts_them(pictures, tmp_path, caplog):
    shutil.copytree(pictures, tmp_path / "pictures")
    for name in ("gray", "sepia"):
        Image.fromarray(toned(name)[:48, :48]).save(tmp_path / "pictures" / f"{name}.png")
    root = tmp_path / "pictures"
    caplog.set_level(logging.INFO)
    kept, dropped = (folder(root, drop_gray=drop) for drop in (False, True))
    gone = set.union(*(names(kept, split) - names(dropped, split) for split in crops.SPLITS))
    assert {"gray.png", "sepia.png"} <= gone
    assert len(gone) < 6
    for split in crops.SPLITS:
        assert names(dropped, split) == names(kept, split) - gone
    assert f"data.drop_gray: {len(gone)} of 26 crops, nearly gray or toned, are left out" in caplog.text


def test_pairs_goes_through_a_split_in_order_without_augmentation(pictures):
    data = folder(pictures, flips="dihedral", pair=lambda images, index: pairs.gray(images, index, shrink=1))
    whole = torch.cat([batch.images for batch in data.test_dataloader()]).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(torch.cat([pair.target for pair in data.pairs("test")]), whole, rtol=0, atol=1e-6)
    few = torch.cat([pair.row for pair in data.pairs("train", limit=4)])
    count = len(data._splits["train"])
    assert few.tolist() == [0, count // 4, count // 2, 3 * count // 4]
