"""The random numbers of the samples: in training one table per epoch, one row per position in the epoch.

The draws of a sample are a function of (seed, epoch, position). So it gets the same window, flip and jitter for any
number of workers and processes, any batch size and any device, and in a resumed run. In evaluation they are a function
of the row, so that every run is evaluated on the same inputs.
"""

import numpy as np
import torch
from torch import Tensor

# Meaning of the columns, each uniform in [0, 1).
WINDOW = slice(0, 2)  # position of a random crop: down, right
FLIPS = slice(2, 5)  # mirror left-right, mirror up-down, transpose
JITTER = slice(5, 9)  # brightness, contrast, saturation, hue
ORDER = slice(9, 13)  # their ranks are the order of the four jitter steps
ZOOM = slice(13, 16)  # fraction of the side, then position of the smaller window: down, right
CLEAN = 16  # whether the input is not degraded
# Of each degradation: whether to apply it, then its parameters; see `srcolor.data.degrade`.
BLUR = slice(17, 21)  # angle, two standard deviations
FADING = slice(21, 25)  # gamma, contrast, lift
GRAIN = slice(25, 29)  # seed, size, amplitude
SCRATCHES = slice(29, 33)  # seed, number, width
DUST = slice(33, 36)  # seed, number
JPEG = slice(36, 38)  # quality
COLUMNS = 38


def epoch(seed: int, number: int, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Return the samples and draws of one epoch.

    Args:
        seed: Seed of the run.
        number: Epoch index, from 0.
        rows: Number of different samples.
        length: Number of positions in an epoch. The samples are repeated in a new order each time; an epoch continues
            where the previous one ended.

    Returns:
        The row at each position, (length,) int64, and the table of draws, (length, COLUMNS) float32.
    """
    first, skip = divmod(number * length, rows)
    passes = range(first, first - (-(skip + length) // rows))
    order = torch.cat([torch.randperm(rows, generator=_generator(seed, 0, n)) for n in passes])
    # Columns added later have a separate generator, so that the earlier ones keep their values.
    widths = ((1, 13), (2, 3), (3, COLUMNS - 16))
    blocks = (torch.rand(length, n, generator=_generator(seed, k, number)) for k, n in widths)
    return order[skip : skip + length], torch.cat(list(blocks), 1)


def evaluation(rows: Tensor) -> Tensor:
    """Return the draws of samples in evaluation, by their rows: (N,) int64 to (N, COLUMNS) float32."""
    return torch.stack([torch.rand(COLUMNS, generator=_generator(row)) for row in rows.tolist()])


def _generator(*key: int) -> torch.Generator:
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
