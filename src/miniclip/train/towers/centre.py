"""A second look at a picture: its centre, enlarged to the side of the whole and mirrored.

Photographers put what matters into the middle, and a small network sees it better when it is large;
mirrored, it errs in other places. The mean of both looks' features is more than either: this is
multi-crop evaluation (Krizhevsky et al. 2012, section 4.1) with two crops, and costs the image
tower twice.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- the field's name for it


def enlarged_centre(pixels: Tensor, share: float) -> Tensor:
    """Cut the middle `share` of both sides, enlarge and mirror it; (B, 3, S, S) to the same."""
    side = pixels.shape[-1]
    kept = round(side * share)
    start = (side - kept) // 2
    middle = pixels[:, :, start : start + kept, start : start + kept]
    large = F.interpolate(middle, size=(side, side), mode="bicubic", align_corners=False)
    return large.flip(-1)
