"""The leak check: copies of benchmark images are recognized, and hashes are computed only for it."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import COMMON, FILES, TINY
from hydra import compose, initialize_config_dir
from PIL import Image
from skimage import data

from srcolor.benchmark import leaks, prints
from srcolor.cli import schema
from srcolor.data.sources.folder import Folder
from srcolor.errors import UserError


def modified(image, how):
    if how == "recompressed":
        return image, {"format": "JPEG", "quality": 40}
    if how == "resized":
        return image.resize((image.width * 2 // 3, image.height * 2 // 3)), {"format": "PNG"}
    if how == "cropped":
        return image.crop((6, 4, image.width - 5, image.height - 7)), {"format": "PNG"}
    return image, {"format": "PNG"}


@pytest.mark.parametrize("crop", ["random", "center"])
@pytest.mark.parametrize("how", ["copied", "recompressed", "resized", "cropped"])
def test_a_benchmark_image_among_the_training_images_stops_the_run(how, crop, tmp_path, call, capfd):
    root, benchmark = tmp_path / "pictures" / "train", tmp_path / "benchmark" / "Set"
    for folder in (root, root.parent / "val", root.parent / "test", benchmark):
        folder.mkdir(parents=True)
    for i, name in enumerate(("astronaut", "coffee", "chelsea", "rocket", "retina")):
        image = Image.fromarray(getattr(data, name)()).resize((300, 200))
        if name == "coffee":
            image.save(benchmark / "original.png")
            image, options = modified(image, how)
            image.save(root / "copy.png", **options)
        else:
            image.save((root, root.parent / "val", root.parent / "test")[min(i, 2)] / f"{name}.png")
    tiny = [override for override in TINY if override != "trainer.max_epochs=2"]
    overrides = [*tiny, "data=folder", f"data.crop={crop}", f"data.root={root.parent}", "trainer.max_epochs=1"]
    overrides += [f"benchmark_root={benchmark.parent}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert call(*overrides) == 1
    error = capfd.readouterr().err
    assert "error: 1 image(s) are copies or near copies of benchmark images" in error
    assert "train/copy.png (Set/original.png)" in error
    assert "data.exclude" in error
    assert call(*overrides, "data.exclude=[train/c*.png]") == 0


def test_merely_similar_images_are_not_leaks():
    names = ("astronaut", "coffee", "chelsea", "rocket", "retina", "camera", "moon", "coins", "page", "text")
    table = np.stack([prints.fingerprint(Image.fromarray(getattr(data, name)())) for name in names])
    leaks.check(names, table, None)
    distances = np.bitwise_count(table[:, None] ^ table[None]).sum(2) + 144 * np.eye(len(names), dtype=int)
    assert distances.min() > leaks.MAX_DISTANCE


def test_bundled_hashes_cover_105_images_and_are_checked():
    with open(leaks.FILE, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["picture"] for row in rows}) == 105
    print_ = np.frombuffer(bytes.fromhex(rows[-1]["print"]), np.uint8)
    with pytest.raises(UserError, match=rf"copy\.png \({rows[-1]['picture']}\)"):
        leaks.check(["copy.png"], print_[None], None)


# -- when hashes are computed, and where they are stored ----------------------------------------------------------


def folder(pictures, tmp_path, **options):
    datamodule = Folder(**(COMMON | FILES | {"root": str(pictures), "cache_dir": str(tmp_path)} | options))
    datamodule.setup()
    return datamodule


@pytest.mark.parametrize("cache", [True, False])
def test_hashes_are_computed_by_the_first_check_and_stored_in_the_cache(cache, pictures, tmp_path, monkeypatch):
    images = folder(pictures, tmp_path, cache=cache).decoded_images()
    assert not list(tmp_path.rglob("prints*"))
    table = prints.fingerprints(images)
    expected = [prints.fingerprint(Image.fromarray(images.read(row))) for row in range(24)]
    np.testing.assert_array_equal(table, expected)
    assert [path.name for path in tmp_path.rglob("prints*")] == ["prints.npy"]
    monkeypatch.setattr(prints, "fingerprint", lambda _: pytest.fail("computed again"))
    again = folder(pictures, tmp_path, cache=cache, drop_gray=True).decoded_images()
    np.testing.assert_array_equal(prints.fingerprints(again), table)


def test_damaged_hashes_are_computed_again(pictures, tmp_path):
    images = folder(pictures, tmp_path).decoded_images()
    table = prints.fingerprints(images)
    (images.folder / "prints.npy").write_bytes(b"damaged")
    np.testing.assert_array_equal(prints.fingerprints(images), table)


def test_hashes_are_computed_even_if_they_cannot_be_saved(pictures, tmp_path, monkeypatch, caplog):
    images = folder(pictures, tmp_path).decoded_images()
    monkeypatch.setattr(prints.np, "save", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    assert prints.fingerprints(images).shape == (24, 18)
    assert "No space left on device" in caplog.text


def test_one_process_computes_the_hashes_while_the_other_waits(pictures, tmp_path, meeting):
    images = folder(pictures, tmp_path).decoded_images()

    def work():
        read = images._replace(read=lambda row: meeting.wait(row) or images.read(row))
        return prints.fingerprints(read).tobytes()

    first, second = meeting.of(work)
    assert first == second
    assert len(meeting.file.read_text().splitlines()) == 24


def test_test_images_are_not_checked(pictures, tmp_path):
    datamodule = folder(pictures, tmp_path)
    images = datamodule.decoded_images()
    names = {images.names[row] for row in images.used}
    assert names == {*datamodule.digests("train").values(), *datamodule.digests("val").values()}
    assert len(names) < 24


def test_a_datamodule_without_images_is_not_checked(caplog):
    caplog.set_level("INFO")
    trainer = SimpleNamespace(datamodule=SimpleNamespace(decoded_images=lambda: None))
    leaks.LeakCheck().on_fit_start(trainer, None)
    assert "does not expose its images" in caplog.text


def test_only_super_resolution_experiments_have_the_leak_check():
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        for experiment, checked in (("sr64to128", True), ("sr_x2", True), ("colorize64", False)):
            callbacks = compose("train", [f"experiment={experiment}"]).callbacks
            assert (callbacks.get("leaks") is not None) == checked


def test_the_benchmark_selects_its_task():
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        for script in ("train", "eval"):
            cfg = compose(script, ["data=benchmark", "data.root=/sets", "scale=3"])
            assert cfg.task._target_ == "srcolor.benchmark.task.BenchmarkTask"
            assert (cfg.data.root, cfg.data.scale) == ("/sets", 3)
            assert set(cfg.data) == {"_target_", "root", "scale"}
            schema.check(cfg)
