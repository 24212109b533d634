"""The colourization network of the 2020 article's kind."""

from srcolor.nets.size_decoder import ArticleUNet


class UNetRGB(ArticleUNet):
    """Gray to RGB of the same size; nothing ties the luma of the answer to the gray."""

    inputs = 1
    head_widths = (3,)
    scale = 1
