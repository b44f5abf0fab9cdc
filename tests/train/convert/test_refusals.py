"""No key of a checkpoint's files changes the vectors without a refusal that names it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from numpy.typing import NDArray

from miniclip.errors import BundleError, ConfigError, MiniClipError
from miniclip.preprocess import preprocess
from miniclip.pull.probes import PROBE_SENTENCES, probe_photos
from miniclip.tokenizer import Tokenizer
from miniclip.train.convert.checkpoint import Checkpoint, read_checkpoint
from tests.hub_checkpoints import BUILDERS, checkpoint

pytestmark = pytest.mark.train

FILES = ("config.json", "preprocessor_config.json", "tokenizer_config.json")
PHOTOS = [probe_photos()[place] for place in (0, 2, 6)]
SENTENCES = [PROBE_SENTENCES[place] for place in (0, 6, 9, 26, 34, -3)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give a checkpoint of a kind; tests put back what they change."""
    made: dict[str, Path] = {}

    def give(kind: str) -> Path:
        if kind not in made:
            made[kind] = checkpoint(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return give


@pytest.fixture
def edit(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Overwrite keys of a JSON file, or remove them by `...`; put back afterwards."""
    before: dict[Path, str] = {}

    def change(path: Path, *keys: str, **values: Any) -> None:
        before.setdefault(path, path.read_text())
        document = json.loads(path.read_text())
        table = document
        for key in keys:
            table = table[key]
        for key, value in values.items():
            table.pop(key) if value is ... else table.update({key: value})
        path.write_text(json.dumps(document))

    yield change
    for path, text in before.items():
        path.write_text(text)


def vectors(found: Checkpoint) -> list[NDArray[Any]]:
    """Run both halves on a few probes."""
    pixels = torch.from_numpy(np.stack([preprocess(photo, found.image_spec) for photo in PHOTOS]))
    rows = list(found.image(pixels))
    if found.text is not None and found.texts is not None:
        core = tokenizers.Tokenizer.from_str(found.texts.content.decode())
        ids, mask = Tokenizer(core, found.texts.spec)(SENTENCES)
        rows += found.text(torch.from_numpy(ids), torch.from_numpy(mask))
    scale = np.array([found.logit_scale, found.logit_bias])
    return [*(row.detach().numpy() for row in rows), scale]


def keys_of(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        yield (*above, key)
        if isinstance(value, dict) and key not in ("id2label", "label2id"):
            yield from keys_of(value, (*above, key))


def altered(value: Any) -> Any:
    """Give another value of the same type, and a plausible one where there are few."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return {"quick_gelu": "gelu", "gelu": "relu"}.get(value, value + "x")
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else value * 2 + 0.5
    if isinstance(value, list):
        return [altered(value[0]), *value[1:]] if value else value
    return {} if isinstance(value, dict) else value


def names(message: str, key: str, value: Any) -> bool:
    """Whether a refusal names a key: by name, in words, or by its value."""
    words = [word for word in key.split("_") if len(word) > 3]
    in_words = len(words) > 1 and all(word in message.lower() for word in words)
    return key in message or in_words or (isinstance(value, str) and value in message)


@pytest.mark.parametrize("kind", sorted(BUILDERS))
@pytest.mark.parametrize("way", ["removed", "altered"])
def test_every_key_is_irrelevant_or_refused_by_name(
    sources: Callable[[str], Path], kind: str, way: str
) -> None:
    source = sources(kind)
    wanted = vectors(read_checkpoint(source))
    silent, unnamed, refused = [], [], 0
    for path in (source / name for name in FILES if (source / name).is_file()):
        original = path.read_text()
        for *above, key in keys_of(json.loads(original)):
            document = json.loads(original)
            table = document
            for step in above:
                table = table[step]
            old = table.pop(key)
            if way == "altered":
                if altered(old) == old:
                    continue
                table[key] = altered(old)
            path.write_text(json.dumps(document))
            try:
                found = vectors(read_checkpoint(source))
            except MiniClipError as error:
                refused += 1
                if not names(str(error), key, table.get(key)):
                    unnamed.append((path.name, *above, key, str(error)))
            else:
                same = [np.allclose(*pair, atol=1e-5) for pair in zip(found, wanted, strict=True)]
                if not all(same):
                    silent.append((path.name, *above, key))
            finally:
                path.write_text(original)
    assert silent == []
    assert unnamed == []
    assert refused > 15


Edit = Callable[..., None]


class Case(NamedTuple):
    """A change of a table in a file of a kind of checkpoint, and what is said of it."""

    kind: str
    file: str
    keys: tuple[str, ...]
    values: dict[str, Any]
    message: str


@pytest.mark.parametrize(
    "case",
    [
        Case("siglip", FILES[0], ("text_config",), {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        Case("siglip", FILES[2], (), {"model_input_names": ...}, "'model_input_names'"),
        Case("siglip", FILES[2], (), {"do_lower_case": False}, "do_lower_case = False"),
        Case("siglip", FILES[1], (), {"image_mean": [0.48, 0.46, 0.41]}, "image_mean = "),
        Case("siglip", FILES[0], (), {"vision_config": ...}, "'vision_config'"),
        Case("siglip2", FILES[1], (), {"patch_size": 9}, "patch_size = 8, but .* = 9"),
        Case("siglip2", FILES[1], (), {"max_num_patches": 60}, "max_num_patches = 60"),
        Case("siglip2", FILES[2], (), {"padding_side": "left"}, "padding_side = 'left'"),
        Case("chinese_clip", FILES[2], (), {"do_lower_case": False}, "check .*do_lower_case"),
        Case("chinese_clip", FILES[2], (), {"model_max_length": 97}, "model_max_length = 97"),
        Case(
            "vision-text-dual-encoder",
            FILES[0],
            ("text_config",),
            {"is_decoder": True},
            "is_decoder = True",
        ),
        Case("siglip", FILES[1], (), {"resample": 2}, "accept resample"),
        Case("siglip-2-fixed", FILES[1], (), {"resample": 3}, "accept resample"),
        Case("siglip2", FILES[2], (), {"pad_token": "<mask>"}, "accept pad_token"),
        Case(
            "chinese_clip",
            FILES[2],
            (),
            {"model_input_names": ["input_ids"]},
            "accept model_input_names",
        ),
        Case(
            "clip-beside-bert",
            FILES[0],
            ("vision_config",),
            {"hidden_act": "gelu"},
            "accept hidden_act",
        ),
        Case("resnet", FILES[1], (), {"crop_pct": 0.7}, "crop_pct = 0.7"),
        Case("resnet", FILES[1], (), {"crop_pct": 0.95}, "accept crop_pct"),
        Case("convnext", FILES[1], (), {"crop_pct": 1.0}, "accept crop_pct"),
        Case("dinov2", FILES[1], (), {"size": {"height": 36, "width": 36}}, "accept size"),
        Case("dinov2", FILES[0], (), {"use_swiglu_ffn": True}, "check .*use_swiglu_ffn"),
        Case("swin", FILES[0], (), {"window_size": 5}, "check .*window_size"),
        Case("deit", FILES[1], (), {"do_center_crop": False}, "do_center_crop .* side 36"),
    ],
)
def test_contradictions_of_other_families_are_named(
    sources: Callable[[str], Path], edit: Edit, case: Case
) -> None:
    edit(sources(case.kind) / case.file, *case.keys, **case.values)
    with pytest.raises(BundleError, match=case.message):
        read_checkpoint(sources(case.kind))


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor"])
def test_a_tokenizer_file_that_contradicts_the_others_is_refused(
    sources: Callable[[str], Path], edit: Edit, part: str
) -> None:
    edit(sources("clip") / "tokenizer.json", **{part: None})
    with pytest.raises(BundleError, match=rf"check its .*{part}.*tokenizer_config\.json"):
        read_checkpoint(sources("clip"))


def test_whoever_knows_better_accepts_a_key_by_name(
    sources: Callable[[str], Path], edit: Edit
) -> None:
    path = sources("clip") / "preprocessor_config.json"
    edit(path, image_mean=[0.4, 0.5, 0.6])
    with pytest.raises(BundleError, match="accept image_mean by name"):
        read_checkpoint(sources("clip"))
    found = read_checkpoint(sources("clip"), accept=["image_mean"])
    assert found.image_spec.mean == (0.4, 0.5, 0.6)


def test_heads_of_a_tower_too_narrow_to_be_published_are_believed_and_recorded(
    tmp_path: Path,
) -> None:
    config = transformers.ViTConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_hidden_layers=2,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessorPil(size=size).save_pretrained(tmp_path)
    assert read_checkpoint(tmp_path).assumed == ("config.json: num_attention_heads = 4",)


def test_towers_of_one_family_have_one_activation(
    sources: Callable[[str], Path], edit: Edit
) -> None:
    """LAION's models have GELU where OpenAI's have QuickGELU, but in both towers."""
    path = sources("clip") / "config.json"
    edit(path, "text_config", hidden_act="gelu")
    with pytest.raises(
        BundleError, match=r"hidden_act = 'gelu', .*vision_config says 'quick_gelu'"
    ):
        read_checkpoint(sources("clip"))
    edit(path, "vision_config", hidden_act="gelu")
    assert read_checkpoint(sources("clip")).assumed == ()


def test_a_table_written_as_a_difference_is_read_and_its_silence_recorded(
    sources: Callable[[str], Path], edit: Edit
) -> None:
    """Version 4 of the library wrote of inner tables what differs from the defaults alone."""
    path = sources("clip") / "config.json"
    defaults = {"hidden_act": ..., "layer_norm_eps": ..., "num_channels": ...}
    edit(path, "vision_config", **defaults)
    assert read_checkpoint(sources("clip")).assumed == (
        "config.json: vision_config: hidden_act = quick_gelu",
        "config.json: vision_config: layer_norm_eps = 1e-05",
    )


def test_the_files_of_openai_are_read_as_the_library_reads_them(
    sources: Callable[[str], Path], edit: Edit
) -> None:
    """They call the first token the end, in pixels they speak as of old."""
    source = sources("clip")
    wanted = vectors(read_checkpoint(source))
    edit(source / "config.json", "text_config", bos_token_id=0, eos_token_id=2)
    old = {"size": 32, "crop_size": 32, "feature_extractor_type": "CLIPFeatureExtractor"}
    gone = dict.fromkeys(("image_processor_type", "do_rescale", "rescale_factor"), ...)
    edit(source / "preprocessor_config.json", **old, **gone, do_convert_rgb=...)
    for found, row in zip(vectors(read_checkpoint(source)), wanted, strict=True):
        np.testing.assert_allclose(found, row, atol=1e-5)


def test_a_table_that_stands_twice_must_say_the_same(
    sources: Callable[[str], Path], edit: Edit
) -> None:
    path = sources("clip") / "config.json"
    edit(path, text_config_dict={"hidden_act": "gelu"})
    with pytest.raises(BundleError, match=r"hidden_act = 'quick_gelu', but .*text_config_dict"):
        read_checkpoint(sources("clip"))


def test_a_vocabulary_of_another_model_is_refused(
    sources: Callable[[str], Path], edit: Edit
) -> None:
    source = sources("clip")
    edit(source / "tokenizer_config.json", eos_token="<end>")
    with pytest.raises(BundleError, match="has 636 words; check eos_token"):
        read_checkpoint(source)


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    source = checkpoint("vit", tmp_path)
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(BundleError, match="cannot load the weights"):
        read_checkpoint(source)
    weights.unlink()
    with pytest.raises(BundleError, match="cannot load the weights"):
        read_checkpoint(source)


def test_an_old_library_is_refused(
    sources: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miniclip.train.convert.original.transformers.__version__", "4.57.1")
    with pytest.raises(ConfigError, match=r"4\.57\.1 is too old .*pip install"):
        read_checkpoint(sources("clip"))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no config\.json"):
        read_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BundleError, match=r"has no preprocessor_config\.json"):
        read_checkpoint(tmp_path)
