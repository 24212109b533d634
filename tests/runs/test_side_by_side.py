"""Two runs image by image: figures, order, and the rows of the sample grids."""

import numpy as np
import pytest
import torch

from srcolor.errors import UserError
from srcolor.runs import side_by_side
from srcolor.training import samples


def write_run(folder, psnr, gray, column="psnr"):
    (folder / ".hydra").mkdir(parents=True)
    (folder / "samples").mkdir()
    settings = "callbacks: {pictures: {images: 2}}\ndata: {batch_size: 8}\n"
    (folder / ".hydra" / "config.yaml").write_text(settings)
    lines = [f"{name},{value},1" for name, value in psnr.items()]
    (folder / "per_image.csv").write_text("\n".join([f"file,{column},bicubic_psnr", *lines]) + "\n")
    images = torch.tensor(gray).reshape(-1, 1, 1, 1).expand(-1, 3, 12, 10)
    samples.grid({"prediction": images}).save(folder / "samples" / "test.png")
    return folder


@pytest.fixture
def two(tmp_path):
    first = write_run(tmp_path / "first", {"a": 30, "b": 31, "c": 32, "d": "inf"}, [0.2, 0.4])
    second = write_run(tmp_path / "second", {"b": 29, "a": 31, "c": 32.5, "d": "inf"}, [0.6, 0.8])
    return first, second


@pytest.mark.parametrize(
    ("order", "files"),
    [("largest difference", "bacd"), ("second run better", "acdb"), ("first run better", "bdca")],
)
def test_images_are_matched_by_name_and_sorted_by_the_difference(order, files, two):
    rows = side_by_side.rows(*two, "psnr", order)
    assert "".join(row.file for row in rows) == files
    assert {row.file: row.difference for row in rows} == {"a": 1, "b": -2, "c": 0.5, "d": 0}


def test_lower_is_better_where_the_measure_says_so(tmp_path):
    runs = [write_run(tmp_path / name, {"a": a, "b": 5}, [0.1], "ab_rmse") for name, a in (("one", 4), ("two", 6))]
    assert [row.file for row in side_by_side.rows(*runs, "ab_rmse", "first run better")] == ["a", "b"]


def test_a_picture_shows_the_row_of_the_same_image_of_both_grids(two):
    pictures = {row.file: row.picture for row in side_by_side.rows(*two, "psnr", "largest difference")}
    assert pictures["c"] is None
    assert pictures["d"] is None
    factor = side_by_side.WIDTH // 10
    pixels = np.asarray(pictures["a"])[::factor, ::factor, 0]  # row 0 of the first grid, row 1 of the second
    assert pixels.shape == (2 * (18 + 12) + 4, 10)
    assert (pixels[18:30] == round(0.2 * 255)).all()
    assert (pixels[52:64] == round(0.8 * 255)).all()


def test_runs_without_a_common_measure_or_image_are_an_error(two, tmp_path):
    with pytest.raises(UserError, match="no ssim in common"):
        side_by_side.rows(*two, "ssim", "largest difference")
    other = write_run(tmp_path / "other", {"x": 1}, [0.5])
    with pytest.raises(UserError, match="tested on different images"):
        side_by_side.rows(two[0], other, "psnr", "largest difference")


def test_tested_runs_are_found_newest_first(two, tmp_path):
    assert set(side_by_side.tested(tmp_path)) == set(two)
    assert side_by_side.measures(*two) == ["psnr"]
