"""The kinds of tokenizer behind one interface: text to token ids, which of them start a word, where they stand.

The third, SentencePiece, is in sentence_piece.py.
"""

import abc
import functools
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import tokenizers as hf
from etils import epath
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_jax.data import alignment, basic_tokenizer, foreign_tokenizers
from bert_jax.data.piece_starts import UNDERLINE, PieceStarts

Kind = Literal["wordpiece", "bpe", "unigram"]
Encoded = tuple[np.ndarray, np.ndarray]


class Located(NamedTuple):
  """The tokens of a text, and where in it they stand.

  Attributes:
    ids: int32 [T].
    starts: bool [T]; whether a token starts a word.
    offsets: int32 [T, 2]; begin and end, in characters of the text as it was given.
  """

  ids: np.ndarray
  starts: np.ndarray
  offsets: np.ndarray


# What each part of an input is called by BERT and ALBERT, RoBERTa, XLNet; the first that the vocabulary has is meant.
_SPECIAL_NAMES = {
  "pad": ("[PAD]", "<pad>"),
  "unk": ("[UNK]", "<unk>"),
  "cls": ("[CLS]", "<cls>", "<s>"),  # XLNet's vocabulary has <s> and </s> too, and does not use them
  "sep": ("[SEP]", "<sep>", "</s>"),
  "mask": ("[MASK]", "<mask>"),
}
SPECIAL_TOKENS: dict[Kind, tuple[str, ...]] = {
  "wordpiece": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
  "bpe": ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
  "unigram": ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
}
ROLES = frozenset(name for names in _SPECIAL_NAMES.values() for name in names)
_SPACES = UNDERLINE + "\u0120"  # and byte-level BPE's


