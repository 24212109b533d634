"""Color codes beside baselines that need no training: python benchmarks/colors.py <codes run> [<run> ...] data=...

Prints two Markdown tables for the test images of the data. Floors, neighbors and the factors of scaled networks come
from the training data of the first run, or, for a bundled network, from the data named on the command line. A network
of a single coloring is also shown with the codes of training images (its a*, b* mapped to their mean and covariance),
and scaled: its chroma times the factor that makes it as colorful as the stable coloring on the validation images.
LPIPS needs the weights of its backbone, see docs/metrics.md.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import torch
from hydra.utils import instantiate
from torch import Tensor

from srcolor import hardware, images, runs
from srcolor.analysis import tables
from srcolor.cli.compose import datamodule
from srcolor.color_code import ColorCode, color_code, recolor
from srcolor.data.datamodule import ImageDataModule
from srcolor.images import Pair, rgb_to_ab
from srcolor.metrics import MEASURES, Measure, Values, available, measure
from srcolor.metrics.color import colorfulness
from srcolor.nets import Net, chroma_table
from srcolor.nets.saturated import Saturated
from srcolor.nets.unet_codes import UNetCodes
from srcolor.tasks.base import FITTED_ON

SAMPLES = 8  # colorings per image where there are several
GRAY_SIDE = 16  # side of the gray image that neighbors are found by
FIRST = ("ab_rmse", "ciede2000", "colorfulness_ratio", "palette", "lpips")
SECOND = ("tint", "patches", "detail")


class Plain(Net):
    """The prediction of a network of color codes without a code: a network of a single coloring."""

    inputs, outputs, scale = 1, 3, 1

    def __init__(self, net: UNetCodes) -> None:
        super().__init__()
        self.net, self.stride, self.receptive_field = net, net.stride, net.receptive_field

    def forward(self, gray: Tensor) -> Tensor:
        """Map (N, 1, H, W) to (N, 3, H, W)."""
        return images.from_ab(gray, self.net.decode(gray, *self.net.encode(gray)))


class Faces(NamedTuple):
    """Training images: reduced gray (M, 256), predicted mean color (M, 2), codes of M images, and their a*, b*."""

    gray: Tensor
    tint: Tensor
    codes: ColorCode
    ab: Tensor


def reduced(gray: Tensor) -> Tensor:
    """Return the gray image at 16x16, (N, 256), in units of L* roughly."""
    return 100 * torch.nn.functional.adaptive_avg_pool2d(gray, GRAY_SIDE).flatten(1)


def faces(net: Net, pairs: Iterator[Pair]) -> Faces:
    """Collect training images for `neighbors` and `strangers`."""
    parts = []
    for pair in pairs:
        target = rgb_to_ab(pair.target)
        parts.append((reduced(pair.input), rgb_to_ab(net(pair.input)).mean((2, 3)), *color_code(target), target.half()))
    gray, tint, mean, covariance, colors = (torch.cat(part) for part in zip(*parts, strict=True))
    return Faces(gray, tint, ColorCode(mean, covariance), colors)


def nearest(net: Net, pair: Pair, known: Faces) -> Tensor:
    """Return the 8 nearest training images of each image, (N, 8): by gray and predicted mean color."""
    gray = torch.cdist(reduced(pair.input), known.gray) / known.gray.std(0).norm()
    tint = torch.cdist(rgb_to_ab(net(pair.input)).mean((2, 3)), known.tint) / known.tint.std(0).norm()
    return (gray.square() + tint.square()).topk(SAMPLES, largest=False).indices


def with_codes(net: Net, pair: Pair, known: Faces, rows: Tensor) -> Tensor:
    """Return a network's answer with the codes of training images, (N, S, 3, H, W)."""
    plain = rgb_to_ab(net(pair.input))
    codes = [ColorCode(known.codes.mean[row], known.codes.covariance[row]) for row in rows.unbind(1)]
    return torch.stack([images.from_ab(pair.input, recolor(plain, code)) for code in codes], 1)


def scaled(net: Net, wanted: float, data: ImageDataModule) -> tuple[Net, float]:
    """Return a network whose chroma is scaled to a mean colorfulness ratio on the validation images, and the factor."""
    low, high = 0.5, 3.0
    for _ in range(8):
        factor = (low + high) / 2
        low, high = (factor, high) if ratio(Saturated(net, factor), data) < wanted else (low, factor)
    return Saturated(net, factor), factor


def ratio(net: Net, data: ImageDataModule) -> float:
    """Return the mean colorfulness ratio on up to 400 validation images."""
    parts = [colorfulness(net(p.input).clamp(0, 1)) / colorfulness(p.target) for p in data.pairs("val", 400)]
    return torch.cat(parts).mean().item()


