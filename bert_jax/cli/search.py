"""Finds the texts that are nearest to a query: `search index` makes an index of a file, `search query` asks it.

The search is exact: every text is compared, which takes about 10 ms a query for 100,000 texts of 384 numbers (one
machine with two cores). An index whose vectors (vectors.npy: texts · hidden size · 4 bytes) no longer fit the memory
that is free, beyond a few million texts, is better kept by a vector database, which takes vectors.npy as it is.
"""

import argparse
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterator
from typing import IO, Any

HELP = "an index of texts, and the nearest of them to a query"
_AT_ONCE = 256  # queries


def add_arguments(parser: argparse.ArgumentParser) -> None:
  actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

  index = actions.add_parser(
    "index",
    help="embed the texts of a file, and write their index",
    description="Embeds the texts of a file, a part at a time, and writes a folder that search query reads.",
  )
  index.add_argument(
    "model", metavar="MODEL", help="a run, an imported folder, a Hugging Face folder, or a name on the hub"
  )
  index.add_argument("input", metavar="INPUT", help="text file, UTF-8, a text a line; or a .csv, .tsv or .jsonl file")
  index.add_argument("--output", "-o", required=True, metavar="INDEX", help="folder to write; new or empty")
  index.add_argument("--text", metavar="COLUMN", help="of a table, that of the text (text)")
  index.add_argument("--id", metavar="COLUMN", help="of a table, what names a text; without it, its line in the file")
  index.add_argument("--prompt", metavar="NAME", help="of the model's own; without it, document or passage; '': none")
  index.add_argument(
    "--pooling", choices=("cls", "mean", "max"), help="over tokens; without it, the model's own or mean"
  )
  index.add_argument("--max-tokens", type=int, help="of a window; without it, as the model was made")
  index.add_argument(
    "--long", choices=("windows", "cut"), default="windows", help="texts beyond --max-tokens: in windows (or cut)"
  )
  index.add_argument("--batch-size", type=int, default=32, help="texts at a time (32)")
  index.add_argument("--step", type=int, help="of a run, which checkpoint; without it the best")

  query = actions.add_parser(
    "query",
    help="the nearest texts of an index to each query",
    description="Prints the nearest texts to each query: a list on a terminal, else JSON lines.",
  )
  query.add_argument("index", metavar="INDEX", help="folder that search index wrote")
  query.add_argument("queries", metavar="QUERY", nargs="*", help="none: lines of stdin")
  query.add_argument("--queries", dest="file", metavar="FILE", help="a query a line; or a .csv, .tsv or .jsonl file")
  query.add_argument("--text", metavar="COLUMN", help="of a table, that of the query (text)")
  query.add_argument("--top-k", type=int, default=10, help="texts for each query (10)")
  query.add_argument("--output", "-o", default="-", help="X.jsonl (query, answers: rank, score, id, text); -: stdout")
  query.add_argument("--model", metavar="MODEL", help="where the model of the index is now, if it was moved")
  query.add_argument("--prompt", metavar="NAME", help="of the model's own; without it, query; '': none")


def run(given: argparse.Namespace) -> int:
  return _index(given) if given.action == "index" else _query(given)


# ---- search index ----------------------------------------------------------------------------------------------------


def _index(given: argparse.Namespace) -> int:
  from bert_jax.interop import folders

  out = folders.new_folder(given.output)
  if given.input == "-" or (os.path.exists(given.input) and not os.path.isfile(given.input)):
    raise ValueError(f"{given.input} is no file, and an index is made of one, read twice; write the texts to one first")
  total = _checked(given.input, given.text, given.id)
  import bert_jax
  from bert_jax.inference.search import Entry, Index

  model = bert_jax.load(given.model, given.step)
  entries = (Entry(*row) for row in _rows(given.input, given.text, given.id) if row[1].strip())
  index = Index.build(
    model,
    entries,
    out,
    name=given.model,
    total=total,
    pooling=given.pooling,
    max_tokens=given.max_tokens,
    prompt=given.prompt,
    long=given.long,
    batch_size=given.batch_size,
  )
  print(f"{out}: {index.about.num_texts:,} texts, {index.about.dimensions} numbers each")
  print(f"To ask it: bert-jax search query {out} 'a text'", file=sys.stderr)
  return 0


def _checked(path: str, text: str | None, name: str | None) -> int:
  """The number of texts that are not blank.

  Raises:
    ValueError: there is none, one holds half a character, an id is given twice, or the file cannot be read to its end.
  """
  lines: dict[str, int] = {}
  total = blank = 0
  for number, (key, content) in enumerate(_rows(path, text, name), 1):
    if not content.strip():
      blank += 1
      continue
    total += 1
    try:
      (key + content).encode()
    except UnicodeEncodeError as error:
      raise ValueError(f"{path}: text {number} holds half a character ({error.reason}); repair or remove it") from error
    if name is not None and lines.setdefault(key, number) != number:
      raise ValueError(f"{path}: texts {lines[key]} and {number} both have {name}={key!r}; an id names one text")
  if not total:
    raise ValueError(f"{path} holds no text to index")
  if blank:
    print(f"{blank} of {total + blank} texts of {path} are blank and left out", file=sys.stderr)
  return total


# ---- search query ----------------------------------------------------------------------------------------------------


