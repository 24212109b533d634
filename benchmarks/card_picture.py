"""Make the picture of a model card: python benchmarks/card_picture.py srcolor/sr_x2 docs/weights/sr_x2.jpg.

A part of scikit-image's astronaut and coffee, one row each. For super-resolution: bicubic interpolation, the network,
the network after JPEG compression of quality 25 and after noise of 12/255 at low resolution, and the original. For
restoration, at scale 1: the gray photograph with grain and JPEG compression, the result, and the original. Prints the
PSNR of the luma, over the whole photograph.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image
from skimage import data
from torch import Tensor

from srcolor import images, runs
from srcolor.data import degrade
from srcolor.metrics.quality import PSNR

PARTS = {"astronaut": (40, 160, 288), "coffee": (60, 160, 288)}  # top, left, side
JPEG_QUALITY = 25.0
NOISE = 12 / 255
GRAIN = (0.5, 0.65, 0.045)  # seed, size and amplitude: the middle of data.degrade=old
OLD_QUALITY = 67.0


def photograph(name: str, multiple: int) -> Tensor:
    """Return a photograph, (1, 3, H, W), cropped to sides that are a multiple of `multiple`."""
    rgb = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None] / 255
    height, width = (side // multiple * multiple for side in rgb.shape[-2:])
    return rgb[..., :height, :width]


def versions(net: torch.nn.Module, scale: int, original: Tensor) -> dict[str, Tensor]:
    """Return the columns of the picture, by name."""
    if scale == 1:
        gray = images.luma(original)
        worn = degrade.jpeg(degrade.grain(gray, torch.tensor([GRAIN])), torch.tensor([[OLD_QUALITY]]))
        return {"worn": worn, "restored": net(worn), "original": gray}
    low = images.to_uint8(images.bicubic_down(original, scale)) / 255
    generator = torch.Generator().manual_seed(0)
    noisy = (low + NOISE * torch.randn(low.shape, generator=generator)).clamp(0, 1)
    return {
        "bicubic": images.bicubic_up(low, scale),
        "network": net(low),
        "after JPEG": net(degrade.jpeg(low, torch.tensor([[JPEG_QUALITY]]))),
        "after noise": net(noisy),
        "original": original,
    }


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("run", help="network: see srcolor.runs.load_net")
    parser.add_argument("output", type=Path, help="image file")
    arguments = parser.parse_args()
    net = runs.load_net(arguments.run)
    rows = []
    for name, (top, left, side) in PARTS.items():
        with torch.inference_mode():
            columns = versions(net, net.scale, photograph(name, net.scale))
        *compared, original = columns
        for column in compared:
            lumas = (images.luma(x) if x.shape[1] == 3 else x for x in (columns[column].clamp(0, 1), columns[original]))
            print(f"{name}  {column}  {PSNR()(*lumas).item():.2f} dB")
        rows.append(torch.cat([x[0, :, top : top + side, left : left + side] for x in columns.values()], 2))
    picture = images.to_uint8(torch.cat(rows, 1).expand(3, -1, -1)).permute(1, 2, 0)
    Image.fromarray(picture.numpy()).save(arguments.output, quality=90)


if __name__ == "__main__":
    main()
