"""Texts to token ids in processes of their own; they import this package's text part only, never jax.

The processes are fresh interpreters that read work from their standard input, not forks of the caller (which may
hold locks of JAX's threads) and not multiprocessing's (which would import the caller's main script, and with it jax).
They end when their input does, so none outlives a killed parent. They take this package from where the caller has it,
and all else from the interpreter's own folders and PYTHONPATH: never from the folder in which the command is run.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import pathlib
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import IO

import numpy as np

import bert_jax
from bert_jax.data import tokenizers
from bert_jax.data.sentences import split_sentences
from bert_jax.data.sources import Document

# Sentences are encoded by so many characters at a time: the tokenizers hold over 100 bytes a token meanwhile.
_BATCH_CHARACTERS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Tokenized:
  """Documents as tokens; those without a token are left out.

  Attributes:
    token_ids: [T] uint16 or uint32.
    word_starts: [T] bool.
    sentence_lengths: [S] uint32, tokens of each sentence, never 0.
    document_lengths: [D] uint32, sentences of each document, never 0.
    document_hashes: [D] uint64, hashes of the texts.
    kept: [number of texts] bool, whether each text is among the documents.
  """

  token_ids: np.ndarray
  word_starts: np.ndarray
  sentence_lengths: np.ndarray
  document_lengths: np.ndarray
  document_hashes: np.ndarray
  kept: np.ndarray


@dataclasses.dataclass(frozen=True)
class Rules:
  """How a document is cut, beside the tokenizer.

  Attributes:
    language: by whose rules sentences are told apart.
    spaces: a sentence that is not a document's first has the space before it that the text has there. Only byte-level
      BPE sees it, where the tokenizer itself puts none before each text; where a separator stands between sentences,
      as in fairseq's data, there is none.
  """

  language: str = "en"
  spaces: bool = True


def hash_text(text: str) -> int:
  """64 bits of a text's hash: equal texts are held out together or not at all."""
  return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def token_dtype(vocab_size: int) -> np.dtype:
  """The smallest type in which the store holds token ids."""
  return np.dtype(np.uint16 if vocab_size < 65_536 else np.uint32)


def sees_spaces(tokenizer: tokenizers.Tokenizer) -> bool:
  """Whether a space before a text makes other tokens."""
  (without, _), (with_space, _) = tokenizer.encode(["a", " a"])
  return not np.array_equal(without, with_space)


def tokenize(texts: Sequence[str], tokenizer: tokenizers.Tokenizer, rules: Rules = Rules()) -> Tokenized:
  """Documents to sentences to tokens."""
  dtype = token_dtype(tokenizer.vocab_size)
  ids, starts = [np.empty(0, dtype)], [np.empty(0, bool)]
  sentence_lengths, owners = [np.empty(0, np.uint32)], [np.empty(0, np.int64)]
  space = " " if rules.spaces and sees_spaces(tokenizer) else ""
  sentences_of_all = (
    (i, space + sentence if number else sentence)
    for i, text in enumerate(texts)
    for number, sentence in enumerate(split_sentences(text, rules.language))
  )
  for batch in _batched(sentences_of_all):
    encoded = tokenizer.encode([sentence for _, sentence in batch])
    lengths = np.array([len(row) for row, _ in encoded], np.uint32)
    ids.append(np.concatenate([row for row, _ in encoded]).astype(dtype))
    starts.append(np.concatenate([row for _, row in encoded]))
    sentence_lengths.append(lengths[lengths > 0])
    owners.append(np.array([i for i, _ in batch], np.int64)[lengths > 0])
  sentences = np.bincount(np.concatenate(owners), minlength=len(texts)).astype(np.uint32)
  kept = sentences > 0
  hashes = np.array([hash_text(text) for text in texts], np.uint64)
  return Tokenized(
    np.concatenate(ids), np.concatenate(starts), np.concatenate(sentence_lengths), sentences[kept], hashes[kept], kept
  )


