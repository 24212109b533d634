"""Images per second of training: `python benchmarks/training_speed.py [--steps 30] [--rounds 3]`.

For the article's network and batch size: the article's own loop, srcolor, and the bare computation, which is forward,
backward and update on one pair in memory. For the default experiment (`residual`) and `colorize64` (`unet`): srcolor
and the bare computation. srcolor runs with callbacks, logging, the average of the weights, the schedule, augmentation
and pairs. All alternate, so that their ratios hold on a machine whose speed drifts; the first 20 steps of each turn are
not timed. The last line is JSON.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Callback, Trainer
from omegaconf import DictConfig
from PIL import Image
from skimage import data as photographs
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from srcolor import hardware
from srcolor.cli import schema
from srcolor.images import Pair
from srcolor.nets.size_decoder import SizeDecoder
from srcolor.tasks.base import Task
from srcolor.training.speed import Speed

WARMUP, BATCH, SIZE = 20, 100, 128
ARTICLE = "size_decoder"
EXPERIMENTS = {ARTICLE: "sr64to128_article", "residual": "sr64to128", "unet": "colorize64"}  # by network


def make_images(folder: Path, count: int = 2500) -> None:
    """Write JPEG files of 192x192, cut out of a photograph, into one class folder."""
    (folder / "all").mkdir()
    photo = Image.fromarray(photographs.retina())
    for i in range(count):
        left, top = 200 + (37 * i) % 800, 200 + (53 * i) % 800
        photo.crop((left, top, left + 192, top + 192)).save(folder / "all" / f"{i:04d}.jpg", quality=95)


def clocked(steps: int, batch: int) -> Iterator[None]:
    """Yield before each step; after the last, `clocked.rate` is the images per second without the warm-up."""
    for step in range(WARMUP + steps):
        if step == WARMUP:
            clocked.start = time.perf_counter()  # type: ignore[attr-defined]
        yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    clocked.rate = steps * batch / (time.perf_counter() - clocked.start)  # type: ignore[attr-defined]


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

    for _, batch in zip(clocked(steps, BATCH), batches(), strict=False):
        target = batch.to(device)
        prediction = net((nn.functional.avg_pool2d(target, 2) + 1) / 2) * 2 - 1
        loss = nn.functional.mse_loss(prediction, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return clocked.rate  # type: ignore[attr-defined]


def configured(network: str, folder: Path, run: Path, steps: int) -> DictConfig:
    """Return the configuration of a network's experiment on the pictures of a folder."""
    schema.register()
    overrides = [f"experiment={EXPERIMENTS[network]}", "data=folder", f"data.root={folder}"]
    overrides += [f"data.batch_size={BATCH}"] if network == ARTICLE else []
    overrides += [f"data.cache_dir={run / 'cache'}", "trainer.max_time=null", f"trainer.max_steps={WARMUP + steps}"]
    overrides += ["callbacks.pictures.folder=" + str(run)]
    overrides += [f"callbacks.{name}.dirpath={run}" for name in ("best", "last")]
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        return compose("train", overrides)


def prepared(cfg: DictConfig, machine: hardware.Hardware) -> Task:
    """Return a new task in the memory layout of the machine."""
    net = instantiate(cfg.net)
    if machine.channels_last:
        net = net.to(memory_format=torch.channels_last)
    task: Task = instantiate(cfg.task, net=net)
    task.net_config, task.trained_on = {}, []
    return task


def bare(cfg: DictConfig, machine: hardware.Hardware, steps: int) -> float:
    """Run the computation alone, with one pair in memory: forward, backward, update; return images/s."""
    data = instantiate(cfg.data)
    data.setup()
    task = prepared(cfg, machine).to(machine.accelerator).train()
    pair = Pair(*(part.to(machine.accelerator) for part in data.augmented(0, cfg.data.batch_size)))
    optimizer = instantiate(cfg.optimizer)(task.net.parameters())
    for _ in clocked(steps, cfg.data.batch_size):
        with torch.autocast(machine.accelerator, torch.bfloat16, enabled=machine.precision == "bf16-mixed"):
            prediction = task.predict(task.net, pair)
        loss = task.loss(prediction.float(), pair.target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return clocked.rate  # type: ignore[attr-defined]


class Clock(Callback):
    """Time the steps of a Trainer, without the warm-up."""

    def __init__(self, steps: int, batch: int) -> None:
        self.clock = clocked(steps, batch)

    def on_train_batch_start(self, *_: object) -> None:
        """Start or count a step."""
        next(self.clock)

    def on_train_end(self, *_: object) -> None:
        """Stop the clock."""
        next(self.clock, None)


def ours(cfg: DictConfig, machine: hardware.Hardware, steps: int, run: Path) -> tuple[float, float]:
    """Run the loop of train.py with callbacks and logging; return images/s and data_wait."""
    data = instantiate(cfg.data)
    data.setup()
    speed = Speed()
    settings = {"accelerator": machine.accelerator, "precision": machine.precision, "limit_val_batches": 0}
    chosen = [instantiate(cfg.callbacks[name]) for name in ("progress", "last", "pictures")]
    clock = Clock(steps, cfg.data.batch_size)
    trainer: Trainer = instantiate(cfg.trainer, **settings, callbacks=[*chosen, speed, clock], default_root_dir=run)
    trainer.fit(prepared(cfg, machine), data)
    return clocked.rate, speed.figures["data_wait"]  # type: ignore[attr-defined, return-value]


def ratio(rates: Sequence[float], others: Sequence[float]) -> float:
    """Return the median ratio of the rates of each round."""
    return round(statistics.median(a / b for a, b in zip(rates, others, strict=True)), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    machine = hardware.choose()
    print(machine, file=sys.stderr)
    loops: list[float] = []
    rates: dict[str, dict[str, list[float]]] = {name: {"ours": [], "bare": []} for name in EXPERIMENTS}
    waits = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "pictures")
        folder.mkdir()
        make_images(folder)
        for number in range(args.rounds):
            loops.append(article(folder, machine.accelerator, args.steps))
            print({"article": round(loops[-1], 1)}, "images/s")
            for name, values in rates.items():
                run = Path(temporary, f"{name}{number}")
                cfg = configured(name, folder, run, args.steps)
                values["bare"].append(bare(cfg, machine, args.steps))
                rate, wait = ours(cfg, machine, args.steps, run)
                values["ours"].append(rate)
                waits += [wait] if name == ARTICLE else []
                print(name, {key: round(one[-1], 1) for key, one in values.items()}, "images/s")
    over_bare = {name: ratio(values["ours"], values["bare"]) for name, values in rates.items()}
    summary = {"speedup": ratio(rates[ARTICLE]["ours"], loops), "data_wait": round(statistics.median(waits), 4)}
    machine_summary = {"device": machine.accelerator, "precision": machine.precision}
    print(json.dumps({**summary, "trainer_over_bare": over_bare, **machine_summary}))


if __name__ == "__main__":
    main()
