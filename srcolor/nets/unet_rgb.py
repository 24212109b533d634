"""The colorization network in the style of the 2020 article."""

from srcolor.nets.size_decoder import ArticleUNet


class UNetRGB(ArticleUNet):
    """Gray to RGB of the same size; the luma of the output is not tied to the input."""

    inputs = 1
    head_widths = (3,)
    scale = 1
