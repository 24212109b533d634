"""Metrics of restored images, as torchmetrics classes that keep the value of every image.

A figure of a set is the mean of its images' values. (torchmetrics' own PSNR pools the squared error
over images by default: 20 dB and 40 dB give 22.97, not 30.)
"""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure


class PerImage(Metric):
    """Mean over images of a value that a subclass works out for each.

    Images whose value is infinite are left out of the mean (an image reproduced exactly has an infinite
    PSNR). `values` gives the value of every image so far, (N,).
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor]
        self.add_state("seen", default=[], dist_reduce_fx="cat")

    def per_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Works out the values, (N,), of images (N, C, H, W) in [0, 1]."""
        raise NotImplementedError

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Adds a batch of images, (N, C, H, W) in [0, 1]."""
        self.seen.append(self.per_image(prediction, target))

    @property
    def values(self) -> Tensor:
        """The value of every image, in the order they came."""
        return torch.cat(self.seen) if isinstance(self.seen, list) else self.seen

    def compute(self) -> Tensor:
        """Mean of the values that are not infinite."""
        values = self.values.double()
        return values[~values.isinf()].mean()


class PSNR(PerImage):
    """Peak signal-to-noise ratio over all pixels and channels of an image, in dB; infinite if exact.

    >>> metric = PSNR()
    >>> metric.update(torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.6))
    >>> round(metric.compute().item(), 4)
    20.0
    """

    higher_is_better = True

    def per_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `PerImage`."""
        return peak_signal_noise_ratio(prediction, target, data_range=1.0, dim=(1, 2, 3), reduction="none")


class SSIM(PerImage):
    """Structural similarity (Wang et al. 2004): 11x11 Gaussian window, sigma 1.5, mean over channels.

    Over the positions where the window lies inside the image, as the literature and scikit-image do;
    torchmetrics' mean takes the padded border in.
    """

    higher_is_better = True

    def per_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `PerImage`; sides of at least 11 pixels."""
        _, similarity = structural_similarity_index_measure(
            prediction, target, sigma=1.5, data_range=1.0, return_full_image=True, reduction="none"
        )
        return similarity[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