class Tokenizer(abc.ABC):
  """A vocabulary and the rules that cut text by it.

  Attributes:
    kind: wordpiece, bpe or unigram.
    lowercase: whether case is dropped.
    vocab_size: token ids are below it.
    pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special tokens.
    mask_token: text of the mask token.
    special_ids: all special ids, sorted, int32.
    hash: sha256 of everything that decides how text is cut, in hex.
  """

  kind: Kind
  lowercase: bool
  vocab_size: int
  special_ids: np.ndarray
  hash: str
  _added_pattern: re.Pattern[str] | None = None

  def _finish(self, vocab: dict[str, int], more_special_ids: Sequence[int], content: Any, origin: str) -> None:
    """Fills in what all kinds have alike; `content` is what decides how text is cut, as JSON."""
    self.vocab_size = max(vocab.values()) + 1
    found = {role: next((n for n in names if n in vocab), None) for role, names in _SPECIAL_NAMES.items()}
    missing = [" or ".join(_SPECIAL_NAMES[role]) for role, name in found.items() if name is None]
    if missing:
      raise ValueError(f"{origin} has no {', no '.join(missing)}; an encoder needs them, add them to the vocabulary")
    ids = {role: vocab[name] for role, name in found.items() if name is not None}
    self.pad_id, self.unk_id, self.cls_id = ids["pad"], ids["unk"], ids["cls"]
    self.sep_id, self.mask_id = ids["sep"], ids["mask"]
    self.mask_token = str(found["mask"])
    self.special_ids = np.array(sorted({*ids.values(), *more_special_ids}), np.int32)
    self._tokens = [""] * self.vocab_size
    for token, token_id in vocab.items():
      self._tokens[token_id] = token
    self._spaces = np.array([bool(token) and not token.strip(_SPACES) for token in self._tokens])
    text = json.dumps([self.kind, content], sort_keys=True, separators=(",", ":"))
    self.hash = hashlib.sha256(text.encode()).hexdigest()

  def encode(self, texts: Sequence[str]) -> list[Encoded]:
    """Token ids (int32) and word starts (bool) of each text.

    No special tokens are added, and text that looks like one (`[MASK]`) is text; tokens that were added to a
    published vocabulary (`[E1]`) are found, and split the text. A word is what the kind splits text into before it cuts
    pieces: a punctuation mark is a word of its own.
    """
    if self._added_pattern is None:
      return self._encode(texts)
    split = [self._added_pattern.split(text) for text in texts]  # text, token, text, …, text
    between = iter(self._encode([part for parts in split for part in parts[::2]]))
    result = []
    for parts in split:
      pieces = [next(between)]
      for token in parts[1::2]:
        pieces += [(self._added_id(token), np.ones(1, bool)), next(between)]
      result.append((np.concatenate([ids for ids, _ in pieces]), np.concatenate([starts for _, starts in pieces])))
    return result

  def encode_with_offsets(self, texts: Sequence[str]) -> list[Located]:
    """What `encode` gives, and the part of the text that each token stands for.

    Offsets are those of the text as it was given, whatever is done to it before it is cut. Neither begins nor ends
    decrease. Spaces are part of no span; a token of nothing but spaces has theirs, which is empty where the text has
    none (one that is put before a text). Tokens that share a character (the bytes of an emoji, `f` and `i` of `ﬁ`) each
    have the whole of it. A WordPiece word that is unknown is one span. Accents that are dropped belong to the character
    before.
    """
    pattern = self._added_pattern
    split = [pattern.split(text) if pattern else [text] for text in texts]
    between = iter(self._locate([part for parts in split for part in parts[::2]]))
    result = []
    for text, parts in zip(texts, split, strict=True):
      pieces, begin = [], 0
      for i, part in enumerate(parts):
        if i % 2:
          ids, starts, spans = self._added_id(part), np.ones(1, bool), np.array([[0, len(part)]])
        else:
          ids, starts, spans = next(between)
        pieces.append((ids, starts, begin + spans))
        begin += len(part)
      ids, starts, spans = map(np.concatenate, zip(*pieces, strict=True))
      result.append(Located(ids, starts, alignment.with_marks(text, spans).astype(np.int32)))
    return result

  @abc.abstractmethod
  def _encode(self, texts: Sequence[str]) -> list[Encoded]:
    """The same as `encode`, without added tokens."""

  @abc.abstractmethod
  def _locate(self, texts: Sequence[str]) -> list[Located]:
    """The same as `encode_with_offsets`, without added tokens and dropped accents; offsets are int64."""

  def _added_id(self, token: str) -> np.ndarray:
    return np.array([self._added_ids.get(token) or self._added_ids[token.lower()]], np.int32)

  def _find_added(self, added: Mapping[str, int], any_case: Collection[str] = ()) -> None:
    """Lets `encode` find these tokens, text → id, before anything else; those of an input's parts stay text."""
    exact = {token: token_id for token, token_id in added.items() if token not in ROLES}
    self._added_ids = {token.lower(): exact[token] for token in exact if token in any_case} | exact
    if exact:
      longest_first = sorted(exact, key=len, reverse=True)
      patterns = (f"(?i:{re.escape(t)})" if t in any_case else re.escape(t) for t in longest_first)
      self._added_pattern = re.compile(f"({'|'.join(patterns)})")

  @abc.abstractmethod
  def decode(self, ids: Sequence[int] | np.ndarray) -> str:
    """Text of token ids, the special tokens left out."""

  @abc.abstractmethod
  def save(self, folder: epath.PathLike) -> None:
    """Writes files that `tokenizers.load(folder)` makes an equal tokenizer of."""

  def tokens(self, ids: Sequence[int] | np.ndarray) -> list[str]:
    """The vocabulary's text of each id, marks such as `##` included."""
    return [self._tokens[token_id] for token_id in ids]

  def _ordinary(self, ids: Sequence[int] | np.ndarray) -> list[int]:
    array = np.asarray(ids, np.int64)
    return array[~np.isin(array, self.special_ids)].tolist()


