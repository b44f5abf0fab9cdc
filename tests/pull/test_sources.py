"""Where models come from: a hub on this machine, its cache, directories, and no network at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from miniclip.errors import BundleError
from miniclip.pull.layouts import Layout
from miniclip.pull.sources import Source, find_source
from tests.pull.fake_hub import COMMIT, NAME, FakeHub, serving
from tests.pull.tiny_layout import tiny_layout

pytest.importorskip("huggingface_hub")
NEEDED = {
    *("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("README.md", "onnx/vision_model.onnx", "onnx/text_model.onnx"),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Serve the tiny model beside much that nobody needs, to an empty cache."""
    directory = tiny_layout(tmp_path / "repository")
    for other in ("onnx/vision_model_fp16.onnx", "onnx/decoder.onnx", "tf_model.h5", "photo.png"):
        (directory / other).write_bytes(b"not needed")
    with serving(directory) as served:
        use(monkeypatch, served.url, tmp_path / "cache")
        yield served


def use(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """Point the library of the hub to an address and a cache, which it reads once, at import."""
    from huggingface_hub import constants  # noqa: PLC0415

    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)


def find(source: str | Path, **options: str | None) -> Source:
    return find_source(str(source), precision="float32", **options)  # type: ignore[arg-type]


def test_of_a_repository_only_what_is_needed_is_fetched(hub: FakeHub) -> None:
    found = find(NAME)

    assert hub.fetched() == NEEDED
    assert found.files == NEEDED
    assert (found.origin, found.revision, found.layout) == (NAME, COMMIT, Layout.transformers_js)
    for name in NEEDED:
        assert (found.directory / name).read_bytes() == hub.files[name]


def test_what_was_fetched_is_found_again_without_a_network(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find(NAME)
    use(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    assert find(NAME) == first
    assert find(NAME, revision=COMMIT) == first
    with pytest.raises(BundleError, match="not in its cache"):
        find(NAME, revision="another-branch")


def test_offline_mode_asks_nobody(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants  # noqa: PLC0415

    first = find(NAME)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find(NAME) == first
    with pytest.raises(BundleError, match=r"offline mode .*hf download other/model --local-dir"):
        find("other/model")
    assert hub.asked == []


def test_a_flipped_bit_in_the_cache_is_refused(hub: FakeHub) -> None:
    path = find(NAME).directory / "onnx" / "text_model.onnx"
    blob = path.resolve()
    content = bytearray(blob.read_bytes())
    content[200] ^= 1
    blob.write_bytes(content)
    with pytest.raises(BundleError, match=r"text_model\.onnx is damaged"):
        find(NAME)


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("colours/no-such-model", None, "knows no model colours/no-such-model"),
        (NAME, "v9", f"{NAME} has no revision 'v9'"),
        ("no-owner", None, "no directory no-owner, nor is it a name"),
        ("./here/nor there", None, "no directory"),
        ("two--dashes/..x", None, "is no name on the hub|knows no model"),
    ],
)
def test_a_name_that_nobody_knows_is_refused(
    hub: FakeHub, name: str, revision: str | None, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        find(name, revision=revision)


def test_terms_must_be_accepted_first(hub: FakeHub) -> None:
    hub.gated = True
    with pytest.raises(BundleError, match=r"asks for its terms to be accepted.*HF_TOKEN"):
        find(NAME)


def test_a_deaf_hub_is_not_waited_for(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from miniclip.pull import hub as asking  # noqa: PLC0415

    assert asking.ANSWER_SECONDS <= 4.5
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.3)
    hub.deaf.set()
    start = time.monotonic()
    with pytest.raises(BundleError, match=r"cannot be reached .* go on from a local copy"):
        find(NAME)
    assert time.monotonic() - start < 3


def test_a_download_that_breaks_says_how_to_go_on(hub: FakeHub) -> None:
    """What was fetched before it broke is not fetched again."""
    hub.broken.add("onnx/vision_model.onnx")
    with pytest.raises(BundleError, match="it goes on where it stopped"):
        find(NAME)
    before = hub.fetched()
    hub.asked.clear()
    hub.broken.clear()
    assert find(NAME).files == NEEDED
    assert "onnx/vision_model.onnx" in hub.fetched()
    assert not hub.fetched() & (before - {"onnx/vision_model.onnx"})


# Directories


def test_a_directory_is_read_where_it_lies(tmp_path: Path) -> None:
    directory = tiny_layout(tmp_path / "my-model")
    (directory / "notes").mkdir()
    (directory / "notes" / "big.bin").write_bytes(b"")
    found = find(directory)
    assert found.directory == directory
    assert (found.origin, found.revision) == ("my-model", None)
    assert found.files == NEEDED
    with pytest.raises(BundleError, match="leave --revision away"):
        find(directory, revision="main")


def test_a_download_to_a_folder_tells_its_commit_and_its_hashes(
    hub: FakeHub, tmp_path: Path
) -> None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    directory = Path(snapshot_download(NAME, local_dir=tmp_path / "copy"))
    assert find(directory).revision == COMMIT

    moved = shutil.copytree(directory, tmp_path / "moved")
    path = moved / "onnx" / "vision_model.onnx"
    content = bytearray(path.read_bytes())
    content[-20] ^= 4
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"vision_model\.onnx is damaged"):
        find(moved)


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BundleError, match=r"no model that can be pulled: it holds notes\.txt"):
        find(tmp_path)


# No network at all


def test_without_a_network_a_name_fails_soon_and_a_directory_works(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system gives no empty network namespace")
    directory = tiny_layout(tmp_path / "tiny")
    cut = ["unshare", "-rn", "env", f"HF_HOME={tmp_path}", f"MINICLIP_HOME={tmp_path}"]
    pull = [*cut, sys.executable, "-m", "miniclip", "pull"]

    start = time.monotonic()
    named = subprocess.run([*pull, "openai/clip"], check=False, capture_output=True, text=True)
    took = time.monotonic() - start
    local = subprocess.run(
        [*pull, directory, "--logit-scale", "20"], check=False, capture_output=True, text=True
    )

    assert named.returncode == 1
    assert "hf download openai/clip --local-dir DIR" in named.stderr
    assert "Traceback" not in named.stderr
    assert took < 20  # 5 for the answer; the rest is for a busy machine to start Python
    assert local.returncode == 0, local.stderr
    assert (tmp_path / "bundles" / "tiny" / "bundle.json").exists()
