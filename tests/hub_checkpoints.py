"""Checkpoints of two-tower and image models, small and random, saved as the library saves them."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import sentencepiece
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
    "< > ? the quick brown fox jumps over the lazy dog 0 1 2 3 4 5 6 7 8 9",
]
TOWER: Mapping[str, Any] = {
    "hidden_size": 128,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
}
VISION: Mapping[str, Any] = {**TOWER, "image_size": SIDE, "patch_size": 8}
CLIP_PIXELS: Mapping[str, Any] = {
    "size": {"shortest_edge": SIDE},
    "crop_size": {"height": SIDE, "width": SIDE},
}
SQUARE = {"height": SIDE, "width": SIDE}


def checkpoint(kind: str, directory: Path) -> Path:
    """Save one; kind: a key of BUILDERS."""
    torch.manual_seed(3)
    with _quiet():
        for part in BUILDERS[kind]():
            _settle(part)
            part.save_pretrained(directory)
    return directory


def clip() -> Iterable[Any]:
    """Byte-level BPE, causal text tower, QuickGELU."""
    tokenizer = clip_tokenizer()
    size = len(tokenizer)
    ids = {"vocab_size": size, "bos_token_id": size - 2, "eos_token_id": size - 1}
    config = transformers.CLIPConfig(
        text_config={**TOWER, **ids}, vision_config=dict(VISION), projection_dim=48
    )
    return (
        transformers.CLIPModel(config),
        transformers.CLIPImageProcessorPil(**CLIP_PIXELS),
        tokenizer,
    )


def siglip() -> Iterable[Any]:
    """SentencePiece without punctuation, no mask, a bias; squashed pixels."""
    tokenizer = siglip_tokenizer()
    text = {**TOWER, "vocab_size": tokenizer.vocab_size, "projection_size": 128}
    model = transformers.SiglipModel(
        transformers.SiglipConfig(text_config=text, vision_config=dict(VISION))
    )
    torch.nn.init.constant_(model.logit_bias, -10.0)
    torch.nn.init.constant_(model.logit_scale, 4.0)
    return model, transformers.SiglipImageProcessorPil(size=SQUARE), tokenizer


def siglip_of_second_kind() -> Iterable[Any]:
    """Make SigLIP 2 at a fixed size: the first SigLIP with a BPE that falls back to bytes."""
    tokenizer = gemma_tokenizer()
    text = {**TOWER, "vocab_size": len(tokenizer), "projection_size": 128}
    model = transformers.SiglipModel(
        transformers.SiglipConfig(text_config=text, vision_config=dict(VISION))
    )
    processor = transformers.SiglipImageProcessorPil(size=SQUARE, resample=2)
    return model, processor, tokenizer


def siglip2() -> Iterable[Any]:
    """Make a SigLIP 2 that keeps the shape of its pictures."""
    tokenizer = gemma_tokenizer()
    text = {**TOWER, "vocab_size": len(tokenizer), "projection_size": 128}
    vision = {**TOWER, "patch_size": 8, "num_patches": 16}
    model = transformers.Siglip2Model(
        transformers.Siglip2Config(text_config=text, vision_config=vision)
    )
    torch.nn.init.normal_(model.vision_model.embeddings.position_embedding.weight)
    processor = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=64)
    return model, processor, tokenizer


def chinese_clip() -> Iterable[Any]:
    """Project the first token of a BERT; squash the pixels, then "crop" them."""
    tokenizer = bert_tokenizer()
    model = transformers.ChineseCLIPModel(
        transformers.ChineseCLIPConfig(
            text_config={**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 96},
            vision_config=dict(VISION),
            projection_dim=48,
        )
    )
    processor = transformers.ChineseCLIPImageProcessorPil(size=SQUARE, crop_size=SQUARE)
    return model, processor, tokenizer


def dual_encoder() -> Iterable[Any]:
    """Join a ViT and a BERT."""
    processor = transformers.ViTImageProcessorPil(size=SQUARE)
    return _beside_bert(transformers.ViTConfig(**VISION), processor)


def clip_beside_bert() -> Iterable[Any]:
    """Join the vision tower of a CLIP and a BERT, as clip-italian does."""
    processor = transformers.CLIPImageProcessorPil(**CLIP_PIXELS)
    return _beside_bert(transformers.CLIPVisionConfig(**VISION), processor)


def vit() -> Iterable[Any]:
    """Save it with a classifier, so without a pooler."""
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**VISION))
    return model, transformers.ViTImageProcessorPil(size=SQUARE)


def dinov2() -> Iterable[Any]:
    """Trained at another size than it is used at."""
    model = transformers.Dinov2Model(transformers.Dinov2Config(**{**VISION, "image_size": 56}))
    return model, transformers.BitImageProcessorPil(
        size={"shortest_edge": 36},
        crop_size=SQUARE,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )


def resnet() -> Iterable[Any]:
    """Cut the pixels of a convolutional network by a fraction."""
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 64], depths=[1, 2])
    return transformers.ResNetForImageClassification(config), _fraction()


def convnext() -> Iterable[Any]:
    """Likewise."""
    config = transformers.ConvNextConfig(hidden_sizes=[8, 8, 8, 64], depths=[1, 1, 1, 1])
    return transformers.ConvNextForImageClassification(config), _fraction()


def swin() -> Iterable[Any]:
    """Windows that move."""
    config = transformers.SwinConfig(
        embed_dim=32, depths=[1, 1], num_heads=[1, 2], window_size=4, image_size=SIDE, patch_size=4
    )
    return transformers.SwinForImageClassification(config), transformers.ViTImageProcessorPil(
        size=SQUARE, resample=3
    )


def deit() -> Iterable[Any]:
    """Squashed to a larger square, then cut."""
    processor = transformers.DeiTImageProcessorPil(
        size={"height": 36, "width": 36}, crop_size=SQUARE, resample=3
    )
    return transformers.DeiTModel(transformers.DeiTConfig(**VISION)), processor


BUILDERS = {
    "clip": clip,
    "siglip": siglip,
    "siglip-2-fixed": siglip_of_second_kind,
    "siglip2": siglip2,
    "chinese_clip": chinese_clip,
    "vision-text-dual-encoder": dual_encoder,
    "clip-beside-bert": clip_beside_bert,
    "vit": vit,
    "dinov2": dinov2,
    "resnet": resnet,
    "convnext": convnext,
    "swin": swin,
    "deit": deit,
}


def clip_tokenizer() -> Any:
    """Learn a small vocabulary of the form of CLIP's own."""
    core = transformers.CLIPTokenizer().backend_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    core.train_from_iterator(CORPUS, trainer)
    learned = json.loads(core.to_str())["model"]
    words = [word for word in learned["vocab"] if not word.startswith("<|")]
    words += [letter + "</w>" for letter in alphabet if letter + "</w>" not in learned["vocab"]]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={word: place for place, word in enumerate(words)},
        merges=[tuple(pair) for pair in learned["merges"]],
        model_max_length=77,
    )


