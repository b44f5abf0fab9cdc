"""A check of the training texts: the same words under several images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from miniclip.train.doctor.finding import Finding

DUPLICATE_SHARE = 0.05  # hand-written captions stay below it, template captions do not


def check_captions(captions: Sequence[str], groups: Sequence[int]) -> list[Finding]:
    """Find texts that describe several different images word for word; they teach contradictions.

    Case, spaces and the final full stop do not count. groups: the image of each caption.
    """
    if not captions:
        return []
    images_of: defaultdict[str, set[int]] = defaultdict(set)
    wordings = [" ".join(caption.casefold().rstrip(" .").split()) for caption in captions]
    for wording, group in zip(wordings, groups, strict=True):
        images_of[wording].add(group)
    shared = Counter(wording for wording in wordings if len(images_of[wording]) > 1)
    share = shared.total() / len(captions)
    if share <= DUPLICATE_SHARE:
        return []
    wording, count = shared.most_common(1)[0]
    return [
        Finding(
            "warning",
            "Many captions describe several images",
            f"{share:.0%} of the texts stand under more than one image, most often "
            f"{wording!r} ({count} times). The loss cannot tell those images apart.",
            "Mark equal texts as positives of each other, remove template captions, or describe "
            "what sets the images apart.",
        )
    ]
