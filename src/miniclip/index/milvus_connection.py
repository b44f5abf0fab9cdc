"""One connection to Milvus: a server, or Milvus Lite in this process over a directory of files.

The only module that imports pymilvus and milvus_lite. It speaks of collections and rows; what they
mean is the business of `milvus_store`. All reads see all earlier writes (consistency "Strong").
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from miniclip.arrays import FloatArray
from miniclip.errors import MissingExtraError, StoreError
from miniclip.index.milvus_filter import quoted
from miniclip.index.store import LockedStoreError

TOKEN_VARIABLE = "MINICLIP_MILVUS_TOKEN"
MOST_HITS = 16_384  # rows that Milvus returns to one question
CONNECT_SECONDS = 10.0
_KEYS = 4_096  # in one expression
_ROWS = 1_000  # in one message: at 1,024 numbers to a vector, 4 MB

_TYPES = ("datatype", "element_type")  # of a field, as names of pymilvus.DataType

Row = dict[str, Any]
Key = int | str


@dataclass
class _Lite:
    """A Milvus Lite of this process, shared by all connections to its directory."""

    uri: str
    stop: Callable[[], None]
    users: int = 0


_RUNNING: dict[str, _Lite] = {}
_STARTING = Lock()


class Connection:
    """Rows in and out of collections; errors of Milvus become StoreError. For any threads."""

    def __init__(self, target: str, client: Any, let_go: Callable[[], None]) -> None:
        self.target = target
        self._client: Any = client
        self._let_go = let_go
        self._loaded: set[str] = set()

    @classmethod
    def open(cls, target: str) -> Connection:
        """Connect to a server ("http://host:19530") or start Milvus Lite (a directory).

        MissingExtraError without pymilvus; LockedStoreError when another process has the directory
        open; StoreError when there is no server.
        """
        try:
            from pymilvus import MilvusClient  # noqa: PLC0415 - half a second
        except ImportError:
            raise MissingExtraError("an index in Milvus", "milvus") from None
        _silence()
        if not is_server(target):
            return cls(target, *_open_lite(target, MilvusClient))
        with _translated(target):
            token = os.environ.get(TOKEN_VARIABLE, "")
            client = MilvusClient(uri=target, token=token, timeout=CONNECT_SECONDS)
        return cls(target, client, lambda: None)

    @property
    def is_lite(self) -> bool:
        """Whether Milvus runs in this process."""
        return not is_server(self.target)

    def collections(self) -> set[str]:
        """Return the names of all collections."""
        return set(self._call("list_collections"))

    def create(self, name: str, fields: Iterable[Row], index: Row, words: Row | None) -> None:
        """Make a collection; `milvus_schema` says what the arguments are."""
        from pymilvus import DataType, Function, FunctionType, MilvusClient  # noqa: PLC0415

        with _translated(self.target):
            schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
            for field in fields:
                types = {key: DataType[field[key]] for key in _TYPES if key in field}
                schema.add_field(**{**field, **types})
            if words:
                schema.add_function(Function(function_type=FunctionType.BM25, **words))
            indexes = MilvusClient.prepare_index_params()
            indexes.add_index(**index)
        self._call(
            "create_collection", collection_name=name, schema=schema, consistency_level="Strong"
        )
        # It holds nothing that would have to be waited for.
        self._call("create_index", collection_name=name, index_params=indexes, sync=False)

    def drop(self, name: str) -> None:
        """Forget a collection with all its rows."""
        self._call("drop_collection", collection_name=name)
        self._loaded.discard(name)

    def put(self, name: str, rows: Sequence[Row]) -> None:
        """Add or replace rows by key, all at once."""
        if rows:
            self._call("upsert", name, collection_name=name, data=list(rows))

    def add(self, name: str, rows: Sequence[Row]) -> None:
        """Add rows of new keys, message by message."""
        for start in range(0, len(rows), _ROWS):
            self._call("insert", name, collection_name=name, data=list(rows[start : start + _ROWS]))

    def delete(self, name: str, keys: Collection[Key]) -> None:
        """Delete rows by key, all at once; unknown keys are no error."""
        if keys:
            self._call("delete", name, collection_name=name, ids=list(keys))

    def get(self, name: str, key: str, keys: Collection[Key], fields: Sequence[str]) -> list[Row]:
        """Return the rows with these values of the field `key`, in any order."""
        found: list[Row] = []
        for some in _pieces(list(keys), _KEYS):
            found += self.rows(name, one_of(key, some), fields)
        return found

    def rows(
        self, name: str, where: str, fields: Sequence[str], *, limit: int | None = None
    ) -> list[Row]:
        """Return the rows for which an expression holds, in any order."""
        options = {} if limit is None else {"limit": limit}
        return list(
            self._call(
                "query",
                name,
                collection_name=name,
                filter=where,
                output_fields=list(fields),
                **options,
            )
        )

    def count(self, name: str, where: str = "") -> int:
        """Count rows."""
        found = self.rows(name, where, ["count(*)"])
        return int(found[0]["count(*)"])

    def nearest(
        self,
        name: str,
        field: str,
        query: FloatArray | str,
        *,
        top: int,
        where: str,
        fields: Sequence[str],
    ) -> list[Row]:
        """Return up to `top` rows closest to a vector or to words, best first."""
        found = self._call(
            "search",
            name,
            collection_name=name,
            data=[query],
            anns_field=field,
            limit=top,
            filter=where,
            output_fields=list(fields),
            search_params={"params": {"ef": max(2 * top, 256)}},
        )
        return [{**hit["entity"], "distance": hit["distance"]} for hit in found[0]]

    def settle(self, name: str) -> None:
        """Write what is in memory to files that are searched faster; a server decides itself."""
        if self.is_lite:
            self._call("flush", name, collection_name=name)

    def close(self) -> None:
        """Let go; a second time is no error."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # whatever was wrong, it is over
                client.close()
            self._let_go()

    def check_open(self) -> None:
        """Raise StoreError after `close`."""
        if self._client is None:
            raise StoreError(f"the index {self.target} was closed; open it again")

    def _call(self, method: str, collection: str = "", **options: Any) -> Any:
        self.check_open()
        client = self._client
        with _translated(self.target):
            if collection and collection not in self._loaded:
                client.load_collection(collection)
                self._loaded.add(collection)
            return getattr(client, method)(**options)


