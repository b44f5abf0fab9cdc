"""Heads: from frozen features to one logit per class. One file per kind; `head.py` is the door."""

from __future__ import annotations

from miniclip.probe.heads.head import KINDS as KINDS
from miniclip.probe.heads.head import Head as Head
from miniclip.probe.heads.head import HeadSettings as HeadSettings
from miniclip.probe.heads.head import Rows as Rows
from miniclip.probe.heads.head import fit_head as fit_head
from miniclip.probe.heads.head import load_head as load_head
