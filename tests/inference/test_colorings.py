"""srcolor-predict: samples, tint and reference."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from srcolor import images
from srcolor.color_code import color_code
from srcolor.inference import colorings, predict

PHOTO = (
    Image.fromarray(data.astronaut()).resize((96, 64)).point(lambda value: 90 + 0.3 * value)
)  # sRGB has any hue here
COLORIZE = ["-m", "colorize"]


@pytest.fixture
def photo(tmp_path):
    PHOTO.convert("L").save(tmp_path / "a.png")
    return tmp_path / "a.png"


def run(photo, *arguments):
    """Run the command, and return the result as an array; also that of an earlier call, replaced."""
    assert predict.main([str(photo), *COLORIZE, "--overwrite", *arguments]) == 0
    ending = "sheet" if "--samples" in arguments else "colorize"
    return np.asarray(Image.open(photo.with_stem(f"{photo.stem}_{ending}")))


def code(pixels):
    """Return the code of an image as two arrays."""
    rgb = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    mean, covariance = color_code(images.rgb_to_lab(rgb)[:, 1:])
    return mean[0].numpy(), covariance[0].numpy()


def luma_error(result):
    gray = np.asarray(PHOTO.convert("L"), float)
    return np.abs(result.astype(float) @ [0.299, 0.587, 0.114] - gray).max()


def test_a_sheet_shows_the_coloring_that_pick_writes(codes, photo):
    sheet = run(photo, "--run", codes, "--samples", "6")
    assert sheet.shape == (2 * 64 + colorings.GAP, 4 * 96 + 3 * colorings.GAP, 3)
    picked = {number: run(photo, "--run", codes, "--pick", str(number)) for number in (2, 6)}
    for number, (row, column) in {2: (0, 1), 6: (1, 1)}.items():
        top, left = row * (64 + colorings.GAP), column * (96 + colorings.GAP)
        shown = sheet[top : top + 64, left : left + 96]
        np.testing.assert_array_equal(shown[20:], picked[number][20:])  # below the number
        assert (shown[:12, :8] != picked[number][:12, :8]).any()  # the number
    assert np.abs(picked[2].astype(int) - picked[6]).mean() > 2
    assert max(luma_error(result) for result in picked.values()) < 1


def test_samples_repeat_and_temperature_0_is_the_default(codes, photo):
    stable = run(photo, "--run", codes)
    np.testing.assert_array_equal(run(photo, "--run", codes, "--pick", "5", "--temperature", "0"), stable)
    first = run(photo, "--run", codes, "--pick", "5")
    np.testing.assert_array_equal(run(photo, "--run", codes, "--pick", "5"), first)
    near = run(photo, "--run", codes, "--pick", "5", "--temperature", "0.2")
    distances = [np.abs(one.astype(int) - stable).mean() for one in (near, first)]
    assert 0 < distances[0] < 0.5 * distances[1]


def test_a_tint_sets_the_mean_color(codes, photo):
    for text, wanted in (("warm", colorings.TINTS["warm"]), ("cool", colorings.TINTS["cool"]), ("4,-9", (4, -9))):
        result = run(photo, "--run", codes, "--tint", text)
        np.testing.assert_allclose(code(result)[0], wanted, atol=2.5)  # sRGB lacks some of the colors
        assert luma_error(result) < 1


def test_a_reference_gives_its_palette(codes, photo, tmp_path):
    reference = Image.fromarray(data.coffee()).resize((160, 120)).point(lambda value: 90 + 0.3 * value)
    reference.save(tmp_path / "other.png")
    result = run(photo, "--run", codes, "--reference", str(tmp_path / "other.png"))
    wanted = code(np.asarray(reference))
    np.testing.assert_allclose(code(result)[0], wanted[0], atol=1)
    np.testing.assert_allclose(code(result)[1], wanted[1], rtol=0.15, atol=1)
    assert luma_error(result) < 1


def test_tint_and_reference_apply_to_a_network_without_codes(color, photo, tmp_path):
    Image.fromarray(data.coffee()).save(tmp_path / "other.png")
    warm, cool = (run(photo, "--run", color, "--tint", tint) for tint in ("12,30", "12,-30"))
    assert code(warm)[0][1] > 10 + code(cool)[0][1]
    other = run(photo, "--run", color, "--reference", str(tmp_path / "other.png"))
    assert (other != run(photo, "--run", color)).any()
    assert max(map(luma_error, (warm, cool, other))) < 1


def test_the_choice_reaches_the_mode_restore(codes, bicubic, photo):
    arguments = [str(photo), "-m", "restore", "--run", codes, "--sr-run", bicubic]
    assert predict.main([*arguments, "--pick", "2"]) == 0
    small = run(photo, "--run", codes, "--pick", "2")
    large = np.asarray(Image.open(photo.with_stem("a_restore")))
    blocks = large.reshape(64, 2, 96, 2, 3).mean((1, 3))
    assert np.abs(blocks - small).mean() < 2


BAD = {
    "samples of one coloring": (["--samples", "4"], "UNetRGB offers a single coloring: --samples and --pick require"),
    "pick of one coloring": (["--pick", "4"], "UNetRGB offers a single coloring"),
    "no samples": (["--samples", "0"], "--samples 0: expected a number from 1 to 64"),
    "samples and pick": (["--samples", "4", "--pick", "1"], "cannot be combined with --pick"),
    "samples and compare": (["--samples", "4", "--compare"], "cannot be combined"),
    "temperature alone": (["--temperature", "0.5"], "--temperature requires --samples or --pick"),
    "negative temperature": (["--pick", "1", "--temperature", "-1"], "expected a number of at least 0"),
    "unknown tint": (["--tint", "blue"], "--tint blue: expected warm, neutral, cool, or a mean a* and b*"),
    "tint out of range": (["--tint", "500,0"], "expected a* and b* from -100 to 100"),
    "tint and reference": (["--tint", "warm", "--reference", "a.png"], "pass one of them"),
    "gray reference": (["--reference", "a.png"], "--reference a.png: this picture is gray"),
    "no reference": (["--reference", "b.png"], "b.png"),
    "upscale": (["-m", "upscale", "--tint", "warm"], "--tint requires --mode colorize or restore"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_choices_name_the_cause(name, color, photo, monkeypatch, capsys):
    arguments, message = BAD[name]
    monkeypatch.chdir(photo.parent)
    mode = [] if "-m" in arguments else COLORIZE
    try:
        returned = predict.main([str(photo), *mode, "--run", color, *arguments])
    except SystemExit as exit:
        returned = exit.code
    captured = capsys.readouterr().err
    assert returned == 2
    assert message in captured
    assert "Traceback" not in captured
    assert [file.name for file in photo.parent.iterdir()] == ["a.png"]