def is_server(target: str) -> bool:
    """Tell a server from a directory."""
    return "://" in target


def one_of(field: str, values: Iterable[Key]) -> str:
    """Return the expression that holds for these values of a field."""
    literals = (quoted(one) if isinstance(one, str) else str(int(one)) for one in values)
    return f"{field} in [{', '.join(literals)}]"


def _pieces(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _open_lite(directory: str, client: Any) -> tuple[Any, Callable[[], None]]:
    """Start Milvus Lite on a directory, or share the one that this process runs."""
    key = os.path.realpath(directory)
    with _STARTING:
        lite = _RUNNING.get(key) or _start_lite(directory)
        _RUNNING[key] = lite
        lite.users += 1

    def let_go() -> None:
        with _STARTING:
            lite.users -= 1
            if not lite.users:
                del _RUNNING[key]
                lite.stop()

    try:
        with _translated(directory):
            return client(uri=lite.uri, timeout=CONNECT_SECONDS), let_go
    except BaseException:
        let_go()
        raise


def _start_lite(directory: str) -> _Lite:
    try:
        from milvus_lite.adapter.grpc.server import start_server_in_thread  # noqa: PLC0415
        from milvus_lite.exceptions import DataDirLockedError  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("an index in Milvus Lite", "milvus") from None
    try:
        Path(directory).parent.mkdir(parents=True, exist_ok=True)
        server, database, port = start_server_in_thread(directory, host="127.0.0.1", port=0)
    except DataDirLockedError:
        raise LockedStoreError(
            f"another process has the index {directory} open, and Milvus Lite serves one at a "
            f"time; wait until it has ended, or run: milvus-lite server --data-dir {directory} "
            "and name it by milvus:http://127.0.0.1:19530"
        ) from None
    except OSError as error:
        raise StoreError(
            f"cannot open the index {directory} ({error}); check that its folder may be written "
            "to, and that it is no file of an older Milvus Lite"
        ) from error

    def stop() -> None:
        server.stop(grace=2).wait()
        database.close()

    return _Lite(f"http://127.0.0.1:{port}", stop)


def _silence() -> None:
    """Keep pymilvus from writing to the log what becomes an error of ours anyway."""
    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _translated(target: str) -> Iterator[None]:
    from grpc import RpcError  # noqa: PLC0415 - comes with pymilvus
    from pymilvus import MilvusException  # noqa: PLC0415

    try:
        yield
    except (MilvusException, RpcError, ValueError) as error:
        message = getattr(error, "message", None) or str(error)
        raise StoreError(
            f"cannot use the index {target} ({message}); check that Milvus runs there and that "
            f"you may use it ({TOKEN_VARIABLE} holds its token), then try again"
        ) from error
