"""The log of a server: a line of JSON for each request and each failure, on stderr."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

LOGGER = logging.getLogger("miniclip.serve")
FACTS = "facts"  # the attribute of a log record that holds what is known beside the message


class JsonLines(logging.Formatter):
    """One JSON object a line, ASCII: no request can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time (UTC), level, message and facts."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, FACTS, {}),
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def log_to_stderr() -> None:
    """Send the log of the server, and warnings of what runs it, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("miniclip.serve", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
