"""What a foreign tokenizer's files must be before anything is built of them, and the library's failures as errors.

A tokenizer.json is a small program: it has patterns that can run for ever, texts that can grow at every step, and ids
that decide how much memory is taken.
"""

import base64
import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import tokenizers as hf
from etils import epath

from bert_jax import foreign
from bert_jax.foreign import shown

MOST_TOKENS = 2**22  # ids are below it; published vocabularies have up to 1.1 million
_MOST_GROWTH = 1000  # times as long as it was, a text may become by replacements
_MOST_STEPS = 200  # of normalizer, pre_tokenizer and decoder
_PROBES = ("a", " ", "\n", "7", "!", "é", "ab ", "a1", " \t", "'s", "aA", "漢")


def settings(folder: epath.Path) -> dict[str, Any]:
  """The tokenizer_config.json of a folder; empty where there is none.

  Raises:
    ValueError: it is damaged, or what we read of it is of another type.
  """
  name = "tokenizer_config.json"
  if not foreign.is_file(folder, name):
    return {}
  values = foreign.read_object(folder, name)
  for key in ("do_lower_case", "strip_accents", "add_prefix_space", "tokenize_chinese_chars", "keep_accents"):
    if not isinstance(values.get(key), bool | None):
      raise ValueError(f"{folder / name} has {key}={shown(values[key])}, which must be true, false or null")
  return values


def vocabulary(file: epath.Path) -> dict[str, int]:
  """Reads a vocab.json or added_tokens.json: token → id. In the latter, -1 stands for the next free id.

  Raises:
    ValueError: it is damaged, or of another form.
  """
  values = foreign.read_object(file.parent, file.name)
  added = file.name != "vocab.json"
  known = {token: i for token, i in values.items() if i != -1} if added else values
  _require_ids(known, str(file), may_be_empty=added)
  return values


def merges(file: epath.Path) -> list[tuple[str, ...]]:
  """Reads a merges.txt: the two parts of each line.

  Raises:
    ValueError: it is damaged, or a line has not two parts.
  """
  lines = foreign.read_text(file.parent, file.name).split("\n")
  pairs = []
  for number, line in enumerate(lines, 1):
    if line and not line.startswith("#version"):
      pair = tuple(line.removesuffix("\r").split(" "))
      if len(pair) != 2 or not all(pair):
        raise ValueError(f"{file}, line {number}: {line!r:.80} must be two tokens with a space between")
      pairs.append(pair)
  return pairs


def tokenizer_json(file: epath.Path) -> tuple[str, dict[str, Any]]:
  """The text and content of a tokenizer.json, once all that we read is known to be there and of its type.

  Raises:
    ValueError: it is damaged, or asks for more than any published one does.
  """
  text = foreign.read_text(file.parent, file.name)
  content = foreign.parse_json(text, str(file))

  def require(holds: bool, what: str) -> None:
    if not holds:
      raise ValueError(f"{file} is damaged, or no tokenizer.json: {what}")

  require(isinstance(content, dict), "it holds no object")
  model = content.get("model")
  require(isinstance(model, dict), "its model is no object")
  for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
    require(isinstance(content.setdefault(part, None), dict | None), f"its {part} is neither an object nor null")
  added = content.setdefault("added_tokens", [])
  require(isinstance(added, list) and all(isinstance(row, dict) for row in added), "added_tokens is no list of objects")
  for row in added:
    require(isinstance(row.get("content"), str), f"an added token has content={shown(row.get('content'))}")
    require(isinstance(row.get("special"), bool), f"an added token has special={shown(row.get('special'))}")
  _require_ids({row["content"]: row.get("id") for row in added}, f"{file}, in added_tokens,", may_be_empty=True)
  vocab = model.get("vocab")
  if isinstance(vocab, list):  # Unigram's
    rows = [row for row in vocab if isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)]
    require(0 < len(rows) == len(vocab) <= MOST_TOKENS, "its vocab is no list of [text, number]")
    require(all(type(row[1]) in (int, float) for row in rows), "its vocab is no list of [text, number]")
    unknown = model.get("unk_id")
    require(type(unknown) is int and 0 <= unknown < len(vocab), f"unk_id={shown(unknown)} is none of its tokens")
  else:
    require(isinstance(vocab, dict), "its vocab is neither an object nor a list")
    _require_ids(vocab, f"{file}, in its vocab,")
  longest = model.get("max_input_chars_per_word", 100)
  require(type(longest) is int and 1 <= longest <= 100_000, f"max_input_chars_per_word={shown(longest)}")
  if model.get("dropout"):
    raise ValueError(
      f"{file} has dropout={shown(model['dropout'])}: it cuts a text otherwise each time; set it to null"
    )
  rules = content["normalizer"] or {}
  if rules.get("type") == "BertNormalizer":
    for key in ("clean_text", "handle_chinese_chars", "lowercase"):
      require(isinstance(rules.get(key), bool), f"its normalizer has {key}={shown(rules.get(key))}")
    require(isinstance(rules.get("strip_accents"), bool | None), "its normalizer's strip_accents is no true or false")
  _require_bounded([content[part] for part in ("normalizer", "pre_tokenizer", "decoder")], str(file))
  return text, content


def built(text: str, origin: str) -> hf.Tokenizer:
  """The library's tokenizer of a tokenizer.json.

  Raises:
    ValueError: the library cannot make one of it, or its patterns take too long.
  """
  with guarded(origin):
    tokenizer = hf.Tokenizer.from_str(text)
  if '"Regex"' in text:
    _probe(tokenizer, origin)
  return tokenizer


