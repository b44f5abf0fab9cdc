"""`miniclip embed -o FOLDER/`, as its users see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.tiny_bundle import COLOURS, D

pytest.importorskip("pyarrow")


def test_a_folder_of_shards_is_made_once_and_gone_on_with(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"no image")
    out = f"{tmp_path}/out/"

    made = cli("embed", photos.as_uri(), "-o", out, "--json")
    again = cli("embed", photos.as_uri(), "-o", out)

    assert made.code == again.code == 0
    (skipped,) = made.json.pop("skipped")
    assert skipped["path"].endswith("broken.jpg")
    assert {key: made.json[key] for key in ("count", "embedding_dim", "rejected", "shards")} == {
        "count": len(COLOURS), "embedding_dim": D, "rejected": 1, "shards": 1
    }  # fmt: skip
    assert (made.json["found"], made.json["repeats"]) == (0, 0)
    assert "1 of 9 images were skipped" in made.err
    assert f"{out}: 8 vectors of {D} numbers in 1 shards, 1 of them from before" in again.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "plan.parquet", "part-00000.parquet", "repeats-00000.parquet", "rejects-00000.parquet"
    }  # fmt: skip


def test_what_belongs_to_shards_alone_is_refused_elsewhere(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    far = cli("embed", "s3://bucket/photos", "-o", tmp_path / "v.npz")
    assert (far.code, "give -o FOLDER/" in far.err) == (2, True)
    features = cli("embed", photos, "-o", f"{tmp_path}/out/", "--features")
    assert (features.code, "--features" in features.err) == (2, True)
    address = cli("embed", photos, "-o", f"{tmp_path}/out/", "--address", "ray://nobody:1")
    assert (address.code, "--engine ray" in address.err) == (2, True)
