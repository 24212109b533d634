"""The order of samples: a sampler whose elements are whole batches of rows and draws."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from srcolor.data import draws

Rows = tuple[Tensor, Tensor]  # the samples' rows in their split, (N,), and their draws, (N, draws.COLUMNS)


class EpochSampler(Sampler[Rows]):
    """Batches of rows: in the epoch's random order for training, else sequential.

    In training, processes share each batch that a single process would draw at `world` times the batch size; the last
    batch is padded with the first samples of the epoch, so that all processes have the same number. In evaluation each
    process has every `world`-th row, and no row is repeated.

    Args:
        rows: Number of samples in the split.
        batch_size: Batch size of this process.
        seed: The run's seed in training; None in evaluation.
        length: Number of samples in a training epoch; if None, the whole split.
        rank: Rank of this process.
        world: Number of processes.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        *,
        seed: int | None = None,
        length: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.length = length or rows
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the index of the next epoch; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of this process."""
        if self.seed is None:
            return -(-len(range(self.rank, self.rows, self.world)) // self.batch_size)
        return -(-self.length // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[Rows]:
        """Yield the rows and draws of each batch."""
        if self.seed is None:
            for rows in torch.arange(self.rank, self.rows, self.world).split(self.batch_size):
                yield rows, draws.evaluation(rows)
            return
        order, table = draws.epoch(self.seed, self.epoch, self.rows, self.length)
        padded = torch.arange(self.length + -self.length % self.world) % self.length
        for batch in padded.split(self.batch_size * self.world):
            positions = batch[self.rank :: self.world]
            yield order[positions], table[positions]
