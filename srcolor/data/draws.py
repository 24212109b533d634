"""The random numbers of training: one table an epoch, one row a position in the epoch.

A sample's draws depend on (seed, epoch, position) alone. So a picture gets the same window, flip and
jitter whatever the number of workers, the batch size and the device, and
whether or not the run was interrupted.
"""

import numpy as np
import torch
from torch import Tensor

# Meaning of the columns, each uniform in [0, 1).
WINDOW = slice(0, 2)  # where a random crop lies: down, right
FLIPS = slice(2, 5)  # mirror left-right, mirror up-down, transpose
JITTER = slice(5, 9)  # brightness, contrast, saturation, hue
ORDER = slice(9, 13)  # sorting these gives the order of the four jitter steps
ZOOM = slice(13, 16)  # share of the side, then where the smaller window lies: down, right
COLUMNS = 16


def epoch(seed: int, number: int, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Draws one epoch.

    Args:
        seed: The run's seed.
        number: Which epoch, from 0.
        rows: How many different samples there are.
        length: How many positions an epoch has. The samples are gone through in a new order again and again; an
            epoch goes on where the one before ended.

    Returns:
        The row at each position, (length,) int64, and the table of draws, (length, COLUMNS) float32.
    """
    first, skip = divmod(number * length, rows)
    passes = range(first, first - (-(skip + length) // rows))
    order = torch.cat([torch.randperm(rows, generator=_generator(seed, 0, n)) for n in passes])
    # Columns that came later have a generator of their own: the others' numbers stay what they were.
    blocks = (torch.rand(length, n, generator=_generator(seed, k, number)) for k, n in ((1, 13), (2, COLUMNS - 13)))
    return order[skip : skip + length], torch.cat(list(blocks), 1)


def _generator(*key: int) -> torch.Generator:
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
