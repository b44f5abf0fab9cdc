"""Each family of checkpoints becomes a bundle that gives the vectors of the original library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from miniclip.arrays import unit_rows
from miniclip.bundle import Bundle
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.preprocess import preprocess
from miniclip.pull.probes import PROBE_SENTENCES, probe_photos
from miniclip.tokenizer import Tokenizer
from miniclip.train.convert import convert
from tests.hub_checkpoints import BUILDERS, checkpoint

pytestmark = pytest.mark.train

TWO_TOWERS = ["clip", "siglip", "siglip-2-fixed", "siglip2", "chinese_clip"]
TWO_TOWERS += ["vision-text-dual-encoder", "clip-beside-bert"]
IMAGES_ALONE = sorted(set(BUILDERS) - set(TWO_TOWERS))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Bundle]]:
    """Checkpoints and bundles, each made when first asked for."""
    return {}


@pytest.fixture
def pair(
    request: pytest.FixtureRequest,
    made: dict[str, tuple[Path, Bundle]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Bundle]:
    kind = request.param
    if kind not in made:
        root = tmp_path_factory.mktemp(kind)
        source = checkpoint(kind, root / "checkpoint")
        made[kind] = source, convert(source, root / "bundle", name=kind, licence="MIT")
    return made[kind]


@pytest.mark.parametrize("pair", TWO_TOWERS, indirect=True)
def test_vectors_are_those_of_the_librarys_own_processor_and_model(
    pair: tuple[Path, Bundle],
) -> None:
    source, bundle = pair
    processor = transformers.AutoProcessor.from_pretrained(source)
    model = transformers.AutoModel.from_pretrained(source).eval()
    pads = "max_length" if "siglip" in model.config.model_type else True
    patches = {"patch_size": 8, "max_num_patches": 64} if bundle.name == "siglip2" else {}
    inputs = processor(
        text=[*PROBE_SENTENCES[:8], PROBE_SENTENCES[-3]],
        images=probe_photos()[:6],
        return_tensors="pt",
        padding=pads,
        truncation=True,
        **({"max_length": 64} if pads == "max_length" else {}),
        **patches,  # which this processor does not read from its file
    )
    image = ("pixel_values", "pixel_attention_mask", "spatial_shapes")
    with torch.no_grad():
        seen = {key: value for key, value in inputs.items() if key in image}
        images = model.get_image_features(**seen).pooler_output.numpy()
        read = {key: value for key, value in inputs.items() if key not in image}
        texts = model.get_text_features(**read).pooler_output.numpy()

    encoder = OnnxEncoder.open(bundle)
    pixels = np.stack([preprocess(photo, encoder.image_spec) for photo in probe_photos()[:6]])
    ours = encoder.encode_pixels(pixels).embeddings
    assert (unit_rows(images) * ours).sum(axis=1).min() > 0.99999
    ours = encoder.encode_texts([*PROBE_SENTENCES[:8], PROBE_SENTENCES[-3]])
    assert (unit_rows(texts) * ours).sum(axis=1).min() > 0.99999
    assert np.linalg.matrix_rank(ours) > 4  # random, but no two alike


@pytest.mark.parametrize("pair", TWO_TOWERS, indirect=True)
def test_the_scale_and_the_bias_make_the_librarys_logits(pair: tuple[Path, Bundle]) -> None:
    source, bundle = pair
    model = transformers.AutoModel.from_pretrained(source)
    assert bundle.manifest.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
    bias = getattr(model, "logit_bias", torch.zeros(())).detach()
    assert bundle.manifest.logit_bias == float(bias)


@pytest.mark.parametrize("pair", TWO_TOWERS, indirect=True)
def test_the_record_tells_how_near_the_bundle_came(pair: tuple[Path, Bundle]) -> None:
    _, bundle = pair
    parity = bundle.manifest.parity
    assert (parity.photos, parity.sentences) == (32, 64)
    assert parity.image_cosine_min > 0.99999
    assert parity.text_cosine_min is not None
    assert parity.text_cosine_min > 0.99999
    assert max(parity.image_max_abs or 1, parity.text_max_abs or 1) < 1e-5


@pytest.mark.parametrize("pair", IMAGES_ALONE, indirect=True)
def test_a_model_of_images_alone_gives_the_librarys_features(pair: tuple[Path, Bundle]) -> None:
    source, bundle = pair
    processor = transformers.AutoImageProcessor.from_pretrained(source)
    model = transformers.AutoModel.from_pretrained(source).eval()
    photos = probe_photos()[:4]
    with torch.no_grad():
        output = model(processor(images=photos, return_tensors="pt")["pixel_values"])
    if bundle.name == "vit":  # saved with a classifier, so its pooler was never trained
        wanted = output.last_hidden_state[:, 0].numpy()
    else:
        wanted = output.pooler_output.flatten(1).numpy()

    encoder = OnnxEncoder.open(bundle)
    pixels = np.stack([preprocess(photo, encoder.image_spec) for photo in photos])
    vectors = encoder.encode_pixels(pixels)
    np.testing.assert_allclose(vectors.features, wanted, rtol=1e-3, atol=1e-4)
    assert bundle.manifest.text is None
    assert bundle.manifest.parity.image_cosine_min > 0.99999


@pytest.mark.parametrize("pair", ["clip"], indirect=True)
def test_clip_has_features_before_its_projection(pair: tuple[Path, Bundle]) -> None:
    source, bundle = pair
    assert (bundle.manifest.feature_dim, bundle.manifest.embedding_dim) == (128, 48)
    model = transformers.CLIPModel.from_pretrained(source).eval()
    encoder = OnnxEncoder.open(bundle)
    pixels = preprocess(probe_photos()[0], encoder.image_spec)[None]
    with torch.no_grad():
        wanted = model.vision_model(pixel_values=torch.from_numpy(pixels)).pooler_output
    np.testing.assert_allclose(encoder.encode_pixels(pixels).features, wanted, atol=1e-4)


HOSTILE = [
    "",
    " ",
    "\x00",
    "İ ß ﬁ Ω",
    "ΟΔΟΣ",
    "a" * 5000,
    "</s> <pad> [SEP]x",
    "▁ x",
    "a\x1cb\x85c",
]
HOSTILE += [
    "<|endoftext|>",
    "'s 'T don't",
    "１２３ ①",
    "👩‍👩‍👧",
    "ա\u0301",
    "...",
    "  .  a",
    "\ufeffabc",
]


@pytest.mark.parametrize("pair", TWO_TOWERS, indirect=True)
def test_hostile_texts_have_the_librarys_tokens(pair: tuple[Path, Bundle]) -> None:
    source, bundle = pair
    spec = bundle.manifest.text
    assert spec is not None
    original = transformers.AutoTokenizer.from_pretrained(source)
    ours = Tokenizer.from_file(bundle.path("tokenizer.json"), spec)
    for text in HOSTILE:
        ids, mask = ours([text])
        wanted = original(text, truncation=True, max_length=spec.context_length)["input_ids"]
        assert ids[0, : mask.sum()].tolist() == wanted, text


@pytest.mark.parametrize("pair", ["clip"], indirect=True)
def test_smaller_weights_are_measured_against_the_original(
    pair: tuple[Path, Bundle], tmp_path: Path
) -> None:
    source, exact = pair
    small = convert(source, tmp_path / "small", name="small", licence="MIT", precision="int8")
    assert small.size_bytes < 0.6 * exact.size_bytes
    assert small.manifest.weights == {"image": "int8", "text": "int8"}
    assert 0.999 <= small.manifest.parity.image_cosine_min < 0.999999
    assert small.manifest.parity.image_max_abs > exact.manifest.parity.image_max_abs  # type: ignore[operator]
