"""Text towers: token ids to features, through any Hugging Face text encoder.

Tokens are made by `miniclip.tokenizer` from the tower's `tokenizer_path` and `text_spec`;
projection to the shared space is the business of `heads`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from miniclip.errors import TrainingError
from miniclip.tokenizer import Padding, TextSpec
from miniclip.train.towers.freezing import Trainable, find_blocks, keep_still, set_trainable
from miniclip.train.towers.hub import load_config, load_model, read_json, tokenizer_file

Pooling = Literal["mean", "cls", "pooler"]
POOLING_FILE = "1_Pooling/config.json"
_OLD_POOLING_KEYS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_NO_LIMIT = 1_000_000  # tokenizers without one say 10^30


class TextTower(nn.Module):
    """Token ids to features.

    source: what it was loaded from; feature_dim: F'; tokenizer_path, text_spec: how its tokens are
    made; pooling: "mean" over the tokens that the mask keeps, "cls" the first token, "pooler" the
    model's own pooled output.
    """

    def __init__(
        self,
        source: str,
        encoder: nn.Module,
        *,
        pooling: Pooling,
        tokenizer_path: Path,
        text_spec: TextSpec,
    ) -> None:
        super().__init__()
        self.source = source
        self.encoder = encoder
        self.pooling = pooling
        self.tokenizer_path = tokenizer_path
        self.text_spec = text_spec
        if pooling != "pooler" and isinstance(getattr(encoder, "pooler", None), nn.Module):
            encoder.pooler = None  # type: ignore[assignment]
        ids = torch.full((1, 4), text_spec.pad_id)
        with torch.no_grad():
            self.feature_dim = int(self(ids, torch.ones_like(ids)).shape[1])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask: (B, T) int64. Returns features (B, F') float32."""
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        if self.pooling == "pooler":
            pooled: Tensor = output.pooler_output
        elif self.pooling == "cls":
            pooled = output.last_hidden_state[:, 0]
        else:
            kept = attention_mask.unsqueeze(-1).float()
            total = (output.last_hidden_state.float() * kept).sum(1)
            pooled = total / kept.sum(1).clamp(min=1.0)
        return pooled.float()

    def set_trainable(self, trainable: str = "all", *, embeddings: bool = True) -> None:
        """Choose what learns: "none", "last:N" blocks, or "all"; embeddings=False freezes those.

        TrainingError for another value or more blocks than there are.
        """
        available = len(find_blocks(self.encoder)[1]) if trainable.startswith("last") else 0
        set_trainable(self.encoder, Trainable.parse(trainable, available=available))
        if not embeddings:
            for module in self.encoder.modules():
                if isinstance(module, nn.Embedding):
                    module.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set training mode, but for frozen parts, whose dropout stays off."""
        super().train(mode)
        keep_still(self)
        return self


def load_text_tower(
    source: str,
    *,
    pooling: Pooling | None = None,
    context_length: int | None = None,
    dropout: bool = True,
) -> TextTower:
    """Load a text tower from a source as in `hub`.

    pooling: None takes what the checkpoint's 1_Pooling/config.json says (sentence-transformers);
    without one, "pooler" for the text half of a two-tower model and "mean" for the others.
    context_length: None takes the checkpoint's limit. dropout: False sets every rate to 0.
    TrainingError when it cannot be loaded or a value does not fit it.
    """
    config = load_config(source, part="text")
    if not dropout:
        _switch_off_dropout(config)
    chosen = _checked_pooling(pooling) if pooling else _own_pooling(source, config)
    model, untrained = load_model(source, config)
    missing = {n for n in untrained if chosen == "pooler" or "pooler" not in n.split(".")}
    if missing:
        raise TrainingError(
            f"the checkpoint {source} holds no weights for {', '.join(sorted(missing)[:5])}; "
            "they would be random, so give a complete checkpoint or another pooling"
        )
    limit = _context_limit(source, config)
    if context_length is not None and not 1 < context_length <= limit:
        raise TrainingError(
            f"context_length is {context_length}, but {source} takes 2 to {limit} tokens"
        )
    pad: Padding = "max" if "siglip" in str(config.model_type) else "longest"  # as it was trained
    spec = TextSpec(context_length or limit, pad=pad, pad_id=_pad_id(config))
    return TextTower(
        source, model, pooling=chosen, tokenizer_path=tokenizer_file(source), text_spec=spec
    )


def _checked_pooling(pooling: str) -> Pooling:
    for known in get_args(Pooling):
        if pooling == known:
            chosen: Pooling = known
            return chosen
    raise TrainingError(f"pooling is {pooling!r}; choose one of {', '.join(get_args(Pooling))}")


def _own_pooling(source: str, config: Any) -> Pooling:
    content = read_json(source, POOLING_FILE)
    if content is not None:
        return _checked_pooling(_sentence_transformers_mode(content, source))
    return "pooler" if str(config.model_type).endswith("_text_model") else "mean"


def _sentence_transformers_mode(content: Mapping[str, Any], source: str) -> str:
    """Read {"pooling_mode": "mean"} or the older flags, of which one must be set."""
    if "pooling_mode" in content:
        return str(content["pooling_mode"])
    active = [key for key, value in content.items() if key.startswith("pooling_mode_") and value]
    if len(active) != 1 or active[0] not in _OLD_POOLING_KEYS:
        raise TrainingError(
            f"{POOLING_FILE} of {source} asks for {active or 'no pooling'}; "
            "only mean or cls tokens can be exported here, so set pooling yourself"
        )
    return _OLD_POOLING_KEYS[active[0]]


def _context_limit(source: str, config: Any) -> int:
    """Return the least of what positions, tokenizer and sentence-transformers settings allow."""
    positions = getattr(config, "max_position_embeddings", None) or _NO_LIMIT
    if "roberta" in str(config.model_type):
        positions -= _pad_id(config) + 1  # its positions start after the padding id
    limits = [positions]
    for name, key in (
        ("tokenizer_config.json", "model_max_length"),
        ("sentence_bert_config.json", "max_seq_length"),
    ):
        value = (read_json(source, name) or {}).get(key)
        limits += [int(value)] if value else []
    if min(limits) >= _NO_LIMIT:
        raise TrainingError(f"{source} names no context length; set context_length")
    return min(limits)


def _pad_id(config: Any) -> int:
    value = getattr(config, "pad_token_id", None)
    return value if isinstance(value, int) else 0


def _switch_off_dropout(config: Any) -> None:
    for key, value in list(vars(config).items()):
        if isinstance(value, float) and ("dropout" in key or "drop_path" in key):
            setattr(config, key, 0.0)
