"""Show that a refactoring changes no result: python benchmarks/refactoring.py record.json, and later --check.

Trains every experiment for two epochs of 32 samples at a fixed seed, in float32 on one thread, compares the routes, and
predicts; records a digest of every weight, metric, image value and file. The same commands on the same machine give
the same digests, bit by bit; other CPUs, other versions of PyTorch, and other numbers of threads do not.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage import data

from srcolor.cli import schema

ROOT = Path(__file__).parent.parent
TINY = [
    *("data=folder", "size=64", "data.batch_size=8", "data.epoch_samples=32", "data.min_side=64", "seed=3"),
    *("data.crop=random", "data.flips=dihedral", "data.jitter=0.05", "data.zoom=0.8", "trainer.max_time=null"),
    *("trainer.max_epochs=2", "trainer.precision=32", "trainer.accelerator=cpu"),
]
SKIPPED = ("seconds", "images_per_second", "data_wait", "memory", "ms_per_image", "git", "version", "runs")


def digest(content: bytes) -> str:
    """Return the first 16 digits of a SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested dictionaries and lists with its path, without measured times and memory."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if items is None:
        yield path, node
        return
    for key, value in items:
        if not any(part in str(key) for part in SKIPPED):
            yield from leaves(value, f"{path}/{key}")


def of_folder(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield a name and a digest for everything that a run, a comparison or a prediction left in a folder."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and ".hydra" not in path.parts):
        name = file.relative_to(folder).as_posix()
        if file.suffix == ".ckpt":
            for key, value in torch.load(file, weights_only=True)["state_dict"].items():
                yield f"{name}:{key}", digest(value.contiguous().numpy().tobytes())
        elif file.suffix == ".json":
            for key, value in leaves(json.loads(file.read_text())):
                yield f"{name}:{key}", repr(value)
        elif file.name == "per_image.csv":
            rows = list(csv.DictReader(file.open()))
            for column in rows[0]:
                yield f"{name}:{column}", digest("\n".join(row[column] for row in rows).encode())
        elif file.suffix in (".png", ".jpg"):
            yield name, digest(np.asarray(Image.open(file)).tobytes())


def run(*command: str) -> None:
    """Run a command of the repository on one thread; stop where it fails."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    print(" ".join(command), flush=True)


def record(folder: Path, experiments: list[str]) -> dict[str, str]:
    """Run experiments below a folder, and with all of them the other commands; return the digests by name."""
    pictures, runs = folder / "pictures", folder / "runs"
    pictures.mkdir()
    for photo in ("astronaut", "coffee", "chelsea"):
        pixels = getattr(data, photo)()
        for number in range(6):
            top, left = 90 * (number // 3), 120 * (number % 3)
            Image.fromarray(pixels[top : top + 96, left : left + 128]).save(pictures / f"{photo}{number}.png")
    extra = {"colorize64_gan": ["monitor=val/patches"]}  # without the weights of LPIPS
    extra["chain64to128"] = [f"net.first.run={runs / 'colorize64'}", f"net.second.run={runs / 'sr64to128'}"]
    for experiment in experiments or sorted(schema.options("experiment"), key=lambda name: name.startswith("chain")):
        overrides = [f"experiment={experiment}", *TINY, f"data.root={pictures}", f"hydra.run.dir={runs / experiment}"]
        run("train.py", *overrides, *extra.get(experiment, []))
    if experiments:
        return dict(of_folder(runs))
    names = {"colorize": "colorize64", "sr": "sr64to128", "colorize128": "colorize128", "chain": "chain64to128"}
    overrides = [f"{key}={runs / name}" for key, name in names.items()]
    run("compare.py", *overrides, "accelerator=cpu", "bootstrap=200", f"hydra.run.dir={runs / 'comparison'}")
    commands = "from srcolor.cli.entry_points import predict; predict()"
    for mode in ("upscale", "colorize", "restore"):
        (runs / mode).mkdir()
        run("-c", commands, str(pictures / "coffee0.png"), "--mode", mode, "-o", str(runs / mode))
    return dict(of_folder(runs))


def main() -> None:
    """Record or check."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("file", type=Path, help="the digests, JSON")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    parser.add_argument("--experiments", nargs="*", default=[], help="default: all of them, and the other commands")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        digests = record(Path(folder), args.experiments)
    if not args.check:
        args.file.write_text(json.dumps(digests, indent=0) + "\n")
        print(f"{len(digests)} digests in {args.file}")
        return
    expected = json.loads(args.file.read_text())
    changed = [name for name in expected if digests.get(name) != expected[name]]
    for name in changed[:40]:
        print(f"{name}: {expected[name]} before, {digests.get(name)} now")
    added = [name for name in digests if name not in expected]
    print(f"{len(expected)} digests: {len(expected) - len(changed)} equal, {len(changed)} not; {len(added)} new")
    sys.exit(1 if changed else 0)


if __name__ == "__main__":
    main()
