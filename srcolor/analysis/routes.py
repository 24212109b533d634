"""Routes to large outputs: their quality and cost. The routes of a task are declared by its study."""

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from srcolor import metrics
from srcolor.analysis.studies.base import Study
from srcolor.errors import UserError
from srcolor.hardware import cpu_memory_mb
from srcolor.images import Pair
from srcolor.nets import Net


@dataclass
class Route:
    """One way to a large output.

    Attributes:
        given: The group whose input it takes, e.g. `small` or `large`.
        net: Maps this input to the large output.
        keys: Keys of the runs whose training cost counts for it.
        values: Value of each image by metric; set by `measure`.
        milliseconds: Time per image; set by `measure`.
    """

    given: str
    net: Net
    keys: tuple[str, ...] = ()
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    milliseconds: float = 0.0


@torch.inference_mode()
def measure(study: Study, routes: Mapping[str, Route], pairs: Iterable[Pair], scale: int) -> int:
    """Measure routes on images, and set their `values` and `milliseconds`.

    Args:
        study: The study of the routes.
        routes: The routes by name.
        pairs: Batches of pairs of the large size, on the device of the networks.
        scale: Factor between the small and the large size.

    Returns:
        The number of images.

    Raises:
        UserError: If the output of a route is not finite.
    """
    measures = {name: metrics.MEASURES[name]() for name in study.metrics}
    columns = {name: metrics.Values() for name in routes}
    count = 0
    for pair in pairs:
        inputs = study.inputs(pair, scale)
        for name, route in routes.items():
            if not count:
                route.net(inputs[route.given])  # warm up: the first call of a network takes longer
            _synchronize(pair.target.device)
            start = time.perf_counter()
            output = route.net(inputs[route.given])
            prediction = study.prediction(output)
            _synchronize(pair.target.device)
            route.milliseconds += 1000 * (time.perf_counter() - start)
            if not output.isfinite().all():
                raise UserError(f"{name}: the network's output is not finite on some test images.")
            columns[name].update(metrics.measure(measures, prediction, pair.target))
        count += len(pair.target)
    for name, route in routes.items():
        route.milliseconds /= count
        route.values = {metric: values.double().numpy() for metric, values in columns[name].gather().items()}
    return count


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Bootstrap:
    """A paired bootstrap over the pictures: all crops of a picture are drawn together, as they are not independent.

    Attributes:
        pictures: Number of the picture of each crop, (crops,), from 0 without gaps.
        samples: Number of bootstrap samples, drawn with replacement.
        seed: Seed of the draws.
    """

    pictures: NDArray[np.int64]
    samples: int
    seed: int

    def intervals(
        self, differences: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Compute the means of paired differences over the crops, with 95% intervals.

        Args:
            differences: (crops, columns); values that are not finite are ignored.

        Returns:
            The mean and the lower and upper end of the interval, (columns,) each; NaN for a column without a finite
            value.
        """
        count = self.pictures.max() + 1
        counts = np.random.default_rng(self.seed).multinomial(count, np.full(count, 1 / count), size=self.samples)
        counts = counts[:, self.pictures]
        finite = np.isfinite(differences)
        values = np.where(finite, differences, 0.0)
        with np.errstate(invalid="ignore"):
            means = (counts @ values) / (counts @ finite)
            mean = values.sum(0) / finite.sum(0)
        low, high = np.full(means.shape[1], np.nan), np.full(means.shape[1], np.nan)
        for column in np.flatnonzero(finite.any(0)):
            low[column], high[column] = np.nanquantile(means[:, column], (0.025, 0.975))
        return mean, low, high


def pictures(names: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of the picture of each crop, (crops,), from names of crops such as `picture@top,left`.

    >>> pictures(["b.png@0,0", "a.png@0,0", "b.png@0,9"]).tolist()
    [1, 0, 1]
    """
    stems = [name.rpartition("@")[0] or name for name in names]
    return np.unique(stems, return_inverse=True)[1]


def report(
    study: Study,
    routes: Mapping[str, Route],
    sides: Mapping[str, int],
    reference: Mapping[str, Route],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Return the entries of `comparison.json` for measured routes, by name.

    Args:
        study: The study of the routes.
        routes: The routes by name.
        sides: Side of the `small` and the `large` images, in pixels.
        reference: Routes by name, including the reference of every group.
        bootstrap: Computes the intervals of the differences.
    """
    entries: dict[str, Any] = {}
    for name, route in routes.items():
        against = study.reference[route.given]
        mean = _plain(bootstrap.intervals(_values(route))[0])
        entries[name] = {
            "given": sides.get(route.given, route.given),
            **dict(zip(route.values, mean, strict=True)),
            **{f"{metric}_square": float(np.square(route.values[metric]).mean()) for metric in study.squares},
            "ms_per_image": route.milliseconds,
            "against": against,
            "difference": difference(route, reference[against], bootstrap),
        }
    return entries


def difference(one: Route, other: Route, bootstrap: Bootstrap) -> dict[str, list[float | None]]:
    """Return the mean difference of each metric between two measured routes, with its 95% interval."""
    with np.errstate(invalid="ignore"):  # both values may be infinite
        columns = [_plain(part) for part in bootstrap.intervals(_values(one) - _values(other))]
    return {metric: list(ends) for metric, *ends in zip(one.values, *columns, strict=True)}


def _values(route: Route) -> NDArray[np.float64]:
    return np.stack(list(route.values.values()), 1)


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def trained(parts: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the training cost of a route: total seconds, images/s of the slowest network, peak memory of all.

    Args:
        parts: The `train` section of each network's `metrics.json`.

    Returns:
        The costs by name; None where a network lacks the value.
    """
    costs: dict[str, float | None] = {}
    for key, fold in (("seconds", sum), ("images_per_second", min), ("peak_memory_mb", max)):
        values = [part.get(key) for part in parts]
        costs[f"train_{key}"] = fold(values) if values and None not in values else None  # type: ignore[type-var, arg-type]
    return costs


def route_memory_mb(net: Net, image: Tensor) -> float:
    """Measure the peak tensor memory of inference on one image, weights included, in MiB."""
    weights = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers())) / 2**20
    with torch.inference_mode():
        if image.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            net(image)
            return weights + (torch.cuda.max_memory_allocated() - before) / 2**20
        return weights + cpu_memory_mb(lambda: net(image))


def step_cost(net: Net, loss: nn.Module, pair: Pair, steps: int = 5) -> dict[str, float]:
    """Measure a training step of a network on a batch, in float32 with Adam.

    Args:
        net: The network; it is copied, not trained.
        loss: Takes the output and the target.
        pair: The batch.
        steps: Number of timed steps, after two warm-up steps.

    Returns:
        `side`, `batch`, `images_per_second`, and `peak_memory_mb`: weights, Adam's state, gradients and activations.
    """
    net = copy.deepcopy(net).train()
    adam = torch.optim.Adam(net.parameters())

    def step() -> None:
        net.zero_grad(set_to_none=True)
        loss(net(pair.input), pair.target).backward()
        adam.step()
        _synchronize(pair.target.device)

    for _ in range(2):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    rate = steps * len(pair.target) / (time.perf_counter() - start)
    net.zero_grad(set_to_none=True)
    state = [value for values in adam.state.values() for value in values.values()]
    static = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), *state)) / 2**20
    if pair.target.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        dynamic = (torch.cuda.max_memory_allocated() - before) / 2**20
    else:
        dynamic = cpu_memory_mb(step)
    side = pair.target.shape[-1]
    return {"side": side, "batch": len(pair.target), "images_per_second": rate, "peak_memory_mb": static + dynamic}
