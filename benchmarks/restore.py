"""Test restoration by degradation: python benchmarks/restore.py <run> [<run> ...] data=folder data.root=...

Prints one Markdown table: PSNR of the luma on the test images, clean, with each degradation of `data.degrade=old` alone
at the middle of its ranges, and with all of them; fading is in the target too and has no row of its own. Beside the
runs, which have the same scale: for x2 bicubic interpolation and srcolor/sr64to128; for x1 the input itself, and non-
local means and total variation of scikit-image. The strength of the last two is a multiple of the noise estimated in
each image; the multiple is the one that is best on validation images with all degradations.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
from torch import Tensor

from srcolor import hardware, runs
from srcolor.analysis import tables
from srcolor.cli.compose import datamodule
from srcolor.data import degrade
from srcolor.data.datamodule import ImageDataModule
from srcolor.errors import UserError
from srcolor.metrics import MEASURES, mean
from srcolor.nets import Net
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.luma_sr import LumaSR

CHOSEN_ON = 32  # validation images that determine the strength of a classical method
STRENGTHS = (0.5, 1, 2, 4, 8)  # multiples of the noise
Method = Callable[[Tensor], Tensor]


def non_local_means(images: Tensor, strength: float) -> Tensor:
    """Denoise gray images, (N, 1, H, W), by averaging similar patches."""
    return _each(images, lambda one, noise: denoise_nl_means(one, patch_size=5, patch_distance=6, h=strength * noise))


def total_variation(images: Tensor, strength: float) -> Tensor:
    """Denoise gray images, (N, 1, H, W), by Chambolle's algorithm."""
    return _each(images, lambda one, noise: denoise_tv_chambolle(one, weight=strength * noise))


def noise_of(image: np.ndarray) -> float:
    """Estimate the standard deviation of noise: the median absolute diagonal Haar coefficient / 0.6745 (Donoho)."""
    diagonal = (image[::2, ::2] - image[1::2, ::2] - image[::2, 1::2] + image[1::2, 1::2]) / 2
    return float(np.median(np.abs(diagonal)) / 0.6745)


def _each(images: Tensor, function: Callable[[np.ndarray, float], np.ndarray]) -> Tensor:
    results = [function(image, max(noise_of(image), 1e-4)) for image in images[:, 0].double().numpy()]
    return torch.from_numpy(np.stack(results))[:, None].to(images.dtype)


def cases() -> Iterator[tuple[str, degrade.Preset]]:
    """Yield the name and the degradations of each row of the table."""
    old = degrade.PRESETS["old"]
    yield "clean", degrade.PRESETS["none"]
    for name, step in (old.photo | old.file).items():
        if not step.in_target:  # nothing to restore
            yield name, degrade.alone(old, name)
    yield "all", replace(old, clean=0)


@torch.inference_mode()
def psnr(methods: dict[str, Method], data: ImageDataModule, split: str, limit: int | None = None) -> dict[str, float]:
    """Return the mean PSNR of each method."""
    values: dict[str, list[Tensor]] = {name: [] for name in methods}
    for pair in data.pairs(split, limit):
        for name, method in methods.items():
            values[name].append(MEASURES["psnr"]()(method(pair.input).clamp(0, 1), pair.target))
    return {name: mean(torch.cat(one)).item() for name, one in values.items()}


def classical(data: ImageDataModule) -> dict[str, Method]:
    """Return non-local means and total variation, each with its best strength."""
    data.degradation = replace(degrade.PRESETS["old"], clean=0)
    methods = {}
    for function in (non_local_means, total_variation):
        by_strength: dict[str, Method] = {f"{one:g}": partial(function, strength=one) for one in STRENGTHS}
        scores = psnr(by_strength, data, "val", CHOSEN_ON)
        best = max(scores, key=lambda one: scores[one])
        methods[f"{function.__name__.replace('_', ' ')} x{best}"] = by_strength[best]
    return methods


def compared(scale: int, data: ImageDataModule) -> dict[str, Method]:
    """Return the methods to compare with, by name."""
    if scale == 1:
        return {"input": lambda images: images, **classical(data)}
    bicubic = {"bicubic": Bicubic(scale)}
    return bicubic | ({"srcolor/sr64to128": LumaSR(runs.load_net("srcolor/sr64to128")).eval()} if scale == 2 else {})


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("args", nargs="+", metavar="run | key=value", help="runs, then overrides for train.py")
    args = parser.parse_args().args
    overrides = [arg for arg in args if "=" in arg]
    nets: dict[str, Net] = {run: runs.load_net(run).eval() for run in args if "=" not in run}
    scales = sorted({net.scale for net in nets.values()})
    if len(scales) != 1:
        raise UserError(f"the runs have the scales {scales}: expected runs of one scale. Call once for each scale.")
    hardware.setup()
    data = datamodule([f"scale={scales[0]}", "pair=block_mean_luma", *overrides])
    methods: dict[str, Method] = {**compared(scales[0], data), **nets}
    lines = [["PSNR (dB)", *methods]]
    for name, steps in cases():
        data.degradation = steps
        lines.append([name, *(tables.number(one, 2) for one in psnr(methods, data, "test").values())])
    print(tables.markdown(lines), end="")


if __name__ == "__main__":
    main()
