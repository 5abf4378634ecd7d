"""Tables of texts: CSV, TSV and JSON lines, read by the names of their columns.

A .tsv file is read as GLUE's are: tabs between fields, and a quotation mark is a character like any other. A .csv file
may be separated by commas, semicolons, tabs or bars, and a quoted field may hold separators and line breaks.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

from etils import epath

from bert_jax.data import compressed, files, tfds_sets

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
_SEPARATORS = (",", ";", "\t", "|")


class Row(NamedTuple):
  """A row of a table.

  Attributes:
    values: one text for each column that was asked for.
    line: of the file, from 1, where the row ends.
  """

  values: tuple[str, ...]
  line: int


def kind_of(path: epath.Path) -> str:
  """The suffix that says how a file is read; that of a compressed file stands before its .gz, .xz or .zst.

  Raises:
    ValueError: it is none of `SUFFIXES`.
  """
  for suffix in SUFFIXES:
    if path.name.endswith(files.packed(suffix)):
      return suffix
  raise ValueError(f"{path} must end in {', '.join(SUFFIXES)} (or one of these with .gz, .xz or .zst)")


def read(path: epath.PathLike, columns: Sequence[str], ragged: bool = False) -> Iterator[Row]:
  """The rows of a table, in order; blank lines are left out.

  Args:
    path: of the file; its name says the form. tfds:NAME:SPLIT is a TensorFlow data set, whose fields are the columns.
    columns: their names, from the header of a CSV or TSV file or the keys of the JSON objects. Where all are numbers,
      counted from 1, a CSV or TSV file has no header.
    ragged: whether a row with more or fewer fields than the header comes without values, where it is else an error.

  Raises:
    ValueError: the file is missing, damaged or not UTF-8; a column is not there (it lists those that are); a row has
      more or fewer fields than the header.
  """
  if str(path).startswith(tfds_sets.PREFIX):
    for number, record in tfds_sets.records(str(path), columns):
      yield Row(tuple(_text(path, number, record, column) for column in columns), number)
    return
  path = epath.Path(path)
  kind = kind_of(path)
  try:
    with path.open("rb") as raw, compressed.plain(path, raw) as stream:
      if kind in (".csv", ".tsv"):
        yield from _csv_rows(path, stream, columns, kind, ragged)
      else:
        yield from _json_rows(path, stream, columns)
  except UnicodeDecodeError as error:
    raise ValueError(
      f"{path} is not UTF-8 (0x{error.object[error.start]:02x}: {error.reason}); convert it first, for example:"
      " iconv -f WINDOWS-1252 -t UTF-8"
    ) from error
  except (EOFError, OSError, *compressed.errors()) as error:
    raise ValueError(f"{path} cannot be read: {error}") from error


def columns(path: epath.PathLike) -> list[str]:
  """The names of a table's columns: its header, or the keys of its first object.

  Raises:
    ValueError: see `read`.
  """
  path = epath.Path(path)
  kind = kind_of(path)
  try:
    with path.open("rb") as raw, compressed.plain(path, raw) as stream:
      first = stream.readline().decode("utf-8-sig")
  except (UnicodeDecodeError, EOFError, OSError, *compressed.errors()) as error:
    raise ValueError(f"{path} cannot be read: {error}") from error
  if kind in (".csv", ".tsv"):
    separator = "\t" if kind == ".tsv" else _separator(first, [], False)
    return [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
  try:
    record = json.loads(first)
  except ValueError:
    return []  # which `read` says with its line
  return list(record) if isinstance(record, dict) else []


# ---- CSV and TSV ----


def _csv_rows(path: epath.Path, stream: IO[bytes], columns: Sequence[str], kind: str, ragged: bool) -> Iterator[Row]:
  csv.field_size_limit(files.MAX_DOCUMENT_BYTES)
  text = io.TextIOWrapper(stream, "utf-8-sig", newline="")  # pyright: ignore[reportArgumentType]
  without_header = all(column.isdecimal() for column in columns)
  first = text.readline()
  if not first:
    raise ValueError(f"{path} is empty")
  separator = "\t" if kind == ".tsv" else _separator(first, columns, without_header)
  quoting = csv.QUOTE_NONE if kind == ".tsv" else csv.QUOTE_MINIMAL
  reader = csv.reader(_chain(first, text), delimiter=separator, quoting=quoting, strict=True)
  try:
    header = next(reader)
    width = len(header)
    places = [_place(path, header, column, without_header) for column in columns]
    if without_header:
      yield Row(tuple(header[place] for place in places), reader.line_num)
    for fields in reader:
      if not fields:
        continue
      if len(fields) != width and ragged:
        yield Row((), reader.line_num)
        continue
      if len(fields) != width:
        raise ValueError(
          f"{path}, line {reader.line_num}: {len(fields)} fields, where the first row has {width}; quote fields that"
          f" hold a separator ({separator!r})"
        )
      yield Row(tuple(fields[place] for place in places), reader.line_num)
  except csv.Error as error:
    raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def _chain(first: str, rest: io.TextIOWrapper) -> Iterator[str]:
  yield first
  yield from rest


def _separator(first: str, columns: Sequence[str], without_header: bool) -> str:
  """The separator by which the header has the columns; where none does, the one that makes most fields."""

  def header(separator: str) -> list[str]:
    return next(csv.reader([first], delimiter=separator))

  most = max(_SEPARATORS, key=lambda separator: len(header(separator)))
  if without_header:
    return most
  return next((s for s in _SEPARATORS if set(columns) <= {name.strip() for name in header(s)}), most)


def _place(path: epath.Path, header: list[str], column: str, without_header: bool) -> int:
  if without_header:
    if not 1 <= int(column) <= len(header):
      raise ValueError(f"{path} has no column {column}; it has {len(header)}, counted from 1")
    return int(column) - 1
  names = [name.strip() for name in header]
  if names.count(column) > 1:
    raise ValueError(f"{path} has {names.count(column)} columns named {column!r}; give each a name of its own")
  if column not in names:
    raise ValueError(
      f"{path} has no column {column!r}; it has {', '.join(map(repr, names))}. The columns of a file without a header"
      " are named by their numbers, from 1"
    )
  return names.index(column)


# ---- JSON lines ----


def _json_rows(path: epath.Path, stream: IO[bytes], columns: Sequence[str]) -> Iterator[Row]:
  for number, raw in enumerate(files.read_lines(stream, path, "shorten it"), 1):
    line = raw.decode().removeprefix("\ufeff")
    if not line.strip():
      continue
    try:
      record = json.loads(line)
    except (ValueError, RecursionError) as error:
      raise ValueError(f"{path}, line {number} is no JSON: {error}; repair or remove it") from error
    if not isinstance(record, dict):
      raise ValueError(f"{path}, line {number} is a JSON {type(record).__name__}, and must be an object")
    yield Row(tuple(_text(path, number, record, column) for column in columns), number)


def _text(path: epath.PathLike, number: int, record: dict[str, Any], column: str) -> str:
  if column not in record:
    raise ValueError(f"{path}, line {number} has no field {column!r}; it has {', '.join(map(repr, record))}")
  value = record[column]
  if isinstance(value, bool) or not isinstance(value, str | int | float):
    raise ValueError(f"{path}, line {number}: {column}={value!r:.80} must be a text or a number")
  return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
