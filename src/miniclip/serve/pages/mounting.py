"""`mount`: one document with a tab for each page, as a part of the application of the server."""

from __future__ import annotations

import os
from importlib import import_module

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # gradio reads it while it is imported

import gradio as gr
from fastapi import FastAPI

from miniclip.serve.service import Service

PAGES = {
    "Search": "search",
    "Match": "match",
    "Zero-shot": "zero_shot",
    "Classify": "classify",
    "Explain": "explain",
    "Teach": "teach",
    "Collection": "collection",
    "About": "about",
}


def mount(app: FastAPI, service: Service) -> FastAPI:
    """Put the pages on an application at `/`; its own routes come first."""
    return gr.mount_gradio_app(
        app,
        _document(service),
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=service.settings.max_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
    )


def _document(service: Service) -> gr.Blocks:
    with gr.Blocks(title="miniclip", analytics_enabled=False) as document:
        for name, module in PAGES.items():
            with gr.Tab(name):
                try:
                    page = import_module(f"miniclip.serve.pages.{module}")
                except ModuleNotFoundError:
                    continue
                page.build(service)
    return document
