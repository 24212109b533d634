"""The errors of srcolor-predict: one line that names the cause and the fix."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from srcolor.inference import image_files, modes, predict, tiles
from srcolor.nets.bicubic import Bicubic

PHOTO = data.astronaut()
SMALL = Image.fromarray(PHOTO[100:133, 200:247])  # 47 wide, 33 high
COMMAND = str(Path(sys.executable).with_name("srcolor-predict"))


def cut_short(tmp_path):
    SMALL.resize((400, 300)).save(tmp_path / "x.jpg")
    content = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(content[: len(content) // 2])
    return ["x.jpg"]


def file_with(name, content=b""):
    def make(tmp_path):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        return [name]

    return make


def good(*arguments):
    def make(tmp_path):
        SMALL.save(tmp_path / "x.png")
        return ["x.png", *arguments]

    return make


def two_of_one_name(tmp_path):
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        SMALL.save(tmp_path / folder / "x.png")
    return ["p/x.png", "q/x.png", "-o", "out"]


def its_own_result(tmp_path):
    SMALL.save(tmp_path / "x.png")
    (tmp_path / "x_upscale.png").symlink_to("x.png")
    return ["x.png", "--overwrite"]


def below_a_file(tmp_path):
    (tmp_path / "out").write_text("a file")
    return good("-o", "out/in")(tmp_path)


def named_result(tmp_path):
    SMALL.save(tmp_path / "x_upscale.png")
    return [*good("--overwrite")(tmp_path), "x_upscale.png"]


def named_by_another_way(tmp_path):
    (tmp_path / "album").mkdir()
    return [*named_result(tmp_path), "-o", "album/.."]


def named_comparison(tmp_path):
    SMALL.save(tmp_path / "x_upscale_compare.png")
    return [*good("--overwrite", "--compare")(tmp_path), "x_upscale_compare.png"]


def broken_link(tmp_path):
    (tmp_path / "x.png").symlink_to("nowhere.png")
    return ["x.png"]


def floating(tmp_path):
    Image.fromarray(np.zeros((9, 9), np.float32)).save(tmp_path / "x.tif")
    return ["x.tif"]


def no_folder(tmp_path):
    (tmp_path / "out").write_text("a file")
    return good("-o", "out")(tmp_path)


BAD = {
    "not an image": (file_with("x.jpg", b"text"), 1, "x.jpg: not a readable image"),
    "empty file": (file_with("x.png"), 1, "x.png: empty file"),
    "cut short": (cut_short, 1, "x.jpg: "),
    "not a bitmap": (file_with("x.bmp", b"text"), 1, "x.bmp: not a readable image"),
    "its own result": (its_own_result, 1, "x.png: the result would replace the image itself"),
    "floating point": (floating, 1, "x.tif: float pixels: expected 8 or 16 bits per channel"),
    "a bomb": (
        good("--max-megapixels", "0.001"),
        1,
        "47x33 is 0.00155 megapixels: possible decompression bomb. Raise --max-megapixels, now 0.001, to allow it",
    ),
    "output is a file": (no_folder, 2, "out: cannot write results there (File exists). Choose another folder with -o"),
    "output is below a file": (below_a_file, 2, "out/in: cannot write results there (Not a directory)"),
    "a result that is named": (named_result, 2, "x_upscale.png is an input and would also be the result of x.png"),
    "a result that is named by another path": (named_by_another_way, 2, "x_upscale.png is an input"),
    "a comparison that is named": (named_comparison, 2, "x_upscale_compare.png is an input"),
    "an unknown user": (lambda tmp_path: ["~nobody-is-called-so/x.png"], 2, "no such file or folder"),
    "no input": (lambda tmp_path: ["--run", "x", "--"], 2, "pass an image, a folder of images, or a pattern"),
    "an unused network": (good("--sr-run", "x"), 2, "--sr-run requires --mode restore"),
    "an unused saturation": (
        good("--saturation", "2"),
        2,
        "--saturation requires --mode colorize or restore",
    ),
    "no such file": (lambda tmp_path: ["nowhere.png"], 2, "nowhere.png: no such file or folder, and no file"),
    "a pattern without a match": (lambda tmp_path: ["*.png"], 2, "no file matches the pattern"),
    "a link to nothing": (broken_link, 2, "x.png: no such file or folder"),
    "folder without images": (lambda tmp_path: ["."], 2, ".: no images found in this folder. Supported formats: .jpg"),
    "two results of one name": (two_of_one_name, 2, "would both be written to out/x_upscale.png: rename one of them"),
    "no network": (good("--run", "srcolor/nothing"), 2, "srcolor/nothing: no such bundled network"),
    "no run": (good("--run", "runs/nowhere"), 2, "runs/nowhere: no such run folder or checkpoint file"),
    "the wrong kind": (
        good("--mode", "colorize"),
        2,
        "Bicubic does not match this mode: expected a network from gray to RGB",
    ),
    "sizes without a sheet": (good("-m", "colorize", "--render-size", "48,64"), 2, "multiple sizes require --sheet"),
    "sizes that are not integers": (good("--render-size", "large"), 2, "expected integers"),
    "a sheet of sizes": (good("--sheet"), 2, "--sheet requires --mode colorize"),
    "an unknown mode": (good("--mode", "sharpen"), 2, "invalid choice: 'sharpen'"),
    "negative saturation": (good("-m", "colorize", "--saturation", "-1"), 2, "expected a number of at least 0"),
    "saturation that is not a number": (
        good("-m", "colorize", "--saturation", "nan"),
        2,
        "expected a number of at least 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_names_the_cause_and_the_fix(name, bicubic, tmp_path, monkeypatch, capsys):
    make, code, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    arguments = make(tmp_path)
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    try:
        returned = predict.main([*arguments, *([] if "--run" in arguments else ["--run", bicubic])])
    except SystemExit as exit:
        returned = exit.code
    captured = capsys.readouterr()
    assert returned == code
    assert message in captured.out + captured.err
    assert "Traceback" not in captured.err
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_full_disk_leaves_no_file(bicubic, tmp_path, monkeypatch, capsys):
    SMALL.save(tmp_path / "x.png")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert predict.main([str(tmp_path / "x.png"), "--run", bicubic]) == 1
    assert re.search(r"x_upscale\.png \(.*No space left on device\); [\d,]+ MB are free", capsys.readouterr().out)
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]


def test_an_unexpected_error_does_not_stop_the_other_images(bicubic, tmp_path, monkeypatch, capsys):
    for name in ("a.png", "b.png", "c.png"):
        SMALL.save(tmp_path / name)
    original = image_files.read

    def read(path, max_megapixels):
        if path.name == "b.png":
            raise ValueError("a reason")
        return original(path, max_megapixels)

    monkeypatch.setattr(image_files, "read", read)
    assert predict.main([str(tmp_path), "--run", bicubic]) == 1
    assert capsys.readouterr().out == f"2 written, 1 failed:\n  {tmp_path / 'b.png'}: ValueError: a reason\n"


def test_file_names_that_look_like_options_or_patterns(bicubic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["-dash.png", "~tilde.png", "a b.png", "[x].png", "é\n.png", "x" * 240 + ".png", "*.png"]
    for name in names:
        SMALL.save(tmp_path / name)
    assert predict.main(["-o", "out", "--run", bicubic, "--", *names]) == 0
    assert len(list((tmp_path / "out").iterdir())) == len(names)


def test_a_pattern_expanded_by_the_shell_skips_results_the_second_time(bicubic, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        SMALL.save(tmp_path / name)
    for output in ("2 written\n", "0 written, 2 skipped (--overwrite replaces existing results)\n"):
        assert predict.main([*map(str, sorted(tmp_path.glob("*.png"))), "--run", bicubic]) == 0
        assert capsys.readouterr().out == output


def test_file_names_are_not_markup(color, tmp_path, capsys):
    (tmp_path / "q[").mkdir()
    SMALL.save(tmp_path / "q[" / "b].png")
    assert predict.main([str(tmp_path), "--run", color, "-m", "colorize"]) == 0
    assert "q[/b].png: has color" in capsys.readouterr().err


def test_a_name_that_is_not_utf8_is_reported(bicubic, tmp_path):
    name = os.fsdecode(b"\xff\xe9.png")
    try:
        SMALL.save(tmp_path / name)
    except OSError:  # macOS's file system takes UTF-8 only
        pytest.skip("no such names here")
    SMALL.save(tmp_path / "x.png")
    command = [COMMAND, str(tmp_path), "--run", bicubic]
    done = subprocess.run(command, capture_output=True, timeout=100, env=os.environ | {"PYTHONUTF8": "1"})
    assert done.returncode == 1
    assert "1 written, 1 failed" in done.stdout.decode()
    assert "\ufffd\ufffd.png: its path is not valid UTF-8: rename the file or its folder" in done.stdout.decode()
    assert not done.stderr


def test_a_large_result_is_kept_in_a_file_and_a_full_disk_is_an_error(bicubic, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(modes.base, "LARGE", 1)
    SMALL.save(tmp_path / "x.png")
    assert predict.main([str(tmp_path / "x.png"), "--run", bicubic, "--tile", "64"]) == 0
    whole = tiles.enlarge(Bicubic(), np.asarray(SMALL), tile=64)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x_upscale.png")), whole)
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(full), raising=False)
    assert predict.main([str(tmp_path / "x.png"), "--run", bicubic, "--overwrite"]) == 1
    assert "x.png: [Errno 28] No space left on device" in capsys.readouterr().out
