"""Routes to large masks: image 64 -> mask 64 -> mask 128, guided by the image at 128, and the alternatives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from srcolor.analysis.studies.base import Key, Recipe, Stage, Study
from srcolor.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from srcolor.images import Pair
    from srcolor.nets import Net


class SegmentationStudy(Study):
    """The input of a route is the large RGB image, the small one, or the small mask of an oracle."""

    title = "Routes to masks"
    network = "segmentation network"
    keys = (
        Key("segment", "segment64", "small", "run of the network trained at the small size", required=True),
        Key("segment_zoom", "segment64_zoom", "small", "run of a network trained at the small size with data.zoom"),
        Key("guided", "segment_guided64to128", "large", "run of a guided network, which enlarges the masks of segment"),
        Key("segment128", "segment128", "large", "run of a network trained at the large size"),
        Key("sr", "sr64to128", "large", "run of a super-resolution network"),
    )
    groups: ClassVar = {
        "small": "Given RGB {small}x{small}",
        "large": "Given RGB {large}x{large}",
        "target": "Given the true mask at {small}x{small}: the ceiling of masks that are enlarged without the image",
    }
    reference: ClassVar = {"small": "up_small", "large": "up", "target": "oracle"}
    questions = (
        ("chain", "up"),
        ("chain", "trained_at_large"),
        ("chain", "direct"),
        ("direct_zoom", "direct"),
        ("up_small", "sr_first"),
    )
    data = "blobs"
    folder_data = "masks"
    metrics = ("dice", "iou", "boundary_f1_1px", "boundary_f1_2px", "hd95", "hd95_infinite")

    def scale(self, nets: Mapping[str, Net], names: Mapping[str, str], size: int) -> int:
        """Return the large size divided by the size that the small network was trained at."""
        from srcolor import runs

        if self.expected("segment", nets["segment"], nets, 1) is not None:
            return 1  # not a segmentation network, which is the error to report
        name = names["segment"]
        side = runs.target_side(name)
        if side is None:
            raise UserError(f"segment={name}: the size it was trained at is unknown. Pass the folder of its run.")
        if size % side or size == side:
            raise UserError(
                f"segment={name} was trained on {side}x{side} images: expected size={size} to be a larger multiple. "
                f"Choose another run or size={2 * side}."
            )
        return size // side

    def expected(self, key: str, net: Net, nets: Mapping[str, Net], scale: int) -> str | None:
        """See `Study`."""
        if key == "sr":
            suits = (net.inputs, net.scale, net.logits) == (3, scale, False)
            return None if suits else f"a super-resolution network that enlarges by {scale}"
        from srcolor.nets.guided_sr import GuidedSR
        from srcolor.nets.up_logits import UpLogits

        classes = nets["segment"].outputs
        of_segment = "" if key == "segment" else f" with the {classes} classes of segment"
        suits = (net.inputs, net.outputs, net.scale, net.logits) == (3, classes, 1, True)
        if key != "guided":
            for other, kind in ((GuidedSR, "a guided"), (UpLogits, "an enlarged")):
                if isinstance(net, other):
                    return f"a segmentation network{of_segment}, not {kind} one"
            return None if suits else f"a segmentation network{of_segment}"
        if not suits or not isinstance(net, GuidedSR):
            return f"a guided network{of_segment}"
        if net.factor != scale:
            return f"a guided network with net.scale={scale}, not {net.factor}"
        if not same_weights(net.net, nets["segment"]):
            return "a guided network trained with the run of segment as net.net.run, not with another run"
        return None

    def recipes(self, scale: int) -> dict[str, Recipe]:
        """See `Study`."""
        from srcolor.nets.bicubic import Bicubic
        from srcolor.nets.chain import Chain
        from srcolor.nets.up_logits import UpLogits

        return {
            "up_small": Recipe("small", ("segment",), lambda net: UpLogits(net, scale)),
            "sr_first": Recipe("small", ("sr", "segment128"), Chain),
            "sr_up": Recipe("small", ("sr", "segment_zoom"), Chain),
            "direct": Recipe("large", ("segment",), lambda net: net),
            "direct_zoom": Recipe("large", ("segment_zoom",), lambda net: net),
            "up": Recipe("large", ("segment",), lambda net: UpLogits(net, scale, shrink=True)),
            "chain": Recipe("large", ("segment", "guided"), lambda net, guided: guided),
            "trained_at_large": Recipe("large", ("segment128",), lambda net: net),
            "oracle": Recipe("target", (), lambda: Bicubic(scale)),
        }

    def baselines(self, nets: Mapping[str, Net], scale: int) -> Mapping[str, Any]:
        """Return masks without a trained network."""
        from srcolor.nets import class_floors

        classes = nets["segment"].outputs
        assert classes is not None  # `expected` requires logits
        return class_floors.floors(classes, scale)

    def inputs(self, pair: Pair, scale: int) -> dict[str, Tensor]:
        """Return the small and the large image, and the area fractions of the true mask at the small size."""
        from srcolor import images

        small, fractions = images.block_mean(pair.input, scale), images.block_mean(pair.target, scale)
        return {"small": small, "large": pair.input, "target": fractions}

    def prediction(self, output: Tensor) -> Tensor:
        """Return the one-hot class of each pixel."""
        from srcolor.metrics.segmentation import one_hot

        return one_hot(output)

    def loss(self) -> nn.Module:
        """See `Study`."""
        from srcolor.losses_segment import CrossEntropyDice

        return CrossEntropyDice()

    def step_pairs(self, pair: Pair, scale: int) -> list[Pair]:
        """Return the batch at the small and at the large size, and for a factor of 2 at twice the large size."""
        from torch.nn.functional import interpolate

        from srcolor.images import Pair

        inputs = self.inputs(pair, scale)
        pairs = [Pair(inputs["small"], inputs["target"], pair.row), pair]
        if scale == 2:
            pairs.append(
                Pair(interpolate(pair.input, scale_factor=2), interpolate(pair.target, scale_factor=2), pair.row)
            )
        return pairs

    def columns(self, pair: Pair, predictions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the image, and over it the true mask, black where it is ignored, and the masks of the routes."""
        from srcolor.training.segmentation_samples import overlay, overlay_truth

        masks = {name: overlay(pair.input, mask) for name, mask in predictions.items()}
        return {"image": pair.input, "truth": overlay_truth(pair.input, pair.target), **masks}

    def stages(self, folder: Path, scale: int, adversarial: bool) -> dict[str, Stage]:
        """See `Study`."""
        small = {} if scale == 2 else {"pair.shrink": scale}
        return {
            "segment64": Stage(small),
            "segment64_zoom": Stage(small),
            "sr64to128": Stage({} if scale == 2 else {"scale": scale}, other_task=True),
            "segment_guided64to128": Stage(
                {**({} if scale == 2 else {"net.scale": scale}), "net.net.run": folder / "segment64"}
            ),
            "segment128": Stage(budgets=2),  # the time of both networks of the chain
        }


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two networks have the same weights, up to float rounding."""
    import torch

    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        value.shape == second[key].shape and torch.allclose(value, second[key], rtol=1e-4, atol=1e-6)
        for key, value in first.items()
    )
