"""Checkpoints of two-tower and image models, small and random, saved as the library saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import pre_tokenizers, trainers

from miniclip.train.convert.original import _quiet

SIDE = 32
CORPUS = [
    "a photo of a cat and a dog on the beach, the sun is going down.",
    "two people in red jackets stand on a snowy mountain!",
    "the same words in capitals; crushed aluminium can (330 ml), no. 7 / 12",
    "ein hund spielt im schnee; un café à la crème",
]
_TOWER: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 1,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
}
_VISION = {**_TOWER, "image_size": SIDE, "patch_size": 8}


def clip_checkpoint(directory: Path, **text: Any) -> Path:
    """Save a CLIP: byte-level BPE, causal text tower, QuickGELU."""
    torch.manual_seed(3)
    tokenizer = clip_tokenizer()
    size = len(tokenizer)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config={
                **_TOWER,
                "vocab_size": size,
                "bos_token_id": size - 2,
                "eos_token_id": size - 1,
                "pad_token_id": 1,
                **text,
            },
            vision_config=_VISION,
            projection_dim=48,
        )
    )
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    return _saved(directory, model, processor, tokenizer)


def clip_tokenizer() -> Any:
    """Learn a small vocabulary of the form of CLIP's own."""
    learner = transformers.CLIPTokenizer()
    core = learner.backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    core.train_from_iterator(CORPUS, trainer)
    import json  # noqa: PLC0415

    learned = json.loads(core.to_str())["model"]
    vocabulary = dict(learned["vocab"])
    for letter in pre_tokenizers.ByteLevel.alphabet():
        vocabulary.setdefault(letter, len(vocabulary))
        vocabulary.setdefault(f"{letter}</w>", len(vocabulary))
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    ordered = [word for word in ordered if not word.startswith("<|")]
    words = [*ordered, "<|startoftext|>", "<|endoftext|>"]
    merges = [tuple(pair) for pair in learned["merges"]]
    return transformers.CLIPTokenizer(
        vocab={word: place for place, word in enumerate(words)}, merges=merges, model_max_length=77
    )


def _saved(directory: Path, model: Any, *parts: Any) -> Path:
    with _quiet():
        for part in (model, *parts):
            part.save_pretrained(directory)
    return directory
