"""Who may ask what, and that paths, names and headers open nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from miniclip.client import Client
from miniclip.errors import ConfigError
from miniclip.serve.auth import Credentials
from miniclip.serve.server import require_credentials
from miniclip.serve.settings import Settings
from tests.serve.running import Running, png, running, status_of

TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    """Serve with a token."""
    with running(Settings(port=0, decoders=1), credentials=Credentials(TOKEN)) as server:
        yield server


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/models", "/v1/images/1"]
)
def test_without_credentials_there_is_nothing(locked: Running, path: str) -> None:
    with locked.http() as http:
        answer = http.get(path)
        wrong = http.get(path, headers={"authorization": "Bearer wrong-but-as-long-as-it"})
        right = http.get(path, headers={"authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == wrong.status_code == 401
    assert answer.json()["error"]["code"] == "credentials"
    assert right.status_code != 401


def test_the_token_is_taken_as_a_password_too(locked: Running) -> None:
    with locked.http(auth=("anybody", TOKEN)) as http:
        assert http.get("/healthz").status_code == 200
    with Client(locked.url, token=TOKEN) as client:
        assert client.models().encoder.name == "fake"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "example.org"])
def test_other_computers_need_credentials(host: str) -> None:
    with pytest.raises(ConfigError, match="give --token or --auth-file"):
        require_credentials(Settings(host=host), None)
    require_credentials(Settings(host=host), Credentials(TOKEN))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_this_computer_needs_none(host: str) -> None:
    require_credentials(Settings(host=host), None)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": ""}, 421),
        ({"host": "localhost:80"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_pages_of_other_sites_reach_nothing(
    server: Running, headers: dict[str, str], status: int
) -> None:
    with server.http() as http:
        answer = http.get("/healthz", headers=headers)

    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


def test_the_servers_own_pages_may_ask(server: Running) -> None:
    with server.http() as http:
        origin = {"origin": server.url, "sec-fetch-site": "same-origin"}
        assert http.post("/v1/embed", data={"text": "red"}, headers=origin).status_code == 200


# Paths and headers


@pytest.mark.parametrize(
    "path",
    [
        "/v1/images/../../../etc/passwd",
        "/v1/images/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/images/%2e%2e/%2e%2e/etc/passwd",
        "/v1/images/-1",
        "/v1/images/1e9",
        "/v1/images/99999999999999999999999999",
        "/v1/images/1;ls",
        "/..%c0%af..%c0%afetc/passwd",
    ],
)
def test_files_come_by_number_and_in_no_other_way(server: Running, path: str) -> None:
    answer = server.raw(
        f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
    )

    assert status_of(answer) in {404, 422}
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "line", [b"x-request-id: a\r\nset-cookie: b=c", b"x-request-id: a\nset-cookie: b=c"]
)
def test_no_header_of_a_request_makes_one_of_the_answer(server: Running, line: bytes) -> None:
    answer = server.raw(
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" + line + b"\r\n\r\n"
    )

    assert b"set-cookie" not in answer.lower()


def test_file_names_of_uploads_are_nobodys_business(server: Running) -> None:
    with server.http() as http:
        files = [("image", ("../../etc/passwd\r\nx: y", png("red"), "image/png"))]
        answer = http.post("/v1/embed", files=files)

    assert answer.status_code == 200
    assert "passwd" not in answer.text


def test_every_answer_tells_browsers_to_be_careful(server: Running) -> None:
    with server.http() as http:
        answer: httpx.Response = http.get("/v1/models")

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
