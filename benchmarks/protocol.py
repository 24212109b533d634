"""Verify the benchmark protocol on Set5 and B100: python benchmarks/protocol.py <folder with both>.

Prints, for each set, the percentage of the stored low-resolution pixels that `lowres.imresize` reproduces exactly, and
the bicubic row: as published, by the classical path (the code of SRCNN and VDSR: convert to Y in bytes, shrink to
floats, enlarge, round), and by srcolor's (RGB in bytes throughout, Y of the result).
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from srcolor import images, metrics
from srcolor.benchmark import published
from srcolor.benchmark.lowres import imresize
from srcolor.benchmark.sets import Benchmark
from srcolor.images import Pair

SCALE = 2


def classical(high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Y of the bicubic enlargement and of the image (1, 3, H, W): (1, 1, H, W) each, 0 to 255."""
    y = (16 + (high.double() * torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)).sum(1, keepdim=True)).round()
    low = F.interpolate(y, scale_factor=1 / SCALE, mode="bicubic", antialias=True)
    return images.bicubic_up(low, SCALE).clamp(0, 255).round(), y


def as_rgb(y: Tensor) -> Tensor:
    """Return the gray image in [0, 1] with a given Y, cropped by `SCALE` pixels on each side."""
    return ((y - 16) / 219).expand(-1, 3, -1, -1)[..., SCALE:-SCALE, SCALE:-SCALE]


def srcolor_path(pair: Pair) -> tuple[Tensor, Tensor]:
    """Return the bicubic enlargement and the target, rounded to bytes and cropped by `SCALE` pixels."""
    enlarged = images.to_uint8(images.bicubic_up(pair.input, SCALE)).double() / 255
    return tuple(each[..., SCALE:-SCALE, SCALE:-SCALE] for each in (enlarged, pair.target.double()))  # type: ignore[return-value]


def main() -> None:
    """Print one block per set."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("root", help="a folder with Set5/ and BSD100/")
    data = Benchmark(root=parser.parse_args().root, scale=SCALE)
    data.setup()
    bicubic = next(row for row in published.rows(SCALE) if row["network"] == "bicubic")
    sets = data.sets(range(len(data.images)))
    for name in dict.fromkeys(sets):
        measures = {key: metrics.MEASURES[key]() for key in ("psnr_y", "ssim_y")}
        paths = {path: metrics.Values() for path in ("classical", "srcolor")}
        equal = []
        for row in (row for row, other in enumerate(sets) if other == name):
            pair = data.pair(row)
            high = images.to_uint8(pair.target[0]).permute(1, 2, 0).numpy()
            low = images.to_uint8(pair.input[0]).permute(1, 2, 0).numpy()
            equal.append((imresize(high, SCALE) == low).mean())
            paths["classical"].update(metrics.measure(measures, *map(as_rgb, classical(pair.target))))
            paths["srcolor"].update(metrics.measure(measures, *srcolor_path(pair)))
        print(f"{name}: at least {100 * min(equal):.4f}% of the stored low resolution of each of {len(equal)} images")
        print(f"  published  {bicubic[published.ALIASES.get(name, name)]}")
        for path, values in paths.items():
            psnr, ssim = (metrics.mean(column) for column in values.gather().values())
            print(f"  {path:10} {psnr:.3f}/{ssim:.4f}".replace("/0.", "/."))


if __name__ == "__main__":
    main()