def siglip_tokenizer() -> Any:
    """Learn a small SentencePiece model with the special tokens of SigLIP's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=model,
        vocab_size=300,
        hard_vocab_limit=False,
        unk_id=2,
        eos_id=1,
        pad_id=0,
        bos_id=-1,
        minloglevel=2,
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "spiece.model")
        path.write_bytes(model.getvalue())
        return transformers.SiglipTokenizer(str(path), model_input_names=["input_ids"])


def gemma_tokenizer() -> Any:
    """Learn a small vocabulary of the form of SigLIP 2's."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    core = transformers.Siglip2Tokenizer().backend_tokenizer
    core.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, show_progress=False))
    learned = json.loads(core.to_str())["model"]
    words = [word for word in learned["vocab"] if word not in special]
    words = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    return transformers.Siglip2Tokenizer(
        vocab={word: place for place, word in enumerate(words)},
        merges=[tuple(pair) for pair in learned["merges"]],
        model_max_length=64,
        padding_side="right",
        model_input_names=["input_ids"],
    )


def bert_tokenizer() -> Any:
    """Letters, whole words and Chinese signs."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(place) for place in range(33, 127) if not chr(place).isupper()]
    words = ["photo", "dog", "cat", "the", "red", "mountain", "##s", "##ing", *"一只猫坐在窗台上雪"]
    words += [f"##{letter}" for letter in letters]
    names = list(dict.fromkeys([*special, *letters, *words]))
    return transformers.BertTokenizer(
        vocab={word: place for place, word in enumerate(names)}, model_max_length=96
    )


def _beside_bert(vision: Any, processor: Any) -> Iterable[Any]:
    tokenizer = bert_tokenizer()
    text = transformers.BertConfig(**TOWER, vocab_size=len(tokenizer), max_position_embeddings=96)
    model = transformers.VisionTextDualEncoderModel(
        transformers.VisionTextDualEncoderConfig(
            vision_config=vision.to_dict(), text_config=text.to_dict(), projection_dim=48
        )
    )
    return model, processor, tokenizer


def _fraction() -> Any:
    return transformers.ConvNextImageProcessorPil(size={"shortest_edge": SIDE}, crop_pct=0.875)


def _settle(part: Any) -> None:
    """Give running statistics values that a forgotten eval mode would change."""
    for module in part.modules() if isinstance(part, torch.nn.Module) else ():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            torch.nn.init.normal_(module.running_mean, std=0.1)
