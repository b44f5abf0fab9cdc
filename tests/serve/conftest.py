"""One server for all tests that only ask: a model of colours, an index and a classifier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from miniclip.client import Client
from miniclip.collection import Index
from miniclip.datasets.labelled_splits import read_labelled_splits
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.fit import fit_classifier
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.model import ClassifierModel
from miniclip.serve.settings import Settings
from miniclip.testing import COLOURS, FakeEncoder
from tests.probe.photos import make_photos
from tests.serve.running import Running, png, running


@dataclass(frozen=True)
class Served:
    """What servers serve."""

    place: Path
    index: Index
    models: dict[str, ClassifierModel]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Make eleven pictures of one colour, some with captions, and a classifier of made photos."""
    place = tmp_path_factory.mktemp("serve")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINICLIP_HOME", str(place / "home"))
        folder = place / "photos"
        folder.mkdir()
        for colour in COLOURS:
            (folder / f"{colour}.png").write_bytes(png(colour))
        (place / "captions.csv").write_text(
            "image,caption\nred.png,a red wall\nblue.png,the blue sea\n"
        )
        index = Index.open(folder, FakeEncoder())
        index.sync(captions=place / "captions.csv")
        splits = read_labelled_splits(make_photos(place / "labelled", 10))
        settings = FitSettings(folds=3, views="flip")
        with VectorCache.open(place / "cache.sqlite3") as cache:
            model = fit_classifier(FakeEncoder(), splits, cache, settings).model
        with index:
            yield Served(place, index, {"made": model})


@pytest.fixture(scope="session")
def server(served: Served) -> Iterator[Running]:
    """Serve them."""
    settings, place = Settings(port=0), served.place
    with running(settings, index=served.index, models=served.models, place=place) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Running) -> Iterator[Client]:
    """Ask that server."""
    with Client(server.url) as client:
        yield client