class Table:
    """The rows of the table, by name.

    Args:
        measures: The measures.
    """

    def __init__(self, measures: dict[str, Measure]) -> None:
        self.measures = measures
        self.rows: dict[str, Values] = {}

    def add(self, name: str, prediction: Tensor, target: Tensor) -> None:
        """Evaluate predictions, (N, 3, H, W); of several, (N, S, 3, H, W), the first and the best."""
        several = prediction.ndim == 5
        colorings = prediction.clamp(0, 1) if several else prediction.clamp(0, 1)[:, None]
        columns = measure(self.measures, colorings[:, 0], target)
        if several:
            labs = torch.stack([images.rgb_to_lab(one) for one in colorings.unbind(1)], 1)
            errors = (labs[:, :, 1:] - rgb_to_ab(target)[:, None]).square().mean((2, 3, 4)).sqrt()
            columns |= {"best": errors.amin(1), "spread": MEASURES["spread"]()(labs, labs)}
        self.rows.setdefault(name, Values()).update(columns)

    def show(self) -> None:
        """Print the two tables."""
        values = {name: row.gather() for name, row in self.rows.items()}
        error, *others = [key for key in FIRST if key in self.measures]
        for keys in ([error, "best", "spread", *others], list(SECOND)):
            headings = [f"best of {SAMPLES}" if key == "best" else tables.column(key).heading for key in keys]
            lines = [[name, *(self._cell(row, key) for key in keys)] for name, row in values.items()]
            print(tables.markdown([["", *headings], *lines]))

    def _cell(self, row: dict[str, Tensor], key: str) -> str:
        measured = MEASURES["ab_rmse" if key == "best" else key]
        return tables.number(measured.summarize(row[key]).item() if key in row else None, measured.digits)


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("args", nargs="+", help="networks, that of the codes first; and overrides for train.py")
    args = parser.parse_args().args
    hardware.setup()
    names = [arg for arg in args if "=" not in arg]
    overrides = [arg for arg in args if "=" in arg]
    if not names:
        parser.error("expected a run")
    net, *others = (cast(Net, runs.load_net(name).eval()) for name in names)
    if not isinstance(net, UNetCodes):
        parser.error(f"{names[0]} takes no color codes")
    test = datamodule(["experiment=colorize64", *overrides])
    folder = runs.folder(names[0])
    training = test
    if folder is not None:
        training = instantiate(runs.configuration(folder).data)
        training.setup()
    floors = chroma_table.floors()
    for floor in floors.values():
        floor.fit(training.pairs("train", FITTED_ON))
    regressors = {"without a code": cast(Net, Plain(net)), **dict(zip(names[1:], others, strict=True))}
    wanted = ratio(net, training)
    answers: dict[str, Callable[[Pair], Tensor]] = {
        name: lambda pair, floor=floor: floor(pair.input) for name, floor in floors.items()
    }
    generator = torch.Generator().manual_seed(0)
    for name, regressor in regressors.items():
        stretched, factor = scaled(regressor, wanted, training)
        bank = faces(regressor, training.pairs("train"))
        if name == "without a code":
            answers["another face's colors"] = lambda pair, colors=bank.ab: _strangers(pair, colors, generator)
        answers |= {
            name: lambda pair, one=regressor: one(pair.input),
            f"{name} x {factor:.2f}": lambda pair, one=stretched: one(pair.input),
            f"{name}, codes of neighbors": lambda pair, one=regressor, bank=bank: with_codes(
                one, pair, bank, nearest(one, pair, bank)
            ),
        }
    answers |= {
        "stable": lambda pair: net(pair.input),
        "samples": lambda pair: net.samples(pair.input, SAMPLES, 1.0, pair.row.tolist()),
        "true code": lambda pair: net.colorize(pair.input, color_code(rgb_to_ab(pair.target))),
    }
    table = Table(cast(dict[str, Measure], {name: MEASURES[name]() for name in available((*FIRST, *SECOND))}))
    for pair in test.pairs("test"):
        for name, answer in answers.items():
            table.add(name, answer(pair), pair.target)
    print(f"{len(test.digests('test'))} test images\n")
    table.show()


def _strangers(pair: Pair, colors: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image with the a*, b* of 8 random training images, pixel by pixel."""
    rows = torch.randint(len(colors), (SAMPLES, len(pair.input)), generator=generator)
    return torch.stack([images.from_ab(pair.input, colors[row].float()) for row in rows], 1)


if __name__ == "__main__":
    main()
