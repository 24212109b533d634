"""Draw the images of docs/sharp.md and of the model card: `python docs/sharp.py [run]`."""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from srcolor import images, runs
from srcolor.nets.bicubic import Bicubic

HERE = Path(__file__).parent
FACE = (20, 130, 192)  # top, left and side of the astronaut's face, in pixels
DETAILS = ((44, 40), (20, 4))  # top and left of two details of 40x40, in pixels of 128x128


def main() -> None:
    """Enlarge a face from 64x64 to 128x128 at five positions of the dial."""
    run = sys.argv[1] if len(sys.argv) > 1 else "srcolor/sr64to128_gan"
    top, left, side = FACE
    face = Image.fromarray(data.astronaut()[top : top + side, left : left + side])
    large = np.asarray(face.resize((128, 128), Image.Resampling.BOX))
    target = torch.from_numpy(large.copy()).permute(2, 0, 1)[None].float() / 255
    small = images.block_mean(target, 2)
    with torch.inference_mode():
        outputs = [
            Bicubic(2)(small),
            *(runs.load_net(run, sharpness)(small) for sharpness in (0, 0.5, 1)),
            target,
        ]
    columns = [output[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy() for output in outputs]
    whole = np.concatenate(columns, axis=1)
    rows = [np.asarray(Image.fromarray(whole))]
    for down, right in DETAILS:
        details = [Image.fromarray(image[down : down + 43, right : right + 43]) for image in columns]
        rows.append(np.concatenate([np.asarray(d.resize((128, 128), Image.Resampling.NEAREST)) for d in details], 1))
    Image.fromarray(np.concatenate(rows)).save(HERE / "sharp.jpg", quality=92, subsampling=0)


if __name__ == "__main__":
    main()
