"""A picture of any shape as a fixed number of patches, the way of SigLIP 2's "NaFlex" models.

The picture is scaled, its shape kept, until its patches are as many as the model takes; they are
laid row by row into a square canvas, whatever their place in the picture was, and one more row of
patches says how many rows and columns there are (Tschannen et al. 2025, arXiv 2502.14786, section
2.4.2). Resize rules for square models are in `preprocess`.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray

_TOLERANCE = 1e-5
_LARGEST_SCALE = 100.0


def patch_grid(width: int, height: int, *, patch: int, most: int) -> tuple[int, int]:
    """Return the rows and columns of patches of a picture: at most `most`, at least one each way.

    The largest scale is found by halving, from 1e-6 to 100 and to within 1e-5, since the vectors
    depend on the very grid that the original finds so (big_vision, `get_image_size_for_seq`).
    """

    def grid(scale: float) -> tuple[int, int]:
        rows, columns = (max(1, math.ceil(n * scale / patch)) for n in (height, width))
        return rows, columns

    low, high = _TOLERANCE / 10, _LARGEST_SCALE
    while high - low >= _TOLERANCE:
        scale = (low + high) / 2
        if math.prod(grid(scale)) <= most:
            low = scale
        else:
            high = scale
    return grid(low)


def in_patches(
    image: Image.Image,
    *,
    side: int,
    patch: int,
    kernel: Image.Resampling,
    factor: FloatArray,
    offset: FloatArray,
) -> FloatArray:
    """Scale a picture, normalise it, and lay its patches into a canvas.

    factor, offset: (3, 1, 1), so that normalising is factor * pixel + offset. Returns
    (3, side + patch, side) float32: patch k of the picture, row by row, stands in row k // n and
    column k % n of the canvas, n = side / patch, and the rest is 0; the first two values of the
    last row of patches are the picture's own rows and columns.
    """
    across = side // patch
    rows, columns = patch_grid(*image.size, patch=patch, most=across * across)
    resized = np.asarray(image.resize((columns * patch, rows * patch), kernel))
    pixels = resized.transpose(2, 0, 1) * factor + offset
    patches = pixels.reshape(3, rows, patch, columns, patch).swapaxes(2, 3)
    cells = np.zeros((3, across * across, patch, patch), dtype=np.float32)
    cells[:, : rows * columns] = patches.reshape(3, -1, patch, patch)
    out = np.zeros((3, side + patch, side), dtype=np.float32)
    canvas = cells.reshape(3, across, across, patch, patch).swapaxes(2, 3)
    out[:, :side] = canvas.reshape(3, side, side)
    out[0, side, :2] = rows, columns
    return out
