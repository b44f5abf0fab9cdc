"""What a trained model itself says about the probes, to hold its exported graphs against.

The comparison, its limits and its record are in `miniclip.pull.parity`.
"""

from __future__ import annotations

import numpy as np
import torch

from miniclip.arrays import FloatArray
from miniclip.preprocess import preprocess
from miniclip.pull.parity import ProbeVectors
from miniclip.pull.probes import PROBE_SENTENCES, probe_photos
from miniclip.tokenizer import Tokenizer
from miniclip.train.model import TwoTower


def model_vectors(model: TwoTower) -> ProbeVectors:
    """Ask a model in eval mode on the CPU about the probes.

    It takes one text at a time, without padding (unless its spec pads to "max"), where an encoder
    takes them in batches: so masks are proved too.
    """
    spec = model.image_tower.image_spec
    pixels = np.stack([preprocess(photo, spec) for photo in probe_photos()])
    with torch.no_grad():
        features, *earlier = model.described_pixels(torch.from_numpy(pixels))
        embeddings = model.project_image(features)
        described = torch.cat([features, *earlier], dim=1)
    return ProbeVectors(embeddings.numpy(), described.numpy(), _encode_singly(model))


def _encode_singly(model: TwoTower) -> FloatArray:
    tower = model.text_tower
    tokenizer = Tokenizer.from_file(tower.tokenizer_path, tower.text_spec)
    rows = []
    for sentence in PROBE_SENTENCES:
        ids, mask = tokenizer([sentence])
        kept = len(ids[0]) if tower.text_spec.pad == "max" else max(1, int(mask.sum()))
        with torch.no_grad():
            row = model.encode_text(
                torch.from_numpy(ids[:, :kept]), torch.from_numpy(mask[:, :kept])
            )
        rows.append(row.numpy())
    return np.concatenate(rows)
