"""Kill train.py with SIGKILL at random moments and resume it until it is done, repeatedly.

`python benchmarks/faults.py [--runs 5] [--seed 0]`. After each kill no incomplete file may exist under a final
name; the killed and resumed run must end with the weights of an uninterrupted one.
"""

import argparse
import filecmp
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data as photographs

from srcolor import runs
from srcolor.data.cache import Mapped
from srcolor.data.index import Index

ROOT = Path(__file__).parent.parent
OVERRIDES = [
    "data=folder", "size=32", "net.channels=8", "net.blocks=1", "data.batch_size=8", "data.epoch_samples=400",
    "trainer.max_time=null", "trainer.precision=32", "trainer.accelerator=cpu",
]  # fmt: skip


def start(overrides: list[str]) -> subprocess.Popen[str]:
    """Start train.py."""
    command = [sys.executable, "train.py", *overrides]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def check(run: Path, caches: Path) -> None:
    """Read every file under a final name."""
    for file in run.glob("checkpoints/*.ckpt"):
        runs.read(file)
    for index in caches.glob("*/*/index.json"):
        if not index.parent.name.startswith("unfinished-"):
            Mapped(index.parent, Index.load(index.parent).shapes)
    if (run / "metrics.json").exists():
        assert (run / "per_image.csv").read_text().endswith("\n")


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Return the final state of a run."""
    return runs.read(run / "checkpoints" / "last.ckpt")["state_dict"]


def main() -> None:
    """Kill, resume and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary, "images")
        images.mkdir()
        photo = photographs.retina()
        for i in range(args.images):  # large, so that the cache takes a while
            top, left = 20 * (i % 20), 20 * (i // 20)
            crop = np.ascontiguousarray(photo[top : top + 1000, left : left + 1000])
            Image.fromarray(crop).save(images / f"{i}.png", compress_level=1)

        whole = Path(temporary, "whole")
        overrides = [*OVERRIDES, f"trainer.max_epochs={args.epochs}", f"data.root={images}"]
        started = time.monotonic()
        process = start([*overrides, f"hydra.run.dir={whole}", f"data.cache_dir={temporary}/whole-cache"])
        assert process.wait() == 0, process.communicate()[1]
        length = time.monotonic() - started
        expected = weights(whole)
        (pixels,) = Path(temporary, "whole-cache").rglob("pixels.bin")
        kills = 0
        for number in range(args.runs):
            run, caches = Path(temporary, f"run{number}"), Path(temporary, f"cache{number}")
            attempt = 0
            while True:
                last = (run / "checkpoints" / "last.ckpt").exists()
                if last:
                    command = [f"resume={run}"]
                else:
                    attempt += 1  # a run that saved nothing starts again, in a new folder
                    run = Path(temporary, f"run{number}-{attempt}")
                    command = [*overrides, f"hydra.run.dir={run}", f"data.cache_dir={caches}"]
                process = start(command)
                try:
                    process.wait(rng.uniform(0.1, 0.8) * length)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    kills += 1
                    check(run, caches)
                    if (run / "metrics.json").exists():  # killed after its last write
                        break
                    continue
                assert process.returncode == 0, process.communicate()[1]
                break
            check(run, caches)
            for key, value in weights(run).items():
                assert torch.equal(value, expected[key]), key
            (built,) = [path for path in caches.rglob("pixels.bin") if not path.parent.name.startswith("unfinished-")]
            assert filecmp.cmp(built, pixels, shallow=False)
            print(f"run {number}: same weights as the uninterrupted one; {kills} kills so far", flush=True)


if __name__ == "__main__":
    main()
