"""What an encoder learns over training: at held-out [MASK] places, by the class of the word that stood there.

The masks are those of every evaluation (15 %, 80/10/10, frozen); only places that show [MASK] count. Beside each
checkpoint stand two predictors that need no network: token frequencies, and counts of neighbouring tokens.

P places, T tokens of a row, V vocabulary.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

import bert_jax
from bert_jax.data.batches import EvalBatches
from bert_jax.data.corpus import Corpus, open_corpus
from bert_jax.inference import masks
from bert_jax.inference.masks import Masked
from bert_jax.objectives.context_free import token_counts

EXAMPLES = 2048  # as many as a run of the demo evaluates
CLASSES = ("function words", "content words", "rest of a word", "numbers", "punctuation")
FREQUENCIES, NEIGHBOURS = "token frequencies", "counts of neighbours"


def class_of(token: str) -> str:
  """One of `CLASSES`; a content word may be the first piece of a longer one."""
  if token.startswith("##"):
    return "rest of a word"
  if not any(character.isalnum() for character in token):
    return "punctuation"
  if token[0].isdigit():
    return "numbers"
  return "function words" if token in ENGLISH_STOP_WORDS else "content words"


def measure(runs: Mapping[str, Path]) -> list[dict[str, Any]]:
  """Shares right and nats, by class: of the two predictors, and of each checkpoint that the runs kept.

  Args:
    runs: by what they are called in the rows, the folders of runs of a sweep, all on one text.

  Raises:
    ValueError: the runs were evaluated on different text.
  """
  measured, before = [], None
  for name, run in runs.items():
    config = bert_jax.load(run).run
    assert config is not None
    corpus = open_corpus(next((run.parents[2] / "data").glob("*/")))
    rows, labels = _places(config, corpus)
    classes = np.array([class_of(token) for token in corpus.tokenizer.tokens(labels)])
    if before is None:
      measured, before = _without_network(config, corpus, rows, labels, classes), labels
    elif not np.array_equal(before, labels):
      raise ValueError(f"{run} was evaluated on other text, or other masks, than the first run")
    seen = _tokens_seen(run)
    for step in sorted(int(folder.name) for folder in (run / "checkpoints").iterdir() if folder.name.isdigit()):
      found = np.concatenate(masks.probabilities(bert_jax.load(run, step), rows))
      measured += _by_class(name, step, seen[step], found, labels, classes)
      print(f"{name}: step {step}", flush=True)
  return measured


def _without_network(
  config: bert_jax.Config, corpus: Corpus, rows: list[Masked], labels: np.ndarray, classes: np.ndarray
) -> list[dict[str, Any]]:
  """The two predictors; of weights for the counts of neighbours, the one that is best on these very places."""
  frequencies = token_counts(corpus, config.data.eval_fraction)
  frequencies /= frequencies.sum()
  alike = np.broadcast_to(frequencies, (len(labels), len(frequencies)))
  around = _neighbours(rows, corpus, config.data.eval_fraction, frequencies)
  counted = [_by_class(NEIGHBOURS, 0, 0, around(weight), labels, classes) for weight in (10, 30, 100, 300)]
  best = min(counted, key=lambda found: sum(row["places"] * row["nats"] for row in found))
  return [*_by_class(FREQUENCIES, 0, 0, alike, labels, classes), *best]


def _by_class(
  name: str, step: int, tokens: int, found: np.ndarray, labels: np.ndarray, classes: np.ndarray
) -> list[dict[str, Any]]:
  """Args: found: probabilities, [P, V]; labels and classes: [P]."""
  nats, right = -np.log(found[np.arange(len(labels)), labels]), found.argmax(axis=1) == labels
  return [
    {"run": name, "step": step, "tokens": tokens, "class": of, "places": int(at.sum())}
    | {"right": round(float(right[at].mean()), 4), "nats": round(float(nats[at].mean()), 4)}
    for of in CLASSES
    if (at := classes == of).any()
  ]


def _places(config: bert_jax.Config, corpus: Corpus) -> tuple[list[Masked], np.ndarray]:
  """Rows with masks, and the label of each [MASK], int [P]."""
  rows, labels = [], []
  for batch in EvalBatches(corpus, config.data, 64, EXAMPLES, True):
    for i in range(len(batch["token_ids"])):
      asked = batch["mask_weights"][i] > 0
      if asked.any():
        length = int(batch["attention_mask"][i].sum())
        rows.append(Masked(batch["token_ids"][i][:length], batch["mlm_positions"][i][asked]))
        labels.append(batch["mlm_labels"][i][asked])
  return rows, np.concatenate(labels)


def _neighbours(rows: list[Masked], corpus: Corpus, eval_fraction: float, frequencies: np.ndarray):
  """weight → probabilities [P, V], of the token before each place and the one after it: P(x | l) P(x | r) / P(x).

  Pairs of tokens are counted in the training documents, and mixed with frequencies as if those had been seen `weight`
  times. A neighbour that is hidden, or is no token of a text, says nothing.
  """
  size, tokenizer = len(frequencies), corpus.tokenizer
  counts = np.zeros((size, size), np.float32)
  documents = corpus.documents("train", eval_fraction, 1.0)
  for document in documents:
    starts = corpus.sentence_offsets[corpus.document_offsets[document : document + 2]]
    ids, _ = corpus.gather(starts[:1], np.diff(starts))
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
  silent = np.array([tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id])
  counts[silent], counts[:, silent] = 0, 0
  sides = np.concatenate([row.token_ids[row.places[:, None] + [-1, 1]] for row in rows])

  def around(weight: float) -> np.ndarray:
    shares = [
      (pairs[tokens] + weight * frequencies) / (pairs[tokens].sum(axis=1, keepdims=True) + weight)
      for pairs, tokens in ((counts, sides[:, 0]), (counts.T, sides[:, 1]))
    ]
    found = shares[0] * shares[1] / np.maximum(frequencies, 1e-12)
    return found / found.sum(axis=1, keepdims=True)

  return around


def _tokens_seen(run: Path) -> dict[int, int]:
  """By step, where the run wrote a line."""
  rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
  return {row["step"]: row["tokens"] for row in rows if row["kind"] == "train"}
