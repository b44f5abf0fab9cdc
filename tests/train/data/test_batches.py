"""What a step is made of: views of photos, texts cut to length, rows of the curves."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from miniclip.datasets.captions import CaptionedImage, CaptionSet
from miniclip.images import ImageSource
from miniclip.preprocess import ImageSpec
from miniclip.tokenizer import Tokenizer
from miniclip.train.data.augment import fixed_view, random_view, view_generator
from miniclip.train.data.batches import Batches
from miniclip.train.data.image_rows import PixelRows
from miniclip.train.data.plan import Plan
from miniclip.train.data.text_batches import drop_tokens, encode_by_length, lengths, trimmed
from miniclip.train.logs import CurvesLogger, read_curves
from miniclip.train.recipe import Views
from tests.tiny_bundle import TEXT_SPEC, tiny_tokenizer

pytestmark = pytest.mark.train

SPEC = ImageSpec(8, "squash", 8, "bilinear", (0.5,) * 3, (0.5,) * 3)


def gradient_picture() -> Image.Image:
    """Red says how far right a pixel is, green how far down: so a crop tells where it was."""
    down, right = np.mgrid[0:120, 0:200]
    return Image.fromarray(np.stack([right, down, np.zeros_like(down)], axis=-1).astype(np.uint8))


def test_a_random_view_is_a_part_of_the_picture_of_the_asked_size() -> None:
    mirrored = 0
    for view in range(200):
        draws = view_generator(0, view, "photo")
        cut = np.asarray(random_view(gradient_picture(), Views(crop=(0.4, 0.8)), draws)).astype(int)
        height, width = cut.shape[:2]
        assert 0.35 < height * width / (120 * 200) < 0.85
        assert (np.diff(cut[:, 0, 1]) == 1).all()  # upright
        steps = np.diff(cut[0, :, 0])
        assert (steps == 1).all() or (steps == -1).all()
        mirrored += int(steps[0] == -1)
    assert 60 < mirrored < 140


def test_without_flip_nothing_is_mirrored_and_jitter_changes_colours_only() -> None:
    views = Views(crop=(1.0, 1.0), flip=False, jitter=0.3)
    for view in range(20):
        cut = np.asarray(random_view(gradient_picture(), views, view_generator(0, view, "photo")))
        assert cut[0, -1, 0] > cut[0, 0, 0]
    plain = replace_jitter(views)
    shifted = random_view(gradient_picture(), views, view_generator(0, 3, "photo"))
    still = random_view(gradient_picture(), plain, view_generator(0, 3, "photo"))
    assert shifted.size == still.size
    assert shifted.tobytes() != still.tobytes()


def replace_jitter(views: Views) -> Views:
    return Views(views.count, views.crop, views.flip, 0.0)


def test_a_fixed_view_depends_on_seed_number_and_name_alone() -> None:
    picture, views = gradient_picture(), Views(count=4)

    def view(number: int, seed: int = 0, name: str = "a.jpg") -> bytes:
        return fixed_view(picture, views, view=number, seed=seed, name=name).tobytes()

    assert view(0) == picture.tobytes()
    assert view(2) == view(2)
    assert len({view(2), view(3), view(2, seed=1), view(2, name="b.jpg")}) == 4


@pytest.fixture
def batches(tmp_path: Path) -> Batches:
    """Five photos, of which number 3 is broken."""
    images = []
    for number in range(5):
        path = tmp_path / f"{number}.png"
        gradient_picture().save(path)
        captions = ("a red square", f"picture of {number}", "blue and green and red and white")
        images.append(CaptionedImage(path.name, ImageSource(path.name, path), captions))
    (tmp_path / "3.png").write_bytes(b"broken")
    captions_set = CaptionSet("test", tuple(images))
    tokenizer = Tokenizer(tiny_tokenizer(), TEXT_SPEC)
    rows = PixelRows([image.source for image in images], SPEC, Views(count=2), seed=0)
    return Batches(captions_set, rows, Plan([3] * 5, batch_size=5, seed=0), tokenizer)


def test_an_image_that_cannot_be_read_leaves_its_batch_with_its_caption(batches: Batches) -> None:
    batch = batches[0]
    assert sorted(batch.groups.tolist()) == [0, 1, 2, 4]
    assert batch.images.shape == (4, 3, 8, 8)
    assert len(batch.input_ids) == len(batch.attention_mask) == len(batch.wordings) == 4


def test_on_line_views_change_with_the_step_and_only_with_it(batches: Batches) -> None:
    assert torch.equal(batches[0].images, batches[0].images)
    one, other = batches[0], batches[1]
    photo = int(one.groups[0])
    place = other.groups.tolist().index(photo)
    assert not torch.equal(one.images[0], other.images[place])


def test_equal_captions_have_equal_wordings(batches: Batches) -> None:
    seen: dict[int, set[tuple[int, ...]]] = {}
    for step in range(6):
        batch = batches[step]
        for wording, ids in zip(batch.wordings.tolist(), batch.input_ids, strict=True):
            seen.setdefault(wording, set()).add(tuple(ids[ids > 0].tolist()))
    assert all(len(texts) == 1 for texts in seen.values())


def test_the_loader_goes_on_where_it_is_told(batches: Batches) -> None:
    loaded = list(batches.loader(2, 5, workers=0))
    assert [batch.step for batch in loaded] == [2, 3, 4]
    assert torch.equal(loaded[0].images, batches[2].images)


def ragged() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 50, (11, 9), generator=generator)
    ends = torch.tensor([3, 9, 1, 4, 4, 7, 2, 9, 5, 1, 6])
    mask = (torch.arange(9) < ends[:, None]).long()
    return ids * mask, mask


@pytest.mark.parametrize("chunk", [0, 1, 4, 11, 100])
def test_texts_encoded_by_length_come_back_in_order(chunk: int) -> None:
    ids, mask = ragged()
    widths = []

    def encode(ids: Tensor, mask: Tensor) -> Tensor:
        widths.append(ids.shape)
        return torch.stack([(ids * mask).sum(dim=1), mask.sum(dim=1)], dim=1).double()

    rows = encode_by_length(encode, ids, mask, chunk)
    assert torch.equal(rows, encode(ids, mask))
    cells = sum(count * width for count, width in widths[:-1])
    assert cells <= ids.numel()
    if chunk == 1:
        assert cells == mask.sum()  # not one padded cell


def test_a_gap_in_the_mask_is_no_end() -> None:
    mask = torch.tensor([[1, 0, 0, 1, 0], [1, 1, 0, 0, 0]])
    assert lengths(mask).tolist() == [4, 2]
    assert trimmed(mask, mask)[1].shape == (2, 4)


def test_dropped_tokens_are_a_share_and_never_the_first() -> None:
    mask = torch.ones(200, 50, dtype=torch.int64)
    torch.manual_seed(0)
    dropped = drop_tokens(mask, 0.3)
    assert dropped[:, 0].all()
    assert float(dropped[:, 1:].float().mean()) == pytest.approx(0.7, abs=0.02)
    assert not drop_tokens(torch.zeros_like(mask), 0.3).any()  # padding stays padding
    assert drop_tokens(mask, 0.0) is mask


def test_curves_are_cut_back_to_the_step_that_is_resumed(tmp_path: Path) -> None:
    logger = CurvesLogger(tmp_path, first_step=0)
    for step in range(1, 5):
        logger.log_metrics({"loss": 0.1 * step}, step)
    logger.log_metrics({"dev_recall_mean": 0.5}, 2)
    with (tmp_path / "curves.csv").open("a") as stream:
        stream.write("5,0.12")  # torn by a kill
    resumed = CurvesLogger(tmp_path, first_step=2)
    resumed.log_metrics({"loss": 9.0}, 3)
    rows = read_curves(tmp_path)
    assert [row["step"] for row in rows] == ["1", "2", "2", "3"]
    assert [float(row["loss"]) for row in rows if "loss" in row] == [0.1, 0.2, 9.0]
    with (tmp_path / "curves.csv").open(newline="") as stream:
        assert next(csv.reader(stream)) == ["step", "loss", "dev_recall_mean"]
