"""Routes from gray to large colour images: what they are made of, and how they are measured.

Some are given a small gray image, some the large one: those know more, so the two groups are never ranked together.
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
METRICS = tuple(
    name
    for name in ColorizationTask.default_measures
    if name not in ("colorfulness", "lpips") and not issubclass(metrics.MEASURES[name], metrics.SetMeasure)
)
# Those whose mean squares are reported too: the squares of the last three add up to that of the first.
SQUARES = ("ab_rmse", "tint", "patches", "detail")
# The networks whose training stands behind a route.
BEHIND = {
    "bicubic_colour": ("colorize",),
    "chain": ("colorize", "sr"),
    "chain_luma": ("colorize", "sr"),
    "chain_tuned": ("colorize", "sr", "chain"),
    "direct": ("colorize",),
    "keep_luma": ("colorize",),
    "trained_at_128": ("colorize128",),
}
REFERENCE = {"small": "chain", "large": "direct"}  # what the routes of a group are compared with
# The differences that were asked for, though the first of these routes may know more than the second.
QUESTIONS = (("chain", "direct"), ("keep_luma", "chain"), ("keep_luma", "trained_at_128"))


@dataclass
class Route:
    """One way from gray to colour.

    Attributes:
        given: `small` or `large`: the gray image that it starts from.
        net: From there to the large colour image.
        values: Each metric of each image, once measured.
        milliseconds: Time an image, once measured.
    """

    given: str
    net: Net
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    milliseconds: float = 0.0


def build(colour: Net, sr: Net, at_large: Net | None = None, tuned: Net | None = None) -> dict[str, Route]:
    """Makes the routes that some networks allow.

    Args:
        colour: The colourizer trained at the small size.
        sr: The super-resolution network.
        at_large: The colourizer trained at the large size, if any.
        tuned: The chain that was trained end to end, if any.
    """
    scale = sr.scale
    routes = {
        "bicubic_colour": Route("small", Chain(colour, Bicubic(scale))),
        "chain": Route("small", Chain(colour, sr)),
        "chain_luma": Route("small", Chain(colour, LumaSR(sr))),
        "chain_tuned": None if tuned is None else Route("small", tuned),
        "direct": Route("large", colour),
        "keep_luma": Route("large", KeepLuma(colour, scale)),
        "trained_at_128": None if at_large is None else Route("large", at_large),
    }
    return {name: route for name, route in routes.items() if route is not None}


def floors(pairs: Callable[[], Iterable[Pair]], scale: int) -> dict[str, Route]:
    """Makes the floors, colour without a network, for both groups.

    Args:
        pairs: Goes through training images, large gray and large colour; called for each table.
        scale: Between the small and the large size.
    """
    made = {}
    for name, table in chroma_table.floors().items():
        table.fit(pairs())
        made[name] = Route("large", table)
    for name, table in chroma_table.floors(scale).items():
        table.fit(Pair(images.block_mean(pair.input, scale), pair.target, pair.row) for pair in pairs())
        made[f"bicubic_{name}"] = Route("small", table)
    return made


@torch.inference_mode()
def measure(routes: Mapping[str, Route], targets: Iterable[Tensor], scale: int) -> None:
    """Measures routes on images, in place.

    Args:
        routes: By name.
        targets: Batches of large colour images, (N, 3, H, W), on the device of the networks.
        scale: Between the small and the large size.

    Raises:
        UserError: A route answers what is not finite.
    """
    measures = {name: metrics.MEASURES[name]() for name in METRICS}
    columns = {name: metrics.Values() for name in routes}
    count = 0
    for target in targets:
        given = {"large": images.luma(target), "small": images.luma(images.block_mean(target, scale))}
        for name, route in routes.items():
            if not count:
                route.net(given[route.given])  # the first call of a network takes longer
            _finish(target.device)
            began = time.perf_counter()
            answer = route.net(given[route.given]).clamp(0, 1)
            _finish(target.device)
            route.milliseconds += 1000 * (time.perf_counter() - began)
            columns[name].update(metrics.measure(measures, answer, target))
        count += len(target)
    for name, route in routes.items():
        route.milliseconds /= count
        route.values = {metric: values.double().numpy() for metric, values in columns[name].gather().items()}
        if any(np.isnan(values).any() for values in route.values.values()):
            raise UserError(f"{name}: the network's answer is not finite on some test images.")


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def bootstrap(
    differences: NDArray[np.float64], samples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means of differences between paired values, with 95 % intervals of a bootstrap over the images.

    Args:
        differences: (images, columns); what is not finite is left out.
        samples: How often the images are drawn anew, with replacement.
        seed: Of the draws.

    Returns:
        Mean, lower and upper end of each column; NaN where nothing is finite.
    """
    count = len(differences)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)
    finite = np.isfinite(differences)
    known = np.where(finite, differences, 0.0)
    with np.errstate(invalid="ignore"):
        means = (drawn @ known) / (drawn @ finite)
        mean = known.sum(0) / finite.sum(0)
    low, high = np.full(means.shape[1], np.nan), np.full(means.shape[1], np.nan)
    for column in np.flatnonzero(finite.any(0)):
        low[column], high[column] = np.nanquantile(means[:, column], (0.025, 0.975))
    return mean, low, high


