"""Learning-rate schedules: functions of the progress of a run, from 0 to 1.

Progress is the largest of steps/max_steps, epochs/max_epochs and elapsed/max_time, so that a run of three minutes and a
run of an hour both anneal.
"""

import math

from srcolor.errors import check_range


def constant(progress: float) -> float:
    """Return 1 at any progress."""
    return 1.0


def warmup_cosine(progress: float, warmup: float = 0.03, final: float = 0.0) -> float:
    """Return a factor that rises linearly to 1, then falls along half a cosine.

    Args:
        progress: In [0, 1]; larger values count as 1.
        warmup: Fraction of the run until the factor is 1, in [0, 0.99].
        final: Factor at the end, in [0, 1].

    Returns:
        The factor on the optimizer's learning rate, in [0, 1].

    >>> [round(warmup_cosine(p, warmup=0.5), 3) for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    check_range("schedule.warmup", warmup, 0, 0.99)
    check_range("schedule.final", final, 0, 1)
    progress = min(progress, 1.0)
    if progress < warmup:
        return progress / warmup
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
