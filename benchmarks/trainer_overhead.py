"""Compare the speed of training with that of the bare computation: python benchmarks/trainer_overhead.py.

For the default experiment (`residual`) and `colorize64` (`unet`), with their batch sizes: milliseconds per step of the
Trainer, with callbacks, logging, the average of the weights, the schedule, augmentation and pairs, and of the bare
computation, forward, backward and update, on one pair in memory. Both alternate; the ratio is the median.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Callback, Trainer
from omegaconf import DictConfig

from srcolor import hardware
from srcolor.cli import schema
from srcolor.tasks.base import Task

EXPERIMENTS = {"residual": "sr64to128", "unet": "colorize64"}
WARMUP = 20  # steps


class Clock(Callback):
    """Measure the seconds of the steps after the warm-up."""

    def __init__(self, steps: int) -> None:
        self.last = WARMUP + steps - 1
        self.start = self.seconds = 0.0

    def on_train_batch_start(self, trainer: Trainer, task: Task, batch: object, number: int) -> None:
        """Start after the warm-up."""
        if number == WARMUP:
            self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, task: Task, outputs: object, batch: object, number: int) -> None:
        """Stop after the last step."""
        if number == self.last:
            self.seconds = time.perf_counter() - self.start


def prepared(cfg: DictConfig, machine: hardware.Hardware) -> Task:
    """Return a new task in the memory layout of the machine."""
    task: Task = instantiate(cfg.task, net=instantiate(cfg.net).to(memory_format=torch.channels_last))
    task.net_config, task.trained_on = {}, []
    return task.to(machine.accelerator)


def by_trainer(cfg: DictConfig, machine: hardware.Hardware, steps: int) -> float:
    """Train with the Trainer; return the seconds per step."""
    clock = Clock(steps)
    data = instantiate(cfg.data)
    data.setup("fit")
    with tempfile.TemporaryDirectory() as folder:
        chosen = [instantiate(cfg.callbacks[name]) for name in ("progress", "speed")]
        settings = {"accelerator": machine.accelerator, "precision": machine.precision, "limit_val_batches": 0}
        trainer: Trainer = instantiate(
            cfg.trainer,
            **settings,
            max_steps=WARMUP + steps,
            max_time=None,
            callbacks=[*chosen, clock],
            default_root_dir=Path(folder),
        )
        trainer.fit(prepared(cfg, machine), data)
    return clock.seconds / steps


def bare(cfg: DictConfig, machine: hardware.Hardware, steps: int) -> float:
    """Train on one pair in memory; return the seconds per step."""
    data = instantiate(cfg.data)
    data.setup("fit")
    pair = data.augmented(0, cfg.data.batch_size)
    pair = type(pair)(*(part.to(machine.accelerator) for part in pair))
    task = prepared(cfg, machine).train()
    optimizer = instantiate(cfg.optimizer)(task.net.parameters())
    start = 0.0
    for step in range(WARMUP + steps):
        if step == WARMUP:
            start = time.perf_counter()
        with torch.autocast(machine.accelerator, torch.bfloat16, enabled=machine.precision == "bf16-mixed"):
            prediction = task.predict(task.net, pair)
        loss = task.loss(prediction.float(), pair.target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - start) / steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="overrides of train.py")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    hardware.setup()
    machine = hardware.choose()
    print(machine)
    schema.register()
    for name, experiment in EXPERIMENTS.items():
        with initialize_config_dir(str(schema.CONF), version_base="1.3"):
            epoch = f"data.epoch_samples={64 * (WARMUP + arguments.steps)}"  # one epoch
            cfg = compose("train", [f"experiment={experiment}", epoch, *arguments.overrides])
        times: dict[Callable[[DictConfig, hardware.Hardware, int], float], list[float]] = {by_trainer: [], bare: []}
        for _ in range(arguments.rounds):
            for measure, values in times.items():
                values.append(measure(cfg, machine, arguments.steps))
        ratio = statistics.median(b / t for t, b in zip(times[by_trainer], times[bare], strict=True))
        trainer, alone = (1000 * statistics.median(values) for values in times.values())
        print(f"{name}: {trainer:.2f} ms per step, bare {alone:.2f} ms; speed over bare {ratio:.3f}")


if __name__ == "__main__":
    main()
