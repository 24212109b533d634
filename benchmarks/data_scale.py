"""Measure the cost of the cache for 1,000, 10,000 and 100,000 images.

`python benchmarks/data_scale.py [--counts 1000 10000 100000]`. A thousand different JPEG files are written; the rest
are hard links to them, which the cache reads, decodes and stores like any other file. Each step runs in its own
process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data as photographs

from srcolor.data import pairs
from srcolor.data.sources.folder import Folder

BATCHES = 200


def make_images(folder: Path, count: int) -> None:
    """Write JPEG files of 160x160, cropped from a photograph, each with different noise."""
    photo = photographs.retina()
    random = np.random.default_rng(0)
    for i in range(count):
        group = folder / f"{i // 1000:03d}"
        group.mkdir(exist_ok=True)
        path = group / f"{i % 1000:03d}.jpg"
        if i >= 1000:
            os.link(folder / "000" / path.name, path)
            continue
        top, left = random.integers(200, 1000, 2)
        noisy = photo[top : top + 160, left : left + 160] + random.normal(0, 3, (160, 160, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def anonymous_mb() -> float:
    """Return the anonymous memory of this process (not backed by a file), PyTorch included, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def measure(folder: Path, cache: Path) -> dict[str, float]:
    """Open or build the cache and gather some batches."""
    os.sync()  # otherwise earlier writes would be flushed to disk during the measurement
    samples = 16 * (BATCHES + 1)
    data = Folder(
        root=str(folder), size=128, pair=pairs.block_mean, batch_size=16, epoch_samples=samples, cache_dir=str(cache)
    )
    start = time.perf_counter()
    data.setup()
    opened = time.perf_counter() - start
    batches = iter(data.train_dataloader())
    next(batches)
    start = time.perf_counter()
    count = sum(1 for _, _ in zip(range(BATCHES), batches, strict=False))
    cost = (time.perf_counter() - start) / count
    return {"open_s": opened, "batch_ms": 1000 * cost, "anonymous_mb": anonymous_mb()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*map(Path, args.measure))))
        return
    print(f"{'images':>9} {'build ms/image':>17} {'open s':>8} {'batch ms':>9} {'anonymous MiB':>14}")
    with tempfile.TemporaryDirectory() as temporary:
        for count in args.counts:
            folder, cache = Path(temporary, str(count)), Path(temporary, f"cache{count}")
            folder.mkdir()
            make_images(folder, count)
            built, opened = (
                json.loads(
                    subprocess.run(
                        [sys.executable, __file__, "--measure", folder, cache],
                        capture_output=True,
                        text=True,
                        check=True,
                    ).stdout.splitlines()[-1]
                )
                for _ in range(2)
            )
            per_image = 1000 * built["open_s"] / count
            print(
                f"{count:9} {per_image:17.3f} {opened['open_s']:8.2f} {opened['batch_ms']:9.2f} "
                f"{opened['anonymous_mb']:14.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
