"""Measure the cost and quality of networks: python benchmarks/cost.py srcolor/sr_x2_small <run> ... [--plot file.png].

Prints, for each network, the parameters, the multiply-adds for an output of 1280x720 (as the literature counts them),
the time in milliseconds for images of 64x64 and 512x512 on this machine, in float32, and PSNR of Y on the sets of the
test runs passed by `--tests`. The plot shows PSNR on Set5 against both costs, with published networks.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from srcolor import runs
from srcolor.benchmark import published
from srcolor.nets import fused


def multiply_adds(net: nn.Module, scale: int) -> float:
    """Count the multiply-adds of all convolutions for an output of 1280x720, in 10^9."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net(torch.rand(1, 3, 720 // scale, 1280 // scale))
    return counter.get_total_flops() / 2e9


def milliseconds(net: nn.Module, side: int, seconds: float) -> float:
    """Measure the fastest call within some seconds, after one that is not timed."""
    x = torch.rand(1, 3, side, side).contiguous(memory_format=torch.channels_last)
    net = net.to(memory_format=torch.channels_last)
    times: list[float] = []
    with torch.inference_mode():
        net(x)
        while sum(times) < seconds or len(times) < 3:
            start = time.perf_counter()
            net(x)
            times.append(time.perf_counter() - start)
    return 1000 * min(times)


def plot(results: dict[str, dict[str, Any]], file: Path, scale: int) -> None:
    """Plot PSNR on Set5 against multiply-adds, with published networks, and against milliseconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, row in results.items():
        for axes, x in ((left, row["multiply_adds_g"]), (right, row["ms_512"])):
            axes.plot(x, row["set5"], "o", color="tab:red")
            axes.annotate(name.removeprefix("srcolor/"), (x, row["set5"]), xytext=(4, -10), textcoords="offset points")
    for row in published.rows(scale):
        if row["multadds_g"]:
            psnr = float(row["Set5"].split("/")[0])
            left.plot(float(row["multadds_g"]), psnr, "o", color="tab:gray")
            left.annotate(row["network"], (float(row["multadds_g"]), psnr), xytext=(4, 4), textcoords="offset points")
    left.set(xscale="log", xlabel="multiply-adds for 1280x720 (10^9)", ylabel="PSNR of Y on Set5, x2 (dB)")
    right.set(xscale="log", xlabel="milliseconds for 512x512 to 1024x1024 on this machine")
    for axes in (left, right):
        axes.margins(x=0.15)  # space for the names
    figure.savefig(file, dpi=100)


def main() -> None:
    """Measure, print and plot."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("nets", nargs="+", help="networks, named as for ckpt=")
    parser.add_argument("--tests", nargs="*", default=[], help="run folder of each network's benchmark test")
    parser.add_argument("--plot", type=Path, help="file to plot to")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="minimum time to measure each size (default: %(default)s)"
    )
    args = parser.parse_args()
    results = {}
    for number, name in enumerate(args.nets):
        net: Any = fused(runs.load_net(name)).eval()
        row = results[name] = {
            "parameters": sum(p.numel() for p in net.parameters()),
            "multiply_adds_g": multiply_adds(net, net.scale),
            "ms_64": milliseconds(net, 64, args.seconds),
            "ms_512": milliseconds(net, 512, args.seconds),
        }
        if args.tests:
            sets = json.loads((Path(args.tests[number]) / "metrics.json").read_text())["sets"]
            row |= {set_name.lower(): values["psnr_y"] for set_name, values in sets.items()}
        print(name, *(f"{key} {value:,.2f}" for key, value in row.items()), sep="  ")
    if args.plot:
        plot(results, args.plot, net.scale)


if __name__ == "__main__":
    main()
