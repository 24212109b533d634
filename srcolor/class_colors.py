"""The color of each class of a segmentation, laid over an image. Imports no torch."""

import numpy as np
from numpy.typing import NDArray

# Colors of the classes from 1 on, repeated if there are more; class 0, the background, has none. After Okabe and Ito
# 2008, with a brighter green first, which shows on skin and stained tissue.
COLORS = ((0, 204, 89), (230, 159, 0), (86, 180, 233), (240, 228, 66), (204, 121, 167), (0, 114, 178), (213, 94, 0))
OPACITY = 0.5


def table(classes: int) -> NDArray[np.uint8]:
    """Return the color of each class, (classes, 3); that of class 0 is black, and is not to be shown.

    >>> table(2).tolist()
    [[0, 0, 0], [0, 204, 89]]
    """
    colors = np.zeros((classes, 3), np.uint8)
    colors[1:] = np.resize(np.array(COLORS, np.uint8), (classes - 1, 3))
    return colors
