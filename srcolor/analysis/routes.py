"""Routes from gray to large color images: the networks they combine, and their quality and cost.

The input of a route is the small gray image or the large one. The large one has more detail, so the two groups are
never ranked together.
"""

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srcolor import images, losses, metrics
from srcolor.errors import UserError
from srcolor.hardware import cpu_memory_mb
from srcolor.images import Pair
from srcolor.nets import Net, chroma_table
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.chain import Chain
from srcolor.nets.keep_luma import KeepLuma
from srcolor.nets.luma_sr import LumaSR
from srcolor.tasks.colorization import ColorizationTask

# The measures that are compared: those with a value per image, on every machine.
METRICS = (
    *(
        name
        for name in ColorizationTask.default_measures
        if name not in ("colorfulness", "lpips") and not issubclass(metrics.MEASURES[name], metrics.SetMeasure)
    ),
    "texture",
)
# Measures whose mean square is also reported: the squares of the last three add up to the square of the first.
SQUARES = ("ab_rmse", "tint", "patches", "detail")
# The networks whose training cost counts for a route.
BEHIND = {
    "bicubic_color": ("colorize",),
    "chain": ("colorize", "sr"),
    "chain_gan": ("colorize", "sr_gan"),
    "chain_luma": ("colorize", "sr"),
    "chain_tuned": ("colorize", "sr", "chain"),
    "direct": ("colorize",),
    "keep_luma": ("colorize",),
    "keep_luma_gan": ("colorize_gan",),
    "trained_at_128": ("colorize128",),
}
REFERENCE = {"small": "chain", "large": "direct"}  # the route that the others of its group are compared with
# Pairs of routes that are compared across the groups, although the inputs of the two may differ.
QUESTIONS = (
    ("chain", "direct"),
    ("keep_luma", "chain"),
    ("keep_luma", "trained_at_128"),
    ("keep_luma_gan", "keep_luma"),
)


@dataclass
class Route:
    """One way from gray to color.

    Attributes:
        given: The gray image that is its input: `small` or `large`.
        net: Maps this gray image to the large color image.
        values: Value of each image by metric; set by `measure`.
        milliseconds: Time per image; set by `measure`.
    """

    given: str
    net: Net
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    milliseconds: float = 0.0


def build(
    color: Net,
    sr: Net,
    at_large: Net | None = None,
    tuned: Net | None = None,
    color_gan: Net | None = None,
    sr_gan: Net | None = None,
) -> dict[str, Route]:
    """Return the routes that a set of networks allows, by name.

    Args:
        color: The colorization network trained at the small size.
        sr: The super-resolution network.
        at_large: The colorization network trained at the large size, if any.
        tuned: The chain that was trained end to end, if any.
        color_gan: The colorization network trained at the small size against an adversary, if any.
        sr_gan: The super-resolution network trained against an adversary, if any.
    """
    scale = sr.scale
    routes = {
        "bicubic_color": Route("small", Chain(color, Bicubic(scale))),
        "chain": Route("small", Chain(color, sr)),
        "chain_gan": None if sr_gan is None else Route("small", Chain(color, sr_gan)),
        "chain_luma": Route("small", Chain(color, LumaSR(sr))),
        "chain_tuned": None if tuned is None else Route("small", tuned),
        "direct": Route("large", color),
        "keep_luma": Route("large", KeepLuma(color, scale)),
        "keep_luma_gan": None if color_gan is None else Route("large", KeepLuma(color_gan, scale)),
        "trained_at_128": None if at_large is None else Route("large", at_large),
    }
    return {name: route for name, route in routes.items() if route is not None}


def floors(pairs: Callable[[], Iterable[Pair]], scale: int) -> dict[str, Route]:
    """Return the floors, which are color without a network, for both groups.

    Args:
        pairs: Returns an iterator over training images, large gray and large color; called once per floor.
        scale: Factor between the small and the large size.
    """
    routes = {}
    for name, table in chroma_table.floors().items():
        table.fit(pairs())
        routes[name] = Route("large", table)
    for name, table in chroma_table.floors(scale).items():
        table.fit(Pair(images.block_mean(pair.input, scale), pair.target, pair.row) for pair in pairs())
        routes[f"bicubic_{name}"] = Route("small", table)
    return routes


