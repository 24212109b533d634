"""A test on the standard sets beside what the literature reports: `published.csv`."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

FILE = Path(__file__).with_name("published.csv")
ALSO = {"B100": "BSD100"}  # the same set, by another name


def rows(scale: int) -> list[dict[str, str]]:
    """The published rows of a scale: `network`, `parameters`, `data`, `pictures`, and `PSNR/SSIM` by set."""
    with open(FILE, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if int(row["scale"]) == scale]


def table(metrics: Mapping[str, Any], name: str, pictures: int | None, scale: int) -> Table:
    """One table, a part a set: the network, its baselines, and the published rows.

    A `*` marks what is like for like: trained on at most twice, and at least half, as many pictures, or on none.

    Args:
        metrics: As in `metrics.json`.
        name: What to call the network.
        pictures: How many it was trained on; None if that is not known.
        scale: Of the network.
    """
    made = Table(title="By the literature's protocol", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("set", "network", "weights", "trained on", "PSNR Y", "SSIM Y", "RGB"):
        made.add_column(
            heading, no_wrap=True, justify="left" if heading in ("set", "network", "trained on") else "right"
        )
    for set_name, own in metrics["sets"].items():
        made.add_section()
        data = "not told" if pictures is None else f"{pictures} pictures"
        trained = (f"{metrics['parameters'] / 1000:.0f}K", data)
        made.add_row(f"{set_name} ({own['images']})", name, *trained, *_figures(own), style="bold")
        for baseline, values in metrics["baselines"].items():
            made.add_row("", f"{baseline}, here", "", "", *_figures(values["sets"][set_name]))
        for row in rows(scale):
            if published := row.get(ALSO.get(set_name, set_name)):
                theirs = int(row["pictures"])
                alike = theirs == 0 or (pictures is not None and pictures / 2 <= theirs <= 2 * pictures)
                psnr, ssim = published.split("/")
                network = f"{row['network']}{' *' if alike else ''}"
                made.add_row("", network, f"{int(row['parameters']) / 1000:.0f}K", row["data"], psnr, f"0{ssim}")
    made.caption = "* published, like for like: trained on half to twice as many pictures, or on none"
    made.caption_justify = "left"
    return made


def _figures(values: Mapping[str, float]) -> tuple[str, str, str]:
    return f"{values['psnr_y']:.2f}", f"{values['ssim_y']:.4f}", f"{values['psnr_rgb']:.2f}"
