"""Where a verb runs the model: here, or on a Ray cluster; shared by embed, index and predict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from miniclip.bulk.batch import Embed
    from miniclip.bundle import Bundle
    from miniclip.embed import Stream
    from miniclip.encoder import Encoder


class Engine(StrEnum):
    """What runs the model."""

    local = "local"
    ray = "ray"


Option = Annotated[
    Engine,
    typer.Option("--engine", help="Run the model on this computer, or on a Ray cluster."),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URI",
        help="With --engine ray: the cluster, such as ray://HOST:10001. Default: the environment "
        "variable RAY_ADDRESS, else the CPUs of this computer.",
        show_default=False,
    ),
]


@contextmanager
def stream_of(
    engine: Engine, address: str | None, bundle: Bundle, runtime: str | None = None
) -> Iterator[Stream]:
    """Yield what embeds with a bundle by a runtime; a cluster is connected to as long."""
    if engine is Engine.local:
        _refuse(address)
        from miniclip.embed import embed_stream

        yield embed_stream
        return
    from miniclip.cluster import RayCluster

    with RayCluster(bundle, address, runtime=runtime) as cluster:
        yield cluster.stream


@contextmanager
def far_embedder(
    engine: Engine, address: str | None, encoder: Encoder, bundle: Bundle, runtime: str | None
) -> Iterator[Embed]:
    """Yield what embeds batches of images that may lie anywhere."""
    if engine is Engine.local:
        _refuse(address)
        from miniclip.bulk.batch import embed_here

        yield embed_here(encoder)
        return
    from miniclip.cluster import RayCluster

    with RayCluster(bundle, address, runtime=runtime) as cluster:
        yield cluster.embed_far(encoder)


def _refuse(address: str | None) -> None:
    if address:
        raise typer.BadParameter("--address is for --engine ray")
