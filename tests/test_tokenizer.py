"""Texts to tokens, against the tokenizers library and a plain loop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniclip.bundle import Bundle
from miniclip.errors import ConfigError, TokenizerError
from miniclip.tokenizer import TextSpec, Tokenizer
from tests.tiny_bundle import WORDS, tiny_tokenizer

CLS, SEP, PAD = (WORDS.index(word) for word in ("[CLS]", "[SEP]", "[PAD]"))


def tokenizer(context_length: int = 16, **spec: object) -> Tokenizer:
    return Tokenizer(tiny_tokenizer(), TextSpec(context_length, **spec))  # type: ignore[arg-type]


def test_a_sentence_becomes_its_words_between_the_special_tokens() -> None:
    tokens = tokenizer()(["A RED square"])
    expected = [WORDS.index(word) for word in ("[CLS]", "a", "red", "square", "[SEP]")]
    assert tokens.input_ids.tolist() == [expected + [PAD] * 3]
    assert tokens.attention_mask.tolist() == [[1] * 5 + [0] * 3]
    assert tokens.input_ids.dtype == tokens.attention_mask.dtype == np.int64


def test_a_long_text_is_cut_but_keeps_its_closing_token() -> None:
    (ids,) = tokenizer(8)(["red " * 500]).input_ids
    assert ids.tolist() == [CLS, *[WORDS.index("red")] * 6, SEP]


@pytest.mark.parametrize(
    ("words", "context", "length"), [(0, 16, 8), (6, 16, 8), (7, 16, 16), (7, 13, 13), (99, 13, 13)]
)
def test_lengths_go_up_in_eights_but_never_past_the_context(
    words: int, context: int, length: int
) -> None:
    assert tokenizer(context)(["red " * words]).input_ids.shape == (1, length)


def test_max_always_fills_the_context() -> None:
    tokens = tokenizer(16, pad="max", pad_id=3)(["red", ""])
    assert tokens.input_ids.shape == (2, 16)
    assert tokens.input_ids[1].tolist() == [CLS, SEP] + [3] * 14
    assert tokens.attention_mask.sum(axis=1).tolist() == [3, 2]


def test_no_texts_are_no_rows() -> None:
    assert tokenizer()([]).input_ids.shape == (0, 8)
    assert tokenizer(pad="max")([]).attention_mask.shape == (0, 16)


@pytest.mark.parametrize(
    "text", ["", " ", "🏖️ 🐕", "海滩上的狗", "\0", "\ud83d", "\udc00 red", "\ufeff", "red" * 10_000]
)
def test_strange_texts_are_only_texts(text: str) -> None:
    (ids,), (mask,) = tokenizer()([text])
    kept = ids[mask == 1]
    assert (kept[0], kept[-1]) == (CLS, SEP)


def test_a_surrogate_pair_is_the_character_it_stands_for() -> None:
    core = Tokenizer(tiny_tokenizer(), TextSpec(16))
    core._core.add_tokens(["🐕"])
    dog = len(WORDS)
    assert core(["\ud83d\udc15"]).input_ids[0, 1] == dog
    assert core(["\ud83d"]).input_ids[0, 1] == WORDS.index("[UNK]")


@given(st.lists(st.text(alphabet=st.characters(codec=None)), max_size=5))
def test_any_text_gives_the_same_row_alone_and_in_company(texts: list[str]) -> None:
    tokenize = tokenizer()
    together = tokenize(texts)
    for text, ids, mask in zip(texts, *together, strict=True):
        (alone,), (alone_mask,) = tokenize([text])
        assert ids[mask == 1].tolist() == alone[alone_mask == 1].tolist()
        assert (ids[mask == 0] == PAD).all()


@pytest.mark.parametrize("wrong", [None, 3, b"red", ["red"]])
def test_only_strings_are_texts(wrong: object) -> None:
    with pytest.raises(TokenizerError, match=r"text 1 is .*pass a str"):
        tokenizer()(["red", wrong])  # type: ignore[list-item]


def test_a_lone_string_is_not_a_list_of_letters() -> None:
    with pytest.raises(TokenizerError, match=r"wrap it in \[\]"):
        tokenizer()("red")


def test_threads_share_a_tokenizer() -> None:
    tokenize = tokenizer()
    texts = [["red " * count] for count in range(40)]
    expected = [tokenize(text).input_ids.tolist() for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert [tokens.input_ids.tolist() for tokens in pool.map(tokenize, texts)] == expected


def test_a_file_is_read_as_it_was_written(tiny_bundle: Bundle) -> None:
    loaded = Tokenizer.from_file(tiny_bundle.path("tokenizer.json"), TextSpec(16))
    assert loaded(WORDS).input_ids.tolist() == tokenizer()(WORDS).input_ids.tolist()


def test_a_padding_saved_in_the_file_gives_way_to_the_spec(tmp_path: Path) -> None:
    core = tiny_tokenizer()
    core.enable_padding(length=77, pad_id=9)
    core.enable_truncation(3)
    core.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.from_file(tmp_path / "tokenizer.json", TextSpec(16))
    assert loaded(["red red red"]).input_ids.tolist() == tokenizer()(["red red red"])[0].tolist()


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b'{"model": 3}'])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is no readable tokenizer file"):
        Tokenizer.from_file(path, TextSpec(16))


def test_a_context_without_room_for_the_special_tokens_is_refused() -> None:
    with pytest.raises(TokenizerError, match="context_length 1 leaves no room"):
        tokenizer(1)(["red"])


def test_the_spec_survives_json() -> None:
    spec = TextSpec(context_length=77, pad="max", pad_id=49407)
    assert TextSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context_length": 0}, "context_length is 0"),
        ({"context_length": True}, "context_length is True"),
        ({"context_length": 3.0}, r"context_length is 3\.0"),
        ({"pad": "left"}, "pad is 'left'"),
        ({"pad": ["max"]}, r"pad is \['max'\]"),
        ({"pad_id": -1}, "pad_id is -1"),
        ({"lower": True}, r"unknown keys \['lower'\]"),
    ],
)
def test_the_spec_refuses_what_it_cannot_use(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextSpec.from_dict({"context_length": 16, "pad": "longest", "pad_id": 0, **change})


def test_the_spec_wants_every_key() -> None:
    with pytest.raises(ConfigError, match=r"missing keys \['pad', 'pad_id'\]"):
        TextSpec.from_dict({"context_length": 16})
