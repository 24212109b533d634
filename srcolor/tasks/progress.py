"""How much of a budget is spent."""

import math

from lightning import Trainer
from lightning.pytorch.callbacks import Timer


def share_of_batches(trainer: Trainer, batches: float, max_steps: int) -> float:
    """Return the fraction of a run's step or epoch budget that a number of batches uses up; the larger of the two.

    Args:
        trainer: The trainer, with its budget in epochs.
        batches: Number of batches since the start of the run.
        max_steps: Budget in optimizer steps, for a task with a single optimizer; 0 or less if there is none.

    Returns:
        The fraction, in [0, 1]; 0 without a step or epoch budget.
    """
    shares, epoch = [0.0], trainer.num_training_batches
    if max_steps > 0:
        budget: float = max_steps * trainer.accumulate_grad_batches
        if math.isfinite(epoch):  # the last batch of an epoch steps even if it accumulates fewer gradients
            epochs = max_steps // math.ceil(epoch / trainer.accumulate_grad_batches)
            budget -= epochs * (-epoch % trainer.accumulate_grad_batches)
        shares.append(batches / budget)
    if trainer.max_epochs and trainer.max_epochs > 0:
        shares.append(batches / (epoch * trainer.max_epochs))
    return max(shares)


def share_of_time(trainer: Trainer) -> float:
    """Return the fraction of the time budget that has elapsed on this process's clock; 0 without a time budget."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    times = [(timer.time_elapsed(), timer.time_remaining()) for timer in timers]
    return max((elapsed / (elapsed + left) for elapsed, left in times if left is not None), default=0.0)
