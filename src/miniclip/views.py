"""Views: the parts of a picture that a model is shown, each of which gives features of its own.

A view cuts and mirrors a decoded picture before `preprocess`; how features of several views are
used together is the business of `probe/`.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageOps

from miniclip.errors import ConfigError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class View:
    """One way to look at a picture.

    name: the key under which features are cached; two views of one name must be the same.
    box: left, top, right and bottom of the part that is seen, as shares of width and height.
    mirrored: left and right are swapped, after the cut.
    """

    name: str
    box: Box = (0.0, 0.0, 1.0, 1.0)
    mirrored: bool = False

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ConfigError(
                f"view {self.name!r} has the box {self.box}; give left < right and top < bottom, "
                "each from 0 to 1"
            )

    def apply(self, image: Image.Image) -> Image.Image:
        """Return the part of the picture that is seen, at least one pixel of it."""
        left, top, right, bottom = self.box
        if self.box != (0, 0, 1, 1):
            x, y = int(left * image.width), int(top * image.height)
            image = image.crop(
                (
                    x,
                    y,
                    max(x + 1, round(right * image.width)),
                    max(y + 1, round(bottom * image.height)),
                )
            )
        return ImageOps.mirror(image) if self.mirrored else image

    @property
    def zoom(self) -> float:
        """How much larger the picture has to be decoded for this view to be as sharp, >= 1."""
        left, top, right, bottom = self.box
        return 1 / min(right - left, bottom - top)


PLAIN = View("plain")


def _grid(name: str, share: float, *, centre: bool = False) -> tuple[View, ...]:
    """Cut a part of `share` of each side out of the four corners, and perhaps the middle."""
    low, middle, high = 0.0, (1 - share) / 2, 1 - share
    corners = [(low, low), (high, low), (low, high), (high, high)]
    return tuple(
        View(f"{name}{number}", (x, y, min(1.0, x + share), min(1.0, y + share)))
        for number, (x, y) in enumerate(corners + [(middle, middle)] * centre, start=1)
    )


_SETS: dict[str, tuple[View, ...]] = {
    "plain": (),
    "flip": (View("flip", mirrored=True),),
    "crops": _grid("crop", 0.75, centre=True),
    "tiles": _grid("tile", 0.6),  # what a model of 5/3 of the input size would see
}


def named_views(text: str) -> tuple[View, ...]:
    """Return the views of a list such as "plain,flip"; the plain one always comes first.

    plain: the picture as it is. flip: mirrored. crops: four corners and the middle, 3/4 of each
    side. tiles: 2 x 2 overlapping tiles, 3/5 of each side. ConfigError for another name.
    """
    views = [PLAIN]
    for name in filter(None, (part.strip().lower() for part in text.split(","))):
        if name not in _SETS:
            raise ConfigError(f"no views are called {name!r}; choose from {', '.join(_SETS)}")
        views += [view for view in _SETS[name] if view not in views]
    return tuple(views)
