"""From a run directory to a bundle: which model, what its card says, how its weights are judged.

The graphs themselves are made, stored and measured by `bundle`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from miniclip.bundle import Bundle
from miniclip.encoder import Encoder
from miniclip.errors import ExportError
from miniclip.evaluate.retrieval import RECALLS, RetrievalResult, evaluate_retrieval
from miniclip.train.data.sources import read_data
from miniclip.train.export.bundle import FULL, Label, export_model, export_smallest
from miniclip.train.run import FACTS_FILE, Trained, load_trained


def export_run(
    run: Path, output: Path, *, full_weights: bool = False, card: Path | None = None
) -> Bundle:
    """Write the best model of a run as a bundle.

    Its weights are stored as small as costs less than 0.3 points of the mean recall on the run's
    dev split; `full_weights` leaves them as they are and asks for no data. card: a text file that
    becomes the bundle's model card. TrainingError when the run has no model, DatasetError when its
    dev split cannot be read, ExportError when the exported graphs differ from the trained model.
    """
    trained = load_trained(run)
    label = Label(
        name=trained.recipe.name,
        licence=trained.recipe.licence,
        provenance=_provenance(run, trained),
        card=_read(card) if card else None,
    )
    if full_weights:
        return export_model(trained.model, output, label=label, weights=FULL)
    _, dev = read_data(trained.recipe.data)

    def score(encoder: Encoder) -> float:
        return mean_recall(evaluate_retrieval(encoder, dev, resamples=1))

    return export_smallest(trained.model, output, label=label, score=score)


def mean_recall(result: RetrievalResult) -> float:
    """Return the mean of the six recalls: at 1, 5 and 10, both ways; 0 to 1."""
    directions = (result.text_to_image, result.image_to_text)
    recalls = [way.scores[f"recall@{k}"] for way in directions for k in RECALLS]
    return sum(recalls) / len(recalls)


def _provenance(run: Path, trained: Trained) -> dict[str, str]:
    recipe = trained.recipe
    facts: dict[str, Any] = json.loads(_read(run / FACTS_FILE))
    images, captions = facts["images"]["train"], facts["captions"]["train"]
    scores = ", ".join(
        f"{name.removeprefix('dev_')} {value:.4f}" for name, value in trained.scores.items()
    )
    return {
        "recipe": recipe.name,
        "commit": facts.get("commit") or "unknown",
        "image_tower": recipe.image.tower,
        "image_centre": str(recipe.image.centre or ""),
        "text_tower": recipe.text.tower,
        "data": f"{Path(recipe.data.captions).name}: {images} images, {captions} captions",
        "data_fingerprint": facts["data_fingerprint"],
        "dev": f"step {trained.step}: {scores}",
        "versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ExportError(f"cannot read {path} ({error}); check the path") from error
