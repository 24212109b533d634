"""Splits, skipped files, and the stored index."""

import hashlib
import shutil

import numpy as np
import pytest
from data_helpers import folder, names
from PIL import Image

from srcolor.data import crops
from srcolor.errors import UserError


def test_splits_are_disjoint_and_complete(pictures):
    data = folder(pictures)
    parts = [names(data, split) for split in crops.SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 24


def test_the_split_is_determined_by_the_hash_of_the_file(pictures):
    data = folder(pictures)
    path_of = {p.relative_to(pictures).as_posix(): p for p in pictures.rglob("*.png")}
    shares = {n: int(hashlib.sha256(p.read_bytes()).hexdigest()[:16], 16) / 16**16 for n, p in path_of.items()}
    assert names(data, "val") == {n for n, s in shares.items() if 0.8 <= s < 0.9}
    assert names(data, "test") == {n for n, s in shares.items() if s >= 0.9}


def test_splits_are_stable_and_keep_copies_together(pictures, tmp_path):
    before = folder(pictures)
    root = tmp_path / "more"
    shutil.copytree(pictures, root)
    removed = next(iter(names(before, "train")))
    (root / removed).unlink()
    for name in names(before, "test") | names(before, "val"):
        shutil.copy(root / name, root / name.replace(".png", "_copy.png"))
    Image.effect_noise((40, 40), 50).convert("RGB").save(root / "new.png")
    after = folder(root)
    for split in crops.SPLITS:
        assert names(before, split) - {removed} <= names(after, split)
    for split in ("val", "test"):
        assert {n.replace(".png", "_copy.png") for n in names(before, split)} <= names(after, split)


def test_three_images_are_enough_and_two_are_not(pictures, tmp_path):
    for i, path in enumerate(sorted(pictures.rglob("*.png"))[:2]):
        shutil.copy(path, tmp_path / f"{i}.png")
    with pytest.raises(UserError, match=r"2 distinct usable image.*at least three"):
        folder(tmp_path)
    shutil.copy(sorted(pictures.rglob("*.png"))[2], tmp_path / "2.png")
    data = folder(tmp_path)
    assert [len(names(data, split)) for split in crops.SPLITS] == [1, 1, 1]


def test_folders_named_after_the_splits_are_honored(pictures, tmp_path):
    files = sorted(pictures.rglob("*.png"))
    for i, path in enumerate(files[:6]):
        target = tmp_path / ("train", "validation", "test")[i // 2]
        target.mkdir(exist_ok=True)
        shutil.copy(path, target / path.name)
    data = folder(tmp_path)
    assert names(data, "val") == {f"validation/{p.name}" for p in files[2:4]}
    assert names(data, "test") == {f"test/{p.name}" for p in files[4:6]}


def test_unusable_files_are_skipped_and_named(pictures, tmp_path):
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    (root / "empty.jpg").touch()
    (root / "text.jpg").write_text("not an image")
    whole = next(root.rglob("*.png")).read_bytes()
    (root / "short.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (20, 200)).save(root / "narrow.png")
    data = folder(root)
    assert {name for name, _ in data.index.skipped} == {"empty.jpg", "text.jpg", "short.png", "narrow.png"}
    data.write_splits(tmp_path / "split.csv")
    rows = (tmp_path / "split.csv").read_text().splitlines()
    assert any(row == "narrow.png,skipped,0,,shorter side is below data.min_side=32" for row in rows)
    assert len(rows) == 1 + 24 + 4


def test_no_usable_image_is_an_error_with_reasons(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(UserError, match=r"none of the 1 images is usable:\n  not a readable image: text.jpg"):
        folder(tmp_path)


def test_the_stored_index_contains_its_arrays_and_nothing_else(pictures, tmp_path):
    folder(pictures, cache_dir=str(tmp_path))
    (file,) = tmp_path.rglob("index.npz")
    with np.load(file) as arrays:
        assert set(arrays) == {"shapes", "hashes", "splits", "crops"}
