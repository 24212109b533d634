"""Time and memory of srcolor-web: python benchmarks/web.py [--megapixels 1]. Needs Playwright and Chromium.

Prints the time from the command to the page, the time from the click on Go to the result on the page for each task, the
memory of the process at the end, and the size of the packages that the extra `web` adds. The time of the browser test
is that of `make test-web`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib import metadata
from pathlib import Path

import psutil
from PIL import Image
from skimage import data

from srcolor.inference import web_jobs

COMMAND = [sys.executable, "-c", "from srcolor.cli.entry_points import web; web()", "--no-browser"]
LIMIT = 600_000  # milliseconds


def serve() -> tuple[subprocess.Popen[str], str, float]:
    """Start the command; return the process, the address of the page, and the seconds until it answers."""
    start = time.perf_counter()
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().split()[0]
    urllib.request.urlopen(address).read()
    return process, address, time.perf_counter() - start


def clicks(address: str, photo: Path) -> dict[str, float]:
    """Return the seconds from the click on Go to the result on the page, by task."""
    from playwright.sync_api import expect, sync_playwright

    seconds = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for task in web_jobs.TASKS.values():
            page = browser.new_page()
            page.goto(address)
            page.locator("input[type=file]").first.set_input_files(str(photo))
            page.locator(".file-preview").get_by_text(photo.stem).first.wait_for()
            page.get_by_label(task.label, exact=True).check()
            expect(page.get_by_label("Network")).to_have_value(task.default)
            start = time.perf_counter()
            page.get_by_role("button", name="Go", exact=True).click()
            page.get_by_text("CPU seconds").wait_for(timeout=LIMIT)
            seconds[task.label] = time.perf_counter() - start
            page.close()
        browser.close()
    return seconds


def closure(names: list[str]) -> set[str]:
    """Return the installed packages that packages require, extras excluded, with themselves."""
    found: set[str] = set()
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name in found:
            continue
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another platform
            continue
        found.add(name)
        names += [re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in required if "extra ==" not in one]
    return found


def weight() -> tuple[int, float]:
    """Return the number of packages that the extra adds, and their size in MB."""
    added = closure(["gradio"]) - closure(["srcolor"])
    files = [file.locate() for name in added for file in metadata.files(name) or ()]
    return len(added), sum(os.path.getsize(file) for file in files if os.path.isfile(file)) / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--megapixels", type=float, default=1)
    args = parser.parse_args()
    count, size = weight()
    print(f"extra web: {count} packages, {size:.0f} MB")
    side = round((args.megapixels * 1e6) ** 0.5)
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder, "photo.png")
        Image.fromarray(data.astronaut()).resize((side, side)).save(photo)
        process, address, seconds = serve()
        print(f"page: {seconds:.1f} s after the command")
        try:
            for task, seconds in clicks(address, photo).items():
                print(f"{task}: {seconds:.1f} s from the click to the result, {args.megapixels:g} megapixels")
            print(f"memory at the end: {psutil.Process(process.pid).memory_info().rss / 2**20:.0f} MiB")
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
