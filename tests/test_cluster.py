"""The model on a Ray cluster of several nodes of this machine: the same vectors, whatever dies."""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miniclip import cluster as module
from miniclip.bundle import Bundle
from miniclip.cluster import RayCluster
from miniclip.collection import Index
from miniclip.embed import Embedded, Skipped, embed_stream
from miniclip.errors import ClusterError, MissingExtraError
from miniclip.home import cache_dir
from miniclip.images import ImageSource
from miniclip.index.embed_cached import embed_cached
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.facts import facts_of
from miniclip.probe.table import read_table
from miniclip.runtimes import open_encoder
from miniclip.views import named_views
from tests.index.photos_on_disk import photo

ray: Any = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of ray

PHOTOS = 100
# Each node is half a dozen processes: start no more of them than the tests need.
NODE = {"num_cpus": 2, "object_store_memory": 100_000_000}
HEAD = NODE | {
    "num_cpus": 0,
    "include_dashboard": False,
    "include_log_monitor": False,
    "no_monitor": True,
}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a head that computes nothing, and a node with two workers."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    patch = pytest.MonkeyPatch()
    patch.setenv("MINICLIP_HOME", str(tmp_path_factory.mktemp("home")))
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_health_check_period_ms", "500")  # a death is noticed at the fifth
    patch.setenv("RAY_worker_niceness", "0")  # beside other work they would wait for ever
    made = Cluster(initialize_head=True, head_node_args=HEAD)
    made.add_node(**NODE)
    yield made
    ray.shutdown()
    made.shutdown()
    patch.undo()


@pytest.fixture(scope="module")
def cluster(nodes: Any, tiny_bundle: Bundle) -> Iterator[RayCluster]:
    with RayCluster(tiny_bundle, nodes.address) as connected:
        yield connected


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageSource]:
    """Photos, one of them broken, one missing, and one that is bytes."""
    paths = [photo(tmp_path / f"{number}.png", number) for number in range(PHOTOS)]
    paths[40].write_bytes(b"no image")
    paths[70].unlink()
    stored = io.BytesIO()
    Image.open(paths[0]).save(stored, "PNG")
    return [*map(ImageSource.of, paths), ImageSource("bytes", data=stored.getvalue())]


def test_the_cluster_gives_the_vectors_of_this_computer_in_the_same_order(
    cluster: RayCluster, tiny_bundle: Bundle, sources: list[ImageSource]
) -> None:
    encoder = open_encoder(tiny_bundle)
    plain, flipped = named_views("flip")
    for view, look in ((plain, facts_of), (flipped, None)):
        here = list(embed_stream(encoder, sources, view=view, look=look))
        there = list(cluster.stream(encoder, iter(sources), view=view, look=look))

        assert names(there) == names(here)
        for part in ("embeddings", "features"):
            np.testing.assert_array_equal(rows(there, part), rows(here, part))
        assert facts(there) == facts(here)
        assert sorted(skipped(there)) == sorted(skipped(here))


def test_files_that_the_workers_do_not_see_are_sent(
    cluster: RayCluster, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender claims another state of its files, as those of another computer have."""
    sources = [ImageSource.of(photo(tmp_path / f"{n}.png", n)) for n in range(3)]
    monkeypatch.setattr(module, "_state", lambda source: (1, 2) if source.path else None)
    encoder = open_encoder(tiny_bundle)

    there = list(cluster.stream(encoder, sources))

    assert names(there) == [source.name for source in sources]
    np.testing.assert_array_equal(
        rows(there, "embeddings"), rows(list(embed_stream(encoder, sources)), "embeddings")
    )


def test_each_photo_is_there_once_when_a_node_dies_and_another_joins(
    nodes: Any, cluster: RayCluster, tiny_bundle: Bundle, sources: list[ImageSource],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The node that dies is the only one, so nothing computes until the other is there."""
    encoder = open_encoder(tiny_bundle)
    (doomed,) = nodes.worker_nodes

    def slowly() -> Iterator[ImageSource]:
        for source in sources:
            time.sleep(0.01)
            yield source

    stream = cluster.stream(encoder, slowly())
    there = [next(stream)]
    nodes.remove_node(doomed, allow_graceful=False)
    nodes.add_node(**NODE)
    there += list(stream)

    here = list(embed_stream(encoder, sources))
    assert names(there) == names(here)
    np.testing.assert_array_equal(rows(there, "embeddings"), rows(here, "embeddings"))
    assert capfd.readouterr().out == ""  # answers are read there


def test_an_index_and_a_cache_filled_by_the_cluster_are_as_ever(
    cluster: RayCluster, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    encoder = open_encoder(tiny_bundle)
    paths = [photo(tmp_path / "photos" / f"{n}.png", n % 40) for n in range(50)]
    with VectorCache.open(tmp_path / "cache.sqlite3") as cache:
        found = embed_cached(encoder, paths, cache, stream=cluster.stream)
        assert (len(found.paths), found.computed) == (50, 40)  # equal content once
        assert embed_cached(encoder, paths, cache, stream=cluster.stream).computed == 0
    shards = pytest.importorskip("miniclip.bulk.shards")
    places, embed = [str(tmp_path / "photos")], cluster.embed_far(encoder)
    made = shards.embed_shards(encoder, places, str(tmp_path / "out"), embed, shard=35)
    assert (made.vectors, made.repeats, made.shards) == (40, 10, 2)
    sources = [*map(ImageSource.of, paths)]
    with VectorCache.open(tmp_path / "1.sqlite3") as one, VectorCache.open(tmp_path / "2") as two:
        here = read_table(encoder, sources, one, views=named_views("flip"))
        there = read_table(encoder, sources, two, views=named_views("flip"), stream=cluster.stream)
        np.testing.assert_array_equal(there.features, here.features)
        assert there.facts == here.facts
    shutil.rmtree(cache_dir(), ignore_errors=True)
    with Index.open(tmp_path / "photos", encoder) as index:
        result = index.sync(stream=cluster.stream)
        assert (result.images, result.embedded) == (50, 40)
        assert index.search(paths[7], top=1)[0].score > 0.999


def test_what_cannot_be_is_said(
    cluster: RayCluster, tiny_bundle: Bundle, sources: list[ImageSource],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    encoder = open_encoder(tiny_bundle)
    monkeypatch.setattr(type(encoder), "fingerprint", "f" * 64)
    with pytest.raises(ClusterError, match=r"embeds with .* and not with .* \(ffffffffffff\)"):
        list(cluster.stream(encoder, sources))


def test_a_cluster_that_is_not_there_and_a_ray_that_is_not_installed_are_named(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClusterError, match=r"there is no Ray at 127\.0\.0\.1:9 "):
        RayCluster(tiny_bundle, "127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"miniclip\[ray\]"):
        RayCluster(tiny_bundle)


def names(found: list[Embedded | Skipped]) -> list[str]:
    return [source.name for one in found if isinstance(one, Embedded) for source in one.sources]


def rows(found: list[Embedded | Skipped], part: str) -> Any:
    return np.concatenate([getattr(one, part) for one in found if isinstance(one, Embedded)])


def facts(found: list[Embedded | Skipped]) -> list[Any]:
    return [seen for one in found if isinstance(one, Embedded) for seen in one.seen]


def skipped(found: list[Embedded | Skipped]) -> list[tuple[str, str]]:
    return [(one.name, one.reason) for one in found if isinstance(one, Skipped)]
