"""Tagged words: CoNLL columns and CoNLL-U. W words.

CoNLL columns (Tjong Kim Sang and De Meulder 2003): a word and its tags a line, separated by tabs or spaces; a blank
line ends a sentence, a line -DOCSTART- starts a document. CoNLL-U (universaldependencies.org/format.html): ten columns
with tabs, comments with #, `# newdoc` starts a document.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator

from etils import epath

from bert_jax.data import compressed, files, tfds_sets

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")  # of CoNLL-U


@dataclasses.dataclass(frozen=True)
class Sentence:
  """A sentence.

  Attributes:
    words: W of them.
    tags: W, one for each word; () where they were not read.
    document: the number of its document, from 0. In a file that marks no documents, each sentence is one.
  """

  words: tuple[str, ...]
  tags: tuple[str, ...]
  document: int


@dataclasses.dataclass(frozen=True)
class Tagged:
  """A file's sentences, in order."""

  origin: str
  sentences: tuple[Sentence, ...]

  @property
  def fingerprint(self) -> str:
    """A hash of words, tags and documents."""
    values = [[sentence.words, sentence.tags, sentence.document] for sentence in self.sentences]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def read(path: epath.PathLike, word: str = "1", tag: str | None = None) -> Tagged:
  """All sentences of a file with their tags; see `sentences`."""
  return Tagged(str(path), tuple(sentences(path, word, tag)))


def sentences(path: epath.PathLike, word: str = "1", tag: str | None = None, tagged: bool = True) -> Iterator[Sentence]:
  """The sentences of a file, in order; one whose name ends in .conllu (or .conllu.gz, …) is CoNLL-U.

  tfds:NAME:SPLIT is a TensorFlow data set with the field tokens; its tags are the field ner, or that of `tag`.

  Args:
    path: of the file.
    word: the words' column, from 1. CoNLL-U has its own.
    tag: the tags' column, from 1, or by name (upos, xpos, deprel) in CoNLL-U; by default the last, or upos.
    tagged: whether tags are read at all.

  Raises:
    ValueError: the file cannot be read; a line has too few columns (with its number), or there is no word.
  """
  if str(path).startswith(tfds_sets.PREFIX):
    yield from _of_tfds(str(path), tag or "ner", tagged)
    return
  path = epath.Path(path)
  universal = path.name.endswith(files.packed(".conllu"))
  if universal:
    word_place, tag_place = 1, _universal_column(path, tag)
  else:
    word_place, tag_place = _column(path, word, "--text"), -1 if tag is None else _column(path, tag, "--label")
  words: list[str] = []
  tags: list[str] = []
  document, marked, found = -1, False, False
  for number, line in itertools.chain(_lines(path), [(0, "")]):
    starts = line.startswith("# newdoc") if universal else line.startswith("-DOCSTART-")
    if starts or not line.strip():
      if words:
        document = max(document, 0) if marked else document + 1
        yield Sentence(tuple(words), tuple(tags), document)
        words, tags, found = [], [], True
      if starts:
        marked, document = True, document + 1
    elif not (universal and line.startswith("#")):
      fields = line.split("\t") if universal or "\t" in line else line.split()
      if universal and not fields[0].isdecimal():  # a range of words (3-4), or one that is not there (8.1)
        continue
      places = [word_place, *([tag_place] if tagged else [])]
      if len(fields) <= max(places) or (tagged and len(fields) < 2):
        raise ValueError(
          f"{path}, line {number} has {len(fields)} columns ({line:.60}); --text and --label say which holds what"
        )
      words.append(fields[word_place])
      if tagged:
        tags.append(fields[tag_place])
  if not found:
    raise ValueError(f"{path} has no word")


def _of_tfds(path: str, tag: str, tagged: bool) -> Iterator[Sentence]:
  """A TensorFlow data set with the fields tokens and, say, ner, as conll2003 has them; each sentence by itself."""
  number = 0
  for _, record in tfds_sets.records(path, ["tokens", *([tag] if tagged else [])]):
    words = tuple(record["tokens"])
    if words:
      yield Sentence(words, tuple(record[tag]) if tagged else (), number)
      number += 1


def _lines(path: epath.Path) -> Iterator[tuple[int, str]]:
  """(number, line) of each line, without its end."""
  try:
    with path.open("rb") as raw, compressed.plain(path, raw) as stream:
      for number, line in enumerate(files.read_lines(stream, path, "shorten it"), 1):
        yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
  except UnicodeDecodeError as error:
    raise ValueError(
      f"{path} is not UTF-8 ({error.reason}); convert it first, for example: iconv -f WINDOWS-1252 -t UTF-8"
    ) from error
  except (EOFError, OSError, *compressed.errors()) as error:
    raise ValueError(f"{path} cannot be read: {error}") from error


def _column(path: epath.Path, column: str, flag: str) -> int:
  if not column.isdecimal() or column == "0":
    raise ValueError(f"{flag}={column}: the columns of {path} have no names; give a number, from 1")
  return int(column) - 1


def _universal_column(path: epath.Path, tag: str | None) -> int:
  name = tag or "upos"
  if name.isdecimal() and 1 <= int(name) <= len(COLUMNS):
    return int(name) - 1
  if name not in COLUMNS:
    raise ValueError(f"--label={name} is no column of {path}; CoNLL-U has {', '.join(COLUMNS)}")
  return COLUMNS.index(name)
