"""What `miniclip share` writes, `miniclip pull` reads: the same vectors, without torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from miniclip.bundle import Bundle, write_bundle
from miniclip.errors import BundleError
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.preprocess import ImageSpec
from miniclip.pull.layouts import Layout, layout_of
from miniclip.pull.parity import encode_probes
from miniclip.pull.ready_made import Label, bundle_of
from miniclip.pull.transformers_js import read_transformers_js
from miniclip.share.write import Shared, share_bundle
from tests.tiny_bundle import IMAGE_SPEC, MANIFEST, TEXT_SPEC, tiny_files


def pulled(shared: Shared, out: Path) -> Bundle:
    names = list(shared.files)
    assert layout_of(names, "shared") is Layout.transformers_js
    model = read_transformers_js(shared.directory, names, "float32")
    return bundle_of(model, out, Label("again", "Apache-2.0", {}, None))


@pytest.mark.parametrize(
    "image",
    [IMAGE_SPEC, dataclasses.replace(IMAGE_SPEC, resize="shortest", resize_side=40)],
    ids=["squash", "shortest"],
)
def test_a_shared_bundle_is_pulled_again(image: ImageSpec, tmp_path: Path) -> None:
    manifest = dataclasses.replace(MANIFEST, image=image)
    own = write_bundle(tmp_path / "own", manifest=manifest, files=tiny_files())
    again = pulled(share_bundle(own, tmp_path / "shared"), tmp_path / "again")
    assert again.manifest.image == image
    assert again.manifest.text == TEXT_SPEC
    assert again.manifest.logit_scale == pytest.approx(MANIFEST.logit_scale)
    one, other = encode_probes(OnnxEncoder.open(own)), encode_probes(OnnxEncoder.open(again))
    np.testing.assert_allclose(one.images, other.images, atol=1e-6)
    assert one.texts is not None
    assert other.texts is not None
    np.testing.assert_allclose(one.texts, other.texts, atol=1e-6)


def test_pixels_that_were_altered_since_are_refused(tmp_path: Path) -> None:
    own = write_bundle(tmp_path / "own", manifest=MANIFEST, files=tiny_files())
    shared = share_bundle(own, tmp_path / "shared")
    path = shared.directory / "preprocessor_config.json"
    path.write_text(path.read_text().replace('"resample": 2', '"resample": 3'))
    with pytest.raises(BundleError, match=r"image = .*what preprocessor_config\.json says"):
        pulled(shared, tmp_path / "again")