class WordPiece(Tokenizer):
  """BERT's: basic words, then the longest pieces from the left, `##` before those that continue a word.

  A word that no pieces make up, or of more than `max_word_characters`, is one unknown token.
  """

  kind = "wordpiece"

  def __init__(
    self,
    vocab: dict[str, int],
    lowercase: bool,
    strip_accents: bool,
    max_word_characters: int = 200,  # as google-research/bert; Hugging Face's files say 100
    origin: str = "the vocabulary",
    added: Mapping[str, int] | None = None,
    any_case: Collection[str] = (),
    split_cjk: bool = True,
  ):
    """Makes one.

    Args:
      vocab: token → id.
      lowercase, strip_accents: of a text, before anything is looked for.
      max_word_characters: of a word that is cut into pieces.
      origin: what errors call it.
      added: tokens that are found before text is cut: text → id.
      any_case: those of them that a lower-cased tokenizer finds in any casing.
      split_cjk: whether each CJK character is a word.
    """
    self.lowercase, self.strip_accents, self.max_word_characters = lowercase, strip_accents, max_word_characters
    self.added, self.split_cjk = dict(added or {}), split_cjk
    self.any_case = sorted(set(any_case) & set(self.added)) if lowercase else []
    vocab = vocab | self.added
    content = [sorted(vocab.items()), lowercase, strip_accents, max_word_characters]
    if self.added or not split_cjk:
      content += [sorted(self.added.items()), self.any_case, split_cjk]
    self._finish(vocab, [], content, origin)
    self._find_added(self.added, self.any_case)
    model = models.WordPiece(
      vocab, unk_token=self.tokens([self.unk_id])[0], max_input_chars_per_word=max_word_characters
    )
    self._words = hf.Tokenizer(model)
    # BERT's own rules are in basic_tokenizer: the library's differ on rare characters (final sigma, newer punctuation).
    self._words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    self._words.decoder = decoders.WordPiece()  # pyright: ignore[reportAttributeAccessIssue]
    self._starts = np.array([not token.startswith("##") for token in self._tokens])

  def _split(self, text: str) -> str:
    return basic_tokenizer.split_words(text, self.lowercase, self.strip_accents, self.split_cjk)

  def _encode(self, texts: Sequence[str]) -> list[Encoded]:
    words = [self._split(text) for text in texts]
    encoded = (np.array(e.ids, np.int32) for e in self._words.encode_batch_fast(words, add_special_tokens=False))
    return [(ids, self._starts[ids]) for ids in encoded]

  def _locate(self, texts: Sequence[str]) -> list[Located]:
    tracer = alignment.Tracer(self._split)
    traced = [tracer(text) for text in texts]
    encoded = self._words.encode_batch([words.text for words in traced], add_special_tokens=False)
    result = []
    for words, e in zip(traced, encoded, strict=True):
      ids = np.array(e.ids, np.int32)
      result.append(Located(ids, self._starts[ids], words.sources(as_pairs(e.offsets))))
    return result

  def decode(self, ids: Sequence[int] | np.ndarray) -> str:
    return self._words.decode(self._ordinary(ids), skip_special_tokens=False)

  def save(self, folder: epath.PathLike) -> None:
    folder = made(folder)
    whole = hf.Tokenizer(self._words.model)
    whole.normalizer = normalizers.BertNormalizer(  # pyright: ignore[reportAttributeAccessIssue]
      lowercase=self.lowercase, strip_accents=self.strip_accents, handle_chinese_chars=self.split_cjk
    )
    whole.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    whole.decoder = decoders.WordPiece()  # pyright: ignore[reportAttributeAccessIssue]
    cls, sep = self.tokens([self.cls_id, self.sep_id])
    whole.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
      single=f"{cls} $A {sep}",
      pair=f"{cls} $A {sep} $B:1 {sep}:1",
      special_tokens=[(cls, self.cls_id), (sep, self.sep_id)],
    )
    whole.add_special_tokens(self.tokens(self.special_ids))
    whole.add_tokens([hf.AddedToken(token, normalized=token in self.any_case) for token in self.added])
    (folder / "tokenizer.json").write_text(whole.to_str(pretty=True))
    (folder / "vocab.txt").write_text("".join(token + "\n" for token in self._tokens))
    settings = {"do_lower_case": self.lowercase, "strip_accents": self.strip_accents}
    if not self.split_cjk:
      settings["tokenize_chinese_chars"] = False
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")
    if self.added:  # of vocab.txt, where that is read alone
      (folder / "added_tokens.json").write_text(json.dumps(self.added) + "\n")


