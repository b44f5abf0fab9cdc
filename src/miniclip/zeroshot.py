"""Zero-shot classification: label names and templates to class vectors, and probabilities.

After Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"
(CLIP), section 3.1.4: the text vectors of all templates of a label are averaged on the sphere, so
an ensemble costs no more than one prompt once the class vectors are made. It decodes no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from miniclip.arrays import FloatArray, unit_rows
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError
from miniclip.prompts import DEFAULT_TEMPLATES, check_labels, check_templates, fill


def class_vectors(
    encoder: Encoder, labels: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES
) -> FloatArray:
    """One vector per label: normalise each prompt's vector, average, normalise.

    Returns (C, D) float32 unit rows, in the order of the labels. All prompts go to the encoder in
    one call. Raises ConfigError for empty or repeated labels and for a template without `{}`.
    """
    labels, templates = check_labels(labels), check_templates(templates)
    prompts = [prompt for label in labels for prompt in fill(templates, label)]
    vectors = unit_rows(encoder.encode_texts(prompts))
    return unit_rows(vectors.reshape(len(labels), len(templates), -1).mean(axis=1))


def probabilities(encoder: Encoder, embeddings: FloatArray, classes: FloatArray) -> FloatArray:
    """Softmax over classes of logit_scale * cosine: (N, D), (C, D) unit rows -> (N, C) float32.

    Rows sum to 1 and say which of *these* classes fits best, not whether any does. The encoder's
    logit bias is the same for all classes and cancels out.
    """
    if embeddings.shape[1] != classes.shape[1]:
        raise ConfigError(
            f"images have {embeddings.shape[1]} dimensions and classes {classes.shape[1]}; "
            "make both with the same bundle"
        )
    logits = np.float32(encoder.logit_scale) * (embeddings @ classes.T)
    # exp(x - max) cannot overflow, and the largest term is 1.
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return cast(FloatArray, weights / weights.sum(axis=1, keepdims=True))
