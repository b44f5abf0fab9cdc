"""Views of an image: the same scene cropped, mirrored and recoloured at random. PIL in, PIL out.

It draws from the generator that it is given and remembers nothing. Resizing to the model's square
is done by `preprocess`.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from miniclip.train.recipe import Views

_ASPECT = math.log(4 / 3)  # of a crop against that of the image, both ways


def view_generator(seed: int, view: int, name: str) -> np.random.Generator:
    """Return the generator of a view, the same wherever the image stands in a list."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng((seed, view, int.from_bytes(digest[:8], "little")))


def fixed_view(image: Image.Image, views: Views, *, view: int, seed: int, name: str) -> Image.Image:
    """Return view 0, the image itself; view 1, its mirror image if views.flip; or one at random.

    The same arguments give the same picture, so that what is made of it may be cached.
    """
    if view == 0:
        return image
    if view == 1 and views.flip:
        return ImageOps.mirror(image)
    return random_view(image, views, view_generator(seed, view, name))


def random_view(image: Image.Image, views: Views, rng: np.random.Generator) -> Image.Image:
    """Cut out a random part, mirror it half of the time, and shift its colours.

    The part has a share of the area drawn from views.crop and an aspect ratio of up to 4/3 to
    either side of the image's own (the random resized crop of Szegedy et al. 2015, section 6).
    """
    image = image.crop(_box(image.size, views.crop, rng))
    if rng.random() < 0.5 and views.flip:
        image = ImageOps.mirror(image)
    if views.jitter:
        for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhancer(image).enhance(1 + rng.uniform(-views.jitter, views.jitter))
    return image


def _box(
    size: tuple[int, int], crop: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    width, height = size
    share, stretch = rng.uniform(*crop), math.exp(rng.uniform(-_ASPECT, _ASPECT))
    wide = min(width, max(1, round(width * math.sqrt(share * stretch))))
    high = min(height, max(1, round(height * math.sqrt(share / stretch))))
    left, top = rng.integers(width - wide + 1), rng.integers(height - high + 1)
    return int(left), int(top), int(left) + wide, int(top) + high