def _batched(sentences: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
  batch, characters = [], 0
  for item in sentences:
    batch.append(item)
    characters += len(item[1])
    if characters >= _BATCH_CHARACTERS:
      yield batch
      batch, characters = [], 0
  if batch:
    yield batch


# ---- processes -------------------------------------------------------------------------------------------


Unit = Sequence[Document]


def tokenize_all(
  units: Iterable[Unit], tokenizer_folder: str, rules: Rules, num_workers: int
) -> Generator[tuple[Unit, Tokenized]]:
  """Each unit of documents with its tokens, in order; at most 2 units a worker are held at a time.

  With one worker all work is done here, without a process.

  Raises:
    RuntimeError: a worker died, for example because memory ran out.
  """
  if num_workers == 1:
    tokenizer = tokenizers.load(tokenizer_folder, None)
    yield from ((unit, tokenize([document.text for document in unit], tokenizer, rules)) for unit in units)
    return
  workers: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
  started: list[_Worker] = []

  def work(unit: Unit) -> Tokenized:
    worker = workers.get()
    try:
      return worker([document.text for document in unit])
    finally:
      workers.put(worker)

  with concurrent.futures.ThreadPoolExecutor(num_workers) as threads:
    pending: collections.deque[tuple[Unit, concurrent.futures.Future[Tokenized]]] = collections.deque()
    try:
      for unit in units:
        if len(started) < num_workers:  # one a unit, so that a small corpus starts few
          started.append(_Worker(tokenizer_folder, rules))
          workers.put(started[-1])
        pending.append((unit, threads.submit(work, unit)))
        if len(pending) >= 2 * num_workers:
          first, future = pending.popleft()
          yield first, future.result()
      while pending:
        first, future = pending.popleft()
        yield first, future.result()
    finally:
      for _, future in pending:
        future.cancel()
      for worker in started:
        worker.stop()


# With -P, an interpreter does not look for modules in the current folder. Where that is a clone from which this package
# is run, other modules must not come from there either: so the package's folder is named, and not the one it lies in.
_PROGRAM = f"""
import importlib.util, os, sys
folder = sys.argv.pop(1)
file = os.path.join(folder, "__init__.py")
spec = importlib.util.spec_from_file_location("bert_jax", file, submodule_search_locations=[folder])
sys.modules["bert_jax"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["bert_jax"])
from {__name__} import main
main()
"""


class _Worker:
  """A process that tokenizes; calling it blocks until the answer is there."""

  def __init__(self, tokenizer_folder: str, rules: Rules = Rules()):
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    package = str(pathlib.Path(bert_jax.__file__).parent)
    self._process = subprocess.Popen(
      [sys.executable, "-P", "-c", _PROGRAM, package, tokenizer_folder, rules.language, str(int(rules.spaces))],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "TOKENIZERS_PARALLELISM": "false"},
    )

  def __call__(self, texts: list[str]) -> Tokenized:
    stdin, stdout = self._process.stdin, self._process.stdout
    assert stdin is not None
    assert stdout is not None
    try:
      pickle.dump(texts, stdin, pickle.HIGHEST_PROTOCOL)
      stdin.flush()
      answer = pickle.load(stdout)
    except (EOFError, OSError, pickle.UnpicklingError) as error:
      raise RuntimeError(
        f"a tokenizing process ended with status {self._process.wait()}; if memory ran out, lower runtime.num_workers. "
        "The same command goes on where it was"
      ) from error
    if isinstance(answer, Exception):
      raise answer
    return answer

  def stop(self) -> None:
    self._process.kill()
    self._process.wait()
    for pipe in (self._process.stdin, self._process.stdout):
      if pipe is not None:
        with contextlib.suppress(OSError):  # what was left to write to a dead process
          pipe.close()


def serve(tokenizer_folder: str, rules: Rules, requests: IO[bytes], answers: IO[bytes]) -> None:
  """Answers lists of texts with their tokens until the requests end."""
  tokenizer = tokenizers.load(tokenizer_folder, None)
  while True:
    try:
      texts = pickle.load(requests)
    except EOFError:
      return
    try:
      answer = tokenize(texts, tokenizer, rules)
    except Exception as error:  # it is raised where the work was asked for
      answer = error
    pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
    answers.flush()


def main() -> None:
  """What a process runs: its arguments are the tokenizer's folder and the rules, its standard streams the channel."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
  channel = os.fdopen(os.dup(1), "wb")
  os.dup2(2, 1)  # what a library prints must not come between the answers
  folder, language, spaces = sys.argv[1:]
  serve(folder, Rules(language, bool(int(spaces))), sys.stdin.buffer, channel)
