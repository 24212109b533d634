"""The shared parts of `train.py` and `eval.py`: the trainer and data of a run, the test of its network, the report."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from srcolor import hardware, nets
from srcolor.benchmark import published
from srcolor.cli import schema
from srcolor.errors import UserError, check_range
from srcolor.nets import Net
from srcolor.nets.competitors import competitors
from srcolor.runs import record_settings, records
from srcolor.tasks.base import Task
from srcolor.training import loggers, speed

log = logging.getLogger(__name__)

Records = Sequence[dict[str, Any]]


class Session:
    """The trainer and the data of a run.

    Args:
        cfg: The configuration.

    Raises:
        UserError: If a setting is invalid, or the data cannot be used.
    """

    def __init__(self, cfg: DictConfig) -> None:
        _silence()
        schema.check(cfg)
        check_range("seed", cfg.seed, 0, 2**32 - 1)
        self.cfg = cfg
        self.folder = Path(HydraConfig.get().runtime.output_dir)
        self._distributed = "strategy" in cfg.trainer
        lightning.seed_everything(cfg.seed)
        hardware.setup()
        processes = 2 if self._distributed else 1
        self.machine = hardware.choose(cfg.trainer.accelerator, cfg.trainer.precision, processes)
        self.trainer = self._build_trainer()
        self.data = instantiate(cfg.data)

    def _build_trainer(self) -> lightning.Trainer:
        cfg = self.cfg.trainer
        for key, instead in (
            ("fast_dev_run", "trainer=debug"),
            ("overfit_batches", "trainer.limit_train_batches=2"),
        ):
            if cfg.get(key):
                raise UserError(f"trainer.{key} bypasses srcolor's checkpoints or sampler. Use {instead} instead.")
        on_cuda = self.machine.accelerator == "cuda"
        trainer: lightning.Trainer = instantiate(
            cfg,
            accelerator=self.machine.accelerator,
            precision=self.machine.precision,
            max_time=None,  # see callbacks.timer
            logger=[instantiate(node) for node in self.cfg.logger.values() if node is not None],
            callbacks=[instantiate(node) for node in self.cfg.callbacks.values() if node is not None],
            **({"sync_batchnorm": cfg.sync_batchnorm and on_cuda} if self._distributed else {}),
        )
        if trainer.num_devices > 1 and not self._distributed:
            raise UserError(f"trainer.devices={cfg.devices}: multiple devices also require trainer=ddp.")
        return trainer

    def setup(self, stage: str) -> None:
        """Set up the data, and record the settings that depend on the machine.

        Args:
            stage: Lightning's name of what the data is used for: `fit` or `test`.
        """
        self.data.setup(stage)
        log.info("%s", self.machine)
        if not self.trainer.is_global_zero:
            return
        self.data.write_splits(self.folder / "split.csv")
        roots = [str(folder) for folder in self.data.folders]
        root = {"data.root": roots[0] if len(roots) == 1 else roots} if roots else {}
        record_settings(self.folder, {**root, "trainer.precision": self.machine.precision})
        hydra = HydraConfig.get()
        command = loggers.command_line(str(hydra.job.name), hydra.overrides.task)
        loggers.log_start(self.trainer.loggers, command, self.cfg, hydra.runtime.choices)

    def task(self, net: nn.Module) -> Task:
        """Build the task of a network."""
        if (
            self._distributed
            and self.machine.accelerator == "cpu"
            and any("BatchNorm" in type(module).__name__ for module in net.modules())
        ):
            log.warning(
                "BatchNorm is not synchronized across CPU processes: each one normalizes over its own part of the batch"
            )
        if self.machine.channels_last:
            net = net.to(memory_format=torch.channels_last)
        if self.cfg.compile:
            net.compile()
        task: Task = instantiate(self.cfg.task, net=net)
        for key, default in (("accumulate_grad_batches", 1), ("gradient_clip_val", None)):
            if not task.automatic_optimization and self.cfg.trainer.get(key, default) != default:
                raise UserError(
                    f"trainer.{key}={self.cfg.trainer[key]} is not supported with several optimizers, such as those of "
                    "an adversary. Remove it."
                )
        return task

    def test(
        self,
        net: nn.Module,
        trained_on: Sequence[Records | None],
        own_records: Records = (),
        validation: dict[str, Any] | None = None,
        reference: nn.Module | None = None,
    ) -> None:
        """Test a network, write the records of the run, and print its table.

        Args:
            net: The network, as `load_net` returns it.
            trained_on: For each network that it started from or consists of, the records of its training images, as
                returned by `runs.trained_on`; None if unknown.
            own_records: Records of the images that this run trained on.
            validation: The validation metric that selected the network; see `records.record`.
            reference: The pixel-loss network of a run with an adversary, tested beside its `competitors`.
        """
        task = self.task(net)
        if reference is not None:
            task.baselines.update({"pixel_loss": reference, **competitors(cast(Net, reference))})
        self.trainer.test(task, self.data, verbose=False)
        inherited_records = [record for records_ in trained_on for record in records_ or ()]
        if leaked := self.data.overlap(inherited_records):
            log.warning(
                "%d test image(s) were used to train this network or one of its predecessors, e.g. %s",
                len(leaked),
                leaked[0],
            )
        if not self.trainer.is_global_zero:
            return
        sets = self.data.sets(task.rows)
        metrics = records.results(task.per_image, sets, task.statistics)
        metrics["validation"] = validation
        metrics["parameters"] = sum(parameter.numel() for parameter in nets.fused(net).parameters())
        metrics["train"] = speed.figures(self.trainer)
        names = [self.data.name("test", row) for row in task.rows]
        records.record(self.folder, metrics, names, task.per_image)
        choices = HydraConfig.get().runtime.choices
        loggers.log_results(self.trainer.loggers, self.cfg, choices, metrics["test"], self.trainer.global_step)
        table = None
        if sets:
            files = {bytes(row) for record in (*inherited_records, *own_records) for row in record["files"].numpy()}
            image_count = None if None in trained_on else len(files)
            table = published.table(metrics, type(net).__name__, image_count, self.cfg.scale)
        records.show(self.folder, metrics, type(net).__name__, table)


def _silence() -> None:
    """Silence messages of Lightning that are wrong or useless here."""
    for name in ("lightning.pytorch", "lightning.fabric"):  # advertisements, and each line twice
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).handlers.clear()
    for message in (
        # With the cache a batch is one gather: a worker process would only cost a copy.
        ".*does not have many workers.*",
        # Lightning calls what PyTorch 2.15 renamed: github.com/Lightning-AI/pytorch-lightning, `_pytree.py`.
        ".*LeafSpec.*is deprecated.*",
        # Our metrics gather the values of all processes by themselves.
        ".*when logging on epoch level in distributed setting.*",
        # Measures and the pixel-loss network of an adversary stay in evaluation mode.
        ".*in eval mode at the start of training.*",
        # A resumed run writes where it wrote before.
        ".*exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message)
