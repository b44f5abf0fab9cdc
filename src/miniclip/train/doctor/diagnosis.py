"""All checks over one run. It measures nothing: the run brings its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from miniclip.train.doctor.captions import check_captions
from miniclip.train.doctor.curves import (
    LossName,
    check_gradients,
    check_losses,
    check_overfitting,
    check_temperature,
)
from miniclip.train.doctor.finding import Finding, Severity
from miniclip.train.doctor.vectors import check_alignment, check_collapse

_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class RunNumbers:
    """What a run recorded; whatever is left empty is not checked.

    losses: one per optimiser step. logit_scales: likewise, the factor and not its logarithm.
    gradient_norms: by the name of a part, one per step. epoch_losses, dev_recalls: one per
    evaluation, recalls as fractions. image (N, D) and text (M, D): embeddings of dev pairs,
    text j describes image image_of_text[j]. captions: training texts, of image caption_groups[j].
    """

    batch_size: int
    loss: LossName = "infonce"
    losses: Sequence[float] = ()
    logit_scales: Sequence[float] = ()
    gradient_norms: Mapping[str, Sequence[float]] = field(default_factory=dict)
    epoch_losses: Sequence[float] = ()
    dev_recalls: Sequence[float] = ()
    image: NDArray[np.floating] | None = None
    text: NDArray[np.floating] | None = None
    image_of_text: Sequence[int] = ()
    captions: Sequence[str] = ()
    caption_groups: Sequence[int] = ()


def diagnose(run: RunNumbers) -> tuple[Finding, ...]:
    """All findings on a run, the worst first; empty means healthy."""
    findings = check_losses(run.losses, run.batch_size, run.loss)
    findings += check_gradients(run.gradient_norms)
    findings += check_temperature(run.logit_scales)
    if run.image is not None:
        findings += check_collapse(run.image, "image")
    if run.text is not None:
        findings += check_collapse(run.text, "text")
    if run.image is not None and run.text is not None:
        findings += check_alignment(run.image, run.text, run.image_of_text)
    findings += check_captions(run.captions, run.caption_groups)
    findings += check_overfitting(run.epoch_losses, run.dev_recalls)
    return tuple(sorted(findings, key=lambda finding: _ORDER[finding.severity]))
