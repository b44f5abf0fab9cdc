"""The Hugging Face hub: what a repository holds, and the files of it that are asked for.

The one file that imports huggingface_hub, and the only one of miniclip that uses a network. The
library's own settings hold: HF_TOKEN or its login, HF_HOME for its cache, HF_ENDPOINT,
HF_HUB_OFFLINE. Which files a model needs is decided in `layouts`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from miniclip.errors import BundleError, MissingExtraError

try:
    import huggingface_hub as hub
    from huggingface_hub import errors as hub_errors
except ImportError as error:
    raise MissingExtraError("fetching models from the hub", "pull") from error

ANSWER_SECONDS = 4.0  # for the first answer; looking up a name may hang for a minute by itself
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_CARDS = ["config.json", "README.md"]
_ANSWERS = (
    hub_errors.GatedRepoError,
    hub_errors.RevisionNotFoundError,
    hub_errors.RepositoryNotFoundError,
    hub_errors.HFValidationError,
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Repository:
    """A repository at one commit.

    revision: the branch, tag or commit that was asked for, None for the main branch; files: their
    names; reached: False when the cache was asked for want of a network.
    """

    name: str
    revision: str | None
    commit: str
    files: tuple[str, ...]
    reached: bool


def is_repository(source: str) -> bool:
    """Whether a source reads like OWNER/NAME."""
    return _REPOSITORY.fullmatch(source) is not None


def look_up(name: str, revision: str | None = None) -> Repository:
    """Ask the hub what a repository holds; without an answer, ask the cache of earlier downloads.

    revision: a branch, tag or commit; None for the main branch. BundleError when there is no such
    repository or revision, when it may not be read, or when neither hub nor cache answers, within
    5 seconds.
    """
    with _translated(name, revision):
        try:
            info = _within(
                ANSWER_SECONDS,
                lambda: hub.HfApi().model_info(name, revision=revision, timeout=ANSWER_SECONDS),
            )
        except _ANSWERS:
            raise
        except Exception as error:  # no answer, in one of many ways
            return _look_into_cache(name, revision, error)
    files = tuple(sorted(sibling.rfilename for sibling in info.siblings or ()))
    return Repository(name, revision, str(info.sha), files, reached=True)


def download(repository: Repository, files: Sequence[str], *, progress: bool = False) -> Path:
    """Fetch files, or find them in the cache, and return the directory that they lie in.

    What an interrupted download left is used. progress: bars on stderr. BundleError when a file
    cannot be fetched.
    """
    if progress:
        hub.utils.enable_progress_bars()
    else:
        hub.utils.disable_progress_bars()
    with _translated(repository.name, repository.revision):
        directory = Path(
            hub.snapshot_download(
                repository.name,
                revision=repository.revision,  # the cache remembers what a branch stood for
                allow_patterns=[_literal(name) for name in files],
                local_files_only=not repository.reached,
            )
        )
    if directory.name != repository.commit:
        raise BundleError(f"{repository.name} was changed just now; run the command again")
    return directory


def _look_into_cache(name: str, revision: str | None, error: Exception) -> Repository:
    try:
        found = Path(
            hub.snapshot_download(
                name, revision=revision, local_files_only=True, allow_patterns=_CARDS
            )
        )
    except (OSError, ValueError) as absent:
        raise BundleError(
            f"the hub cannot be reached ({_first_line(error)}) and {name} is not in its cache; "
            "go on from a local copy: on a machine with a network run "
            f"'hf download {name} --local-dir DIR', bring DIR here, and run 'miniclip pull DIR'"
        ) from absent
    files = sorted(path.relative_to(found).as_posix() for path in found.rglob("*"))
    return Repository(name, revision, found.name, tuple(files), reached=False)


def _within(seconds: float, ask: Callable[[], _T]) -> _T:
    """Give up waiting after so long, whatever the call waits for."""
    answers: list[_T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # handed to the caller
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    return answers[0]


def _literal(name: str) -> str:
    """Write a name as a pattern that matches nothing else."""
    return re.sub(r"([*?\[])", r"[\1]", name)


@contextmanager
def _translated(name: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except hub_errors.GatedRepoError as error:
        raise BundleError(
            f"{name} asks for its terms to be accepted; do so at https://huggingface.co/{name}, "
            "then log in with 'hf auth login' or set HF_TOKEN"
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise BundleError(
            f"{name} has no revision {revision!r}; name a branch, a tag or a commit that it has"
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise BundleError(
            f"the hub knows no model {name}, or keeps it private; check the spelling, or log in "
            "with 'hf auth login' or HF_TOKEN"
        ) from error
    except hub_errors.HFValidationError as error:
        raise BundleError(f"{name} is no name on the hub ({error}); give OWNER/NAME") from error
    except Exception as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(
            f"fetching {name} from the hub failed ({_first_line(error)}); run the command again, "
            "it goes on where it stopped, or give a local copy of the model"
        ) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
