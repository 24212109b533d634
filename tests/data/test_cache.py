"""Building, reading and removing caches."""

import hashlib
import os
import shutil
import weakref

import numpy as np
import pytest
from conftest import COMMON, FILES
from data_helpers import assert_same, batches, folder, names
from PIL import Image
from torch.utils.data import DataLoader

from srcolor.data import cache, crops
from srcolor.data.datamodule import Crops, ImageDataModule
from srcolor.data.index import Index, Item
from srcolor.data.sampler import EpochSampler
from srcolor.data.sources.folder import Folder
from srcolor.errors import UserError


def test_two_forked_workers_read_the_requested_crops(tmp_path):
    """Forked processes share the offset of a file that was opened before: a seek of one moves the other's read."""
    count, size = 20_000, 4
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    (tmp_path / "pixels.bin").write_bytes(pixels.tobytes())
    table = np.zeros((count, 9), np.int32)
    table[:, crops.IMAGE] = np.arange(count)
    pictures = cache.Mapped(tmp_path, np.array([[size, size, 3]] * count, np.int32))
    split = Crops(pictures, table, size)
    sampler = EpochSampler(count, 1000, seed=0, length=10 * count)
    loader = DataLoader(split, sampler=sampler, batch_size=None, num_workers=2, multiprocessing_context="fork")
    read = wrong = 0
    for batch in loader:
        read += len(batch.row)
        wrong += int((batch.images.numpy() != pixels[batch.row.numpy()]).any((1, 2, 3)).sum())
    assert (read, wrong) == (200_000, 0)


def test_a_changed_file_is_read_again(pictures, tmp_path):
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    one = folder(root)
    name = next(iter(names(one, "train")))
    Image.new("RGB", (48, 48), "red").save(root / name)
    assert name not in names(folder(root), "train")  # it has no content


def test_a_cache_is_built_once_and_leaves_no_unfinished_folder(pictures, tmp_path, monkeypatch):
    first = batches(folder(pictures, cache_dir=str(tmp_path)).test_dataloader())
    assert not list(tmp_path.rglob("unfinished*"))
    monkeypatch.setattr(Folder, "decode", lambda *_: pytest.fail("decoded again"))
    assert_same(batches(folder(pictures, cache_dir=str(tmp_path)).test_dataloader()), first)


def test_an_interrupted_build_leaves_no_cache(pictures, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cache.np, "savez", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            folder(pictures, cache_dir=str(tmp_path))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".lock"}
    folder(pictures, cache_dir=str(tmp_path))


def test_without_a_pixel_cache_only_the_first_run_decodes(pictures, tmp_path, monkeypatch):
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


def test_every_run_reads_all_images_if_the_index_cannot_be_saved(pictures, tmp_path, caplog):
    (tmp_path / "file").touch()
    data = folder(pictures, cache=False, cache_dir=str(tmp_path / "file"))
    assert len(data.index.names) == 24
    assert "will be re-read every time" in caplog.text


def test_each_image_is_decoded_once(tmp_path):
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
    """Return the image size of each cache."""
    return {int(Index.load(path.parent).shapes[0, 0]) for path in cache_dir.rglob("pixels.bin")}


def test_the_least_recently_used_caches_are_removed(pictures, tmp_path, monkeypatch):
    other = tmp_path / "somebody" / "page"  # not a cache
    other.mkdir(parents=True)
    (other / "index.json").write_text("x" * 100_000)
    options = {"cache_dir": str(tmp_path), "cache_limit_gb": 150e-6}  # 24 * 3 * 32² = 73.7 kB
    for time, size in enumerate((32, 24, 16)):
        data = folder(pictures, **options, size=size)
        os.utime(data._splits["test"].images.folder, (time, time))
    assert sizes(tmp_path) == {16, 24, 32}  # of one source
    monkeypatch.setattr(cache.Mapped, "opened", weakref.WeakSet())  # as in another process
    monkeypatch.setattr(Folder, "decode", lambda *_: pytest.fail("decoded again"))
    folder(pictures, **options, size=32)  # now the most recently used
    monkeypatch.undo()
    monkeypatch.setattr(cache.Mapped, "opened", weakref.WeakSet())
    folder(pictures, **options, size=28)  # 56.4 kB
    assert sizes(tmp_path) == {28, 32}
    assert not list(tmp_path.rglob("unfinished-*"))
    assert (other / "index.json").exists()


def test_a_cache_open_in_this_process_is_kept(pictures, tmp_path):
    options = {"cache_dir": str(tmp_path), "cache_limit_gb": 100e-6}
    used = folder(pictures, **options, size=32)
    folder(pictures, **options, size=28)
    assert sizes(tmp_path) == {28, 32}
    assert len(batches(used.train_dataloader()))


def test_a_cache_larger_than_the_limit_is_not_kept(pictures, tmp_path):
    with pytest.raises(UserError, match=r"of 24 images exceeds data\.cache_limit_gb=7e-05\. Raise the limit"):
        folder(pictures, cache_dir=str(tmp_path), cache_limit_gb=70e-6)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".lock"}


@pytest.mark.parametrize("cached", [True, False])
def test_one_process_decodes_while_the_other_waits(cached, pictures, tmp_path, meeting):
    class Noted(Folder):
        def decode(self, item):
            meeting.wait(item.name)
            return super().decode(item)

    def work():
        data = Noted(**(COMMON | FILES | {"root": str(pictures), "cache_dir": str(tmp_path), "cache": cached}))
        data.setup()
        return data.index.hashes.tobytes()

    first, second = meeting.of(work)
    assert first == second
    assert len(meeting.file.read_text().splitlines()) == 24
