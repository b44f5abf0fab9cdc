"""Captions in tables: CSV and its kin (comma, tab, semicolon, bar) and Parquet.

A broken row costs itself only: an opening quote that is never closed does not swallow the rows
after it, as it would in a plain `csv.reader`.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from miniclip.datasets.rows import Columns, Row, line_name, text_lines, unreadable, value_rows
from miniclip.embed import Skipped
from miniclip.errors import DatasetError, MissingExtraError
from miniclip.textfile import Line

DELIMITERS = ",\t;|"
_LONGEST_FIELD_LINES = 50  # a quoted field may span lines, but not the rest of the file


class Record(NamedTuple):
    """The fields of a row, stripped, and the number of its first line."""

    number: int
    fields: list[str]


class Header(NamedTuple):
    """The delimiter of a table, the number of its columns and the positions of two of them."""

    delimiter: str
    columns: int
    image_at: int
    caption_at: int


def header_of(first_line: str, columns: Columns) -> Header | None:
    """Understand the first line of a table; None when no delimiter gives the two columns."""
    for delimiter in DELIMITERS:
        names = [name.strip() for name in _split(first_line, delimiter) or []]
        if picked := columns.of(names):
            image, caption = picked
            return Header(delimiter, len(names), names.index(image), names.index(caption))
    return None


def read_table(path: Path, columns: Columns) -> Iterator[Row | Skipped]:
    """Rows of a delimited text file with a header line.

    A caption column that is the last takes the rest of its row, since many caption files leave
    commas unquoted. Raises DatasetError when the header lacks a column.
    """
    lines = text_lines(path)
    first = next((line.text for line in lines if isinstance(line, Line)), "")
    header = header_of(first, columns)
    if header is None:
        raise DatasetError(
            f"the first line of {path}, {first[:80]!r}, does not name {columns.wanted}; "
            "give the table a header, or name the columns with the column options"
        )
    for record in _records(lines, header.delimiter, path):
        if isinstance(record, Skipped):
            yield record
            continue
        where, fields = line_name(path, record.number), record.fields
        if len(fields) > header.columns == header.caption_at + 1:
            rest = header.delimiter.join(fields[header.caption_at :])
            fields = [*fields[: header.caption_at], rest]
        if len(fields) != header.columns:
            yield Skipped(where, f"{len(fields)} fields where the header has {header.columns}")
        else:
            yield Row(fields[header.image_at].strip(), fields[header.caption_at], where)


def read_parquet(path: Path, columns: Columns) -> Iterator[Row | Skipped]:
    """Rows of a Parquet file, read in batches; a caption cell may be text or a list of texts.

    Raises MissingExtraError without pyarrow, DatasetError when it is no Parquet or lacks a column.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("Parquet captions", "parquet") from error
    try:
        with parquet.ParquetFile(path) as file:
            names = columns.of(list(file.schema_arrow.names))
            if names is None:
                raise DatasetError(
                    f"{path} has the columns {', '.join(file.schema_arrow.names)}; "
                    "name those of image and caption with the column options"
                )
            number = 0
            for batch in file.iter_batches(columns=list(names)):
                for image, captions in zip(
                    *(batch[name].to_pylist() for name in names), strict=True
                ):
                    number += 1
                    yield from value_rows(image, captions, f"{path.name} row {number}")
    except pa.ArrowException as error:
        raise DatasetError(f"{path} cannot be read as Parquet: {error}; write it again") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _records(
    lines: Iterator[Line | Skipped], delimiter: str, path: Path
) -> Iterator[Record | Skipped]:
    """Split lines into fields; a quoted field may go on over the next lines."""
    ahead: deque[Line | Skipped] = deque()
    while ahead or (ahead := deque(islice(lines, 1))):
        first = ahead.popleft()
        if isinstance(first, Skipped):
            yield first
            continue
        fields = _split(first.text, delimiter)
        if fields is None:  # the line ends within quotes: does the field end further down?
            ahead.extend(islice(lines, _LONGEST_FIELD_LINES - len(ahead)))
            fields = _split_over(first.text, ahead, delimiter)
        if fields is None:
            name = line_name(path, first.number)
            yield Skipped(name, "a quote is opened and not closed; close it or double it")
        else:
            yield Record(first.number, fields)


def _split(text: str, delimiter: str) -> list[str] | None:
    """Split one line; None when it ends within quotes. Stray quotes elsewhere are forgiven."""
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        if str(error) == "unexpected end of data":
            return None
        return next(csv.reader([text], delimiter=delimiter, quoting=csv.QUOTE_NONE))


def _split_over(text: str, ahead: deque[Line | Skipped], delimiter: str) -> list[str] | None:
    """Split a row that goes on over some of the lines ahead, which are then taken away."""
    for used, line in enumerate(ahead, start=1):
        if isinstance(line, Skipped):
            return None
        text = f"{text}\n{line.text}"
        try:
            fields = next(csv.reader([text], delimiter=delimiter, strict=True))
        except csv.Error as error:
            if str(error) == "unexpected end of data":
                continue
            return None  # the next quote does not close the first: that one was a stray
        for _ in range(used):
            ahead.popleft()
        return fields
    return None