def report(
    routes: Mapping[str, Route], sides: Mapping[str, int], reference: Mapping[str, Route], samples: int, seed: int
) -> dict[str, Any]:
    """Works out what `comparison.json` says of measured routes.

    Args:
        routes: By name.
        sides: Of the `small` and the `large` images, in pixels.
        reference: Where the route of each group that the others are compared with is found.
        samples: See `bootstrap`.
        seed: See `bootstrap`.
    """
    told: dict[str, Any] = {}
    for name, route in routes.items():
        against = REFERENCE[route.given]
        mean = _plain(bootstrap(_values(route), 1, seed)[0])
        told[name] = {
            "given": sides[route.given],
            **dict(zip(METRICS, mean, strict=True)),
            **{f"{metric}_square": float(np.square(route.values[metric]).mean()) for metric in SQUARES},
            "ms_per_image": route.milliseconds,
            "against": against,
            "difference": difference(route, reference[against], samples, seed),
        }
    return told


def difference(one: Route, other: Route, samples: int, seed: int) -> dict[str, list[float | None]]:
    """Answers by how much each metric differs between two measured routes: mean, and 95 % interval (`bootstrap`)."""
    with np.errstate(invalid="ignore"):  # where both are infinite
        spread = [_plain(part) for part in bootstrap(_values(one) - _values(other), samples, seed)]
    return {metric: list(ends) for metric, *ends in zip(METRICS, *spread, strict=True)}


def _values(route: Route) -> NDArray[np.float64]:
    return np.stack([route.values[metric] for metric in METRICS], 1)


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def trained(parts: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Sums up the training behind a route: all seconds, the slowest network's images/s, the largest step's memory.

    Args:
        parts: The `train` part of each network's `metrics.json`.

    Returns:
        None for what is not known of every part.
    """
    told: dict[str, float | None] = {}
    for key, fold in (("seconds", sum), ("images_per_second", min), ("peak_memory_mb", max)):
        values = [part.get(key) for part in parts]
        told[f"train_{key}"] = fold(values) if values and None not in values else None  # type: ignore[type-var, arg-type]
    return told


def route_memory_mb(net: Net, gray: Tensor) -> float:
    """Tensor memory of one image's way through a network, its weights included, in MiB."""
    held = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers())) / 2**20
    with torch.inference_mode():
        if gray.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            net(gray)
            return held + (torch.cuda.max_memory_allocated() - before) / 2**20
        return held + cpu_memory_mb(lambda: net(gray))


def step_cost(net: Net, target: Tensor, steps: int = 5) -> dict[str, float]:
    """Measures a training step of a colour network on a batch, in float32, by Adam.

    Args:
        net: Left as it is.
        target: (N, 3, H, W).
        steps: How many are timed, after two that are not.

    Returns:
        `side`, `batch`, `images_per_second`, and `peak_memory_mb`: weights, Adam's state, gradients and activations.
    """
    net = copy.deepcopy(net).train()
    loss, gray, adam = losses.HuberAB(), images.luma(target), torch.optim.Adam(net.parameters())

    def step() -> None:
        net.zero_grad(set_to_none=True)
        loss(net(gray), target).backward()
        adam.step()
        _finish(target.device)

    for _ in range(2):
        step()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    rate = steps * len(target) / (time.perf_counter() - began)
    net.zero_grad(set_to_none=True)
    state = [value for values in adam.state.values() for value in values.values()]
    held = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), *state)) / 2**20
    if target.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        taken = (torch.cuda.max_memory_allocated() - before) / 2**20
    else:
        taken = cpu_memory_mb(step)
    side = target.shape[-1]
    return {"side": side, "batch": len(target), "images_per_second": rate, "peak_memory_mb": held + taken}
