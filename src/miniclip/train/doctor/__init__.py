"""Says in plain words why a training run does not learn, from the numbers that it recorded.

Each `check_*` is a pure function from numbers to findings, and empty on a healthy run; `diagnose`
runs those for which there are numbers. No model, no file and no torch in here.
"""

from miniclip.train.doctor.captions import check_captions
from miniclip.train.doctor.curves import (
    chance_loss,
    check_gradients,
    check_losses,
    check_overfitting,
    check_temperature,
)
from miniclip.train.doctor.diagnosis import RunNumbers, diagnose
from miniclip.train.doctor.finding import Finding, Severity
from miniclip.train.doctor.vectors import check_alignment, check_collapse, effective_rank

__all__ = [
    "Finding",
    "RunNumbers",
    "Severity",
    "chance_loss",
    "check_alignment",
    "check_captions",
    "check_collapse",
    "check_gradients",
    "check_losses",
    "check_overfitting",
    "check_temperature",
    "diagnose",
    "effective_rank",
]
