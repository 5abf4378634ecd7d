"""SentencePiece models, read as the codes that published them do."""

import functools
import hashlib
import itertools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import sentencepiece
from etils import epath

from bert_jax.data import alignment, basic_tokenizer
from bert_jax.data.piece_starts import UNDERLINE, PieceStarts
from bert_jax.data.tokenizer_kinds import ROLES, Encoded, Located, Tokenizer, as_pairs, made

# Whose rules go with a SentencePiece model; the file does not say.
Rules = Literal["albert", "xlnet", "deberta", "xlm-roberta"]


class SentencePiece(Tokenizer):
  """A SentencePiece model, with what the codes that published such models do to a text before and after it.

  ALBERT: a lower-cased one reads NFKD text without combining marks, and `1990,` is cut before its comma.
  XLNet (prepro_utils.py): `` and '' are ", NFKD without combining marks whatever the casing; the same comma.
  DeBERTa: nothing but the casing. XLM-RoBERTa: nothing; its ids are fairseq's, one above the model's own.
  """

  kind = "unigram"

  def __init__(
    self,
    model: bytes,
    lowercase: bool,
    origin: str = "the SentencePiece model",
    added: Mapping[str, int] | None = None,
    rules: Rules | None = None,
    keep_accents: bool | None = None,
  ):
    """Makes one.

    Args:
      model: the file's content.
      lowercase: whether case is dropped.
      origin: what errors call it.
      added: tokens beside the model's own: text → id.
      rules: whose; where they are not given, XLNet's of a model with a piece <cls>, else ALBERT's.
      keep_accents: of ALBERT's and XLNet's rules; where it is not given, a cased ALBERT's stay.
    """
    self.model, self.lowercase, self.added = model, lowercase, dict(added or {})
    try:
      self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
      raise ValueError(f"{origin} is no SentencePiece model: {error}") from error
    pieces = self._pieces
    names: list[str] = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    self.rules: Rules = rules or ("xlnet" if "<cls>" in names else "albert")
    albert_or_xlnet = self.rules in ("albert", "xlnet")
    default = not albert_or_xlnet or (self.rules == "albert" and not lowercase)
    self.keep_accents = default if keep_accents is None else keep_accents
    self.own_ids = np.arange(len(names), dtype=np.int32)  # by the model's
    if self.rules == "xlm-roberta":
      if names[:3] != ["<unk>", "<s>", "</s>"]:
        raise ValueError(f"{origin} starts with {names[:3]}, and XLM-RoBERTa's with <unk>, <s>, </s>: it is another's")
      self.own_ids += 1
      self.own_ids[:3] = 3, 0, 2
      self.added = {"<pad>": 1, "<mask>": len(names) + 1} | self.added
    elif self.rules == "deberta" and "[MASK]" not in names:
      self.added = {"[MASK]": len(names)} | self.added
    vocab = {name: int(i) for name, i in zip(names, self.own_ids, strict=True)}
    self.added = {token: token_id for token, token_id in self.added.items() if token not in vocab}
    control = [int(self.own_ids[i]) for i in range(len(names)) if pieces.is_control(i) or pieces.is_unknown(i)]
    roles = [token_id for token, token_id in self.added.items() if token in ROLES]
    decides: list[Any] = [hashlib.sha256(model).hexdigest(), lowercase, *([self.added] if self.added else [])]
    if self.rules != "albert" or self.keep_accents != default:
      decides.append([self.rules, self.keep_accents])
    self._finish(vocab | self.added, [*control, *roles], decides, origin)
    self._find_added(self.added)
    letters = [int(self.own_ids[i]) for i in range(len(names)) if pieces.is_byte(i) or pieces.is_unknown(i)]
    self._piece_starts = PieceStarts(self._tokens, letters)
    commas = [i for i, piece in enumerate(names) if _ends_in_digit_comma(piece)] if albert_or_xlnet else []
    self.recut = {i: self._without_comma(names[i]) for i in commas}
    self._recut_ids = np.array(commas, np.int32)
    # Bytes that each piece stands for; 0 for an unknown one.
    sizes = ((0 if pieces.is_unknown(i) else 1 if pieces.is_byte(i) else len(n.encode())) for i, n in enumerate(names))
    self._widths = np.fromiter(sizes, np.int64, len(names))
    self._model_ids = {int(own): i for i, own in enumerate(self.own_ids) if own not in self.added.values()}

  def _without_comma(self, piece: str) -> list[int]:
    """`1990,` as `1990` and `,`: ALBERT and XLNet cut so, so that a number has the same form before a comma."""
    number = piece[:-1].replace(UNDERLINE, "")
    pieces: list[str] = self._pieces.encode(number, out_type=str)  # pyright: ignore[reportAssignmentType]
    if not piece.startswith(UNDERLINE) and pieces[0].startswith(UNDERLINE):
      pieces = ([pieces[0][1:]] if len(pieces[0]) > 1 else []) + pieces[1:]
    return [self._pieces.piece_to_id(p) for p in [*pieces, ","]]

  def _prepared(self, text: str) -> str:
    if self.rules == "xlnet":
      text = text.replace("``", '"').replace("''", '"')
    if not self.keep_accents:
      # XLNet's own code drops what has a combining class; the tokenizers library, and so we elsewhere, Unicode's Mn.
      text = _without_combining(text) if self.rules == "xlnet" else basic_tokenizer.without_marks(text, "NFKD")
    return text.lower() if self.lowercase else text

  def _encode(self, texts: Sequence[str]) -> list[Encoded]:
    result = []
    for row in self._pieces.encode([self._prepared(text) for text in texts], num_threads=1):
      ids = np.array(row, np.int32)
      if self.recut and np.isin(ids, self._recut_ids).any():
        ids = np.array([new for old in row for new in self.recut.get(old, (old,))], np.int32)
      ids = self.own_ids[ids]
      result.append((ids, self._piece_starts(ids)))
    return result

  def _locate(self, texts: Sequence[str]) -> list[Located]:
    # XLNet's rules read two characters as one.
    tracer = alignment.Tracer(self._prepared, re.compile("``|''|.", re.DOTALL) if self.rules == "xlnet" else None)
    blank = functools.cache(self._is_blank)
    result = []
    for text, (ids, starts) in zip(texts, self._encode(texts), strict=True):
      prepared = tracer(text)
      normalized, places = self._pieces.normalize(prepared.text, with_offsets=True)
      traced = alignment.of_normalized(normalized, places, len(prepared.text))
      spans = prepared.sources(traced.sources(self._piece_spans(prepared.text, normalized)))
      result.append(Located(ids, starts, alignment.trimmed(text, blank, spans, self._spaces[ids])))
    return result

  def _piece_spans(self, prepared: str, normalized: str) -> np.ndarray:
    """Where the pieces of a text stand in what the model makes of it, int64 [T, 2]."""
    ids = np.array(self._pieces.encode(prepared), np.int64)
    widths = self._widths[ids]
    if (widths == 0).any():  # an unknown piece is as long as what it stands for
      pieces: list[str] = self._pieces.encode(prepared, out_type=str)  # pyright: ignore[reportAssignmentType]
      widths = np.array([w or len(piece.encode()) for w, piece in zip(widths, pieces, strict=True)], np.int64)
    ends = np.cumsum(widths)
    characters = np.cumsum((np.frombuffer(normalized.encode(), np.uint8) & 0xC0) != 0x80) - 1  # of each byte
    assert len(characters) == widths.sum(), (prepared, normalized)
    spans = np.stack([characters[ends - widths], characters[ends - 1] + 1], axis=1)
    if not (self.recut and np.isin(ids, self._recut_ids).any()):
      return spans
    rows = zip(ids, spans.tolist(), strict=True)
    cut = (self._without_comma_spans(i, *span) if i in self.recut else [span] for i, span in rows)
    return as_pairs(list(itertools.chain(*cut)))

  def _without_comma_spans(self, piece: int, begin: int, end: int) -> list[tuple[int, int]]:
    """Those of the pieces that a piece like `1990,` is cut into."""
    number = self.recut[piece][:-1]
    sizes = [len(self._pieces.id_to_piece(i)) for i in number]
    ends = list(itertools.accumulate(sizes, initial=begin))
    if ends[-1] != end - 1:  # pieces that read otherwise than they stand there
      return [(begin, end - 1)] * len(number) + [(end - 1, end)]
    return [*itertools.pairwise(ends), (end - 1, end)]

  def _is_blank(self, character: str) -> bool:
    """Whether a character is a space, or is read as one or as nothing."""
    return character.isspace() or not self._pieces.normalize(self._prepared(character)).strip(UNDERLINE)

  def decode(self, ids: Sequence[int] | np.ndarray) -> str:
    texts, run = [], []
    for token_id in self._ordinary(ids):
      if token_id in self._model_ids:
        run.append(self._model_ids[token_id])
      else:
        texts += [self._pieces.decode(run), self._tokens[token_id]]
        run = []
    return " ".join(text for text in [*texts, self._pieces.decode(run)] if text)  # pyright: ignore[reportArgumentType]

  def save(self, folder: epath.PathLike) -> None:
    folder = made(folder)
    name = {"deberta": "spm.model", "xlm-roberta": "sentencepiece.bpe.model"}.get(self.rules, "spiece.model")
    (folder / name).write_bytes(self.model)
    if self.added:
      (folder / "added_tokens.json").write_text(json.dumps(self.added) + "\n")
    settings: dict[str, Any] = {"do_lower_case": self.lowercase, "keep_accents": self.keep_accents}
    if self.rules == "xlm-roberta":
      settings = {"tokenizer_class": "XLMRobertaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")


def _without_combining(text: str) -> str:
  if text.isascii():
    return text
  return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _ends_in_digit_comma(piece: str) -> bool:
  return len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit()
