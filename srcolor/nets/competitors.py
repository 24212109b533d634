"""Ways to make a pixel-loss network look sharper or more colorful without training."""

from srcolor.nets import Net
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.projected import Projected
from srcolor.nets.saturated import Saturated
from srcolor.nets.unsharp import Unsharp


def competitors(net: Net) -> dict[str, Net]:
    """Return trivial competitors of an adversarial network: if it does not beat these, it is not worth its training.

    Args:
        net: The pixel-loss network that the adversarial one started from.

    Returns:
        For a color network, its output with 1.1 and 1.2 times the chroma. For a super-resolution network, unsharp
        masking of its output with strengths 0.5, 1 and 2; if the network is projected onto its input, so are these, and
        projected bicubic interpolation is added.
    """
    if net.inputs == 1 and net.scale == 1:
        return {f"saturated_{percent}": Saturated(net, percent / 100) for percent in (110, 120)}
    sharpened: dict[str, Net] = {f"unsharp_{percent}": Unsharp(net, percent / 100) for percent in (50, 100, 200)}
    if not isinstance(net, Projected):
        return sharpened
    return {name: Projected(one) for name, one in {"bicubic_projected": Bicubic(net.scale), **sharpened}.items()}
