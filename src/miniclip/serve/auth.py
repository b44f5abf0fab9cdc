"""Who may use the server: one token, or names with passwords that are kept as hashes alone.

The file of names has lines `name:salt:hash`, both in hexadecimal, made by `hash_line`: scrypt (RFC
7914) with N = 2^14, r = 8, p = 1. Comparisons take the same time whatever is wrong.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from miniclip.errors import ConfigError
from miniclip.textfile import read_lines

LEAST_TOKEN = 16  # letters
LEAST_PASSWORD = 8
_N, _R, _P, _BYTES = 2**14, 8, 1, 32
_KNOWN = 256  # pairs of name and password that are remembered, so that scrypt runs once for each
_NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class Credentials:
    """Whoever knows the token, or one of the names with its password, may use the server.

    people: name -> salt and hash. A token is also taken as the password of any name, for browsers.
    """

    token: str | None = field(default=None, repr=False)
    people: Mapping[str, tuple[bytes, bytes]] = field(default_factory=dict, repr=False)
    _seen: OrderedDict[bytes, None] = field(default_factory=OrderedDict, repr=False, compare=False)
    _key: bytes = field(default_factory=lambda: os.urandom(32), repr=False, compare=False)
    _one_at_a_time: Lock = field(default_factory=Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.token is not None and not re.fullmatch(rf"[!-~]{{{LEAST_TOKEN},}}", self.token):
            raise ConfigError(
                f"the token must have at least {LEAST_TOKEN} letters, digits or signs of ASCII and "
                "no spaces; make one with: openssl rand -hex 32"
            )
        if self.token is None and not self.people:
            raise ConfigError("there is neither a token nor a name with a password; give one")

    def admit(self, header: str | None) -> bool:
        """Whether the `Authorization` header of a request lets it in; scrypt takes 50 ms."""
        kind, _, value = (header or "").partition(" ")
        if kind.lower() == "bearer":
            return self._is_token(value.strip())
        if kind.lower() != "basic":
            return False
        try:
            pair = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            return False
        name, _, password = pair.partition(":")
        return self._is_token(password) or self._is_person(name, password)

    def _is_token(self, text: str) -> bool:
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def _is_person(self, name: str, password: str) -> bool:
        if not self.people:
            return False
        mark = hmac.digest(self._key, f"{name}\0{password}".encode(), "sha256")
        with self._one_at_a_time:  # so that guessing takes one processor at most
            if mark in self._seen:
                return True
            # An unknown name costs as much time as a known one.
            salt, expected = self.people.get(name, (self._key, self._key))
            if not hmac.compare_digest(_hash(password, salt), expected):
                return False
            self._seen[mark] = None
            if len(self._seen) > _KNOWN:
                self._seen.popitem(last=False)
            return True


def hash_line(name: str, password: str) -> str:
    """Return the line of a file of names; ConfigError for a name or password that will not do."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"the name {name!r} will not do; use up to 64 letters, digits and . _ @ -"
        )
    if len(password) < LEAST_PASSWORD:
        raise ConfigError(f"the password is short; give at least {LEAST_PASSWORD} letters")
    salt = secrets.token_bytes(16)
    return f"{name}:{salt.hex()}:{_hash(password, salt).hex()}"


def read_people(path: Path) -> dict[str, tuple[bytes, bytes]]:
    """Read a file of names; ConfigError names the line that is wrong."""
    people: dict[str, tuple[bytes, bytes]] = {}
    for number, line in read_lines(path, "names", comments=True):
        match = re.fullmatch(r"([\w.@-]{1,64}):([0-9a-f]{32}):([0-9a-f]{64})", line, re.ASCII)
        if not match or match[1] in people:
            raise ConfigError(
                f"{path}, line {number}: not a new NAME:SALT:HASH; make the line with: "
                "miniclip serve --hash-password NAME"
            )
        people[match[1]] = bytes.fromhex(match[2]), bytes.fromhex(match[3])
    return people


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, dklen=_BYTES)
