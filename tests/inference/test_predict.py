"""The command srcolor-predict: files, folders and patterns."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from skimage import data

from srcolor.errors import UserError
from srcolor.inference import colorizer, image_files, modes, predict, tiles
from srcolor.nets.bicubic import Bicubic

PHOTO = data.astronaut()
SMALL = Image.fromarray(PHOTO[100:133, 200:247])  # 47 wide, 33 high
COMMAND = str(Path(sys.executable).with_name("srcolor-predict"))

# -- results ----------------------------------------------------------------------------------------------------


def test_restore_colorizes_and_enlarges(bicubic, color, tmp_path):
    SMALL.convert("L").save(tmp_path / "old.png")
    arguments = [str(tmp_path / "old.png"), "-m", "restore", "--run", color, "--sr-run", bicubic, "--tile", "64"]
    assert predict.main([*arguments, "--repair", "0"]) == 0
    result = np.asarray(Image.open(tmp_path / "old_restore.png"))
    colored = colorizer.colorize(predict.load(color, "colorize"), np.asarray(SMALL.convert("L").convert("RGB")))
    whole = tiles.enlarge(Bicubic(), colored, tile=64)
    np.testing.assert_array_equal(result, whole)


def test_a_color_photo_is_treated_as_gray_with_a_remark(color, tmp_path, capsys):
    SMALL.save(tmp_path / "a.png")
    SMALL.convert("L").convert("RGB").save(tmp_path / "b.png")
    assert predict.main([str(tmp_path), "--run", color, "-m", "colorize"]) == 0
    errors = capsys.readouterr().err.replace("\n", "")
    assert errors.count("has color; treated as gray") == 1
    assert "a.png: has color" in errors


def test_the_python_snippet_of_the_readme(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text()
    lines = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "tiles.enlarge" in block)
    monkeypatch.chdir(tmp_path)
    SMALL.save(tmp_path / "photo.jpg")
    namespace = {}
    exec(lines, namespace)
    assert namespace["large"].shape == (66, 94, 3)
    assert namespace["large"].dtype == np.uint8


def test_sheets_and_comparisons(bicubic, color, tmp_path, capsys):
    SMALL.save(tmp_path / "a.png")
    arguments = [str(tmp_path / "a.png"), "--run", color, "-m", "colorize", "--sheet", "--render-size", "16,24,32"]
    assert predict.main(arguments) == 0
    assert Image.open(tmp_path / "a_sheet.png").size == (3 * 47, 33)
    assert "a.png: sheet, from left to right: colorized at 16, 24, 32\n" in capsys.readouterr().err
    (tmp_path / "a_upscale.png").write_text("kept")
    assert predict.main([str(tmp_path), "--run", bicubic, "--compare"]) == 0
    assert Image.open(tmp_path / "a_upscale_compare.png").size == (2 * 94, 66)
    assert (tmp_path / "a_upscale.png").read_text() == "kept"
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(stamps) == 4
    assert predict.main(arguments) == 0
    assert predict.main([str(tmp_path), "--run", bicubic, "--compare"]) == 0
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == stamps
    assert predict.main([*arguments, "--overwrite"]) == 0
    assert (tmp_path / "a_sheet.png").stat().st_mtime_ns > stamps[tmp_path / "a_sheet.png"]


# -- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_with_a_damaged_file(bicubic, tmp_path, capsys):
    album = tmp_path / "album"
    (album / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        SMALL.save(album / name)
    (album / "bad.jpg").write_text("not an image")
    arguments = [str(album), "--run", bicubic]
    assert predict.main([*arguments, "-o", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().out == f"2 written, 1 failed:\n  {album / 'bad.jpg'}: not a readable image\n"
    assert {str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.*")} == {
        "a_upscale.png",
        "sub/b_upscale.png",
    }
    (album / "bad.jpg").unlink()
    assert predict.main(arguments) == 0
    first = (album / "a_upscale.png").stat().st_mtime_ns
    assert capsys.readouterr().out == "2 written\n"
    assert predict.main(arguments) == 0  # results are not inputs, and exist already
    assert capsys.readouterr().out == "0 written, 2 skipped (--overwrite replaces existing results)\n"
    assert (album / "a_upscale.png").stat().st_mtime_ns == first
    assert predict.main([*arguments, "--overwrite"]) == 0
    assert (album / "a_upscale.png").stat().st_mtime_ns > first
    assert len(list(album.rglob("*.*"))) == 4
    for _ in range(2):  # nor are results in a folder within it
        assert predict.main([*arguments, "-o", str(album / "out"), "--compare"]) == 0
    assert len(list(album.rglob("*.*"))) == 8


def test_folder_without_new_results_need_not_be_writable(bicubic, tmp_path, monkeypatch):
    SMALL.save(tmp_path / "a.png")
    assert predict.main([str(tmp_path), "--run", bicubic]) == 0
    monkeypatch.setattr(predict, "_check_folder", lambda folder: (_ for _ in ()).throw(UserError("not writable")))
    assert predict.main([str(tmp_path), "--run", bicubic]) == 0
    assert predict.main([str(tmp_path), "--run", bicubic, "--overwrite"]) == 2


def test_reading_inference_and_writing_overlap(bicubic, tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        SMALL.save(tmp_path / name)
    read, write, run = image_files.read, image_files.write, modes.Upscale.predict
    b_is_read, b_is_processed = threading.Event(), threading.Event()

    def read_and_signal(path, max_megapixels):
        picture = read(path, max_megapixels)
        if path.name == "b.png":
            b_is_read.set()
        return picture

    def run_in_turn(predictor, source, done):
        if sources:
            b_is_processed.set()
        else:
            assert b_is_read.wait(20)  # while the network processes the first
        sources.append(source)
        return run(predictor, source, done)

    def write_in_turn(path, *arguments, **more):
        assert b_is_processed.wait(20)  # while the first is written
        write(path, *arguments, **more)

    sources = []
    monkeypatch.setattr(image_files, "read", read_and_signal)
    monkeypatch.setattr(image_files, "write", write_in_turn)
    monkeypatch.setattr(modes.Upscale, "predict", run_in_turn)
    assert predict.main([str(tmp_path), "--run", bicubic]) == 0
    assert len(sources) == 2


def test_a_pattern_selects_files(bicubic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "c.tif"):
        SMALL.save(tmp_path / name)
    assert predict.main(["*.png", "--run", bicubic]) == 0
    assert {file.name for file in tmp_path.glob("*_upscale*")} == {"a_upscale.png", "b_upscale.png"}


def test_a_killed_process_leaves_no_partial_result(bicubic, tmp_path):
    SMALL.save(tmp_path / "a.png")
    code = "import os, signal, sys; os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
    code += "from srcolor.inference import predict; predict.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, str(tmp_path / "a.png"), "--run", bicubic]
    assert subprocess.run(command, cwd=ROOT, timeout=100).returncode == -signal.SIGKILL
    assert not (tmp_path / "a_upscale.png").exists()
    assert predict.main([str(tmp_path), "--run", bicubic]) == 0
    assert Image.open(tmp_path / "a_upscale.png").size == (94, 66)


STOPPED = "stopped; completed results are kept, and the same command resumes with the rest\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_inference_ends_with_one_line(number, bicubic, tmp_path):
    SMALL.save(tmp_path / "a.png")
    Image.fromarray(PHOTO).resize((6000, 4000)).save(tmp_path / "b.jpg")  # takes a minute in such tiles
    arguments = [COMMAND, str(tmp_path), "--run", bicubic, "--tile", "16", "-o", str(tmp_path / "out")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out" / "a_upscale.png").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    assert process.communicate(timeout=100) == ("", STOPPED)
    assert process.returncode == 128 + number
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a_upscale.png"]


@pytest.mark.parametrize("command", ["predict", "export"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_with_one_line(number, command):
    code = """
import os, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {"predict": "numpy", "export": "torch"}[sys.argv[2]]:
            os.kill(os.getpid(), int(sys.argv[1]))
sys.meta_path.insert(0, Finder())
from srcolor.cli import entry_points
getattr(entry_points, sys.argv[2])()
"""
    arguments = [sys.executable, "-c", code, str(int(number)), command]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", STOPPED)


def test_a_full_standard_output_is_an_error(bicubic, tmp_path):
    SMALL.save(tmp_path / "a.png")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [COMMAND, str(tmp_path / "a.png"), "--run", bicubic], stdout=full, stderr=subprocess.PIPE, timeout=100
        )
    assert (done.returncode, done.stderr) == (1, b"error: [Errno 28] No space left on device\n")


def test_a_closed_standard_output_stops_silently(bicubic, tmp_path):
    SMALL.save(tmp_path / "a.png")
    read, write = os.pipe()
    os.close(read)
    command = [COMMAND, str(tmp_path / "a.png"), "--run", bicubic]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=100)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
    assert Image.open(tmp_path / "a_upscale.png").size == (94, 66)
