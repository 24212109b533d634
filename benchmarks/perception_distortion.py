"""Plot faithful against sharp: python benchmarks/perception_distortion.py <adversarial run> data=folder data.root=...

Tests the dial of an adversarial super-resolution network (`sharpness=`), from its pixel-loss network to itself, next to
bicubic interpolation and unsharp masking, on the test images of a data set. Prints a Markdown table, and writes it with
the plot (`curve.md`, `curve.png`). LPIPS needs the weights of its backbone, see docs/metrics.md.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from matplotlib import pyplot

from srcolor import hardware, runs
from srcolor.analysis import tables
from srcolor.cli.compose import datamodule
from srcolor.metrics import MEASURES, Measure, Values, available, mean, measure
from srcolor.nets import Net
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.blend import Blend
from srcolor.nets.projected import Projected
from srcolor.nets.unsharp import Unsharp
from srcolor.runs import records

NAMES = ("psnr", "ssim", "texture", "lpips", "band_energy", "consistency")
STRENGTHS = (0.25, 0.5, 1, 1.5, 2)


def groups(run: str) -> Iterator[tuple[str, dict[str, Net]]]:
    """Yield the name of each curve and its networks; all outputs are projected onto the input."""
    faithful, sharp = runs.load_reference(run), runs.load_net(run)
    assert faithful is not None, f"{run} has no adversarial network"
    sharp = sharp.sharp if isinstance(sharp, Blend) else sharp
    faithful, sharp = cast(Net, faithful), cast(Net, sharp)
    yield "dial", {f"sharpness {eighth / 8:g}": Blend(faithful, sharp, eighth / 8) for eighth in range(9)}
    yield (
        "unsharp masking of the pixel-loss network",
        {f"unsharp {strength:g}": Projected(Unsharp(faithful, strength)) for strength in (0, *STRENGTHS)},
    )
    bicubic = Bicubic(sharp.scale)
    yield (
        "unsharp masking of bicubic interpolation",
        {f"bicubic, unsharp {strength:g}": Projected(Unsharp(bicubic, strength)) for strength in (0, *STRENGTHS)},
    )


@torch.inference_mode()
def evaluate(nets: dict[str, Net], overrides: list[str]) -> dict[str, dict[str, float]]:
    """Return the mean of each measure over the test images, by network."""
    data = datamodule(overrides)
    scale = next(iter(nets.values())).scale
    measures = cast(dict[str, Measure], {name: MEASURES[name].for_scale(scale) for name in available(NAMES)})
    columns = {name: Values() for name in nets}
    for pair in data.pairs("test"):
        for name, net in nets.items():
            columns[name].update(measure(measures, net.eval()(pair.input).clamp(0, 1), pair.target))
    return {
        name: {key: mean(values).item() for key, values in collected.gather().items()}
        for name, collected in columns.items()
    }


def main() -> None:
    """Evaluate, print and plot."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("run", help="a run with an adversary, or srcolor/sr64to128_gan")
    parser.add_argument("overrides", nargs="*", help="for train.py: data=folder data.root=/full/path")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder of curve.md and curve.png")
    args = parser.parse_args()
    hardware.setup()
    curves = dict(groups(args.run))
    results = evaluate({name: net for nets in curves.values() for name, net in nets.items()}, args.overrides)
    shown = list(next(iter(results.values())))
    lines = [["", *(MEASURES[key].heading for key in shown)]]
    for name, row in results.items():
        lines.append([name, *(f"{row[key]:.{MEASURES[key].digits}f}" for key in shown)])
    text = tables.markdown(lines)
    print(text)
    records.write(args.output / "curve.md", text)
    distances = [key for key in ("lpips", "texture") if key in shown]
    figure, axes = pyplot.subplots(1, len(distances), figsize=(5 * len(distances), 4), squeeze=False)
    for axis, key in zip(axes[0], distances, strict=True):
        for curve, nets in curves.items():
            axis.plot(
                [results[name]["psnr"] for name in nets], [results[name][key] for name in nets], "o-", label=curve
            )
        axis.set(xlabel="PSNR (dB), more is better", ylabel=f"{MEASURES[key].heading}, less is better")
        axis.grid(alpha=0.3)
    axes[0][-1].legend(fontsize=8, loc="upper center")
    figure.tight_layout()
    figure.savefig(args.output / "curve.png", dpi=110)


if __name__ == "__main__":
    main()
