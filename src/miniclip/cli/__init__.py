"""The command line: one file per verb, each of them parse -> one library call -> print.

Only `app.py` turns an error into an exit code. Nothing heavy is imported before a verb runs.
"""

from miniclip.cli.app import main

__all__ = ["main"]
