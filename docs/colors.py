"""Draw the colorings of docs/colors.md: `python docs/colors.py`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from srcolor.inference import colorizer, predict
from srcolor.inference.choices import Choice
from srcolor.inference.colorings import Chosen

OUTPUT = Path(__file__).with_name("colors.jpg")
SIDE = 144  # of a picture, in pixels
SAMPLES = 5


def main() -> None:
    """Show photographs in rows: gray, the default coloring, samples, truth."""
    crops = (data.astronaut()[:256, 100:356], data.chelsea()[:, 75:375], data.coffee()[:, 100:500])
    net = predict.load("srcolor/colorize64", "colorize")
    choices = [Choice(), *(replace(Choice(), pick=number + 1) for number in range(SAMPLES))]
    rows = []
    for crop in crops:
        photo = Image.fromarray(crop).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        gray = np.asarray(photo.convert("L").convert("RGB"))
        colored = [colorizer.colorize(Chosen(net, choice), gray) for choice in choices]
        rows.append(np.concatenate([gray, *colored, np.asarray(photo)], 1))
    Image.fromarray(np.concatenate(rows)).save(OUTPUT, quality=92, subsampling=0)


if __name__ == "__main__":
    main()
