"""Images per second of the 2020 article's training loop, srcolor, and the bare computation, with one network and batch.

`python benchmarks/training_speed.py [--steps 30] [--rounds 3]`. The three alternate, so that their ratios hold on a
machine whose speed drifts; the first 20 steps of each turn are not timed. The last line is JSON.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Callback, Trainer
from PIL import Image
from skimage import data as photographs
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from srcolor import hardware, images
from srcolor.cli import schema
from srcolor.nets.size_decoder import SizeDecoder
from srcolor.training.speed import Speed

WARMUP, BATCH, SIZE = 20, 100, 128


def make_images(folder: Path, count: int = 2500) -> None:
    """Write JPEG files of 192x192, cut out of a photograph, into one class folder."""
    (folder / "all").mkdir()
    photo = Image.fromarray(photographs.retina())
    for i in range(count):
        left, top = 200 + (37 * i) % 800, 200 + (53 * i) % 800
        photo.crop((left, top, left + 192, top + 192)).save(folder / "all" / f"{i:04d}.jpg", quality=95)


def clocked(steps: int) -> Iterator[None]:
    """Yield before each step; after the last, `clocked.rate` is the images per second without the warm-up."""
    for step in range(WARMUP + steps):
        if step == WARMUP:
            clocked.start = time.perf_counter()  # type: ignore[attr-defined]
        yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    clocked.rate = steps * BATCH / (time.perf_counter() - clocked.start)  # type: ignore[attr-defined]


def article(folder: Path, device: str, steps: int) -> float:
    """Run the published loop: ImageFolder, augmentation with PIL in the main process, float32; return images/s."""
    prepare = transforms.Compose(
        [
            transforms.RandomCrop(192),  # the whole image
            transforms.Resize(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.05, 0.05, 0.05, 0.05),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    loader = DataLoader(ImageFolder(folder, prepare), BATCH, shuffle=True, drop_last=True)
    net = SizeDecoder().to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-5)

    def batches() -> Iterator[torch.Tensor]:
        while True:
            for batch, _ in loader:
                yield batch

    for _, batch in zip(clocked(steps), batches(), strict=False):
        target = batch.to(device)
        prediction = net((nn.functional.avg_pool2d(target, 2) + 1) / 2) * 2 - 1
        loss = nn.functional.mse_loss(prediction, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return clocked.rate  # type: ignore[attr-defined]


def bare(machine: hardware.Hardware, steps: int) -> float:
    """Run the computation alone, with one batch in memory: forward, backward, update; return images/s."""
    net = SizeDecoder().to(machine.accelerator)
    target = torch.rand(BATCH, 3, SIZE, SIZE, device=machine.accelerator)
    if machine.channels_last:
        net = net.to(memory_format=torch.channels_last)
        target = target.to(memory_format=torch.channels_last)
    small = images.block_mean(target, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)
    for _ in clocked(steps):
        with torch.autocast(machine.accelerator, torch.bfloat16, enabled=machine.precision == "bf16-mixed"):
            prediction = net(small)
        loss = nn.functional.mse_loss(prediction.float(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return clocked.rate  # type: ignore[attr-defined]


class Clock(Callback):
    """Time the steps of a Trainer, without the warm-up."""

    def __init__(self, steps: int) -> None:
        self.clock = clocked(steps)

    def on_train_batch_start(self, *_: object) -> None:
        """Start or count a step."""
        next(self.clock)

    def on_train_end(self, *_: object) -> None:
        """Stop the clock."""
        next(self.clock, None)


def ours(folder: Path, machine: hardware.Hardware, steps: int, run: Path) -> tuple[float, float]:
    """Run the loop of train.py with the article's experiment, callbacks and logging; return images/s and data_wait."""
    schema.register()
    overrides = [
        "experiment=sr64to128_article",
        "data=folder",
        f"data.root={folder}",
        f"data.cache_dir={run / 'cache'}",
    ]
    overrides += [f"data.batch_size={BATCH}", "trainer.max_time=null", f"trainer.max_steps={WARMUP + steps}"]
    overrides += ["callbacks.pictures.folder=" + str(run)]
    overrides += [f"callbacks.{name}.dirpath={run}" for name in ("best", "last")]
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        cfg = compose("train", overrides)
    data = instantiate(cfg.data)
    data.setup()
    net = instantiate(cfg.net)
    if machine.channels_last:
        net = net.to(memory_format=torch.channels_last)
    task = instantiate(cfg.task, net=net)
    task.net_config, task.trained_on = {}, []
    speed = Speed()
    settings = {"accelerator": machine.accelerator, "precision": machine.precision, "limit_val_batches": 0}
    chosen = [instantiate(cfg.callbacks[name]) for name in ("progress", "last", "pictures")]
    trainer: Trainer = instantiate(
        cfg.trainer, **settings, callbacks=[*chosen, speed, Clock(steps)], default_root_dir=run
    )
    trainer.fit(task, data)
    return clocked.rate, speed.figures["data_wait"]  # type: ignore[attr-defined, return-value]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    machine = hardware.choose()
    print(machine, file=sys.stderr)
    rates: dict[str, list[float]] = {"article": [], "ours": [], "bare": []}
    waits = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "pictures")
        folder.mkdir()
        make_images(folder)
        for number in range(args.rounds):
            rates["article"].append(article(folder, machine.accelerator, args.steps))
            rates["bare"].append(bare(machine, args.steps))
            rate, wait = ours(folder, machine, args.steps, Path(temporary, str(number)))
            rates["ours"].append(rate)
            waits.append(wait)
            print({name: round(values[-1], 1) for name, values in rates.items()}, "images/s")
    ratio = partial(zip, strict=True)
    print(
        json.dumps(
            {
                "speedup": round(statistics.median(a / b for a, b in ratio(rates["ours"], rates["article"])), 3),
                "data_wait": round(statistics.median(waits), 4),
                "trainer_over_bare": round(statistics.median(a / b for a, b in ratio(rates["ours"], rates["bare"])), 3),
                "device": machine.accelerator,
                "precision": machine.precision,
            }
        )
    )


if __name__ == "__main__":
    main()
