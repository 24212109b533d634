"""The options that choose among the colorings of an image. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from srcolor.color_code import ColorCode

# Mean a*, b* of an image: the average of 10,000 portraits, and one standard deviation toward yellow or blue.
TINTS = {"warm": (12.0, 21.0), "neutral": (10.0, 13.0), "cool": (8.0, 5.0)}
DEFAULT_TEMPERATURE = 0.5  # at 1, samples have the variety of photographs, and some are implausible
MOST = 64  # maximum number of samples


@dataclass(frozen=True)
class Choice:
    """What a user chose.

    Attributes:
        pick: Number of the sample, from 1; if None, the stable coloring.
        temperature: See `UNetCodes.samples`.
        tint: Mean a*, b* of the result; if None, that of the network.
        reference: The code whose mean and covariance the result gets, batch of one; if None, that of the network.
    """

    pick: int | None = None
    temperature: float = DEFAULT_TEMPERATURE
    tint: tuple[float, float] | None = None
    reference: "ColorCode | None" = None


def parse_tint(text: str) -> tuple[float, float]:
    """Return the mean a*, b* of a tint: `warm`, `neutral`, `cool`, or two numbers, `12,21`.

    Raises:
        ValueError: If it is neither.
    """
    if text in TINTS:
        return TINTS[text]
    try:
        a, b = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected {', '.join(TINTS)}, or a mean a* and b* such as 12,21") from None
    if not all(abs(value) <= 100 for value in (a, b)):
        raise ValueError("expected a* and b* from -100 to 100")
    return a, b
