"""The page "Collection"."""

from __future__ import annotations

from miniclip.serve.service import Service


def build(service: Service) -> None:
    """Build the page, inside its tab."""
