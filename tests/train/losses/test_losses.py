"""The losses against double loops written from the papers, in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from miniclip.errors import TrainingError
from miniclip.train.losses import (
    MAX_LOGIT_SCALE,
    bounded_scale,
    infonce,
    positive_pairs,
    sigmoid,
)
from tests.train.losses.pair_loss import NAMES, PairLoss

# Three images; the first has three captions, the second one, the third two.
IMAGE_OF_TEXT = torch.tensor([0, 2, 0, 1, 0, 2])
LOG_SCALE = torch.tensor(math.log(7.0), dtype=torch.float64)
BIAS = torch.tensor(-2.5, dtype=torch.float64)


def unit(rows: int, seed: int, dims: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dims, dtype=torch.float64, generator=generator), dim=1)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    return unit(3, 1), unit(6, 2), positive_pairs(torch.arange(3), IMAGE_OF_TEXT)


def naive_infonce(image: Tensor, text: Tensor, positives: Tensor, smoothing: float = 0) -> float:
    """SINCERE both ways, one anchor and one positive at a time."""
    scores = [[7.0 * float(i @ t) for t in text] for i in image]
    directions = [
        (scores, positives.tolist()),
        ([list(column) for column in zip(*scores, strict=True)], positives.T.tolist()),
    ]
    total = 0.0
    for rows, marks in directions:
        anchors = []
        for row, mark in zip(rows, marks, strict=True):
            negatives = [s for s, positive in zip(row, mark, strict=True) if not positive]
            terms = []
            for score, positive in zip(row, mark, strict=True):
                if not positive:
                    continue
                candidates = [score, *negatives]
                normaliser = math.log(sum(math.exp(s) for s in candidates))
                logs = [s - normaliser for s in candidates]
                terms.append(-(1 - smoothing) * logs[0] - smoothing * sum(logs) / len(logs))
            if terms:
                anchors.append(sum(terms) / len(terms))
        total += sum(anchors) / len(anchors)
    return total / 2


def naive_sigmoid(image: Tensor, text: Tensor, positives: Tensor) -> float:
    """SigLIP's equation 1, pair by pair."""
    total = 0.0
    for i, row in enumerate(image):
        for j, column in enumerate(text):
            z = 1 if positives[i, j] else -1
            total += math.log(1 / (1 + math.exp(-z * (7.0 * float(row @ column) - 2.5))))
    return -total / len(text)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_infonce_is_the_double_loop_of_the_paper(smoothing: float) -> None:
    image, text, positives = batch()
    ours = infonce(image, text, positives, LOG_SCALE, label_smoothing=smoothing)
    assert float(ours) == pytest.approx(naive_infonce(image, text, positives, smoothing), abs=1e-12)


