"""`mount`: one document with a tab for each page, as a part of the application of the server."""

from __future__ import annotations

import asyncio
from importlib.resources import files

from fastapi import FastAPI
from starlette.middleware import Middleware

from miniclip.serve.pages import disk

disk.prepare()  # gradio reads its settings when it is imported

import gradio as gr  # noqa: E402

from miniclip.serve.pages import (  # noqa: E402
    about,
    classify,
    collection,
    explain,
    match,
    search,
    teach,
    zero_shot,
)
from miniclip.serve.pages.door import Document, Door  # noqa: E402
from miniclip.serve.service import Service  # noqa: E402

_PAGES = {
    "Search": search,
    "Match": match,
    "Zero-shot": zero_shot,
    "Classify": classify,
    "Explain": explain,
    "Teach": teach,
    "Collection": collection,
    "About": about,
}
_AT_ONCE = 8  # calls of one handler that may run; the service has limits of its own
_WAITING = 128
_SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO_FONTS = ("ui-monospace", "Consolas", "monospace")


def mount(app: FastAPI, service: Service) -> FastAPI:
    """Put the pages on an application at `/`; its own routes come first.

    It is called before the application runs: outside an event loop.
    """
    asyncio.run(_mount(app, service))
    return app


async def _mount(app: FastAPI, service: Service) -> None:
    """As `mount`; without a loop that runs, gradio would make some and leave them open."""
    settings = service.settings
    collection.add_routes(app, service)
    gr.mount_gradio_app(
        app,
        _document(service),
        path="/",
        app_kwargs={
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
            "middleware": [Middleware(Door, settings.kept_bytes, app.state.stopping)],
        },
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=settings.upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=_theme(),
        css=_read("frame.css"),
        head=f"<script>{_read('frame.js')}</script>",
    )


def _document(service: Service) -> gr.Blocks:
    with Document(
        title="miniclip",
        analytics_enabled=False,
        delete_cache=(disk.KEPT_SECONDS // 4, disk.KEPT_SECONDS),
        fill_width=True,
    ) as document:
        gr.Markdown("# miniclip\nSearch, name and sort pictures with words, on this computer.")
        for name, page in _PAGES.items():
            with gr.Tab(name):
                page.build(service)
    document.queue(default_concurrency_limit=_AT_ONCE, max_size=_WAITING, api_open=False)
    return document


def _theme() -> gr.themes.Base:
    return gr.themes.Default(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        font=_SYSTEM_FONTS,
        font_mono=_MONO_FONTS,
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
    )


def _read(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
