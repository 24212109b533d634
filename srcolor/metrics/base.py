"""The base class of metrics, and the collected values of the images of a split."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from srcolor.images import rgb_to_lab


class Measure(nn.Module):
    """A metric: one value per image.

    Its weights, if any, are fixed: they move to the device of the task, and are not saved in checkpoints.

    Attributes:
        name: Key in `metrics.json` and of the monitor: `psnr`, `val/psnr`.
        heading: Column heading, with the unit.
        digits: Number of decimals shown.
        higher_is_better: None if a higher value is neither better nor worse.
        space: Color space of the images: `rgb` in [0, 1], or `lab`, CIELAB as `images.rgb_to_lab` returns it.
    """

    name: ClassVar[str]
    heading: ClassVar[str]
    digits: ClassVar[int]
    higher_is_better: ClassVar[bool | None]
    space: ClassVar[str] = "rgb"

    @abstractmethod
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the value of each image, (N,), for images (N, C, H, W) in the color space `space`."""

    @classmethod
    def missing(cls) -> str | None:
        """Return a message that says which file is missing and where to put it; None if the metric can be built."""
        return None

    @classmethod
    def for_scale(cls, scale: int) -> Self:  # most metrics do not depend on it
        """Return the measure for a network with this upscaling factor."""
        return cls()

    @classmethod
    def summarize(cls, values: Tensor) -> Tensor:
        """Return the value of a set, a scalar in float64, from what `forward` returned for its images."""
        return mean(values)

    @classmethod
    def check(cls, images: Tensor) -> None:  # most metrics are defined at any size
        """Check that the metric is defined for images of this shape, (N, C, H, W).

        Raises:
            UserError: If the metric is not defined.
        """

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        """Return no weights: checkpoints of a task exclude its measures."""
        return {} if destination is None else destination


class SetMeasure(Measure):
    """A metric of a whole set of images rather than of each image: one value per set.

    `forward` returns statistics of each image, (N, K), and the value is a function of their mean over the images. A
    bootstrap can therefore resample images by averaging rows: `result(weights @ statistics)`, where each row of
    `weights` sums to 1. Such a metric cannot be monitored.
    """

    @staticmethod
    @abstractmethod
    def result(statistics: Tensor) -> Tensor:
        """Return the value of each set, (...), in float64, from the mean statistics of its images, (..., K)."""

    @classmethod
    def summarize(cls, values: Tensor) -> Tensor:
        """See `Measure`; for statistics (N, K)."""
        return cls.result(values.double().mean(0))


def measure(measures: Mapping[str, Measure], prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return the values, (N,), of multiple measures, or the statistics, (N, K), of a `SetMeasure`.

    Args:
        measures: The measures by name.
        prediction: (N, C, H, W) in [0, 1], RGB if a measure needs CIELAB. The images are converted once.
        target: Same shape as `prediction`.
    """
    images = {"rgb": (prediction, target)}
    if any(metric.space == "lab" for metric in measures.values()):
        images["lab"] = (rgb_to_lab(prediction), rgb_to_lab(target))
    return {name: metric(*images[metric.space]) for name, metric in measures.items()}


def mean(values: Tensor) -> Tensor:
    """Return the mean of the values, (N,), without infinite ones, in float64; infinite if all are.

    The mean over images differs from the PSNR of the pooled error: 20 dB and 40 dB give 30 dB, not 22.97. An image
    that is reproduced exactly has an infinite PSNR and is excluded.

    >>> mean(torch.tensor([20.0, 40.0, torch.inf])).item()
    30.0
    """
    values = values.double()
    finite = values[~values.isinf()]
    return finite.mean() if len(finite) else values.mean()


class Values:
    """Columns of values or statistics of the images of a split, gathered once over all processes."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Tensor]] = {}

    def update(self, columns: Mapping[str, Tensor]) -> None:
        """Append the values of a batch, (N,) or (N, K) each; columns have the same names every time."""
        for name, values in columns.items():
            self._columns.setdefault(name, []).append(values)

    def gather(self) -> dict[str, Tensor]:
        """Return the values of all processes, ordered by process, on the CPU, and clear them."""
        columns = {name: torch.cat(parts).cpu() for name, parts in self._columns.items()}
        self._columns.clear()
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return columns
        processes: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(processes, columns)
        return {name: torch.cat([process[name] for process in processes]) for name in columns}
