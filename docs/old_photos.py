"""Make old_photos.jpg: python docs/old_photos.py <folder of photographs> <folder of results>."""

import sys
from pathlib import Path

from PIL import Image

ROWS = (("09", "05", "10"), ("01", "02", "06"))  # best and worst
HEIGHT, WIDTH = 250, 200  # of a picture


def main() -> None:
    """Lay out each photograph beside its result, reduced to one size."""
    sources, results = map(Path, sys.argv[1:])
    sheet = Image.new("RGB", (6 * WIDTH, len(ROWS) * HEIGHT), "white")
    for row, names in enumerate(ROWS):
        for column, name in enumerate(names):
            files = (sources / f"{name}.jpg", results / f"{name}_restore.jpg")
            for part, file in enumerate(files):
                image = Image.open(file).convert("RGB")
                image.thumbnail((WIDTH - 4, HEIGHT - 4), Image.Resampling.LANCZOS)
                sheet.paste(image, ((2 * column + part) * WIDTH, row * HEIGHT))
    sheet.save(Path(__file__).with_name("old_photos.jpg"), quality=85)


if __name__ == "__main__":
    main()
