"""Test results on the standard sets, compared with the published ones in `published.csv`."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

FILE = Path(__file__).with_name("published.csv")
ALIASES = {"B100": "BSD100"}  # names of one set


def rows(scale: int) -> list[dict[str, str]]:
    """Return the published rows of a scale: `network`, `parameters`, `data`, `pictures`, and `PSNR/SSIM` by set."""
    with open(FILE, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if int(row["scale"]) == scale]


def table(metrics: Mapping[str, Any], name: str, pictures: int | None, scale: int) -> Table:
    """Return one table with a section per set: the network, its baselines, and the published rows.

    A `*` marks comparable training sets: between half and twice as many training images, or none.

    Args:
        metrics: Content of `metrics.json`.
        name: Name of the network.
        pictures: Number of its training images; None if unknown.
        scale: Scale of the network.
    """
    result = Table(title="Standard benchmark protocol", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("set", "network", "parameters", "trained on", "PSNR Y", "SSIM Y", "RGB"):
        result.add_column(
            heading, no_wrap=True, justify="left" if heading in ("set", "network", "trained on") else "right"
        )
    for set_name, values in metrics["sets"].items():
        result.add_section()
        data = "unknown" if pictures is None else f"{pictures} images"
        trained = (f"{metrics['parameters'] / 1000:.0f}K", data)
        result.add_row(f"{set_name} ({values['images']})", name, *trained, *_formatted(values), style="bold")
        for baseline, results in metrics["baselines"].items():
            result.add_row("", f"{baseline}, here", "", "", *_formatted(results["sets"][set_name]))
        for row in rows(scale):
            if published := row.get(ALIASES.get(set_name, set_name)):
                count = int(row["pictures"])
                comparable = count == 0 or (pictures is not None and pictures / 2 <= count <= 2 * pictures)
                psnr, ssim = published.split("/")
                network = f"{row['network']}{' *' if comparable else ''}"
                result.add_row("", network, f"{int(row['parameters']) / 1000:.0f}K", row["data"], psnr, f"0{ssim}")
    result.caption = "* published, with between half and twice as many training images, or none"
    result.caption_justify = "left"
    return result


def _formatted(values: Mapping[str, float]) -> tuple[str, str, str]:
    return f"{values['psnr_y']:.2f}", f"{values['ssim_y']:.4f}", f"{values['psnr_rgb']:.2f}"