def test_sigmoid_is_the_double_loop_of_the_paper() -> None:
    image, text, positives = batch()
    ours = sigmoid(image, text, positives, LOG_SCALE, BIAS)
    assert float(ours) == pytest.approx(naive_sigmoid(image, text, positives), abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_caption_per_image_is_the_loss_of_clip(smoothing: float) -> None:
    image, text = unit(4, 3), unit(4, 4)
    logits, target = 7.0 * image @ text.T, torch.arange(4)
    clip = 0.5 * (
        F.cross_entropy(logits, target, label_smoothing=smoothing)
        + F.cross_entropy(logits.T, target, label_smoothing=smoothing)
    )
    eye = torch.eye(4, dtype=torch.bool)
    ours = infonce(image, text, eye, LOG_SCALE, label_smoothing=smoothing)
    torch.testing.assert_close(ours, clip, rtol=0, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradients_of_infonce_are_those_of_finite_differences(smoothing: float) -> None:
    image, text, positives = batch()
    inputs = tuple(x.clone().requires_grad_() for x in (image, text, LOG_SCALE))
    assert torch.autograd.gradcheck(
        lambda i, t, s: infonce(i, t, positives, s, label_smoothing=smoothing), inputs
    )


def test_gradients_of_sigmoid_are_those_of_finite_differences() -> None:
    image, text, positives = batch()
    inputs = tuple(x.clone().requires_grad_() for x in (image, text, LOG_SCALE, BIAS))
    assert torch.autograd.gradcheck(lambda i, t, s, b: sigmoid(i, t, positives, s, b), inputs)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_images_and_texts_does_not_matter(name: str) -> None:
    image, text, positives = batch()
    rows, columns = torch.tensor([2, 0, 1]), torch.tensor([5, 3, 0, 1, 4, 2])
    shuffled = image[rows], text[columns], positives[rows][:, columns]

    def loss(image: Tensor, text: Tensor, positives: Tensor) -> Tensor:
        if name == "infonce":
            return infonce(image, text, positives, LOG_SCALE, label_smoothing=0.1)
        return sigmoid(image, text, positives, LOG_SCALE, BIAS)

    torch.testing.assert_close(loss(image, text, positives), loss(*shuffled), rtol=0, atol=1e-12)


def push_on_cosines(name: str, image: Tensor, text: Tensor, positives: Tensor) -> Tensor:
    """Return d loss / d cosine of every pair; a positive number pushes the pair apart."""
    cosines = (image @ text.T).requires_grad_()
    eye = torch.eye(len(text), dtype=torch.float64)
    # Rows (cosines) times unit vectors give back the same cosines, now as a leaf.
    if name == "infonce":
        infonce(cosines, eye, positives, LOG_SCALE).backward()  # type: ignore[no-untyped-call]
    else:
        sigmoid(cosines, eye, positives, LOG_SCALE, BIAS).backward()  # type: ignore[no-untyped-call]
    assert cosines.grad is not None
    return cosines.grad


@pytest.mark.parametrize("name", NAMES)
def test_every_caption_of_an_image_is_pulled_and_every_other_pushed(name: str) -> None:
    image, text, positives = batch()
    push = push_on_cosines(name, image, text, positives)
    assert (push[positives] < 0).all()
    assert (push[~positives] > 0).all()


def test_a_caption_that_fits_perfectly_is_not_pushed_by_its_poorer_sister() -> None:
    """SupCon would push caption 0 here: its share of the probability is above one half."""
    image = torch.eye(2, dtype=torch.float64)
    text = F.normalize(torch.tensor([[1.0, 0], [0.3, 0.7], [0, 1]], dtype=torch.float64), dim=1)
    positives = positive_pairs(torch.arange(2), torch.tensor([0, 0, 1]))
    push = push_on_cosines("infonce", image, text, positives)
    assert push[0, 0] < 0

    supcon = (image @ text.T).requires_grad_()
    (-(7 * supcon[0]).log_softmax(0)[:2].mean()).backward()  # type: ignore[no-untyped-call]
    assert supcon.grad is not None
    assert supcon.grad[0, 0] > 0


def test_equal_wording_makes_a_pair_positive_and_nothing_else() -> None:
    """Images 7 and 9 both are "a dog runs" (3); image 7 also is "a brown dog" (4)."""
    mask = positive_pairs(
        torch.tensor([7, 9, 5]), torch.tensor([7, 7, 9, 5]), torch.tensor([3, 4, 3, 8])
    )
    assert mask.tolist() == [
        [True, True, True, False],
        [True, False, True, False],
        [False, False, False, True],
    ]


def test_the_same_image_twice_shares_its_captions() -> None:
    mask = positive_pairs(torch.tensor([4, 4, 6]), torch.tensor([4, 6]))
    assert mask.tolist() == [[True, False], [True, False], [False, True]]


def test_an_image_without_a_caption_is_only_a_negative() -> None:
    image, text, positives = batch()
    lonely = torch.cat([positives, torch.zeros(1, 6, dtype=torch.bool)])
    images = torch.cat([image, unit(1, 11)])
    ours = infonce(images, text, lonely, LOG_SCALE)
    assert float(ours) == pytest.approx(naive_infonce(images, text, lonely), abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_without_negatives_has_loss_and_gradient_zero_and_no_nan(smoothing: float) -> None:
    image, text = unit(2, 5).requires_grad_(), unit(2, 6).requires_grad_()
    everything = torch.ones(2, 2, dtype=torch.bool)
    loss = infonce(image, text, everything, LOG_SCALE, label_smoothing=smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert image.grad is not None
    assert torch.count_nonzero(image.grad) == 0


def test_unrelated_pairs_cost_ln_of_the_batch_size() -> None:
    image, text = torch.ones(32, 4) / 2, torch.ones(32, 4) / 2
    loss = infonce(image, text, torch.eye(32, dtype=torch.bool), torch.tensor(2.5))
    assert float(loss) == pytest.approx(math.log(32), abs=1e-5)


def test_the_scale_stops_at_100() -> None:
    assert float(bounded_scale(torch.tensor(9.0))) == pytest.approx(MAX_LOGIT_SCALE, rel=1e-6)
    assert float(bounded_scale(torch.tensor(1.0))) == pytest.approx(math.e, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_under_autocast_the_loss_is_that_of_float32(name: str) -> None:
    module = PairLoss(name)
    image, text, positives = batch()
    image, text = image.bfloat16(), text.bfloat16()
    plain = module(image.float(), text.float(), positives)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = module(image, text, positives)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)


def test_what_does_not_fit_is_refused_with_a_cure() -> None:
    image, text, positives = batch()
    with pytest.raises(TrainingError, match="same output width"):
        infonce(image, text[:, :3], positives, LOG_SCALE)
    with pytest.raises(TrainingError, match="positive_pairs"):
        sigmoid(image, text, positives.T, LOG_SCALE, BIAS)
    with pytest.raises(TrainingError, match="one id per text"):
        positive_pairs(torch.arange(3), IMAGE_OF_TEXT, torch.arange(2))
