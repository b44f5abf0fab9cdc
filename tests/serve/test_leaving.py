"""Who leaves, or waits no longer, is not worked for: the model is free for the next one."""

from __future__ import annotations

import httpx
import pytest

from miniclip.serve.settings import Settings
from tests.serve.running import Running, png, running
from tests.serve.slow import MAP, SlowEncoder


def ask(server: Running, seconds: float) -> httpx.Response:
    """Ask for a map, and hang up after some seconds without an answer."""
    return httpx.post(
        f"{server.url}/v1/explain",
        data={"text": "red"},
        files={"image": png("red")},
        timeout=seconds,
        trust_env=False,
    )


def test_an_explanation_ends_when_its_client_hangs_up() -> None:
    encoder = SlowEncoder()
    with running(Settings(port=0), encoder=encoder) as server:
        with pytest.raises(httpx.ReadTimeout):
            ask(server, 0.5)
        encoder.settle()
        assert encoder.asked < MAP / 2
        before = encoder.asked
        assert ask(server, 60).status_code == 200, "the next one finds the place free"
        assert encoder.asked - before > MAP / 2


def test_an_explanation_ends_when_its_time_is_over() -> None:
    encoder = SlowEncoder()
    settings = Settings(port=0, body_seconds=0.3, timeout_seconds=0.3)
    with running(settings, encoder=encoder) as server:
        assert ask(server, 60).json()["error"]["code"] == "timeout"
        encoder.settle()
        assert encoder.asked < MAP / 2