class FromJson(Tokenizer):
  """A `tokenizer.json` of byte-level BPE (RoBERTa) or Unigram; the file's own rules cut the text."""

  def __init__(self, text: str, origin: str = "tokenizer.json"):
    self._text = text
    content = json.loads(text)
    model = content["model"].get("type")
    rules = json.dumps([content["normalizer"], content["pre_tokenizer"]])
    if model == "BPE" and '"ByteLevel"' in rules:
      self.kind = "bpe"
    elif model == "Unigram" and '"Metaspace"' in rules:
      self.kind = "unigram"
    else:
      raise ValueError(
        f"{origin} holds a model {model!r} with rules that do not say where words start; "
        "give WordPiece, byte-level BPE, or Unigram with Metaspace"
      )
    self.lowercase = '"Lowercase"' in rules
    special = [token["id"] for token in content["added_tokens"] if token["special"]]
    decides = {key: content[key] for key in ("model", "normalizer", "pre_tokenizer", "added_tokens")}
    # Where a text starts with characters that Precompiled drops, the library's offsets are too low from there on.
    self._miscounts = '"Precompiled"' in rules
    self._origin = origin
    self._whole = foreign_tokenizers.built(_with_found(content), origin)
    self._whole.no_padding()
    self._whole.no_truncation()
    self._whole.encode_special_tokens = True  # "<mask>" in a text is text
    self._finish(self._whole.get_vocab(with_added_tokens=True), special, decides, origin)
    self._piece_starts = PieceStarts(self._tokens, [self.unk_id]) if self.kind == "unigram" else None

  def _encode(self, texts: Sequence[str]) -> list[Encoded]:
    if self._piece_starts is not None:
      with foreign_tokenizers.guarded(self._origin):
        encoded = self._whole.encode_batch_fast(list(texts), add_special_tokens=False)
      return [(ids, self._piece_starts(ids)) for ids in (np.array(e.ids, np.int32) for e in encoded)]
    # The fast call does not keep the words, and byte-level pieces alone do not tell them ("2nd" is two).
    with foreign_tokenizers.guarded(self._origin):
      encoded = self._whole.encode_batch(list(texts), add_special_tokens=False)
    return [(np.array(e.ids, np.int32), _changes(np.array(e.word_ids, np.int32))) for e in encoded]

  def _locate(self, texts: Sequence[str]) -> list[Located]:
    dropped, blank = functools.cache(self._is_dropped), functools.cache(self._is_blank)
    result = []
    with foreign_tokenizers.guarded(self._origin):
      encoded = self._whole.encode_batch(list(texts), add_special_tokens=False)
      for text, e in zip(texts, encoded, strict=True):
        ids, spans = np.array(e.ids, np.int32), as_pairs(e.offsets)
        starts = self._piece_starts(ids) if self._piece_starts else _changes(np.array(e.word_ids, np.int32))
        if self._miscounts and any(map(dropped, text)):
          places = np.array([i for i, character in enumerate(text) if not dropped(character)], np.int64)
          kept = alignment.Traced("".join(text[i] for i in places), places, places + 1)
          again = self._whole.encode(kept.text, add_special_tokens=False)
          if again.ids == e.ids:
            spans = kept.sources(as_pairs(again.offsets))
        result.append(Located(ids, starts, alignment.trimmed(text, blank, spans, self._spaces[ids])))
    return result

  def _is_dropped(self, character: str) -> bool:
    read = self._whole.normalizer.normalize_str
    return read(f"a{character}a") == read("aa")

  def _is_blank(self, character: str) -> bool:
    """Whether a character is a space, or is read as one or as nothing."""
    normalizer = self._whole.normalizer
    read = character if normalizer is None else normalizer.normalize_str(character)
    return character.isspace() or not read.strip(" " + UNDERLINE)

  def decode(self, ids: Sequence[int] | np.ndarray) -> str:
    return self._whole.decode(self._ordinary(ids), skip_special_tokens=False)

  def save(self, folder: epath.PathLike) -> None:
    (made(folder) / "tokenizer.json").write_text(self._text)


def _with_found(content: dict[str, Any]) -> str:
  """A tokenizer.json, in which tokens that were added beyond a model's own are found in text.

  The library finds a special one nowhere if it is to leave `<mask>` in a text alone. Those of an input's parts, and
  those that the model has as pieces (XLNet's <eop>), stay text.
  """
  vocab = content["model"]["vocab"]
  pieces = set(vocab) if isinstance(vocab, dict) else {piece for piece, _ in vocab}
  added = [
    token | {"special": token["special"] and (token["content"] in ROLES or token["content"] in pieces)}
    for token in content["added_tokens"]
  ]
  return json.dumps(content | {"added_tokens": added})


def _changes(values: np.ndarray) -> np.ndarray:
  """True where a value differs from the one before, and at the first."""
  result = np.ones(len(values), bool)
  result[1:] = values[1:] != values[:-1]
  return result


def as_pairs(offsets: Sequence[tuple[int, int]]) -> np.ndarray:
  """Offsets as an array, int64 [T, 2]."""
  return np.array(offsets, np.int64).reshape(-1, 2)


def made(folder: epath.PathLike) -> epath.Path:
  """The folder, which is there from now on."""
  path = epath.Path(folder)
  path.mkdir(parents=True, exist_ok=True)
  return path
