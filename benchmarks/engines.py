"""Compare the engines that run a network on the CPU: python benchmarks/engines.py [--runs 5].

For each network and tile size: PyTorch as the command runs it, in bfloat16 and compiled, onnxruntime, and OpenVINO if
it is installed, in billions of operations per second (two per multiply-add); the best of several runs. The last row is
a product of matrices, in float32. benchmarks/prediction.py measures the command.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from srcolor import bundled, hardware, runs
from srcolor.inference.onnx_engine import OnnxEngine

NETWORKS = ("srcolor/sr_x2_small", "srcolor/sr_x2")


def engines(name: str, tile: np.ndarray) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the name of each engine and a function that runs it on a tile, (1, 3, H, W)."""
    net = runs.load_net(name).eval()
    image = torch.from_numpy(tile).contiguous(memory_format=torch.channels_last)

    def run(net: torch.nn.Module, bfloat16: bool) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            net(image)

    compiled = torch.compile(net)
    yield "PyTorch", lambda: run(net, False)
    yield "PyTorch, bfloat16", lambda: run(net, True)
    yield "PyTorch, compiled", lambda: run(compiled, False)
    file = bundled.find(name, ".onnx")
    onnx_engine = OnnxEngine(file)
    yield "onnxruntime", lambda: onnx_engine.run(tile)
    with suppress(ImportError):
        import openvino

        model = openvino.Core().compile_model(str(file), "CPU")
        yield "OpenVINO", lambda: model(tile)


def seconds(work: Callable[[], Any], count: int) -> float:
    """Return the least time of several calls after a first one."""
    work()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def matrix_speed(count: int) -> float:
    """Return the speed of a product of matrices in float32, in GFLOP/s."""
    matrix = torch.rand(2000, 2000)
    return 2 * 2000**3 / seconds(lambda: matrix @ matrix, count) / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="measurements of each value")
    parser.add_argument("--tiles", type=int, nargs="+", default=[256, 512], help="sides of tiles")
    arguments = parser.parse_args()
    hardware.setup()
    print("| network | tile | engine | GFLOP/s | ms |\n|---|---|---|---|---|")
    for name in NETWORKS:
        operations = 2 * sum(weight.numel() for weight in runs.load_net(name).parameters() if weight.dim() == 4)
        for side in arguments.tiles:
            tile = np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32)
            for engine, work in engines(name, tile):
                took = seconds(work, arguments.runs)
                print(f"| `{name}` | {side} | {engine} | {operations * side**2 / took / 1e9:.0f} | {1000 * took:.1f} |")
    print(f"| product of matrices | | PyTorch | {matrix_speed(arguments.runs):.0f} | |")


if __name__ == "__main__":
    main()
