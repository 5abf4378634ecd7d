"""(corpus, seed, step) → batch: which examples, in which order, with which masks.

A batch is a function: equal on any machine and any number of processes, reached in constant time. Everything is
read, laid out (`rows.py`) and masked (`masking.py`, or what another objective needs) a batch at a time. B batch, K
prediction slots.
"""

import bisect
import collections
import dataclasses
import functools
import hashlib
import itertools
import pathlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from bert_jax.config import Config, DataConfig, MaskingConfig, num_copies, phases
from bert_jax.data import formats, masking, packing, random_bits
from bert_jax.data.formats import Examples
from bert_jax.data.rows import Batch, Pieces, Prepare, Rows, lay_out, pad_rows
from bert_jax.settings import deciding, fingerprint

if TYPE_CHECKING:
  from bert_jax.data.corpus import Corpus

EVAL_SEED = 15  # of the frozen held-out examples and masks; never a run's seed
EVAL_MASKING = MaskingConfig(policy="static", duplicates=1, unit="token", rate=0.15, rounding="nearest")
_PACKED_SIZES = 16  # different numbers of rows that packed batches may have, and so programs to compile, at most
_SEGMENTATION_BITS = 40  # an example's id is its segmentation above this many bits of its number


class TrainBatches:
  """Training batches of any step, without end.

  Epoch e visits the examples of segmentation e mod `data.segmentations` in an order drawn from (seed, e); step s
  holds the visits s × batch_size to (s + 1) × batch_size - 1, so a batch may straddle epochs. With dynamic masking
  an example's mask is drawn again in each epoch; with static masking it is drawn from e mod `duplicates`, so that
  the masked text repeats after lcm(segmentations, duplicates) epochs.

  A segmentation is built when a step first needs it and kept: in `cache_folder` as memory-mapped files that equal
  settings use again, or else in memory.
  """

  def __init__(
    self,
    corpus: "Corpus",
    data: DataConfig,
    seed: int,
    batch_size: int,
    cache_folder: str | pathlib.Path | None = None,
    prepare: Prepare = masking.mask,
    first_step: int = 0,
    rows_before: int = 0,
    row_unit: int = 1,
  ):
    """Builds no examples yet.

    Args:
      corpus: the tokenized corpus.
      data: split, format, lengths and masks.
      seed: of cuttings, order and masks.
      batch_size: B, over all processes.
      cache_folder: where to keep the examples; None: in memory.
      prepare: what the objective makes of rows.
      first_step: the step that begins with the row `rows_before`.
      rows_before: rows that were trained on before.
      row_unit: what the rows of a batch must be divisible by, where examples are packed (`packing.py`).

    Raises:
      ValueError: no documents to train on, or too few for pairs.
    """
    self.corpus, self.data, self.seed, self.batch_size = corpus, data, seed, batch_size
    self._prepare = prepare
    self._shift = rows_before - first_step * batch_size  # of a step's first row
    self._row_unit = -(-batch_size // (_PACKED_SIZES * row_unit)) * row_unit
    self._cache_folder = None if cache_folder is None else pathlib.Path(cache_folder)
    self._documents = corpus.documents("train", data.eval_fraction, data.train_fraction)
    self._examples: dict[int, Examples] = {}
    self._order = functools.lru_cache(maxsize=2)(self._draw_order)  # two, since a batch may straddle epochs
    formats.check(self._documents, data, "training")

  def __call__(self, step: int, process_index: int = 0, process_count: int = 1) -> Batch:
    """The batch of a step, or a process's slice of it: the process_index-th of process_count equal parts.

    Raises:
      ValueError: process_count does not divide the batch size.
    """
    if self.data.packing == 1:
      rows = self.rows(step, process_index, process_count)
      return self._prepare(rows, self.seed, self.data, self.corpus.tokenizer)
    # All processes lay the same plan, of the lengths alone; each makes what goes into its own rows.
    chosen = self._chosen(self._shift + step * self.batch_size, self.batch_size)
    whole = packing.plan(chosen.lengths, self.data.max_seq_len, self.data.packing, self._row_unit)
    examples, plan = whole.part(process_index, process_count)
    # A part without examples is made of one that is then taken out again: it has the shapes of the others.
    rows = self._lay_out(chosen.take(examples if len(examples) else np.zeros(1, np.int64)))
    batch = self._prepare(rows, self.seed, self.data, self.corpus.tokenizer)
    batch = {name: array[: len(examples)] for name, array in batch.items()}
    return packing.pack(batch, plan, self.data, self.corpus.tokenizer.pad_id)

  def rows(self, step: int, process_index: int = 0, process_count: int = 1) -> Rows:
    """The same before anything is masked or packed."""
    if self.batch_size % process_count:
      raise ValueError(
        f"train.batch_size={self.batch_size} must be divisible by the {process_count} processes; "
        f"try {self.batch_size // process_count * process_count or process_count}"
      )
    rows = self.batch_size // process_count
    return self._lay_out(self._chosen(self._shift + step * self.batch_size + process_index * rows, rows))

  def examples(self, segmentation: int) -> Examples:
    """The examples of one cutting of the training documents, built, read from the cache or kept from before."""
    if segmentation not in self._examples:
      self._examples[segmentation] = self._cached(segmentation)
      assert len(self._examples[segmentation]) < 1 << _SEGMENTATION_BITS
    return self._examples[segmentation]

  def num_examples(self, epoch: int) -> int:
    """Examples that an epoch visits."""
    return len(self.examples(epoch % self.data.segmentations))

  def epoch_of(self, step: int) -> int:
    """The epoch in which a step's batch begins."""
    return self._locate((self._shift + step * self.batch_size) // num_copies(self.data.masking))[0]

  def _locate(self, visit: int) -> tuple[int, int, int]:
    """Epoch of a visit, its place in that epoch, and the epoch's number of examples."""
    passed, cycle = 0, 0
    for epoch in range(self.data.segmentations):
      count = self.num_examples(epoch)
      if visit < passed + count:
        return epoch, visit - passed, count
      passed += count
    cycle, visit = divmod(visit, passed)  # all segmentations are known now, and so is the length of a round
    for epoch in range(self.data.segmentations):
      count = self.num_examples(epoch)
      if visit < count:
        return cycle * self.data.segmentations + epoch, visit, count
      visit -= count
    raise AssertionError("a visit lies in one of the epochs of its round")

  def _draw_order(self, epoch: int) -> random_bits.Order:
    return random_bits.Order(self.num_examples(epoch), random_bits.bits(self.seed, random_bits.EXAMPLE_ORDER, epoch))

  def _cached(self, segmentation: int) -> Examples:
    def build() -> Examples:
      return formats.build(self.corpus, self._documents, self.data, self.seed, segmentation)

    if self._cache_folder is None:
      return build()
    settings = fingerprint(
      {
        "version": formats.FORMATS_VERSION,
        "corpus": self.corpus.hash,
        "documents": hashlib.sha256(self._documents.astype(np.int64).tobytes()).hexdigest(),
        "settings": deciding(self.data, "examples"),
        "seed": self.seed,
      }
    )
    folder = self._cache_folder / f"examples-{settings}-{segmentation}"
    if not folder.is_dir():
      logging.info("cutting %d documents into examples, segmentation %d", len(self._documents), segmentation)
      build().save(folder)
      logging.info("examples of segmentation %d are in %s", segmentation, folder)
    return Examples.load(folder)

  def _chosen(self, first: int, count: int) -> "_Chosen":
    """The examples of `count` rows from the number `first` on, rows counted from the first step."""
    times = num_copies(self.data.masking)
    numbers = np.arange(first, first + count)
    visits = numbers // times
    selected, ids, passes, labels = [], [], [], []
    visit, end = int(visits[0]), int(visits[-1]) + 1
    while visit < end:
      epoch, begin, size = self._locate(visit)
      taken = min(end - visit, size - begin)
      visited = self._order(epoch)(np.arange(begin, begin + taken))
      indices = visited[visits[(visits >= visit) & (visits < visit + taken)] - visit]
      segmentation = epoch % self.data.segmentations
      examples = self.examples(segmentation)
      selected.append(examples.select(indices))
      labels.append(examples.pair_labels[indices])
      ids.append(indices + (segmentation << _SEGMENTATION_BITS))
      passes.append(np.full(len(indices), masking.mask_pass(epoch, self.data.masking)))
      visit += taken
    pieces = Pieces(*(np.concatenate(arrays) for arrays in zip(*selected, strict=True)))
    return _Chosen(pieces, np.concatenate(labels), np.concatenate(ids), np.concatenate(passes), numbers % times)

  def _lay_out(self, chosen: "_Chosen") -> Rows:
    return lay_out(
      self.corpus,
      chosen.pieces,
      chosen.pair_labels,
      chosen.example_ids,
      chosen.passes,
      chosen.copies,
      self.data.max_seq_len,
      self.data.preceding_tokens,
    )


@dataclasses.dataclass(frozen=True)
class _Chosen:
  """Some rows' examples, none of whose tokens is read yet; see `Rows` for the attributes."""

  pieces: Pieces
  pair_labels: np.ndarray
  example_ids: np.ndarray
  passes: np.ndarray
  copies: np.ndarray

  @property
  def lengths(self) -> np.ndarray:
    """Tokens of each row, special ones counted: int64 [B]."""
    firsts = np.cumsum(self.pieces.counts) - self.pieces.counts
    return 1 + np.add.reduceat(self.pieces.lengths.astype(np.int64) + 1, firsts)

  def take(self, rows: np.ndarray) -> "_Chosen":
    """Those of some of the rows."""
    counts = self.pieces.counts[rows]
    firsts = (np.cumsum(self.pieces.counts) - self.pieces.counts)[rows]
    places = np.repeat(firsts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    pieces = Pieces(counts, *(getattr(self.pieces, name)[places] for name in ("starts", "lengths", "segments")))
    return _Chosen(pieces, self.pair_labels[rows], self.example_ids[rows], self.passes[rows], self.copies[rows])


class PhasedBatches:
  """Training batches of a run that goes through phases; of one phase, those of `TrainBatches`.

  Phases of one length go on in their order of examples where the one before stopped; other lengths have other examples.
  """

  def __init__(
    self,
    corpus: "Corpus",
    config: Config,
    cache_folder: str | pathlib.Path | None = None,
    prepare: Prepare = masking.mask,
    row_unit: int = 1,
  ):
    """Builds no examples yet; see `TrainBatches`."""
    parts = phases(config)
    self._firsts, self._batches = [phase.first_step for phase in parts], []
    self._rows: list[int] = []  # of each phase
    for phase, end in zip(parts, [*self._firsts[1:], config.train.steps], strict=True):
      data = dataclasses.replace(config.data, max_seq_len=phase.max_seq_len)
      alike = [i for i, before in enumerate(self._batches) if before.data == data]
      before = sum(self._rows[i] for i in alike)
      made = TrainBatches(
        corpus, data, config.train.seed, phase.batch_size, cache_folder, prepare, phase.first_step, before, row_unit
      )
      self._batches.append(made)
      self._rows.append((end - phase.first_step) * phase.batch_size)

  def of_step(self, step: int) -> TrainBatches:
    """The batches of the phase that a step is in."""
    return self._batches[bisect.bisect_right(self._firsts, step) - 1]

  def __call__(self, step: int, process_index: int = 0, process_count: int = 1) -> Batch:
    """See `TrainBatches`."""
    return self.of_step(step)(step, process_index, process_count)

  def epochs(self) -> float:
    """Passes over the training documents, of the whole run."""
    return sum(
      rows / num_copies(batches.data.masking) / batches.num_examples(0)
      for rows, batches in zip(self._rows, self._batches, strict=True)
    )


class EvalBatches:
  """Held-out examples with frozen masks, each exactly once: the same whatever a run's seed and masking are.

  Iterating gives batches of `batch_size` rows; rows that fill up the last one are padding with attention_mask
  False, mlm_weights 0 and pair_labels -1. Masks are those of `EVAL_MASKING`: 15 % of the tokens, 80/10/10. These
  batches have one array more: mask_weights float32 [B, K], 1 for a prediction whose place shows [MASK].

  Attributes:
    num_examples: examples used.
    num_held_out: examples that there are.
    documents: int64 [num_examples], the document of each example's first piece, in the order of iteration.
    random_share: measured share of pairs out of order among all the held-out pairs, None where there are none.
  """

  def __init__(
    self,
    corpus: "Corpus",
    data: DataConfig,
    batch_size: int,
    max_examples: int,
    common: bool,
    process_index: int = 0,
    process_count: int = 1,
  ):
    """Cuts the held-out documents.

    Args:
      corpus: the tokenized corpus.
      data: eval_fraction, max_seq_len and, where `common` is false, the format.
      batch_size: B.
      max_examples: examples to use at most, chosen at random, once and for all.
      common: doc_sentences for every arm, or the arm's own format.
      process_index, process_count: of each batch, only this one of so many equal parts is made.

    Raises:
      ValueError: no held-out documents, or too few for pairs.
    """
    if common:
      data = dataclasses.replace(data, format="doc_sentences")
    assert batch_size % process_count == 0, (batch_size, process_count)
    self.corpus, self.batch_size = corpus, batch_size
    self._first, self._rows_made = process_index * (batch_size // process_count), batch_size // process_count
    self.data = dataclasses.replace(data, masking=EVAL_MASKING)
    documents = corpus.documents("eval", data.eval_fraction, data.train_fraction)
    formats.check(documents, data, "held-out")
    self._examples = formats.build(corpus, documents, data, EVAL_SEED, 0)
    self.random_share = self._examples.random_share
    self.num_held_out = len(self._examples)
    self.num_examples = min(max_examples, self.num_held_out)
    order = random_bits.Order(len(self._examples), random_bits.bits(EVAL_SEED, random_bits.EXAMPLE_ORDER, 0))
    self._indices = order(np.arange(self.num_examples))
    starts = self._examples.piece_starts[self._examples.piece_offsets[self._indices]]
    document_starts = corpus.sentence_offsets[corpus.document_offsets]
    self.documents = np.searchsorted(document_starts, starts, side="right") - 1

  def __len__(self) -> int:
    """Batches."""
    return -(-self.num_examples // self.batch_size)

  def __iter__(self) -> Iterator[Batch]:
    for begin in range(self._first, len(self) * self.batch_size, self.batch_size):
      # A part without examples is made of one that is then taken out again: it has the shapes of the others.
      indices = self._indices[begin : begin + self._rows_made]
      real = len(indices)
      rows = self._rows(indices if real else self._indices[:1])
      batch = masking.mask(rows, EVAL_SEED, self.data, self.corpus.tokenizer)
      shown = np.take_along_axis(batch["token_ids"], batch["mlm_positions"], axis=1)
      batch["mask_weights"] = batch["mlm_weights"] * (shown == self.corpus.tokenizer.mask_id)
      fill = {"token_ids": self.corpus.tokenizer.pad_id, "pair_labels": formats.NO_PAIR}
      yield pad_rows({name: array[:real] for name, array in batch.items()}, self._rows_made, fill)

  def _rows(self, indices: np.ndarray) -> Rows:
    return lay_out(
      self.corpus,
      Pieces(*self._examples.select(indices)),
      self._examples.pair_labels[indices],
      indices,
      np.zeros(len(indices), np.int64),
      np.zeros(len(indices), np.int64),
      self.data.max_seq_len,
    )


def prefetch(
  make_batch: Callable[[int], Batch], start_step: int, stop_step: int, depth: int
) -> Generator[Batch, None, None]:
  """Batches of the steps from `start_step` up to `stop_step`, made ahead by one thread.

  The thread starts with the first batch that is asked for, and ends with the last one or when the iterator is
  closed. What `make_batch` raises is raised here, at its step.

  Args:
    make_batch: step → batch.
    start_step: first step.
    stop_step: the step after the last.
    depth: batches made ahead, at most.
  """
  assert depth >= 1, depth
  steps = iter(range(start_step, stop_step))
  pool = ThreadPoolExecutor(1, "prefetch")
  try:
    waiting: collections.deque[Future[Batch]] = collections.deque()
    for step in itertools.islice(steps, depth):
      waiting.append(pool.submit(make_batch, step))
    while waiting:
      batch = waiting.popleft().result()
      for step in itertools.islice(steps, 1):
        waiting.append(pool.submit(make_batch, step))
      yield batch
  finally:
    pool.shutdown(wait=True, cancel_futures=True)
