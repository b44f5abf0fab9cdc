"""`create_app`: the application over a service. It receives what it needs and builds nothing.

Pages may be mounted on it; they pass the same gate and call the same service.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from miniclip.serve import schemas
from miniclip.serve.api import FAILURES, routes
from miniclip.serve.auth import Credentials
from miniclip.serve.gate import Gate
from miniclip.serve.metrics import CONTENT_TYPE, Metrics
from miniclip.serve.service import Service

_CODES = {400: "request", 404: "missing", 405: "method"}
_SHOWN = 5  # mistakes of one request that are told


def create_app(
    service: Service, credentials: Credentials | None = None, metrics: Metrics | None = None
) -> FastAPI:
    """Return the application; it starts and closes the service.

    credentials: None lets everybody in who can reach it, see `require_credentials`.
    """
    metrics = metrics or Metrics()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            await service.start()
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="miniclip",
        version=version("miniclip"),
        description="Search, name and classify images with words.",
        docs_url=None,  # its scripts would come from another host
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers={HTTPException: _refused, RequestValidationError: _invalid},
    )
    app.state.stopping = asyncio.Event()  # set by the server: streams that only wait for news end
    app.include_router(routes(service))
    _add_health(app, service, metrics)
    app.add_middleware(
        Gate,
        settings=service.settings,
        credentials=credentials,
        metrics=metrics,
    )
    return app


def _add_health(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/healthz", responses=FAILURES)
    async def health() -> schemas.Health:
        """Say that the server lives."""
        return schemas.Health(status="ok")

    @app.get("/readyz", responses=FAILURES)
    async def ready() -> schemas.Health:
        """Say whether the server can answer now: 503 while it starts or stops."""
        if not service.ready:
            raise HTTPException(503, "the server is starting or stopping")
        return schemas.Health(status="ready")

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **FAILURES},
    )
    async def figures() -> Response:
        """Give what is counted, for Prometheus."""
        metrics.texts_waiting.set(service.encoder.texts.waiting)
        metrics.images_waiting.set(service.sight.waiting)
        metrics.restarts.set(service.decoders.restarts)
        return Response(metrics.text(), media_type=CONTENT_TYPE)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # it is registered for these
    code = _CODES.get(error.status_code, "refused")
    return _failure(request, error.status_code, code, str(error.detail), error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Say which fields are wrong and how, but not what they held."""
    assert isinstance(error, RequestValidationError)  # it is registered for these
    mistakes = [
        f"{'.'.join(map(str, mistake['loc'][1:]))}: {mistake['msg']}"
        for mistake in error.errors()[:_SHOWN]
    ]
    return _failure(request, 422, "request", "; ".join(mistakes))


def _failure(
    request: Request, status: int, code: str, message: str, headers: object = None
) -> JSONResponse:
    request.state.code = code
    problem = schemas.Problem(
        code=code, message=message, request_id=getattr(request.state, "request_id", "")
    )
    content = schemas.Failure(error=problem).model_dump()
    return JSONResponse(content, status, headers if isinstance(headers, dict) else None)
