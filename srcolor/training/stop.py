"""Signals and time budgets that take effect in all processes after the same batch."""

import signal
from types import FrameType
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Timer

from srcolor import signals
from srcolor.errors import UserError
from srcolor.tasks.base import Task


class BudgetTimer(Timer):
    """Measure the training time; see `Timer`. The task ends training, so that all processes stop after the same batch.

    `Timer` itself would broadcast after every batch.

    Raises:
        UserError: If the duration is malformed.
    """

    def __init__(self, duration: str | None = None) -> None:
        try:
            super().__init__(duration)
        except (MisconfigurationException, AttributeError) as error:  # the latter for a number
            raise UserError(f"trainer.max_time={duration}: expected DD:HH:MM:SS, such as 00:00:08:30.") from error

    @property
    def state_key(self) -> str:
        """Key of the state in a checkpoint: the key of `Timer`."""
        return Timer.__qualname__

    def on_fit_start(self, *_: Any, **__: Any) -> None:
        """Do nothing: the task checks the time."""

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Do nothing: the task checks the time."""

    def on_train_epoch_end(self, *_: Any, **__: Any) -> None:
        """Do nothing: the task checks the time."""


class StopTogether(Callback):
    """Stop all processes after the same training batch, by a time budget or by a signal to one of them.

    (Lightning's own signal handlers wait for the other processes, inside the handler, where those may never arrive.) A
    single process also handles SIGUSR1 under SLURM after the batch: Lightning saves `hpc_ckpt_<n>.ckpt` and requeues
    the job.

    The processes exchange two numbers per batch between the hosts, so that no device has to finish its work first.
    """

    def __init__(self) -> None:
        self._effects = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._received = 0
        self._hosts: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: Task) -> None:
        """Defer signals to the end of the batch."""
        if trainer.world_size == 1:
            self._effects.clear()
        else:
            self._hosts = torch.distributed.new_group(backend="gloo")
        requeue = signal.getsignal(signal.SIGUSR1) if hasattr(signal, "SIGUSR1") else None
        if callable(requeue):  # Lightning's
            self._effects[signal.SIGUSR1] = requeue
        for number in self._effects:
            signal.signal(number, self._receive)
        self._agree(pl_module)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        stopping = (signal.SIGINT, signal.SIGTERM)
        if number in stopping and self._received in stopping:  # the batch does not end: another process may be gone
            signals.end_process(number)
        self._received = number

    def on_train_batch_end(self, trainer: Trainer, pl_module: Task, *_: Any) -> None:
        """Apply a signal or a spent time budget of one process in all of them."""
        received = self._agree(pl_module)
        effect = self._effects[signal.Signals(received)] if received else None
        if callable(effect):
            self._received = 0
            effect(received, None)

    def _agree(self, pl_module: Task) -> int:
        """Share the elapsed part of a time budget; return the number of the signal one process received, or 0."""
        if self._hosts is None:
            return self._received
        values = torch.tensor([float(self._received), pl_module.time_share()], dtype=torch.float64)
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX, self._hosts)
        received, pl_module.agreed_time_share = values.tolist()
        return int(received)
