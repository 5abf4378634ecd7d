"""Documents → examples: BERT's pairs and RoBERTa's packed sentences, as ranges of the corpus's tokens.

An example reads `[CLS] piece [SEP] piece [SEP] …`; a piece is a run of neighbouring tokens of one document, kept
as a start and a length, so a segmentation of the corpus costs a few bytes an example and no token is copied.
"""

import dataclasses
import itertools
import os
import pathlib
import shutil
import tempfile
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from etils import epath
from tqdm import tqdm

from bert_jax import records
from bert_jax.config import PAIR_FORMATS, DataConfig
from bert_jax.data import checksums, random_bits

if TYPE_CHECKING:
  from bert_jax.data.corpus import Corpus

FORMATS_VERSION = 3  # raised when equal settings would build other examples, so that no cache of before is taken
IN_ORDER, OUT_OF_ORDER, NO_PAIR = 0, 1, -1
_CHECKSUMS = "checksums.json"  # of a folder of examples


@dataclasses.dataclass(frozen=True)
class Examples:
  """Examples of one segmentation of a corpus. N examples of P pieces in all.

  Attributes:
    piece_offsets: int64 [N+1]; example n has the pieces piece_offsets[n] to piece_offsets[n+1] - 1.
    piece_starts: int64 [P], place of a piece's first token in the corpus.
    piece_lengths: int32 [P], tokens.
    piece_segments: uint8 [P], segment id; the [SEP] after a piece has that of the piece.
    pair_labels: int8 [N]: 0 the second segment follows the first, 1 it is of another document or precedes it, -1
      no pair.
  """

  piece_offsets: np.ndarray
  piece_starts: np.ndarray
  piece_lengths: np.ndarray
  piece_segments: np.ndarray
  pair_labels: np.ndarray

  def __len__(self) -> int:
    return len(self.pair_labels)

  @property
  def lengths(self) -> np.ndarray:
    """int64 [N], tokens of each example, special tokens counted."""
    tokens = np.concatenate([[0], np.cumsum(self.piece_lengths, dtype=np.int64)])
    return 1 + np.diff(tokens[self.piece_offsets]) + np.diff(self.piece_offsets)

  @property
  def random_share(self) -> float | None:
    """Measured share of pairs that are out of order; None where there are no pairs."""
    pairs = self.pair_labels[self.pair_labels != NO_PAIR]
    return float(np.mean(pairs == OUT_OF_ORDER)) if len(pairs) else None

  def select(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pieces of some examples, in the order asked for.

    Returns:
      counts int64 [B] (pieces of each), and of all their pieces, one after the other: starts, lengths, segments.
    """
    firsts = self.piece_offsets[indices]
    counts = self.piece_offsets[indices + 1] - firsts
    pieces = np.repeat(firsts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    return counts, self.piece_starts[pieces], self.piece_lengths[pieces], self.piece_segments[pieces]

  def save(self, folder: pathlib.Path) -> None:
    """Writes the arrays as .npy files into a folder that appears complete or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
      for field in dataclasses.fields(self):
        with open(partial / f"{field.name}.npy", "wb") as file:
          np.save(file, getattr(self, field.name))
          file.flush()
          os.fsync(file.fileno())
      written = {file.name: checksums.hash_file(epath.Path(file)) for file in sorted(partial.iterdir())}
      records.write_json(epath.Path(partial) / _CHECKSUMS, {"sha256": written})
      try:
        partial.rename(folder)
      except OSError:
        # Another process was first: equal settings have equal examples, so its folder is as good.
        if not folder.is_dir():
          raise
    finally:
      shutil.rmtree(partial, ignore_errors=True)

  @classmethod
  def load(cls, folder: pathlib.Path) -> "Examples":
    """What `save` wrote, checked against its checksums and memory-mapped.

    Raises:
      ValueError: naming a file that is damaged.
    """
    names, way_out = [field.name for field in dataclasses.fields(cls)], f"remove {folder}: its examples are built again"
    written = records.require_json(epath.Path(folder) / _CHECKSUMS, way_out)["sha256"]
    checksums.verify_files(epath.Path(folder), written, way_out)
    # A plain view of each map: np.memmap makes every small slice an order slower.
    return cls(**{name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names})


def check(documents: np.ndarray, data: DataConfig, which: str) -> None:
  """Refuses documents that the format cannot make examples of.

  Args:
    documents: indices of the documents to use.
    data: its format is read, its split named.
    which: what the documents are, for the message: training, held-out.

  Raises:
    ValueError: no documents, or fewer than two where second segments come from other documents.
  """
  split = f"data.eval_fraction={data.eval_fraction}, data.train_fraction={data.train_fraction}"
  if len(documents) == 0:
    raise ValueError(
      f"there are no {which} documents ({split}); add documents, split a file into several with "
      "data.text_documents=blank_line, or change these fractions"
    )
  if data.format in PAIR_FORMATS and len(documents) == 1:
    raise ValueError(
      f"data.format={data.format} takes random second segments from other documents, so it needs at least 2 {which} "
      f"documents and has 1 ({split}); add documents, split a file into several with data.text_documents=blank_line, "
      "change these fractions, or set data.format=doc_sentences with objective.sentence=none"
    )


def build(corpus: "Corpus", documents: np.ndarray, data: DataConfig, seed: int, segmentation: int) -> Examples:
  """Cuts documents into examples of at most `data.max_seq_len` tokens, a pure function of its arguments.

  The documents are shuffled once. Then, by `data.format`:

  - segment_pair: BERT's steps (google-research/bert, create_pretraining_data.py; RECIPES B.1). Sentences gather
    into a chunk until it holds the target length, which is max_seq_len - 3 or, with `short_seq_prob`, uniform
    from 2 up to that, drawn once a document. A is the first one to all but one of them; B is the rest of the
    chunk or, with `random_next_prob` and always for a chunk of one sentence, a run from a random sentence of
    another document; sentences not used go to the next chunk. The longer side (B where equal) loses tokens at its
    front or back with equal chance until both fit, or at its back alone (`pair_truncation`). BERT's code takes ten
    tries at another document and then keeps what it has; here the other document is drawn among the others, so that a
    label is never wrong.
    With pairs="swapped", ALBERT's (google-research/albert, create_pretraining_data.py, without random_next_sentence):
    with `random_next_prob` A and B change places; a chunk of one sentence still gets a B of another document.
  - sentence_pair: A is one sentence, B the sentence after it or, with `random_next_prob` and always after a
    document's last sentence, a random sentence of another document. Too long pairs are cut as above.
  - full_sentences: whole sentences, in order, until the next does not fit; goes on into the next document with a
    [SEP] between the two (RoBERTa, Liu et al. 2019, section 4.2).
  - doc_sentences: the same, but a document's end ends the example.

  With `sentence_separators`, these two read as fairseq's do (data/token_block_dataset.py, break modes complete and
  complete_doc): a [SEP] after every sentence, and in full_sentences one more between documents, which goes into the
  next example where it does not fit. An example of that one alone has nothing to predict and is left out.

  In the last two, every token is used exactly once; a sentence longer than max_seq_len - 2 is cut: it starts an
  example of its own, fills as many as it can, and what is left of it stands before the sentences after it.

  Args:
    corpus: the tokenized corpus.
    documents: int64 indices of the documents to use.
    data: format, pairs, pair_truncation, max_seq_len, short_seq_prob, random_next_prob, sentence_separators are read.
    seed: of all random choices.
    segmentation: which of the cuttings; each draws its own choices.

  Raises:
    ValueError: no documents, or fewer than two where the format takes segments from other documents.
  """
  check(documents, data, "given")
  order = documents[random_bits.permutation(len(documents), _key(seed, segmentation, 0))]
  offsets = np.asarray(corpus.sentence_offsets)
  firsts, lasts = corpus.document_offsets[order].tolist(), corpus.document_offsets[order + 1].tolist()
  progress = tqdm(zip(firsts, lasts, strict=True), "examples", len(order), unit=" documents", disable=None, delay=2)
  if data.format not in PAIR_FORMATS:
    pack = _pack_with_separators if data.sentence_separators else _pack
    return pack(progress, offsets, data.max_seq_len, across_documents=data.format == "full_sentences")
  uniform = random_bits.uniforms(_key(seed, segmentation, 1))
  coins = random_bits.words(_key(seed, segmentation, 2))
  make = _segment_pairs if data.format == "segment_pair" else _sentence_pairs
  pairs = make(progress, offsets, firsts, lasts, data, uniform)
  return _fit_pairs(pairs, data.max_seq_len - 3, coins if data.pair_truncation == "both_ends" else None)


def _key(seed: int, segmentation: int, use: int) -> np.ndarray:
  return random_bits.bits(seed, random_bits.BUILD, segmentation, use)


# ---- pairs -----------------------------------------------------------------------------------------------

Pair = tuple[int, int, int, int, int]  # start and end of A, start and end of B, label
Spans = Iterable[tuple[int, int]]


def _segment_pairs(
  spans: Spans, offsets: np.ndarray, firsts: list[int], lasts: list[int], data: DataConfig, uniform: Iterator[float]
) -> Iterator[Pair]:
  draw, room = uniform.__next__, data.max_seq_len - 3
  for this, (first, last) in enumerate(spans):
    starts = offsets[first : last + 1].tolist()
    target = room
    if draw() < data.short_seq_prob:
      target = 2 + int(draw() * (room - 1))
    sentence, count = 0, last - first
    while sentence < count:
      end = min(count, bisect_left(starts, starts[sentence] + target, sentence + 1))
      one_sentence = end - sentence == 1
      middle = sentence + 1 if one_sentence else sentence + 1 + int(draw() * (end - sentence - 1))
      a_start, a_end = starts[sentence], starts[middle]
      out_of_order = one_sentence or draw() < data.random_next_prob
      if out_of_order and (one_sentence or data.pairs == "random"):
        other, begin = _another_sentence(this, firsts, lasts, draw)
        b_start = int(offsets[begin])
        wanted = b_start + target - (a_end - a_start)
        stop = begin + 1 + int(offsets[begin + 1 : lasts[other]].searchsorted(wanted))
        yield a_start, a_end, b_start, int(offsets[stop]), OUT_OF_ORDER
        sentence = middle  # what the chunk holds beyond A is put back
      else:
        yield _neighbours(a_start, a_end, starts[end], out_of_order)
        sentence = end


def _sentence_pairs(
  spans: Spans, offsets: np.ndarray, firsts: list[int], lasts: list[int], data: DataConfig, uniform: Iterator[float]
) -> Iterator[Pair]:
  draw = uniform.__next__
  for this, (first, last) in enumerate(spans):
    starts = offsets[first : last + 1].tolist()
    sentence, count = 0, last - first
    while sentence < count:
      a_start, a_end = starts[sentence], starts[sentence + 1]
      is_last = sentence + 1 == count
      out_of_order = is_last or draw() < data.random_next_prob
      if out_of_order and (is_last or data.pairs == "random"):
        _, begin = _another_sentence(this, firsts, lasts, draw)
        yield a_start, a_end, int(offsets[begin]), int(offsets[begin + 1]), OUT_OF_ORDER
        sentence += 1
      else:
        yield _neighbours(a_start, a_end, starts[sentence + 2], out_of_order)
        sentence += 2


def _neighbours(start: int, middle: int, end: int, swapped: bool) -> Pair:
  """Two neighbouring segments as a pair, in order or swapped."""
  if swapped:
    return middle, end, start, middle, OUT_OF_ORDER
  return start, middle, middle, end, IN_ORDER


def _another_sentence(this: int, firsts: list[int], lasts: list[int], draw: Callable[[], float]) -> tuple[int, int]:
  """A document other than `this`, and a sentence of it, both uniform."""
  other = int(draw() * (len(firsts) - 1))
  other += other >= this
  return other, firsts[other] + int(draw() * (lasts[other] - firsts[other]))


def _fit_pairs(pairs: Iterator[Pair], room: int, coins: Iterator[int] | None) -> Examples:
  """Cuts pairs to `room` tokens; without coins, at the end of the segments.

  BERT's code deletes token by token; since A and B are runs of the corpus, only the numbers deleted at each of
  the four ends matter: how many each side loses follows from the lengths, at which end is a coin for each token.
  """
  starts, lengths, labels = array("q"), array("i"), array("b")
  for a_start, a_end, b_start, b_end, label in pairs:
    a_length, b_length = a_end - a_start, b_end - b_start
    excess = a_length + b_length - room
    if excess > 0:
      # The longer side loses alone until both are equal, then they take turns, B first.
      alone = min(excess, abs(a_length - b_length))
      a_loss = (excess - alone) // 2 + (alone if a_length > b_length else 0)
      b_loss = excess - a_loss
      if coins is not None:
        a_start += _heads(coins, a_loss)
        b_start += _heads(coins, b_loss)
      a_length -= a_loss
      b_length -= b_loss
    starts.append(a_start)
    starts.append(b_start)
    lengths.append(a_length)
    lengths.append(b_length)
    labels.append(label)
  count = len(labels)
  return Examples(
    np.arange(0, 2 * count + 1, 2, dtype=np.int64),
    np.array(starts, np.int64),
    np.array(lengths, np.int32),
    np.tile(np.array([0, 1], np.uint8), count),
    np.array(labels, np.int8),
  )


def _heads(coins: Iterator[int], tosses: int) -> int:
  """How many of `tosses` fair coins fall heads."""
  heads = 0
  while tosses > 0:
    heads += (next(coins) & ((1 << min(tosses, 64)) - 1)).bit_count()
    tosses -= 64
  return heads


# ---- packed sentences --------------------------------------------------------------------------------------


def _pack(spans: Spans, offsets: np.ndarray, max_seq_len: int, across_documents: bool) -> Examples:
  starts, lengths, piece_offsets = array("q"), array("i"), array("q", [0])
  used = 1  # tokens of the example so far, with its [CLS]
  for first, last in spans:
    boundaries = offsets[first : last + 1].tolist()
    here, end, sentence = boundaries[0], boundaries[-1], 0
    while here < end:
      room = max_seq_len - used - 1  # one for the piece's own [SEP]
      sentence = max(sentence, bisect_right(boundaries, here + room, sentence) - 1)
      stop = boundaries[sentence]
      if stop <= here and used == 1:
        stop = here + room  # the sentence does not fit into an empty example either: cut it
      if stop > here:
        starts.append(here)
        lengths.append(stop - here)
        used += stop - here + 1
        here = stop
      if here < end or not across_documents:
        piece_offsets.append(len(starts))
        used = 1
  if used > 1:
    piece_offsets.append(len(starts))
  return _packed(piece_offsets, starts, lengths)


def _pack_with_separators(spans: Spans, offsets: np.ndarray, max_seq_len: int, across_documents: bool) -> Examples:
  """Each sentence is a piece, and the separator between documents is a piece without tokens."""
  starts, lengths, piece_offsets = array("q"), array("i"), array("q", [0])
  used = 1  # tokens of the example so far, with its [CLS]

  def add(start: int, length: int) -> None:
    nonlocal used
    if used + length + 1 > max_seq_len:
      end()
    starts.append(start)
    lengths.append(length)
    used += length + 1

  def end() -> None:
    nonlocal used
    if used == 2:  # a separator between documents and nothing else
      starts.pop()
      lengths.pop()
    elif used > 1:
      piece_offsets.append(len(starts))
    used = 1

  for number, (first, last) in enumerate(spans):
    boundaries = offsets[first : last + 1].tolist()
    if number and across_documents:
      add(boundaries[0], 0)
    for here, stop in itertools.pairwise(boundaries):
      while stop - here > max_seq_len - 2:  # the sentence does not fit into an empty example: cut it
        end()
        add(here, max_seq_len - 2)
        here += max_seq_len - 2
      add(here, stop - here)
    if not across_documents:
      end()
  end()
  return _packed(piece_offsets, starts, lengths)


def _packed(piece_offsets: "array[int]", starts: "array[int]", lengths: "array[int]") -> Examples:
  return Examples(
    np.array(piece_offsets, np.int64),
    np.array(starts, np.int64),
    np.array(lengths, np.int32),
    np.zeros(len(starts), np.uint8),
    np.full(len(piece_offsets) - 1, NO_PAIR, np.int8),
  )
