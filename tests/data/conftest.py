"""Corpora in memory, of random shape, for tests of what comes after the store."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from tests.data.memory_bucket import bucket

__all__ = ["bucket"]

PAD, UNK, CLS, SEP, MASK = 0, 3, 5, 9, 11


@dataclasses.dataclass(frozen=True)
class MemoryTokenizer:
  """What the pipeline reads of a tokenizer; the special ids are scattered on purpose."""

  vocab_size: int
  pad_id: int = PAD
  unk_id: int = UNK
  cls_id: int = CLS
  sep_id: int = SEP
  mask_id: int = MASK

  @property
  def special_ids(self) -> np.ndarray:
    return np.array([PAD, UNK, CLS, SEP, MASK], np.int32)


@dataclasses.dataclass(frozen=True)
class MemoryCorpus:
  """What the pipeline reads of a corpus; `document_hashes` decide the split, as in the store."""

  tokenizer: MemoryTokenizer
  token_ids: np.ndarray
  word_starts: np.ndarray
  sentence_offsets: np.ndarray
  document_offsets: np.ndarray
  document_hashes: np.ndarray
  hash: str

  @property
  def num_documents(self) -> int:
    return len(self.document_offsets) - 1

  @property
  def token_document(self) -> np.ndarray:
    """Document of each token."""
    return np.repeat(np.arange(self.num_documents), np.diff(self.sentence_offsets[self.document_offsets]))

  @property
  def token_sentence(self) -> np.ndarray:
    """Sentence of each token."""
    return np.repeat(np.arange(len(self.sentence_offsets) - 1), np.diff(self.sentence_offsets))

  def gather(self, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
    return self.token_ids[flat], self.word_starts[flat]

  def documents(self, split: str, eval_fraction: float, train_fraction: float) -> np.ndarray:
    share = self.document_hashes / 2.0**64
    held_out = share < eval_fraction
    training = ~held_out & (share < eval_fraction + (1 - eval_fraction) * train_fraction)
    return np.flatnonzero(held_out if split == "eval" else training)


def random_corpus(
  num_documents: int = 61,
  seed: int = 0,
  max_sentences: int = 23,
  mean_sentence: float = 9.0,
  max_sentence: int = 400,
  vocab_size: int = 211,
) -> MemoryCorpus:
  """Documents of 1 to `max_sentences` sentences of geometric length, words of 1 to 4 tokens, ordinary ids."""
  rng = np.random.default_rng(seed)
  sentences = rng.integers(1, max_sentences + 1, num_documents)
  tokens = np.minimum(rng.geometric(1 / mean_sentence, sentences.sum()), max_sentence)
  sentence_offsets = np.concatenate([[0], np.cumsum(tokens)])
  tokenizer = MemoryTokenizer(vocab_size)
  ordinary = np.setdiff1d(np.arange(vocab_size), tokenizer.special_ids)
  word_starts = rng.random(sentence_offsets[-1]) < 0.6
  word_starts[sentence_offsets[:-1]] = True
  return MemoryCorpus(
    tokenizer,
    rng.choice(ordinary, sentence_offsets[-1]).astype(np.int32),
    word_starts,
    sentence_offsets,
    np.concatenate([[0], np.cumsum(sentences)]),
    rng.integers(0, 2**64, num_documents, np.uint64),
    hash=f"random-{num_documents}-{seed}-{max_sentences}-{mean_sentence}-{max_sentence}-{vocab_size}",
  )


@pytest.fixture
def make_corpus() -> Callable[..., MemoryCorpus]:
  """Makes a random corpus; see `random_corpus` for its settings."""
  return random_corpus