@torch.inference_mode()
def measure(routes: Mapping[str, Route], targets: Iterable[Tensor], scale: int) -> None:
    """Measure routes on images, and set their `values` and `milliseconds`.

    Args:
        routes: The routes by name.
        targets: Batches of large color images, (N, 3, H, W), on the device of the networks.
        scale: Factor between the small and the large size.

    Raises:
        UserError: If the output of a route is not finite.
    """
    measures = {name: metrics.MEASURES[name]() for name in METRICS}
    columns = {name: metrics.Values() for name in routes}
    count = 0
    for target in targets:
        gray = {"large": images.luma(target), "small": images.luma(images.block_mean(target, scale))}
        for name, route in routes.items():
            if not count:
                route.net(gray[route.given])  # warm up: the first call of a network takes longer
            _synchronize(target.device)
            start = time.perf_counter()
            prediction = route.net(gray[route.given]).clamp(0, 1)
            _synchronize(target.device)
            route.milliseconds += 1000 * (time.perf_counter() - start)
            columns[name].update(metrics.measure(measures, prediction, target))
        count += len(target)
    for name, route in routes.items():
        route.milliseconds /= count
        route.values = {metric: values.double().numpy() for metric, values in columns[name].gather().items()}
        if any(np.isnan(values).any() for values in route.values.values()):
            raise UserError(f"{name}: the network's output is not finite on some test images.")


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def bootstrap(
    differences: NDArray[np.float64], samples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Compute the means of paired differences, with 95% intervals of a bootstrap over the images.

    Args:
        differences: (images, columns); values that are not finite are ignored.
        samples: Number of bootstrap samples, drawn with replacement.
        seed: Seed of the draws.

    Returns:
        The mean and the lower and upper end of the interval, (columns,) each; NaN for a column without a finite value.
    """
    count = len(differences)
    counts = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)
    finite = np.isfinite(differences)
    values = np.where(finite, differences, 0.0)
    with np.errstate(invalid="ignore"):
        means = (counts @ values) / (counts @ finite)
        mean = values.sum(0) / finite.sum(0)
    low, high = np.full(means.shape[1], np.nan), np.full(means.shape[1], np.nan)
    for column in np.flatnonzero(finite.any(0)):
        low[column], high[column] = np.nanquantile(means[:, column], (0.025, 0.975))
    return mean, low, high


def report(
    routes: Mapping[str, Route], sides: Mapping[str, int], reference: Mapping[str, Route], samples: int, seed: int
) -> dict[str, Any]:
    """Return the entries of `comparison.json` for measured routes, by name.

    Args:
        routes: The routes by name.
        sides: Side of the `small` and the `large` images, in pixels.
        reference: Routes by name, including every route in `REFERENCE`.
        samples: See `bootstrap`.
        seed: See `bootstrap`.
    """
    entries: dict[str, Any] = {}
    for name, route in routes.items():
        against = REFERENCE[route.given]
        mean = _plain(bootstrap(_values(route), 1, seed)[0])
        entries[name] = {
            "given": sides[route.given],
            **dict(zip(METRICS, mean, strict=True)),
            **{f"{metric}_square": float(np.square(route.values[metric]).mean()) for metric in SQUARES},
            "ms_per_image": route.milliseconds,
            "against": against,
            "difference": difference(route, reference[against], samples, seed),
        }
    return entries


def difference(one: Route, other: Route, samples: int, seed: int) -> dict[str, list[float | None]]:
    """Return the mean difference of each metric between two measured routes, with its 95% interval (`bootstrap`)."""
    with np.errstate(invalid="ignore"):  # both values may be infinite
        columns = [_plain(part) for part in bootstrap(_values(one) - _values(other), samples, seed)]
    return {metric: list(ends) for metric, *ends in zip(METRICS, *columns, strict=True)}


def _values(route: Route) -> NDArray[np.float64]:
    return np.stack([route.values[metric] for metric in METRICS], 1)


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


def route_memory_mb(net: Net, gray: Tensor) -> float:
    """Measure the peak tensor memory of inference on one image, weights included, in MiB."""
    weights = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers())) / 2**20
    with torch.inference_mode():
        if gray.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            net(gray)
            return weights + (torch.cuda.max_memory_allocated() - before) / 2**20
        return weights + cpu_memory_mb(lambda: net(gray))


def step_cost(net: Net, target: Tensor, steps: int = 5) -> dict[str, float]:
    """Measure a training step of a color network on a batch, in float32 with Adam.

    Args:
        net: The network; it is copied, not trained.
        target: The batch, (N, 3, H, W) in [0, 1].
        steps: Number of timed steps, after two warm-up steps.

    Returns:
        `side`, `batch`, `images_per_second`, and `peak_memory_mb`: weights, Adam's state, gradients and activations.
    """
    net = copy.deepcopy(net).train()
    loss, gray, adam = losses.HuberAB(), images.luma(target), torch.optim.Adam(net.parameters())

    def step() -> None:
        net.zero_grad(set_to_none=True)
        loss(net(gray), target).backward()
        adam.step()
        _synchronize(target.device)

    for _ in range(2):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    rate = steps * len(target) / (time.perf_counter() - start)
    net.zero_grad(set_to_none=True)
    state = [value for values in adam.state.values() for value in values.values()]
    static = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), *state)) / 2**20
    if target.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        dynamic = (torch.cuda.max_memory_allocated() - before) / 2**20
    else:
        dynamic = cpu_memory_mb(step)
    side = target.shape[-1]
    return {"side": side, "batch": len(target), "images_per_second": rate, "peak_memory_mb": static + dynamic}
