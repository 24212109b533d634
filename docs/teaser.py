"""Draw the image at the top of the README: `python docs/teaser.py`."""

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from srcolor.inference import colorizer, predict, tiles

OUTPUT = Path(__file__).with_name("teaser.jpg")
SIDE = 192  # of the gray photograph, in pixels
EYE = (138, 126, 48)  # left, top and side of the detail, in pixels of the enlarged photograph


def main() -> None:
    """Color a gray photograph, enlarge it, and show a detail next to bicubic interpolation."""
    photo = Image.fromarray(data.astronaut()[:256, 100:356]).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    gray = np.asarray(photo.convert("L").convert("RGB"))
    color = colorizer.colorize(predict.load("srcolor/colorize64", "colorize"), gray, render_size=96)
    large = tiles.enlarge(predict.load("srcolor/sr_x2", "upscale"), color)
    bicubic = Image.fromarray(color).resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC)

    left, top, side = EYE
    details = [
        np.asarray(image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.NEAREST))
        for image in (bicubic, Image.fromarray(large))
    ]
    columns = np.concatenate([gray, color]), large, np.concatenate(details)
    Image.fromarray(np.concatenate(columns, axis=1)).save(OUTPUT, quality=92, subsampling=0)


if __name__ == "__main__":
    main()
