"""The page of srcolor-web in a real browser: `make test-web`; needs Chromium, so `make test` leaves it out."""

import http.client
import os
import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import pyvips
import torch
from conftest import ROOT
from PIL import Image
from skimage import data
from torch.nn import functional as F

from srcolor.inference import predict, web_jobs
from srcolor.metrics import MEASURES
from srcolor.training import samples

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FACE = data.astronaut()[20:148, 140:268]
SLOW = 90_000  # milliseconds that a result may take
ADDRESS = "import sys; from srcolor.cli.entry_points import web; web()"
SCREENSHOTS = os.environ.get("SCREENSHOTS")  # folder that gets those of the documentation
KNOWN = {"nested-interactive"}  # the upload button of Gradio


def write_run(folder, mode):
    """Write the files of a tested run that the page reads: three photographs, enlarged by interpolation."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / "samples").mkdir()
    settings = "callbacks: {pictures: {images: 2}}\ndata: {batch_size: 8}\n"
    (folder / ".hydra" / "config.yaml").write_text(settings)
    photos = [data.astronaut()[:256, 96:352], data.chelsea()[:256, 100:356], data.coffee()[50:306, 200:456]]
    target = F.avg_pool2d(torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2) / 255, 2)
    small = F.avg_pool2d(target, 2)
    enlarged = F.interpolate(small, scale_factor=2, mode=mode).clamp(0, 1)
    values = MEASURES["psnr"]()(enlarged, target).tolist()
    lines = [f"{name}.png,{value}" for name, value in zip(("face", "cat", "cup"), values, strict=True)]
    (folder / "per_image.csv").write_text("\n".join(["file,psnr", *lines]) + "\n")
    columns = {"input 64x64": small[:2], "prediction": enlarged[:2], "target": target[:2]}
    samples.grid(columns).save(folder / "samples" / "test.png")
    return dict(zip(("face.png", "cat.png", "cup.png"), values, strict=True))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of the page, with two runs to compare."""
    folder = tmp_path_factory.mktemp("server")
    for mode in ("nearest", "bicubic"):
        write_run(folder / "runs" / mode, mode)
    temporary = folder / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_SHARE": "True", "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", ADDRESS, "--no-browser", "--max-megapixels", "1"]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().split()[0]
        process.terminate()
        assert process.wait(30) == 0
    assert list(temporary.glob("srcolor-web-*")) == []  # uploads and results are deleted


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.fail("Chromium not found: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def visit(browser, server):
    """Open the page; every request must stay on this machine, and the console must have no error."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(SLOW)
    page = context.new_page()
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server)
    page.get_by_role("button", name="Go", exact=True).wait_for()
    try:
        yield page
    finally:
        context.close()
    hosts = {urlsplit(url).hostname for url in requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert errors == []


@pytest.fixture
def page(browser, server):
    with visit(browser, server) as opened:
        yield opened


@pytest.fixture
def photos(tmp_path):
    """A JPEG, a gray TIFF of 16 bits with a description, and files that must be refused."""
    Image.fromarray(FACE).save(tmp_path / "face.jpg", quality=95, dpi=(300, 300))
    gray = pyvips.Image.new_from_array(np.asarray(Image.fromarray(FACE).convert("L")).astype(np.uint16) * 257)
    gray = gray.copy(interpretation="grey16")
    gray.tiffsave(str(tmp_path / "scan.tif"))
    Image.new("L", (1200, 1000)).save(tmp_path / "large.png")
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "face.jpg").read_bytes()[:400])
    (tmp_path / "empty.png").write_bytes(b"")
    with open(tmp_path / "huge.tif", "wb") as file:
        file.truncate(301 * 2**20)
    return tmp_path


def upload(page, *files):
    page.locator("input[type=file]").first.set_input_files([str(file) for file in files])
    for file in files:
        page.locator(".file-preview").get_by_text(file.stem).first.wait_for()


def choose(page, label):
    """Choose a task, and wait for its settings."""
    page.get_by_label(label, exact=True).check()
    (task,) = (task for task in web_jobs.TASKS.values() if task.label == label)
    playwright.expect(page.get_by_label("Network")).to_have_value(task.default)


def go(page, name, button="Go"):
    """Start a job, and return the path of the download that it offers."""
    page.get_by_role("button", name=button, exact=True).click()
    offer = page.get_by_role("button", name=f"Download {name}", exact=True)
    offer.wait_for(timeout=SLOW)
    with page.expect_download() as download:
        offer.click()
    assert download.value.suggested_filename == name
    return download.value.path()


def by_command(folder, *arguments):
    """Return the file that the command line writes."""
    assert predict.main([*map(str, arguments), "-o", str(folder / "command")]) == 0
    (file,) = (folder / "command").iterdir()
    return file


@pytest.mark.parametrize(
    ("task", "photo", "arguments"),
    [
        ("Enlarge", "face.jpg", []),
        ("Enlarge", "scan.tif", []),
        ("Colorize", "scan.tif", ["--mode", "colorize"]),
        ("Restore: repair if worn, colorize, enlarge", "face.jpg", ["--mode", "restore"]),
        ("Enlarge, with a dial for sharpness", "face.jpg", ["--run", "srcolor/sr64to128_gan", "--sharpness", "0.5"]),
    ],
)
def test_the_download_is_the_file_of_the_command_line(task, photo, arguments, page, photos):
    expected = by_command(photos, photos / photo, *arguments)
    upload(page, photos / photo)
    choose(page, task)
    assert go(page, expected.name).read_bytes() == expected.read_bytes()


def test_settings_reach_the_command_line(page, photos):
    options = "--mode colorize --saturation 0.5 --tint warm --render-size 48".split()
    expected = by_command(photos, photos / "face.jpg", *options)
    upload(page, photos / "face.jpg")
    choose(page, "Colorize")
    page.get_by_label("Render size in pixels").fill("48")
    page.get_by_label("number input for Saturation").fill("0.5")
    page.get_by_label("warm", exact=True).check()
    assert go(page, "face_colorize.jpg").read_bytes() == expected.read_bytes()


def test_a_coloring_of_the_gallery_is_applied(page, photos):
    expected = by_command(photos, photos / "face.jpg", "--mode", "colorize", "--pick", "3")
    upload(page, photos / "face.jpg")
    choose(page, "Colorize")
    page.get_by_role("button", name="Show eight colorings").click()
    third = page.locator(".grid-container button").nth(2)
    third.click(timeout=SLOW)
    offer = page.get_by_role("button", name="Download face_colorize.jpg")
    offer.wait_for(timeout=SLOW)
    with page.expect_download() as download:
        offer.click()
    assert download.value.path().read_bytes() == expected.read_bytes()


def test_the_slider_shows_the_photograph_and_its_result_and_moves(page, photos):
    upload(page, photos / "face.jpg")
    go(page, "face_upscale.jpg")
    pictures = page.locator(".slider-wrap img, [data-testid='imageslider'] img")
    sizes = pictures.evaluate_all("all => all.map(one => [one.naturalWidth, one.naturalHeight])")
    assert sizes == [[256, 256], [256, 256]]
    handle = page.locator(".slider-wrap .inner, .slider-wrap [role=slider]").first
    before = handle.bounding_box()
    page.mouse.move(before["x"] + before["width"] / 2, before["y"] + before["height"] / 2)
    page.mouse.down()
    page.mouse.move(before["x"] + 100, before["y"] + before["height"] / 2, steps=5)
    page.mouse.up()
    assert handle.bounding_box()["x"] > before["x"] + 50


def test_many_photographs_come_as_a_zip_and_a_broken_one_is_named(page, photos):
    upload(page, photos / "face.jpg", photos / "scan.tif", photos / "broken.jpg")
    file = go(page, "srcolor.zip")
    with zipfile.ZipFile(file) as content:
        assert sorted(content.namelist()) == ["face_upscale.jpg", "scan_upscale.tif"]
        assert content.read("face_upscale.jpg") == by_command(photos, photos / "face.jpg").read_bytes()
    assert "broken.jpg: " in page.locator(".prose").all_inner_texts()[-1]


@pytest.mark.parametrize(
    ("photo", "words"),
    [("large.png", "megapixels"), ("empty.png", "empty file"), ("broken.jpg", "broken.jpg: ")],
)
def test_a_photograph_that_cannot_be_used_is_an_error_in_words(photo, words, page, photos):
    upload(page, photos / photo)
    page.get_by_role("button", name="Go", exact=True).click()
    error = page.locator(".toast-wrap")
    playwright.expect(error).to_contain_text(words, timeout=SLOW)
    assert "Traceback" not in error.inner_text()
    assert "/" not in error.inner_text()


def test_a_file_over_the_limit_is_refused(page, photos):
    page.locator("input[type=file]").first.set_input_files(str(photos / "huge.tif"))
    playwright.expect(page.locator(".toast-wrap")).to_contain_text("maximum", timeout=SLOW)


def test_go_without_a_photograph_says_what_is_missing(page):
    page.get_by_role("button", name="Go", exact=True).click()
    playwright.expect(page.locator(".toast-wrap")).to_contain_text("Choose a photograph first")


def test_a_second_visitor_waits_and_a_job_can_be_canceled(browser, server, page, tmp_path):
    files = [tmp_path / f"photo{number}.png" for number in range(8)]
    for file in files:
        Image.fromarray(data.astronaut()).resize((999, 999)).save(file)
    upload(page, *files)
    choose(page, "Restore: repair if worn, colorize, enlarge")  # the slowest
    page.get_by_role("button", name="Go", exact=True).click()
    page.get_by_text("s left").first.wait_for(timeout=SLOW)
    with visit(browser, server) as other:
        other.get_by_role("button", name="Example: portrait").click()
        other.locator(".file-preview").get_by_text("portrait").first.wait_for()
        other.get_by_role("button", name="Go", exact=True).click()
        playwright.expect(other.locator("body")).to_contain_text("queue: 1/1", timeout=SLOW)
        page.get_by_role("button", name="Cancel").click()
        playwright.expect(page.locator(".toast-wrap")).to_contain_text("Canceled", timeout=SLOW)
        other.get_by_role("button", name="Download portrait_upscale.png").wait_for(timeout=SLOW)
    assert page.get_by_role("button", name="Download", exact=True).is_disabled()


def test_two_runs_are_compared_and_sorted(page, tmp_path):
    page.get_by_role("tab", name="Compare two runs").click()
    rows = page.get_by_role("row").filter(has_text=".png")
    playwright.expect(rows.first).to_contain_text(".png", timeout=SLOW)
    names = {page.get_by_label(f"{which} run", exact=True).input_value() for which in ("First", "Second")}
    assert names == {"runs/nearest", "runs/bicubic"}

    def differences():
        texts = [text.split() for text in rows.all_inner_texts() if ".png" in text]
        return list({words[0]: float(words[-1]) for words in texts}.values())

    shown = differences()
    assert len(shown) == 3
    assert shown == sorted(shown, key=abs, reverse=True)
    first = rows.first.inner_text().split()[0]
    for order, direction in (("second run better", -1), ("first run better", 1)):
        page.get_by_label(order).check()
        expected = sorted(shown, key=lambda value: direction * value)
        for _ in range(SLOW // 500):
            if differences() == expected:
                break
            page.wait_for_timeout(500)
        assert differences() == expected
    assert page.locator(".grid-container img").count() == 2  # those of the grids
    page.get_by_label("largest difference").check()
    playwright.expect(rows.first).to_contain_text(first)
    page.wait_for_timeout(1000)  # until Gradio shows that it works
    playwright.expect(page.get_by_text("processing |")).to_have_count(0, timeout=SLOW)
    page.wait_for_timeout(1000)
    page.screenshot(path=Path(SCREENSHOTS or tmp_path) / "web_runs.png", full_page=True)
    assert {one["id"] for one in axe.Axe().run(page).response["violations"]} <= {*KNOWN, "image-redundant-alt"}


def test_another_host_name_is_refused(server):
    address = urlsplit(server)
    for host, status in (("example.com", 400), (address.netloc, 200)):
        connection = http.client.HTTPConnection("127.0.0.1", address.port)
        connection.request("GET", "/", headers={"Host": host})
        assert connection.getresponse().status == status


def tab_to(page, name):
    """Press the tab key until the focus is on a button."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText").strip() == name:
            return
    pytest.fail(f"{name}: cannot be reached by the tab key")


def test_the_page_works_by_keyboard(page):
    tab_to(page, "Example: portrait")
    page.keyboard.press("Enter")
    page.locator(".file-preview").get_by_text("portrait").first.wait_for()
    tab_to(page, "Go")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Download portrait_upscale.png").wait_for(timeout=SLOW)
    tab_to(page, "Download portrait_upscale.png")
    with page.expect_download():
        page.keyboard.press("Enter")


def test_the_page_is_accessible(page, tmp_path):
    page.get_by_role("button", name="Example: portrait").click()
    page.locator(".file-preview").get_by_text("portrait").first.wait_for()
    choose(page, "Colorize")
    go(page, "portrait_colorize.png")
    page.get_by_role("button", name="Show eight colorings").click()
    page.locator(".grid-container img").nth(7).wait_for(timeout=SLOW)
    page.wait_for_timeout(1000)
    page.screenshot(path=Path(SCREENSHOTS or tmp_path) / "web_photos.png", full_page=True)
    violations = axe.Axe().run(page).response["violations"]
    assert {one["id"]: [node["target"] for node in one["nodes"]] for one in violations}.keys() <= KNOWN
