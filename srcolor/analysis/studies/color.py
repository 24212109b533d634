"""Routes from gray to large color images: gray 64 -> color 64 -> color 128, and the alternatives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from srcolor.analysis.studies.base import Key, Recipe, Stage, Study

if TYPE_CHECKING:
    from torch import Tensor, nn

    from srcolor.images import Pair
    from srcolor.nets import Net


class ColorStudy(Study):
    """The input of a route is the small gray image or the large one, which has more detail."""

    title = "Routes to color"
    network = "color network"
    keys = (
        Key("colorize", "colorize64", "small", "run of the color network trained at the small size", required=True),
        Key("sr", "sr64to128", "large", "run of the super-resolution network", required=True),
        Key("colorize128", "colorize128", "large", "run of a color network trained at the large size"),
        Key("chain", "chain64to128", "large", "run of a chain trained end to end"),
        Key("colorize_gan", "colorize64_gan", "small", "run of an adversarial color network trained at the small size"),
        Key("sr_gan", "sr64to128_gan", "large", "run of an adversarial super-resolution network"),
    )
    groups: ClassVar = {"small": "Given gray {small}x{small}", "large": "Given gray {large}x{large}"}
    reference: ClassVar = {"small": "chain", "large": "direct"}
    questions = (
        ("chain", "direct"),
        ("keep_luma", "chain"),
        ("keep_luma", "trained_at_128"),
        ("keep_luma_gan", "keep_luma"),
    )
    small_floor = "bicubic_{}"
    squares = ("ab_rmse", "tint", "patches", "detail")  # the last three squares add up to the first
    data = "photos"
    folder_data = "folder"
    adversarial = True

    @property
    def metrics(self) -> tuple[str, ...]:
        """See `Study`."""
        from srcolor.metrics import MEASURES, SetMeasure
        from srcolor.tasks.colorization import ColorizationTask

        return (
            *(
                name
                for name in ColorizationTask.default_measures
                if name not in ("colorfulness", "lpips") and not issubclass(MEASURES[name], SetMeasure)
            ),
            "texture",
        )

    def scale(self, nets: Mapping[str, Net], names: Mapping[str, str], size: int) -> int:
        """Return the scale of the super-resolution network."""
        return nets["sr"].scale

    def expected(self, key: str, net: Net, nets: Mapping[str, Net], scale: int) -> str | None:
        """See `Study`."""
        kind, inputs, factor = {
            "sr": ("a super-resolution network", 3, scale),
            "sr_gan": (f"a super-resolution network that enlarges by {scale}, as sr does", 3, scale),
            "chain": (f"a chain from gray that enlarges by {scale}, as sr does", 1, scale),
        }.get(key, ("a color network", 1, 1))
        suits = (net.inputs, net.scale) == (inputs, factor) and (key != "sr" or scale > 1)
        return None if suits else kind

    def recipes(self, scale: int) -> dict[str, Recipe]:
        """See `Study`."""
        from srcolor.nets.bicubic import Bicubic
        from srcolor.nets.chain import Chain
        from srcolor.nets.keep_luma import KeepLuma
        from srcolor.nets.luma_sr import LumaSR

        return {
            "bicubic_color": Recipe("small", ("colorize",), lambda color: Chain(color, Bicubic(scale))),
            "chain": Recipe("small", ("colorize", "sr"), Chain),
            "chain_gan": Recipe("small", ("colorize", "sr_gan"), Chain),
            "chain_luma": Recipe("small", ("colorize", "sr"), lambda color, sr: Chain(color, LumaSR(sr))),
            "chain_tuned": Recipe("small", ("colorize", "sr", "chain"), lambda color, sr, chain: chain),
            "direct": Recipe("large", ("colorize",), lambda color: color),
            "keep_luma": Recipe("large", ("colorize",), lambda color: KeepLuma(color, scale)),
            "keep_luma_gan": Recipe("large", ("colorize_gan",), lambda color: KeepLuma(color, scale)),
            "trained_at_128": Recipe("large", ("colorize128",), lambda color: color),
        }

    def baselines(self, nets: Mapping[str, Net], scale: int) -> Mapping[str, Any]:
        """Return color without a network."""
        from srcolor.nets import chroma_table

        return chroma_table.floors(scale)

    def inputs(self, pair: Pair, scale: int) -> dict[str, Tensor]:
        """See `Study`."""
        from srcolor import images

        return {"small": images.luma(images.block_mean(pair.target, scale)), "large": pair.input}

    def prediction(self, output: Tensor) -> Tensor:
        """Return colors in [0, 1]."""
        return output.clamp(0, 1)

    def loss(self) -> nn.Module:
        """See `Study`."""
        from srcolor.losses import HuberAB

        return HuberAB()

    def step_pairs(self, pair: Pair, scale: int) -> list[Pair]:
        """Return the batch at the small and at the large size."""
        from srcolor import images

        small = images.block_mean(pair.target, scale)
        return [images.Pair(images.luma(small), small, pair.row), pair]

    def columns(self, pair: Pair, predictions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return gray, the routes, and truth."""
        return {"gray": pair.input, **predictions, "truth": pair.target}

    def stages(self, folder: Path, scale: int, adversarial: bool) -> dict[str, Stage]:
        """See `Study`; an adversarial network is trained five times as long as the others."""
        small, large = ({}, {}) if scale == 2 else ({"pair.shrink": scale}, {"scale": scale})
        parts = {"net.first.run": folder / "colorize64", "net.second.run": folder / "sr64to128"}
        stages = {
            "colorize64": Stage(small),
            "sr64to128": Stage(large, other_task=True),
            "colorize128": Stage(budgets=2),  # the time of both networks of the chain
            "chain64to128": Stage({**large, **parts}),
        }
        if adversarial:
            from srcolor.metrics import available  # imports torch

            monitor = {} if available(["lpips"]) else {"monitor": "val/patches"}
            start = {"init_from": folder / "sr64to128"}
            stages["sr64to128_gan"] = Stage({**large, **start}, budgets=5, other_task=True)
            stages["colorize64_gan"] = Stage({**small, "init_from": folder / "colorize64", **monitor}, budgets=5)
        return stages
