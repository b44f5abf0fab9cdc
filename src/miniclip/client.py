"""`Client`: the API of `miniclip serve` from Python, with typed answers. Needs miniclip[serve]."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx

from miniclip.errors import MiniClipError
from miniclip.serve import schemas

Image = Path | str | bytes
"""An image: the path of a file, or the bytes of one."""

A = TypeVar("A", bound=schemas.Answer)
_LINES = "application/x-ndjson"


class ServerError(MiniClipError):
    """The server refused or failed.

    status: of HTTP, 0 when it could not be reached. code: for programs, such as "image" or "busy".
    request_id: under which its log tells more. retry_after: seconds, when it was busy.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "unreachable",
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.request_id = status, code, request_id
        self.retry_after = retry_after


class Client:
    """Asks one server; use as a context manager, from any number of threads.

    url: such as "http://127.0.0.1:7860". token: what the server was started with; or auth, a name
    and a password. timeout_seconds: for an answer. Every method raises ServerError.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:7860",
        *,
        token: str | None = None,
        auth: tuple[str, str] | None = None,
        timeout_seconds: float = 60.0,
    ) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=url, auth=auth, headers=headers, timeout=timeout_seconds, trust_env=False
        )

    def embed(
        self, images: Sequence[Image] = (), texts: Sequence[str] = (), *, features: bool = False
    ) -> schemas.Embedded:
        """Turn images and texts into vectors of one space."""
        form = {"text": list(texts), "features": features}
        return self._post("embed", form, schemas.Embedded, image=images)

    def embed_lines(
        self, images: Sequence[Image] = (), texts: Sequence[str] = (), *, features: bool = False
    ) -> Iterator[schemas.EmbeddedImage | schemas.EmbeddedText | schemas.Skipped]:
        """As `embed`, one by one as they are done: texts first."""
        form = {"text": list(texts), "features": features}
        for line in self._lines("embed", form, images):
            kind: type[schemas.EmbeddedImage | schemas.EmbeddedText | schemas.Skipped]
            kind = schemas.EmbeddedText if "text" in line else schemas.EmbeddedImage
            yield (schemas.Skipped if "reason" in line else kind).model_validate(line)

    def search(
        self,
        text: str = "",
        images: Sequence[Image] = (),
        *,
        like: Sequence[int] = (),
        top: int = 12,
        page: int = 1,
        where: str | None = None,
        by: Literal["vectors", "text", "both"] = "vectors",
        min_confidence: float | None = None,
        near_duplicates: bool = False,
    ) -> schemas.Found:
        """Find images of the index by words, by examples, or by both; as `miniclip search`."""
        form = {
            "text": text,
            "like": list(like),
            "top": top,
            "page": page,
            "where": where,
            "by": by,
            "min_confidence": min_confidence,
            "near_duplicates": near_duplicates,
        }
        return self._post("search", form, schemas.Found, image=images)

    def match(self, image: Image, texts: Sequence[str] = (), *, top: int = 5) -> schemas.Matched:
        """Rank texts, or the captions of the index, by how well they fit an image."""
        form = {"text": list(texts), "top": top}
        return self._post("match", form, schemas.Matched, image=[image])

    def classify(
        self,
        images: Sequence[Image],
        labels: Sequence[str],
        *,
        templates: Sequence[str] = (),
        top: int = 5,
    ) -> schemas.Classified:
        """Name images with labels of your own."""
        form = {"label": list(labels), "template": list(templates), "top": top}
        return self._post("classify", form, schemas.Classified, image=images)

    def predict(self, model: str, images: Sequence[Image]) -> schemas.Predicted:
        """Label images with a classifier of the server."""
        return self._post("predict", {"model": model}, schemas.Predicted, image=images)

    def predict_lines(
        self, model: str, images: Sequence[Image]
    ) -> Iterator[schemas.PredictedImage | schemas.Skipped]:
        """As `predict`, one by one as they are done."""
        for line in self._lines("predict", {"model": model}, images):
            kind: type[schemas.PredictedImage | schemas.Skipped]
            kind = schemas.PredictedImage if "labels" in line else schemas.Skipped
            yield kind.model_validate(line)

    def explain(
        self,
        image: Image,
        *,
        text: str | None = None,
        model: str | None = None,
        label: str | None = None,
        method: str = "both",
    ) -> schemas.Explained:
        """Show what in an image drives a score; takes seconds."""
        form = {"text": text, "model": model, "class": label, "method": method}
        return self._post("explain", form, schemas.Explained, image=[image])

    def models(self) -> schemas.Models:
        """Say what the server can do."""
        with _translated():
            return schemas.Models.model_validate(_checked(self._http.get("/v1/models")).json())

    def image(self, hit: schemas.Hit | int, *, side: int = 320) -> bytes:
        """Return an image of the index as a JPEG of at most `side` pixels."""
        number = hit if isinstance(hit, int) else hit.id
        with _translated():
            answer = self._http.get(f"/v1/images/{number}", params={"side": side})
            return _checked(answer).content

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _post(self, verb: str, form: dict[str, Any], kind: type[A], *, image: Sequence[Image]) -> A:
        with _translated():
            answer = self._http.post(f"/v1/{verb}", **_body(form, image))
            return kind.model_validate(_checked(answer).json())

    def _lines(
        self, verb: str, form: dict[str, Any], images: Sequence[Image]
    ) -> Iterator[dict[str, Any]]:
        with (
            _translated(),
            self._http.stream(
                "POST", f"/v1/{verb}", headers={"accept": _LINES}, **_body(form, images)
            ) as answer,
        ):
            if answer.is_error:
                answer.read()
            _checked(answer)
            for text in answer.iter_lines():
                line: dict[str, Any] = json.loads(text)
                if "error" in line:
                    raise ServerError(**line["error"], status=500)
                yield line


def _body(form: dict[str, Any], images: Sequence[Image]) -> dict[str, Any]:
    """Return what httpx sends; files go without their names, which the server need not know."""
    kept = {name: value for name, value in form.items() if value is not None and value != []}
    files = [("image", ("image", _bytes(image))) for image in images]
    return {"data": kept, "files": files or None}


def _bytes(image: Image) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise ServerError(
            f"the server did not answer ({type(error).__name__}: {error}); check that it runs, its "
            "address and the timeout"
        ) from error


def _checked(answer: httpx.Response) -> httpx.Response:
    """Return an answer; ServerError when it is none."""
    if answer.is_success:
        return answer
    try:
        problem = answer.json()["error"]
    except (ValueError, LookupError, TypeError):
        problem = {"message": f"status {answer.status_code}", "code": "http", "request_id": ""}
    wait = answer.headers.get("retry-after")
    raise ServerError(
        **problem, status=answer.status_code, retry_after=float(wait) if wait else None
    )
