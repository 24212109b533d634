"""Compare color networks at equal mean and spread of color: python benchmarks/equal_colors.py <runs> data=folder ...

How warm and how vivid an image is are five numbers: the mean of a*, b* and their covariance. A network is better than
another by more than these only if it still is when the a*, b* of its predictions are mapped (by the optimal transport
of Gaussians) to the mean and covariance of the target. Prints a Markdown table of both, as predicted and mapped. LPIPS
needs the weights of its backbone, see docs/metrics.md.
"""

import argparse
import math
from typing import cast

import torch
from torch import Tensor

from srcolor import hardware, images, runs
from srcolor.analysis import tables
from srcolor.cli.compose import datamodule
from srcolor.color_code import color_code, recolor
from srcolor.metrics import MEASURES, Measure, Values, available, mean, measure

NAMES = ("lpips", "patches", "detail", "ciede2000", "ab_rmse", "colorfulness_ratio")


def with_colors_of(prediction: Tensor, target: Tensor) -> Tensor:
    """Map a*, b* of each prediction to the mean and covariance of those of its target, and keep the target's luma.

    Args:
        prediction: (N, 3, H, W) in [0, 1].
        target: The same shape.
    """
    lab = images.rgb_to_lab(prediction)
    mapped = recolor(lab[:, 1:], color_code(images.rgb_to_ab(target)), limit=math.inf)
    return images.with_luma(images.lab_to_rgb(torch.cat([lab[:, :1], mapped], 1)), images.luma(target))


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("args", nargs="+", help="color networks, and overrides for train.py: data=folder data.root=...")
    args = parser.parse_args().args
    hardware.setup()
    names = [arg for arg in args if "=" not in arg]
    data = datamodule(["experiment=colorize64", *(arg for arg in args if "=" in arg)])
    nets = {name: runs.load_net(name) for name in names}
    measures = cast(dict[str, Measure], {name: MEASURES[name]() for name in available(NAMES)})
    columns = {row: Values() for name in names for row in (name, f"{name}, mapped")}
    for pair in data.pairs("test"):
        for name, net in nets.items():
            prediction = net(pair.input).clamp(0, 1)
            mapped = with_colors_of(prediction, pair.target).clamp(0, 1)
            columns[name].update(measure(measures, prediction, pair.target))
            columns[f"{name}, mapped"].update(measure(measures, mapped, pair.target))
    lines = [["", *(MEASURES[key].heading for key in measures)]]
    for name, values in columns.items():
        row = {key: mean(one).item() for key, one in values.gather().items()}
        lines.append([name, *(f"{row[key]:.{MEASURES[key].digits}f}" for key in measures)])
    print(tables.markdown(lines))


if __name__ == "__main__":
    main()
