"""The routes of the API: a form comes in, one call of the service, an answer goes out.

Requests are forms (multipart, or urlencoded where there is no image), so that a file is a file and
`curl -F` is all it takes; answers are JSON, or a JSON object a line for `Accept:
application/x-ndjson`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from importlib.metadata import version
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, File, Form, Path, Query, Request, Response, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from miniclip.errors import ImageError
from miniclip.index.ask import Found
from miniclip.serve import schemas
from miniclip.serve.asking import Search
from miniclip.serve.failures import GoneError
from miniclip.serve.seeing import Seen
from miniclip.serve.service import Service

T = TypeVar("T")

LINES = "application/x-ndjson"

FAILURES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": schemas.Failure, "description": "Refused; `code` and `message` say why."},
    "5XX": {"model": schemas.Failure, "description": "Failed; the log knows `request_id`."},
}
_IN_LINES: dict[int | str, dict[str, Any]] = {
    **FAILURES,
    200: {"content": {LINES: {"schema": {"type": "string"}}}},
}

Images = Annotated[list[UploadFile], File(alias="image", description="Image files.")]
Image = Annotated[UploadFile, File(description="An image file.")]
Top = Annotated[int, Form(ge=1, le=1000, description="How many results.")]
Texts = Annotated[list[str], Form(alias="text", description="Sentences.", examples=[["a dog"]])]


def routes(service: Service) -> APIRouter:
    """Return the routes over a service."""
    router = APIRouter(prefix="/v1", responses=FAILURES)
    _add_vectors(router, service)
    _add_index(router, service)
    _add_labels(router, service)
    _add_explain(router, service)

    @router.get("/models")
    async def models() -> schemas.Models:
        """Say which model, classifiers and index this server has, and what it takes at once."""
        return await _models(service)

    return router


def _add_vectors(router: APIRouter, service: Service) -> None:
    @router.post("/embed", response_model=schemas.Embedded, responses=_IN_LINES)
    async def embed(
        request: Request,
        images: Images = [],  # noqa: B006 - FastAPI copies defaults
        texts: Texts = [],  # noqa: B006
        features: Annotated[bool, Form(description="Also the features of images.")] = False,
    ) -> Response:
        """Turn images and texts into vectors of one space; dot products are cosines."""
        _note(request, text=texts, image=[image.filename for image in images])
        rows = await service.embed_texts(texts)
        said = [
            schemas.EmbeddedText(text=place, embedding=row.tolist())
            for place, row in enumerate(rows)
        ]

        def image(place: int, seen: Seen) -> schemas.EmbeddedImage:
            return schemas.EmbeddedImage(
                image=place,
                embedding=seen.embeddings[0].tolist(),
                features=seen.features[0].tolist() if features else None,
            )

        async def coming() -> AsyncIterator[BaseModel]:
            for text in said:
                yield text
            async for place, seen in _numbered(service, images):
                yield seen if isinstance(seen, schemas.Skipped) else image(place, seen)

        if _wants_lines(request):
            return await _lines(coming())
        entries = [entry async for entry in coming()]
        return _json(
            schemas.Embedded(
                model=service.encoder.name,
                fingerprint=service.encoder.fingerprint,
                images=[entry for entry in entries if isinstance(entry, schemas.EmbeddedImage)],
                texts=said,
                skipped=_skipped(entries),
            )
        )


def _add_index(router: APIRouter, service: Service) -> None:
    @router.post("/search")
    async def search(
        request: Request,
        *,
        text: Annotated[
            str, Form(description="Words, as `miniclip search` takes them.", examples=["a dog"])
        ] = "",
        images: Images = [],  # noqa: B006
        like: Annotated[
            list[int], Form(description="Images of the index, by id, to find others like them.")
        ] = [],  # noqa: B006
        top: Top = 12,
        page: Annotated[int, Form(ge=1, le=1000)] = 1,
        where: Annotated[
            str | None, Form(max_length=2000, description="A condition, such as taken >= 2024.")
        ] = None,
        by: Annotated[Literal["vectors", "text", "both"], Form()] = "vectors",
        min_confidence: Annotated[float | None, Form(ge=0, le=1)] = None,
        near_duplicates: Annotated[bool, Form(description="Fold them into one.")] = False,
    ) -> schemas.Found:
        """Find images of the index by words, by example images, or by both."""
        _note(request, text=[text], image=[image.filename for image in images], where=where)
        question = Search(
            text=text,
            images=images,
            like=like,
            top=top,
            page=page,
            where=where,
            by=by,
            min_confidence=min_confidence,
            near_duplicates=near_duplicates,
        )
        answer = await service.search(question)
        return schemas.Found(
            hits=[_hit(found) for found in answer.hits],
            closest=_hit(answer.closest) if answer.closest else None,
            more=answer.more,
            min_confidence=question.cut,
        )

    @router.get(
        "/images/{id}",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {"schema": {"type": "string"}}}}, **FAILURES},
    )
    async def image(
        number: Annotated[int, Path(alias="id", ge=1)],
        side: Annotated[int, Query(ge=16, le=2048, description="Pixels of the longer side.")] = 320,
    ) -> Response:
        """Show an image of the index, as a JPEG without any metadata."""
        content, digest = await service.image(number, side)
        headers = {"cache-control": "private, max-age=3600", "etag": f'"{digest[:32]}-{side}"'}
        return Response(content, media_type="image/jpeg", headers=headers)

    @router.post("/match")
    async def match(
        request: Request,
        image: Image,
        texts: Texts = [],  # noqa: B006
        top: Top = 5,
    ) -> schemas.Matched:
        """Rank texts, or the captions of the index, by how well they fit an image."""
        _note(request, text=texts, image=[image.filename])
        hits = await service.match(image, texts, top)
        return schemas.Matched(
            hits=[schemas.ScoredText(text=hit.text, score=hit.cosine) for hit in hits]
        )


def _add_labels(router: APIRouter, service: Service) -> None:
    @router.post("/classify")
    async def classify(
        request: Request,
        images: Images,
        labels: Annotated[
            list[str], Form(alias="label", description="Names.", examples=[["cat", "dog"]])
        ],
        templates: Annotated[
            list[str],
            Form(alias="template", description="Sentences with {} for the label."),
        ] = [],  # noqa: B006
        top: Top = 5,
    ) -> schemas.Classified:
        """Name images with labels of your own, untrained."""
        _note(request, text=[*labels, *templates], image=[image.filename for image in images])
        name = await service.zero_shot(labels, templates)
        entries: list[BaseModel] = []
        async for place, seen in _numbered(service, images):
            entries.append(
                seen
                if isinstance(seen, schemas.Skipped)
                else schemas.ClassifiedImage(image=place, labels=_labels(name(seen)[:top]))
            )
        return schemas.Classified(
            model=service.encoder.name,
            images=[entry for entry in entries if isinstance(entry, schemas.ClassifiedImage)],
            skipped=_skipped(entries),
        )

    @router.post("/predict", response_model=schemas.Predicted, responses=_IN_LINES)
    async def predict(
        request: Request,
        model: Annotated[str, Form(max_length=200, examples=["trashnet"])],
        images: Images,
    ) -> Response:
        """Label images with a fitted classifier, and say which a person should look at."""
        _note(request, model=model, image=[image.filename for image in images])
        predictor = service.model(model)

        async def coming() -> AsyncIterator[BaseModel]:
            views = predictor.model.views_text
            async for place, seen in _numbered(service, images, views):
                if isinstance(seen, schemas.Skipped):
                    yield seen
                    continue
                said = await service.predict(predictor, seen)
                yield schemas.PredictedImage(
                    image=place,
                    labels=_labels(said.labels),
                    set=list(said.label_set),
                    decision=said.decision,
                    reason=said.reason,
                    nearest=[
                        schemas.Neighbour(path=one.name, cosine=one.cosine) for one in said.nearest
                    ],
                )

        if _wants_lines(request):
            return await _lines(coming())
        entries = [entry async for entry in coming()]
        return _json(
            schemas.Predicted(
                model=model,
                images=[entry for entry in entries if isinstance(entry, schemas.PredictedImage)],
                skipped=_skipped(entries),
            )
        )


def _add_explain(router: APIRouter, service: Service) -> None:
    @router.post("/explain")
    async def explain(
        request: Request,
        *,
        image: Image,
        text: Annotated[str | None, Form(examples=["a dog"])] = None,
        model: Annotated[str | None, Form(max_length=200)] = None,
        label: Annotated[str | None, Form(alias="class", max_length=200)] = None,
        method: Annotated[Literal["both", "occlusion", "rise"], Form()] = "both",
    ) -> schemas.Explained:
        """Show what in an image drives its similarity to a text, or a class of a classifier."""
        _note(request, text=[text], model=model, image=[image.filename])
        work = service.explain(image, text=text, model=model, label=label, method=method)
        found = await _while_there(request, work)
        return schemas.Explained.model_validate(found.to_dict())


async def _while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what comes of long work; GoneError, and an end to it, when the client leaves first.

    The body of the request has been read.
    """
    coming, left = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait([coming, left], return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            raise GoneError
        return coming.result()
    finally:
        coming.cancel()
        left.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _models(service: Service) -> schemas.Models:
    encoder, settings = service.encoder, service.settings
    count = await service.count()
    return schemas.Models(
        version=version("miniclip"),
        encoder=schemas.Encoding(
            name=encoder.name,
            fingerprint=encoder.fingerprint,
            embedding_dim=encoder.embedding_dim,
            feature_dim=encoder.feature_dim,
            texts=service.texts,
        ),
        classifiers=[
            schemas.ClassifierCard(
                name=name,
                classes=list(predictor.model.classes),
                views=predictor.model.views_text,
            )
            for name, predictor in service.models.items()
        ],
        index=None if count is None else schemas.IndexCard(images=count),
        limits=schemas.Limits(
            **{name: getattr(settings, name) for name in schemas.Limits.model_fields}
        ),
    )


async def _numbered(
    service: Service, images: list[UploadFile], views: str = "plain"
) -> AsyncIterator[tuple[int, Seen | schemas.Skipped]]:
    place = 0
    async for seen in service.sight.see(images, views):
        if isinstance(seen, ImageError):
            yield place, schemas.Skipped(image=place, reason=str(seen))
        else:
            yield place, seen
        place += 1


async def _lines(entries: AsyncIterator[BaseModel]) -> StreamingResponse:
    """Stream entries, a JSON object a line; the first one is awaited, so that errors have a status.

    An error later on ends the stream with a line `{"error": ...}`.
    """
    first = [entry async for entry in _first(entries)]

    async def text() -> AsyncIterator[bytes]:
        for entry in first:
            yield entry.model_dump_json().encode() + b"\n"
        async for entry in entries:
            yield entry.model_dump_json().encode() + b"\n"

    return StreamingResponse(text(), media_type=LINES)


async def _first(entries: AsyncIterator[BaseModel]) -> AsyncIterator[BaseModel]:
    async for entry in entries:
        yield entry
        return


def _hit(found: Found) -> schemas.Hit:
    record = found.record
    return schemas.Hit(
        id=record.id,
        path="/".join(filter(None, (record.path, record.member))),
        score=found.cosine,
        confidence=found.confidence,
        captions=list(record.captions),
        url=f"/v1/images/{record.id}",
        alike=[twin.id for twin in found.alike],
    )


def _labels(pairs: Any) -> list[schemas.Label]:
    return [schemas.Label(label=label, probability=share) for label, share in pairs]


def _skipped(entries: list[BaseModel]) -> list[schemas.Skipped]:
    return [entry for entry in entries if isinstance(entry, schemas.Skipped)]


def _wants_lines(request: Request) -> bool:
    return LINES in request.headers.get("accept", "")


def _json(answer: BaseModel) -> Response:
    """Answer with a model that is valid by construction; FastAPI would check it once more."""
    return Response(answer.model_dump_json(), media_type="application/json")


def _note(request: Request, **content: Any) -> None:
    """Leave what was asked for the log, which tells it only when told to."""
    request.state.content = content
