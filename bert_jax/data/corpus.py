"""A tokenized corpus, memory-mapped, and checked against its checksums when it is opened."""

import json
import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from bert_jax import records
from bert_jax.data import checksums, tokenizers

FORMAT_VERSION = 2
SHARD_ARRAYS = (
  "token_ids",
  "word_starts",
  "sentence_lengths",
  "document_lengths",
  "document_hashes",
  "document_groups",
  "document_labels",
)
# Tokens up to this size are checked before the first batch, which takes about two seconds; more than that while the run
# is under way.
VERIFY_AT_ONCE_BYTES = 2 << 30
WAY_OUT = "remove the store and prepare it again"

TOKEN_ARRAYS = ("token_ids", "word_starts")  # what a shard is read for, once the store is complete


class Corpus:
  """Documents as sentences as tokens.

  Opening it checks every file against the checksum that it was written with. Tokens of more than
  `VERIFY_AT_ONCE_BYTES` are read by a thread meanwhile: damage that it finds is raised by the next `gather`, and by
  `finish_verification`, which a run calls before its result counts.

  Attributes:
    folder: of the store.
    tokenizer: what cut the text.
    metadata: the content of metadata.json.
    hash: of the tokens, their offsets, labels and tokenizer, in hex; it does not depend on where or how it was made.
    document_offsets: [D + 1] int64, the sentence at which a document starts.
    sentence_offsets: [S + 1] int64, the token at which a sentence starts.
    document_hashes: [D] uint64, of the documents' texts.
    document_groups: [D] uint64, the same but for near duplicates, which share one; it decides the split.
  """

  def __init__(self, folder: epath.PathLike):
    self.folder = epath.Path(folder)
    self.metadata = read_metadata(self.folder)
    self.hash: str = self.metadata["content_hash"]
    self.num_documents: int = self.metadata["num_documents"]
    self.num_sentences: int = self.metadata["num_sentences"]
    self.num_tokens: int = self.metadata["num_tokens"]
    shards = self.metadata["shards"]
    in_shards = {f"shards/{s['name']}/{name}.npy": checksum for s in shards for name, checksum in s["sha256"].items()}
    tokens = {f"shards/{s['name']}/{name}.npy" for s in shards for name in TOKEN_ARRAYS}
    others = {file: checksum for file, checksum in in_shards.items() if file not in tokens}
    checksums.verify_files(self.folder, self.metadata["sha256"] | others, WAY_OUT)
    self.tokenizer = tokenizers.load(self.folder / "tokenizer", None)
    self._check_tokenizer()
    self._verification = self._verify_tokens({file: in_shards[file] for file in sorted(tokens)})
    self.document_offsets = self._global("document_offsets", self.num_documents + 1)
    self.sentence_offsets = self._global("sentence_offsets", self.num_sentences + 1)
    self.document_hashes = self._global("document_hashes", self.num_documents)
    self.document_groups = self._global("document_groups", self.num_documents)
    self._labels = self._global("document_labels", self.num_documents)
    self._shard_offsets = np.cumsum([0] + [shard["num_tokens"] for shard in shards], dtype=np.int64)
    self._token_ids = [self._shard(shard["name"], "token_ids", shard["num_tokens"]) for shard in shards]
    self._word_starts = [self._shard(shard["name"], "word_starts", -(-shard["num_tokens"] // 8)) for shard in shards]

  def _check_tokenizer(self) -> None:
    stated = self.metadata["tokenizer"]["hash"]
    if self.tokenizer.hash != stated:
      raise ValueError(
        f"{self.folder} was tokenized by the tokenizer {stated}, but {self.folder / 'tokenizer'} holds "
        f"{self.tokenizer.hash}; put the first back, or {WAY_OUT}"
      )

  def _verify_tokens(self, expected: dict[str, str]) -> Future[None]:
    """Done at once, or to be done by a thread; see the class."""
    result: Future[None] = Future()

    def verify() -> None:
      try:
        checksums.verify_files(self.folder, expected, WAY_OUT)
        result.set_result(None)
      except Exception as error:  # it is raised where the tokens are read
        result.set_exception(error)

    size = self.num_tokens * (np.dtype(self.metadata["dtype"]).itemsize + 1 / 8)
    if size <= VERIFY_AT_ONCE_BYTES:
      verify()
      result.result()
    else:
      logging.info(
        "%s: its %.0f GiB of tokens are checked against their checksums while the run goes on",
        self.folder,
        size / 2**30,
      )
      threading.Thread(target=verify, name="verify", daemon=True).start()
    return result

  def finish_verification(self) -> None:
    """Waits until all tokens have been checked against their checksums.

    Raises:
      ValueError: naming a file that has changed since it was written.
    """
    self._verification.result()

  def _global(self, name: str, length: int) -> np.ndarray:
    return _mapped(self.folder / f"{name}.npy", length)

  def _shard(self, shard: str, name: str, length: int) -> np.ndarray:
    return _mapped(self.folder / "shards" / shard / f"{name}.npy", length)

  @property
  def label_names(self) -> list[str]:
    """The labels that documents have, sorted."""
    return list(self.metadata["labels"])

  @property
  def document_labels(self) -> list[str | None]:
    """[D] `TASK/CLASS` of each document, or None."""
    names = [None, *self.metadata["labels"]]
    return [names[code] for code in self._labels]

  def gather(self, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of pieces of the corpus, one piece after the other; a piece may cross shards.

    Args:
      starts: [P] first token of each piece, counted over the whole corpus.
      lengths: [P] tokens of each piece.

    Returns:
      token_ids int32 [sum of lengths], word_starts bool [sum of lengths].

    Raises:
      ValueError: the store is damaged.
    """
    if self._verification.done():
      self._verification.result()
    starts, lengths = np.asarray(starts, np.int64), np.asarray(lengths, np.int64)
    ends = starts + lengths
    assert not len(starts) or (starts.min() >= 0 and lengths.min() >= 0 and ends.max() <= self.num_tokens)
    targets = np.cumsum(lengths) - lengths
    shard = np.searchsorted(self._shard_offsets, starts, "right") - 1
    while (crossing := ends > self._shard_offsets[np.minimum(shard + 1, len(self._token_ids))]).any():
      # What lies beyond the border becomes a piece of its own.
      here = np.where(crossing, self._shard_offsets[np.minimum(shard + 1, len(self._token_ids))], ends)
      head = here - starts
      starts = np.concatenate([starts, here[crossing]])
      targets = np.concatenate([targets, (targets + head)[crossing]])
      shard = np.concatenate([shard, shard[crossing] + 1])
      ends = np.concatenate([here, ends[crossing]])
    lengths = ends - starts
    token_ids, word_starts = np.empty(lengths.sum(), np.int32), np.empty(lengths.sum(), bool)
    for number in np.unique(shard[lengths > 0]):
      mine = shard == number
      source = _ranges(starts[mine] - self._shard_offsets[number], lengths[mine])
      target = _ranges(targets[mine], lengths[mine])
      token_ids[target] = self._token_ids[number][source]
      word_starts[target] = self._word_starts[number][source >> 3] >> (source & 7).astype(np.uint8) & 1
    return token_ids, word_starts

  def near_duplicates(self, eval_fraction: float) -> dict[str, int]:
    """How many documents share most of their text with another; see `data/near_duplicates.py`.

    Args:
      eval_fraction: share of documents held out.

    Returns:
      `groups`; `documents` in them, exact copies counted; `moved`: those on the other side of the split than their own
      text would put them.
    """
    _, members = np.unique(self.document_groups, return_counts=True)
    sides = [is_held_out(hashes, eval_fraction) for hashes in (self.document_hashes, self.document_groups)]
    return {
      "groups": int(np.sum(members > 1)),
      "documents": int(members[members > 1].sum()),
      "moved": int(np.sum(sides[0] != sides[1])),
    }

  def documents(self, split: str, eval_fraction: float, train_fraction: float) -> np.ndarray:
    """Which documents to train or to evaluate on.

    A document's text alone decides, or that of its group of near duplicates, so that neither equal texts nor nearly
    equal ones are on both sides; a smaller `train_fraction` gives a subset of a larger one. Where chance leaves a side
    empty, it gets the text that comes nearest.

    Args:
      split: train or eval.
      eval_fraction: share of documents held out.
      train_fraction: share of the others to train on; of no effect on eval.

    Returns:
      Indices of documents, ascending, int64.

    Raises:
      ValueError: one text only, of which nothing can be held out.
    """
    assert split in ("train", "eval"), split
    held_out = is_held_out(self.document_groups, eval_fraction)
    if eval_fraction > 0:
      draws = _uniform(self.document_groups, "eval")
      if draws.min() == draws.max():
        raise ValueError(
          f"{self.metadata['source']['description']} has one text only, near duplicates "
          f"counted once, so data.eval_fraction={eval_fraction} of it "
          "cannot be held out; give more documents (data.text_documents=blank_line splits a file), or set it to 0"
        )
      if not held_out.any():
        held_out = draws == draws.min()
      elif held_out.all():
        held_out = draws != draws.max()
    if split == "eval":
      return np.flatnonzero(held_out)
    draws = np.where(held_out, np.inf, _uniform(self.document_groups, "train"))
    return np.flatnonzero(draws < max(train_fraction, np.nextafter(draws.min(), np.inf)))


def open_corpus(folder: epath.PathLike) -> Corpus:
  """The corpus that `store.prepare` left in a folder.

  Raises:
    ValueError: there is none, it is unfinished, damaged, or of another format or tokenizer.
  """
  folder = epath.Path(folder)
  if not (folder / "metadata.json").exists():
    state = (
      "is unfinished; the command that prepared it goes on with it"
      if (folder / "plan.json").exists()
      else "is no store"
    )
    raise ValueError(f"{folder} {state}")
  return Corpus(folder)


def read_metadata(folder: epath.Path) -> dict[str, Any]:
  """What the metadata.json of a store says.

  Raises:
    ValueError: it is missing, damaged, or of another format.
  """
  file = folder / "metadata.json"
  try:
    version = json.loads(file.read_bytes())["format_version"]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{file} is missing or damaged ({error!r}); {WAY_OUT}") from error
  if version != FORMAT_VERSION:
    raise ValueError(f"{file} has the store format {version}, and this version reads {FORMAT_VERSION}; {WAY_OUT}")
  return records.require_json(file, WAY_OUT)


def is_held_out(document_hashes: np.ndarray, eval_fraction: float) -> np.ndarray:
  """[D] bool: the documents that chance holds out."""
  return _uniform(document_hashes, "eval") < eval_fraction


def _mapped(file: epath.Path, length: int) -> np.ndarray:
  try:
    array = np.load(file, mmap_mode="r" if length else None)
  except Exception as error:  # whatever Python's parser makes of a damaged header
    raise ValueError(f"{file} is missing or damaged ({error!r}); {WAY_OUT}") from error
  if len(array) != length:
    raise ValueError(f"{file} has {len(array)} entries, and the store {length}; {WAY_OUT}")
  return array


def _uniform(hashes: np.ndarray, stream: str) -> np.ndarray:
  """[D] a number in [0, 1) for each hash, another one for each stream (the mixer of splitmix64)."""
  salt = np.uint64({"eval": 0x9E3779B97F4A7C15, "train": 0xD1B54A32D192ED03}[stream])
  x = np.asarray(hashes, np.uint64) + salt
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return (x ^ (x >> np.uint64(31))) / 2.0**64


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
  """starts[0], starts[0] + 1, … for lengths[0] numbers, then those of the next."""
  ends = np.cumsum(lengths)
  return np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)