def _query(given: argparse.Namespace) -> int:
  from bert_jax.cli.lines import check_output, write_whole

  if given.output != "-" and not given.output.endswith(".jsonl"):
    raise ValueError(f"--output={given.output} must end in .jsonl, or be -")
  if given.top_k < 1:
    raise ValueError(f"--top-k={given.top_k} must be at least 1")
  check_output(given.output, [given.file] if given.file else [])
  on_terminal = given.output == "-" and sys.stdout.isatty()
  typed = on_terminal and not given.queries and given.file is None and sys.stdin is not None and sys.stdin.isatty()
  queries = _typed() if typed else _given(given)
  import bert_jax
  from bert_jax.inference.search import Index

  index = Index.open(given.index)
  model = bert_jax.load(given.model) if given.model else _named(index)
  index.check_model(model)

  def answered() -> Iterator[tuple[str, Any]]:
    while some := list(itertools.islice(queries, 1 if typed else _AT_ONCE)):
      yield from zip(some, index.ask(model, some, given.top_k, prompt=given.prompt), strict=True)

  if on_terminal:
    for number, (query, answers) in enumerate(answered()):
      heading = [] if typed else [*([""] if number else []), _plain(query)]
      print("\n".join(_cut(row) for row in [*heading, *_listed(answers)]), flush=True)
  elif given.output == "-":
    sys.stdout.buffer.writelines(_line(*found) for found in answered())
  else:
    write_whole(given.output, lambda file: file.writelines(_line(*found) for found in answered()))
  return 0


def _named(index: Any) -> Any:
  """The model that an index names."""
  import bert_jax

  if not index.about.model:
    raise ValueError(f"{index.folder} does not say where its model is; say so with --model")
  try:
    return bert_jax.load(index.about.model, index.about.step)
  except ValueError as error:
    raise ValueError(
      f"{index.folder} was made with {index.about.model}, which does not open: {error}. If it is elsewhere now, say so"
      " with --model"
    ) from error


def _given(given: argparse.Namespace) -> Iterator[str]:
  """The queries of the command, its file or stdin; the first are read at once, so that an error costs no model."""
  if given.queries and (given.file is not None or given.text is not None):
    raise ValueError("give queries or a file (--queries, --text), not both")
  if any(not query.strip() for query in given.queries):
    raise ValueError("a query is blank; leave it out")
  rows = [("", query) for query in given.queries] or _rows(given.file or "-", given.text, None)
  queries = (query for _, query in rows if query.strip())
  first = list(itertools.islice(queries, _AT_ONCE))
  if not first:
    raise ValueError(f"there is no query in {given.file or 'stdin'}; give one a line")
  return itertools.chain(first, queries)


def _typed() -> Iterator[str]:
  """The queries that a person types, until the end of the input."""
  while True:
    try:
      query = input("query> ")
    except EOFError:
      print()
      return
    if query.strip():
      yield query


def _line(query: str, answers: list[Any]) -> bytes:
  found = [
    {"rank": rank, "score": round(answer.score, 6), "id": answer.id, "text": answer.text}
    for rank, answer in enumerate(answers, 1)
  ]
  return (json.dumps({"query": query, "answers": found}, ensure_ascii=False) + "\n").encode()


def _listed(answers: list[Any]) -> list[str]:
  """A row for each answer."""
  width = max(len(_plain(answer.id)) for answer in answers)
  return [
    f"{rank:4}  {answer.score:6.3f}  {_plain(answer.id):>{width}}  {_plain(answer.text)}"
    for rank, answer in enumerate(answers, 1)
  ]


def _cut(row: str) -> str:
  columns = shutil.get_terminal_size().columns
  return row if len(row) <= columns else row[: columns - 1] + "…"


def _plain(text: str) -> str:
  """A text in one line, without the characters that move a terminal's cursor."""
  return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))


# ---- files of texts --------------------------------------------------------------------------------------------------


def _rows(path: str, text: str | None, name: str | None) -> Iterator[tuple[str, str]]:
  """The ids and texts of a file, of stdin for `-`; an id is the line of the file where no column holds it."""
  from etils import epath

  from bert_jax.data import files, tables

  if not path.endswith(files.packed(*tables.SUFFIXES)):
    if text is not None or name is not None:
      raise ValueError(f"{path} is read as a text a line, and has no columns; leave --text and --id out")
    return _lines(path)
  columns = [text or "text", *([] if name is None else [name])]
  rows = tables.read(epath.Path(path), columns)
  return ((str(row.line) if name is None else row.values[1], row.values[0]) for row in rows)


def _lines(path: str) -> Iterator[tuple[str, str]]:
  from etils import epath

  from bert_jax.data import compressed

  if path == "-":
    if sys.stdin is None:
      raise ValueError("stdin is closed; give queries, or name a file")
    yield from _decoded(sys.stdin.buffer, "stdin")
    return
  file = epath.Path(path)
  try:
    with file.open("rb") as raw, compressed.plain(file, raw) as stream:
      yield from _decoded(stream, path)
  except (EOFError, OSError, *compressed.errors()) as error:
    raise ValueError(f"{path} cannot be read: {error}") from error


def _decoded(stream: IO[bytes], origin: str) -> Iterator[tuple[str, str]]:
  from etils import epath

  from bert_jax.data import files

  for number, line in enumerate(files.read_lines(stream, epath.Path(origin), "cut it into lines"), 1):
    try:
      yield str(number), line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
      raise ValueError(f"{origin}, line {number}: not UTF-8 ({error.reason}); convert it, say with iconv") from error
