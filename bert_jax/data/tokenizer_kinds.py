"""The three kinds of tokenizer behind one interface: text to token ids, and which of them start a word."""

import abc
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import sentencepiece
import tokenizers as hf
from etils import epath
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_jax.data import bert_text, foreign_tokenizers

Kind = Literal["wordpiece", "bpe", "unigram"]
Encoded = tuple[np.ndarray, np.ndarray]

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
UNDERLINE = "\u2581"  # SentencePiece's mark for a space before a piece


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
    text = json.dumps([self.kind, content], sort_keys=True, separators=(",", ":"))
    self.hash = hashlib.sha256(text.encode()).hexdigest()

  @abc.abstractmethod
  def encode(self, texts: Sequence[str]) -> list[Encoded]:
    """Token ids (int32) and word starts (bool) of each text.

    No special tokens are added, and text that looks like one (`[MASK]`) is text. A word is what the kind parts
    before it cuts pieces: a punctuation mark is a word of its own.
    """

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
  ):
    self.lowercase, self.strip_accents, self.max_word_characters = lowercase, strip_accents, max_word_characters
    content = [sorted(vocab.items()), lowercase, strip_accents, max_word_characters]
    self._finish(vocab, [], content, origin)
    model = models.WordPiece(
      vocab, unk_token=self.tokens([self.unk_id])[0], max_input_chars_per_word=max_word_characters
    )
    self._words = hf.Tokenizer(model)
    # BERT's own rules are in bert_text: the library's differ on rare characters (final sigma, newer punctuation).
    self._words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    self._words.decoder = decoders.WordPiece()  # pyright: ignore[reportAttributeAccessIssue]
    self._starts = np.array([not token.startswith("##") for token in self._tokens])

  def encode(self, texts: Sequence[str]) -> list[Encoded]:
    words = [bert_text.split_words(text, self.lowercase, self.strip_accents) for text in texts]
    encoded = (np.array(e.ids, np.int32) for e in self._words.encode_batch_fast(words, add_special_tokens=False))
    return [(ids, self._starts[ids]) for ids in encoded]

  def decode(self, ids: Sequence[int] | np.ndarray) -> str:
    return self._words.decode(self._ordinary(ids), skip_special_tokens=False)

  def save(self, folder: epath.PathLike) -> None:
    folder = _made(folder)
    whole = hf.Tokenizer(self._words.model)
    whole.normalizer = normalizers.BertNormalizer(  # pyright: ignore[reportAttributeAccessIssue]
      lowercase=self.lowercase, strip_accents=self.strip_accents
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
    (folder / "tokenizer.json").write_text(whole.to_str(pretty=True))
    (folder / "vocab.txt").write_text("".join(token + "\n" for token in self._tokens))
    settings = {"do_lower_case": self.lowercase, "strip_accents": self.strip_accents}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")


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
    self._origin = origin
    self._whole = foreign_tokenizers.built(text, origin)
    self._whole.no_padding()
    self._whole.no_truncation()
    self._whole.encode_special_tokens = True  # "<mask>" in a text is text
    decides = {key: content[key] for key in ("model", "normalizer", "pre_tokenizer", "added_tokens")}
    special = [token["id"] for token in content["added_tokens"] if token["special"]]
    self._finish(self._whole.get_vocab(with_added_tokens=True), special, decides, origin)
    self._piece_starts = PieceStarts(self._tokens, [self.unk_id]) if self.kind == "unigram" else None

  def encode(self, texts: Sequence[str]) -> list[Encoded]:
    if self._piece_starts is not None:
      with foreign_tokenizers.guarded(self._origin):
        encoded = self._whole.encode_batch_fast(list(texts), add_special_tokens=False)
      return [(ids, self._piece_starts(ids)) for ids in (np.array(e.ids, np.int32) for e in encoded)]
    # The fast call does not keep the words, and byte-level pieces alone do not tell them ("2nd" is two).
    with foreign_tokenizers.guarded(self._origin):
      encoded = self._whole.encode_batch(list(texts), add_special_tokens=False)
    return [(np.array(e.ids, np.int32), _changes(np.array(e.word_ids, np.int32))) for e in encoded]

  def decode(self, ids: Sequence[int] | np.ndarray) -> str:
    return self._whole.decode(self._ordinary(ids), skip_special_tokens=False)

  def save(self, folder: epath.PathLike) -> None:
    (_made(folder) / "tokenizer.json").write_text(self._text)


class SentencePiece(Tokenizer):
  """A SentencePiece model, used as ALBERT does: a lower-cased one reads NFKD text without combining marks."""

  kind = "unigram"

  def __init__(
    self,
    model: bytes,
    lowercase: bool,
    origin: str = "the SentencePiece model",
    added: Mapping[str, int] | None = None,
  ):
    """`added` are tokens beside the model's own: text → id, of which -1 stands for the next."""
    self.model, self.lowercase, self._added = model, lowercase, dict(added or {})
    try:
      self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
      raise ValueError(f"{origin} is no SentencePiece model: {error}") from error
    pieces = self._pieces
    vocab = {pieces.id_to_piece(i): i for i in range(pieces.get_piece_size())}
    special = [i for i in vocab.values() if pieces.is_control(i) or pieces.is_unknown(i)]
    added_ids = {token: len(vocab) if i < 0 else i for token, i in self._added.items() if token not in vocab}
    decides = [hashlib.sha256(model).hexdigest(), lowercase, *([added_ids] if added_ids else [])]
    self._finish(vocab | added_ids, [*special, *added_ids.values()], decides, origin)
    letters = [i for i in vocab.values() if pieces.is_byte(i) or pieces.is_unknown(i)]
    self._piece_starts = PieceStarts(self._tokens, letters)
    self.recut = {i: self._without_comma(piece) for piece, i in vocab.items() if _ends_in_digit_comma(piece)}
    self._recut_ids = np.array(list(self.recut), np.int32)

  def _without_comma(self, piece: str) -> list[int]:
    """`1990,` as `1990` and `,`: ALBERT and XLNet cut so, lest a number has one more form before a comma."""
    number = piece[:-1].replace(UNDERLINE, "")
    pieces: list[str] = self._pieces.encode(number, out_type=str)  # pyright: ignore[reportAssignmentType]
    if not piece.startswith(UNDERLINE) and pieces[0].startswith(UNDERLINE):
      pieces = ([pieces[0][1:]] if len(pieces[0]) > 1 else []) + pieces[1:]
    return [self._pieces.piece_to_id(p) for p in [*pieces, ","]]

  def encode(self, texts: Sequence[str]) -> list[Encoded]:
    if self.lowercase:
      texts = [bert_text.without_marks(text, "NFKD").lower() for text in texts]
    result = []
    for row in self._pieces.encode(list(texts), num_threads=1):
      ids = np.array(row, np.int32)
      if self.recut and np.isin(ids, self._recut_ids).any():
        ids = np.array([new for old in row for new in self.recut.get(old, (old,))], np.int32)
      result.append((ids, self._piece_starts(ids)))
    return result

  def decode(self, ids: Sequence[int] | np.ndarray) -> str:
    return self._pieces.decode(self._ordinary(ids))  # pyright: ignore[reportReturnType]

  def save(self, folder: epath.PathLike) -> None:
    folder = _made(folder)
    (folder / "spiece.model").write_bytes(self.model)
    if self._added:
      (folder / "added_tokens.json").write_text(json.dumps(self._added) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": self.lowercase}) + "\n")


class PieceStarts:
  """Which pieces of a Unigram text start a word, by their marks.

  A word starts at a piece with a space before it, at a punctuation mark or symbol, after one, and at a CJK
  character. ALBERT (create_pretraining_data.py) starts one at every piece with a letter beyond ASCII, too; here
  those go on, so that words with accents stay whole.
  """

  def __init__(self, pieces: Sequence[str], letters: Sequence[int] = ()):
    def apart(character: str) -> bool:
      return not (character.isalnum() or _is_mark(character)) or bert_text.is_cjk(character)

    self._lone_space = np.array([piece == UNDERLINE for piece in pieces])
    self._starts = np.array([bool(piece) and (piece[0] == UNDERLINE or apart(piece[0])) for piece in pieces])
    self._ends = np.array([bool(piece) and piece != UNDERLINE and apart(piece[-1]) for piece in pieces])
    self._starts[list(letters)] = self._ends[list(letters)] = False

  def __call__(self, ids: np.ndarray) -> np.ndarray:
    starts = self._starts[ids]
    starts[1:] |= self._ends[ids[:-1]]
    starts[1:] &= ~self._lone_space[ids[:-1]]  # what follows a space of its own goes with it
    starts[:1] = True
    return starts


def _is_mark(character: str) -> bool:
  return not character.isascii() and bert_text.without_marks(character, "NFD") == ""


def _ends_in_digit_comma(piece: str) -> bool:
  return len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit()


def _changes(values: np.ndarray) -> np.ndarray:
  """True where a value differs from the one before, and at the first."""
  result = np.ones(len(values), bool)
  result[1:] = values[1:] != values[:-1]
  return result


def _made(folder: epath.PathLike) -> epath.Path:
  path = epath.Path(folder)
  path.mkdir(parents=True, exist_ok=True)
  return path
