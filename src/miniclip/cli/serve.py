"""`miniclip serve`: the model, an index and fitted classifiers over HTTP."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import options, output
from miniclip.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from miniclip.bundle import Bundle
    from miniclip.collection import Index
    from miniclip.encoder import Encoder
    from miniclip.probe.model import ClassifierModel
    from miniclip.serve.auth import Credentials

NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


Directory = Annotated[
    Path | None,
    typer.Option("--index", metavar="DIR", help="The index, or the folder, to search."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="MODEL|NAME=MODEL",
        help="A fitted model for /v1/predict; may be repeated.",
    ),
]
Host = Annotated[
    str, typer.Option(help="Address to listen on; any but loopback needs credentials.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="MINICLIP_TOKEN",
        metavar="TOKEN",
        help="Let in only who knows it. On the command line others can see it; the "
        "environment variable hides it.",
        show_default=False,
        show_envvar=True,
    ),
]
AuthFile = Annotated[
    Path | None,
    typer.Option("--auth-file", metavar="FILE", help="Names and hashes of passwords."),
]
HashPassword = Annotated[
    str | None,
    typer.Option(
        "--hash-password",
        metavar="NAME",
        help="Ask for a password, print the line of an --auth-file, and do nothing else.",
    ),
]
AllowedHosts = Annotated[
    list[str] | None,
    typer.Option("--allowed-host", metavar="NAME", help="A name by which clients call the server."),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a limit, such as max_bytes=8000000 or timeout_seconds=20.",
    ),
]
Pages = Annotated[
    bool, typer.Option("--pages/--no-pages", help="Serve pages for people at /, beside the API.")
]
LogContent = Annotated[
    bool, typer.Option("--log-content", help="Let texts and file names into the log.")
]


def serve(
    index: Directory = None,
    store: options.Store = None,
    model: Models = None,
    host: Host = "127.0.0.1",
    port: Port = 7860,
    token: Token = None,
    auth_file: AuthFile = None,
    hash_password: HashPassword = None,
    allowed_host: AllowedHosts = None,
    limits: Limits = None,
    log_content: LogContent = False,
    pages: Pages = True,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    json: options.Json = False,
) -> None:
    """Serve search, classification and vectors over HTTP, on this computer or for others.

    Pages for people are at /, the API for programs at /v1.

    It runs until SIGTERM or Ctrl-C, and lets requests in hand end. With --json the one object is
    printed when the server answers.
    """
    if hash_password is not None:
        _print_hash(hash_password)
        return
    if not all(map(find_spec, NEEDED)):
        raise MissingExtraError("miniclip serve", "serve")
    from miniclip.runtimes import open_encoder
    from miniclip.serve.app import create_app
    from miniclip.serve.logs import log_to_stderr
    from miniclip.serve.metrics import Metrics
    from miniclip.serve.server import Server, listen, require_credentials, url_of
    from miniclip.serve.service import Service
    from miniclip.serve.settings import Settings
    from miniclip.settings import overridden

    settings = overridden(
        Settings(
            host=host,
            port=port,
            allowed_hosts=tuple(allowed_host or ()),
            log_content=log_content,
        ),
        limits or [],
    )
    credentials = _credentials(token, auth_file)
    require_credentials(settings, credentials)
    source, models = _load(model or [], bundle)
    encoder = open_encoder(source, runtime=runtime)
    collection = _open_index(index, store, encoder)
    metrics = Metrics()
    service = Service(
        encoder,
        collection,
        models,
        settings,
        watch_batch=metrics.saw_batch,
        card=_card(source),
        licence=source.manifest.licence,
    )
    app = create_app(service, credentials, metrics)
    if pages and _has_pages():
        from miniclip.serve.pages import mount

        mount(app, service)
    with listen(settings) as listener:
        url = url_of(listener)

        def started() -> None:
            if json:
                output.print_json({"url": url, "bundle": encoder.name, "models": list(models)})
                sys.stdout.flush()
            else:
                output.note(f"miniclip serves on {url}")

        log_to_stderr()
        Server(app, settings, started).run([listener])


def _load(models: list[str], bundle: str | None) -> tuple[Bundle, dict[str, ClassifierModel]]:
    """Open the classifiers and the one bundle of all; the service refuses others' classifiers."""
    from miniclip.bundle import Bundle
    from miniclip.probe.model import ClassifierModel

    opened: dict[str, ClassifierModel] = {}
    for text in models:
        name, equals, directory = text.partition("=")
        if not equals or Path(text).exists():
            directory, name = text, Path(text).absolute().name
        if name in opened:
            raise ConfigError(f"two models are called {name!r}; give one as NAME={directory}")
        opened[name] = ClassifierModel.open(directory)
    first = next(iter(opened.values()), None)
    return first.find_bundle(bundle) if first else Bundle.resolve(bundle), opened


def _has_pages() -> bool:
    if find_spec("gradio"):
        return True
    output.note("without gradio there are no pages, only the API: pip install 'miniclip[serve]'")
    return False


def _card(bundle: Bundle) -> str:
    from miniclip.bundle import CARD_FILE

    path = bundle.directory / CARD_FILE
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _open_index(directory: Path | None, store: str | None, encoder: Encoder) -> Index | None:
    from miniclip.collection import Index

    if directory and store:
        raise typer.BadParameter("give --index or --store, not both")
    if store:
        return Index.open([], encoder, store=store)
    return Index.open(directory, encoder) if directory else None


def _credentials(token: str | None, auth_file: Path | None) -> Credentials | None:
    from miniclip.serve.auth import Credentials, read_people

    if token is None and auth_file is None:
        return None
    return Credentials(token, read_people(auth_file) if auth_file else {})


def _print_hash(name: str) -> None:
    from miniclip.serve.auth import hash_line

    password = typer.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    print(hash_line(name, password))
