"""Measure how long training takes to a quality: python benchmarks/time_to_quality.py data.root=<faces> [--minutes 5].

Trains the network of experiment=sr64to128 twice on the same images: with the default settings, and with those that EDSR
was published with (batches of 16, Adam at a constant rate of 1e-4, L1, no average of the weights). Prints the seconds
of training until the PSNR of validation exceeds that of bicubic interpolation by some dB; validation and the start do
not count. The time of a step is the mean over the run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srcolor.analysis import tables
from srcolor.cli.compose import datamodule
from srcolor.cli.schema import CONF
from srcolor.metrics import mean
from srcolor.metrics.quality import PSNR
from srcolor.nets.bicubic import Bicubic

GAINS = (1.0, 2.0, 2.5)  # dB over bicubic interpolation
RECIPES = {
    "default": [],
    "EDSR": ["data.batch_size=16", "optimizer.lr=1e-4", "schedule=constant", "loss=l1", "task.ema=null"],
}


def curve(overrides: Sequence[str], minutes: float, folder: Path) -> list[tuple[float, float]]:
    """Train; return the seconds of training and the validation PSNR at the end of each epoch."""
    budget = f'trainer.max_time="00:{int(minutes // 60):02}:{int(minutes % 60):02}:{int(60 * minutes % 60):02}"'
    command = [sys.executable, "train.py", "experiment=sr64to128", *overrides, budget, f"hydra.run.dir={folder}"]
    subprocess.run(command, cwd=CONF.parent, check=True, stdout=subprocess.DEVNULL)
    speed = json.loads((folder / "metrics.json").read_text())["train"]["images_per_second"]
    events = EventAccumulator(str(next(folder.rglob("events.out.tfevents.*")).parent))
    events.Reload()
    batch = next((int(o.partition("=")[2]) for o in overrides if o.startswith("data.batch_size=")), 8)
    return [((event.step + 1) * batch / speed, event.value) for event in events.Scalars("val/psnr")]


def bicubic_psnr(overrides: Sequence[str]) -> float:
    """Return the PSNR of bicubic interpolation on the validation images."""
    data = datamodule(["experiment=sr64to128", *overrides])
    net, measure = Bicubic(scale=2), PSNR()
    with torch.inference_mode():
        values = [measure(net(pair.input).clamp(0, 1), pair.target) for pair in data.pairs("val")]
    return mean(torch.cat(values)).item()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("overrides", nargs="*", help="overrides of train.py for both runs")
    parser.add_argument("--minutes", type=float, default=5, help="budget of each run")
    arguments = parser.parse_args()
    shared = ["data=folder", "data.epoch_samples=400", *arguments.overrides]
    floor = bicubic_psnr(shared)
    rows = []
    for name, recipe in RECIPES.items():
        with tempfile.TemporaryDirectory() as folder:
            points = curve([*shared, *recipe], arguments.minutes, Path(folder) / "run")
        reached = [next((seconds for seconds, psnr in points if psnr >= floor + gain), None) for gain in GAINS]
        rows.append([name, *(tables.number(seconds, 0) for seconds in reached), f"{points[-1][1] - floor:+.2f} dB"])
    print(
        f"Seconds of training until bicubic ({floor:.2f} dB) is exceeded; `-`: not in {arguments.minutes:g} minutes\n"
    )
    print(tables.markdown([["recipe", *(f"+{gain} dB" for gain in GAINS), "at the end"], *rows]), end="")


if __name__ == "__main__":
    main()
