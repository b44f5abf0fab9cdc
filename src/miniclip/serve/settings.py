"""What the server allows: addresses, limits, times. It opens nothing and knows no web framework."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields

from miniclip.cpus import usable_cpus
from miniclip.errors import ConfigError

_MEBI = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a server; ConfigError for a value that cannot be used.

    host, port: where it listens; port 0 takes a free one. allowed_hosts: names by which clients may
    call it, besides those of this computer when it listens on loopback; none means any when it does
    not. max_bytes: of the body of one request. max_pixels: of one image. max_images, max_texts: in
    one request, which can hold 1,000 fields in all; max_prompts: labels times templates;
    max_letters: of one text. max_batch: images in one run of the model, by default four to a
    processor. batching: join the images and texts of several requests in one run. queue: images,
    and texts, that may wait before newcomers are sent away. searches: with words alone, that are
    answered side by side, by default half as many as there are processors; wait_seconds: for that,
    after which newcomers are sent away. requests: in hand at a time; connections: open at a time.
    decoders: processes that decode, by default one to a processor. decode_seconds, decode_bytes:
    what one image may take there. head_seconds: within which the head of a request has to arrive;
    body_seconds: its body; timeout_seconds: within which it is answered, from then on.
    upload_bytes, upload_seconds: of one upload of the pages, many photos or a zip; kept_bytes: of
    all that the pages have on the disk. lesson_images, lesson_bytes: that the pages teach a
    classifier with. grace_seconds: for what is in hand when the server is told to stop.
    log_content: let texts, file names and queries into the log.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    allowed_hosts: tuple[str, ...] = ()
    max_bytes: int = 32 * _MEBI
    max_pixels: int = 50_000_000
    max_images: int = 64
    max_texts: int = 900
    max_prompts: int = 8192
    max_letters: int = 2000
    max_batch: int = field(default_factory=lambda: 4 * usable_cpus())
    batching: bool = True
    queue: int = 256
    searches: int = field(default_factory=lambda: max(1, usable_cpus() // 2))
    wait_seconds: float = 0.02
    requests: int = 128
    connections: int = 512
    decoders: int = field(default_factory=lambda: max(2, usable_cpus()))
    decode_seconds: float = 10.0
    decode_bytes: int = 2048 * _MEBI
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    timeout_seconds: float = 60.0
    upload_bytes: int = 512 * _MEBI
    upload_seconds: float = 300.0
    kept_bytes: int = 4096 * _MEBI
    lesson_images: int = 1000
    lesson_bytes: int = 256 * _MEBI
    grace_seconds: float = 10.0
    log_content: bool = False

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == "port":
                if not 0 <= value < 65536:
                    raise ConfigError(f"port is {value}; give one from 0 to 65535")
            elif isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise ConfigError(f"{entry.name} is {value}; give a number above 0")

    @property
    def loopback(self) -> bool:
        """Whether only this computer can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this computer alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
