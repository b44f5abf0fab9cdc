"""What a recipe can say: one frozen dataclass per section, with defaults and ranges.

Reading, overriding and refusing unknown keys is done by `config`. A range is checked here; whether
a tower or a file exists is found out by those who open it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from miniclip.errors import ConfigError
from miniclip.prompts import check_templates
from miniclip.train.heads import HeadKind
from miniclip.train.towers.image import Cut
from miniclip.train.towers.text import Pooling


def _require(holds: bool, key: str, value: object, wanted: str) -> None:
    if not holds:
        raise ConfigError(f"{key} is {value!r}; give {wanted}")


@dataclass(frozen=True)
class Data:
    """Captioned images; relative paths are below `root`.

    root: itself relative to the current directory; MINICLIP_DATA takes its place.
    captions, images, format, image_column, caption_column: as in `read_captions`.
    dev_captions, dev_images: None means the same as for training. A split is a list of image names.
    limit: use only the first so many training images; 0 for all.
    """

    captions: str
    images: str | None = None
    train_split: str | None = None
    dev_captions: str | None = None
    dev_images: str | None = None
    dev_split: str | None = None
    root: str = "."
    format: str | None = None
    image_column: str | None = None
    caption_column: str | None = None
    limit: int = 0

    def __post_init__(self) -> None:
        _require(self.limit >= 0, "data.limit", self.limit, "a number of images, or 0 for all")
        if self.dev_split is None and self.dev_captions is None:
            raise ConfigError(
                "data names no dev set, and a run is chosen and stopped by one; "
                "give data.dev_split or data.dev_captions"
            )

    def path(self, name: str) -> Path:
        """Put a path of the recipe below `root`."""
        return Path(self.root).expanduser() / Path(name).expanduser()


@dataclass(frozen=True)
class Head:
    """A projection head; see `heads`.

    dropout: inside the mlp; input_dropout: of the features that come in.
    """

    kind: HeadKind = "residual"
    hidden: int = 1024
    dropout: float = 0.1
    input_dropout: float = 0.0
    norm: bool = False
    bias: bool = True


@dataclass(frozen=True)
class Image:
    """The image tower; see `towers.image`.

    layers: what the head reads, the features of the last layer or also what earlier maps say (see
    `towers.described`), which costs nothing but a wider head.
    standardise: subtract the mean of the training features and divide by their deviation.
    centre: share of the sides whose enlargement the exported model looks at too, such as 0.75, at
    twice the cost; the figures of the run are those of one look. See `towers.centre`.
    """

    tower: str
    side: int | None = None
    trainable: str = "none"
    cut: Cut = "features"
    layers: Literal["last", "all"] = "last"
    standardise: bool = True
    centre: float | None = None
    head: Head = field(default_factory=Head)

    def __post_init__(self) -> None:
        centre = self.centre
        _require(centre is None or 0 < centre < 1, "image.centre", centre, "a share, or leave it")


@dataclass(frozen=True)
class Text:
    """The text tower; see `towers.text`.

    token_dropout: share of the tokens of a training caption that the tower does not see.
    chunk: how many texts of like length are encoded together, so that little of a batch is
    padding; 0 encodes the batch as one.
    """

    tower: str
    pooling: Pooling | None = None
    context_length: int | None = None
    trainable: str = "all"
    embeddings: bool = True
    dropout: bool = True
    token_dropout: float = 0.0
    chunk: int = 64
    head: Head = field(default_factory=Head)

    def __post_init__(self) -> None:
        _require(0 <= self.token_dropout < 1, "text.token_dropout", self.token_dropout, "0 to 1")
        _require(self.chunk >= 0, "text.chunk", self.chunk, "a number of texts, or 0")


@dataclass(frozen=True)
class Views:
    """How many versions of each image are trained on, and how they differ (see `data.augment`).

    count: number of views of a cached tower; of a tower that is trained whole, 1 means plain images
    and more means a new view at every visit. crop: least and largest share of the area.
    """

    count: int = 1
    crop: tuple[float, float] = (0.4, 1.0)
    flip: bool = True
    jitter: float = 0.0

    def __post_init__(self) -> None:
        _require(self.count >= 1, "views.count", self.count, "at least 1")
        low, high = self.crop
        _require(0 < low <= high <= 1, "views.crop", self.crop, "two rising shares of the area")
        _require(0 <= self.jitter < 1, "views.jitter", self.jitter, "0 to below 1; 0.2 is light")


@dataclass(frozen=True)
class Loss:
    """The contrastive loss and the space it works in.

    embedding: D. scale: first factor from cosine to logit. bias: of the sigmoid, first value.
    """

    name: Literal["infonce", "sigmoid"] = "infonce"
    embedding: int = 512
    scale: float = 1 / 0.07
    bias: float = -10.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        smoothing = self.label_smoothing
        _require(0 <= smoothing < 1, "loss.label_smoothing", smoothing, "0 to below 1")
        if self.name == "sigmoid" and smoothing:
            raise ConfigError("loss.label_smoothing belongs to infonce; set it to 0 for sigmoid")


@dataclass(frozen=True)
class Rates:
    """Peak learning rate of each part; 0 leaves a part as it is."""

    image_tower: float = 1e-5
    text_tower: float = 5e-5
    heads: float = 1e-3
    scale: float = 1e-3


@dataclass(frozen=True)
class Training:
    """The loop.

    passes: visits of each image; one shows one caption. batch: images over all processes.
    micro_batch: images a process holds a graph for at once (gradient caching); 0 for all.
    warm_up: share of the steps. floor: share of the peak rate left at the end. clip: largest norm
    of the gradient, 0 for none. average: decay of the weight average, 0 for none.
    checkpoint_every: steps between checkpoints, beside those at evaluations.
    """

    passes: float
    batch: int = 256
    micro_batch: int = 0
    rates: Rates = field(default_factory=Rates)
    weight_decay: float = 0.05
    beta2: float = 0.98
    warm_up: float = 0.1
    floor: float = 0.0
    clip: float = 1.0
    average: float = 0.0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        _require(
            math.isfinite(self.passes) and self.passes > 0, "train.passes", self.passes, "above 0"
        )
        _require(self.batch >= 2, "train.batch", self.batch, "at least 2; a loss needs strangers")
        _require(self.micro_batch >= 0, "train.micro_batch", self.micro_batch, "0 or more")
        _require(0 <= self.warm_up < 1, "train.warm_up", self.warm_up, "a share of the steps")
        _require(0 <= self.floor <= 1, "train.floor", self.floor, "a share of the peak rate")
        _require(self.clip >= 0, "train.clip", self.clip, "a norm, or 0 for none")
        _require(0 <= self.average < 1, "train.average", self.average, "0 to below 1")
        _require(self.checkpoint_every >= 1, "train.checkpoint_every", self.checkpoint_every, "1+")


@dataclass(frozen=True)
class Evaluation:
    """When the dev split is looked at, and when enough is enough.

    every: steps; 0 means once a pass. patience: evaluations without a new best mean of the six
    recalls before the run stops; 0 never stops it.
    """

    every: int = 0
    patience: int = 0

    def __post_init__(self) -> None:
        _require(self.every >= 0, "evaluate.every", self.every, "a number of steps, or 0")
        _require(self.patience >= 0, "evaluate.patience", self.patience, "a count, or 0")


@dataclass(frozen=True)
class ClassNames:
    """Class names as supervision; see `names.class_names`. weight 0 turns it off.

    batch, words: classes and other words of a step, one sentence each. real, composed: features of
    a step, as they are and with a class added; boost: least and largest number of logits that the
    added class gains. synonyms, descriptions: share of the sentences that use another name of the
    class, or describe it; the others put its clearest name into one of the templates.
    """

    weight: float = 0.0
    source: Literal["imagenet"] = "imagenet"
    batch: int = 192
    words: int = 256
    real: int = 256
    composed: int = 384
    boost: tuple[float, float] = (3.0, 13.0)
    templates: tuple[str, ...] = (
        "a photo of a {}.",
        "a photo of the {}.",
        "a picture of a {}.",
        "a close-up photo of a {}.",
        "{}",
    )
    synonyms: float = 0.15
    descriptions: float = 0.15

    def __post_init__(self) -> None:
        check_templates(self.templates)
        _require(self.weight >= 0, "class_names.weight", self.weight, "0 or more")
        _require(self.batch >= 2, "class_names.batch", self.batch, "at least 2")
        _require(self.words >= 0, "class_names.words", self.words, "0 or more")
        _require(self.real >= 0, "class_names.real", self.real, "0 or more")
        _require(self.composed >= 1, "class_names.composed", self.composed, "at least 1")
        low, high = self.boost
        _require(0 <= low <= high, "class_names.boost", self.boost, "two rising logits")
        shares = (self.synonyms, self.descriptions)
        _require(
            min(shares) >= 0 and sum(shares) <= 1,
            "class_names.synonyms and descriptions",
            shares,
            "two shares that add up to 1 at most",
        )


@dataclass(frozen=True)
class Machine:
    """Where it runs. It changes what is learned by rounding and by which random numbers are drawn.

    devices: processes, each with a device; the batch is divided among them. restarts: how often
    several processes may start again from the last checkpoint, together, when one has died.
    workers: processes that load images of a tower trained whole. threads: of the CPU to each
    process, 0 for torch's choice.
    """

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = 1
    restarts: int = 3
    workers: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        _require(self.devices >= 1, "machine.devices", self.devices, "at least 1")
        _require(self.restarts >= 0, "machine.restarts", self.restarts, "0 or more")
        _require(self.workers >= 0, "machine.workers", self.workers, "0 or more")
        _require(self.threads >= 0, "machine.threads", self.threads, "0 or more")


@dataclass(frozen=True)
class Recipe:
    """A whole run: from captions to a trained model."""

    name: str
    data: Data
    image: Image
    text: Text
    train: Training
    loss: Loss = field(default_factory=Loss)
    views: Views = field(default_factory=Views)
    evaluate: Evaluation = field(default_factory=Evaluation)
    class_names: ClassNames = field(default_factory=ClassNames)
    machine: Machine = field(default_factory=Machine)
    seed: int = 0
    licence: str = "unknown"

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", self.seed, "a whole number from 0 up")
        if self.train.batch % self.machine.devices:
            raise ConfigError(
                f"train.batch {self.train.batch} cannot be divided among {self.machine.devices} "
                "devices; give a multiple"
            )