@contextlib.contextmanager
def guarded(origin: str) -> Iterator[None]:
  """Turns the library's failures into ValueError: it raises Exception itself, and stops with a panic at some files."""
  try:
    yield
  except ValueError:
    raise
  except BaseException as error:
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
      raise
    raise ValueError(f"{origin} cannot be used by the tokenizers library: {error!s:.300}") from error


# ---- rules ------------------------------------------------------------------------------------------------------


def _require_ids(vocab: dict[str, Any], origin: str, may_be_empty: bool = False) -> None:
  wrong = next((token for token, i in vocab.items() if type(i) is not int or not 0 <= i < MOST_TOKENS), None)
  if wrong is not None:
    rule = f"a whole number from 0 to below {MOST_TOKENS:,}"
    raise ValueError(f"{origin} gives {shown(wrong)} the id {shown(vocab[wrong])}, which must be {rule}")
  if not vocab and not may_be_empty:
    raise ValueError(f"{origin} holds no token")


def _require_bounded(parts: list[Any], origin: str) -> None:
  """Few steps, texts that grow little, and patterns that end.

  Raises:
    ValueError: naming the step.
  """
  growth, steps, left = 1.0, 0, list(parts)
  while left:
    node = left.pop()
    if isinstance(node, list):
      left += node
    if not isinstance(node, dict):
      continue
    left += node.values()
    steps += "type" in node
    if node.get("type") == "Precompiled":
      _require_charsmap(node.get("precompiled_charsmap"), origin)
    pattern = node.get("pattern")
    pattern = pattern if isinstance(pattern, dict) else {}
    regex = pattern.get("Regex")
    if isinstance(regex, str) and (len(regex) > 10_000 or not _ends(regex)):
      raise ValueError(
        f"{origin} has the pattern {shown(regex)}, which repeats what repeats itself, or is too long: it could run for"
        " ever on some texts"
      )
    put = node.get("content") if node.get("type") == "Replace" else node.get("prepend")
    if isinstance(put, str):
      found = pattern.get("String")
      growth *= max(1.0, len(put) / len(found)) if isinstance(found, str) and found else 1.0 + len(put)
  if steps > _MOST_STEPS or growth > _MOST_GROWTH:
    raise ValueError(
      f"{origin} makes a text {growth:,.0f} times as long, in {steps} steps; {_MOST_GROWTH} times in {_MOST_STEPS}"
      " steps are the most"
    )


def _require_charsmap(encoded: Any, origin: str) -> None:
  """SentencePiece's table of characters, in base64: the size of a trie, the trie, and UTF-8 texts.

  The library panics at any other, with a backtrace of its own.

  Raises:
    ValueError: it is none.
  """
  try:
    table = base64.b64decode(encoded, validate=True)
    size = int.from_bytes(table[:4], "little")
    sound = base64.b64encode(table).decode() == encoded and len(table) >= 4 + size and size % 4 == 0
    table[4 + size :].decode()
  except (TypeError, ValueError):
    sound = False
  if not sound:
    raise ValueError(f"{origin} is damaged: its precompiled_charsmap is no table of characters; fetch it again")


_ATOM = re.compile(r"\\[pP]\{[^}]*\}|\\x\{[^}]*\}|\\.|[^\\]", re.DOTALL)
_QUANTIFIER = re.compile(r"(?:([*+])|(\?)|\{(\d*)(,?)(\d*)\})[?+]?")


def _ends(pattern: str) -> bool:
  """Whether no unbounded repetition stands in an unbounded repetition, nor alternatives, nor references back.

  Without these the time that a pattern takes is at most a power of the text's length.
  """
  if re.search(r"\\[1-9kg]|\(\?[R&]", pattern):
    return False
  open_groups: list[bool] = []  # for each group that is open, whether something in it repeats or branches
  place, branches = 0, False
  closed = False  # whether what came just now is a group with something of that in it
  while place < len(pattern):
    quantifier = _QUANTIFIER.match(pattern, place)
    if quantifier and place:
      least_comma = quantifier[4] == "," and (not quantifier[5] or int(quantifier[5]) > 100)
      if quantifier[1] or least_comma or int(quantifier[3] or 0) > 100:
        if closed:
          return False
        branches = True
      place, closed = quantifier.end(), False
      continue
    closed = False
    if pattern[place] == "[":
      place = _end_of_class(pattern, place)
      continue
    if pattern[place] == "(":
      open_groups.append(branches)
      branches = False
      place += 1
      if pattern.startswith("?", place):
        place += 1
      continue
    if pattern[place] == ")":
      inner = branches
      branches = (open_groups.pop() if open_groups else False) or inner
      closed = inner
      place += 1
      continue
    branches |= pattern[place] == "|" and bool(open_groups)
    atom = _ATOM.match(pattern, place)
    place = atom.end() if atom else place + 1
  return True


def _end_of_class(pattern: str, place: int) -> int:
  """The place after a [...], in which others may stand."""
  depth = 0
  while place < len(pattern):
    if pattern[place] == "\\":
      place += 1
    elif pattern[place] == "[":
      depth += 1
    elif pattern[place] == "]":
      depth -= 1
      if not depth:
        return place + 1
    place += 1
  return place


def _probe(tokenizer: hf.Tokenizer, origin: str) -> None:
  """Reads longer and longer texts: what takes a second for a thousand characters would take hours for a book.

  Raises:
    ValueError: one took too long, or made the library fail.
  """
  for length in (64, 256, 1024):
    for text in _PROBES:
      start = time.perf_counter()
      with guarded(origin):
        tokenizer.encode(text * (length // len(text)), add_special_tokens=False)
      if time.perf_counter() - start > 1:
        raise ValueError(f"{origin} takes over a second to cut {length} characters like {text!r}")
