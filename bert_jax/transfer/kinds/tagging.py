"""A tag for each word: names (NER) and parts of speech, from CoNLL files (Devlin et al. 2018, 5.3)."""

import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from bert_jax.data import conll, labelled, tag_schemes, words
from bert_jax.data.examples import Task, TaskExamples, padded, padded_labels
from bert_jax.data.frames import Encoded
from bert_jax.data.labelled import Columns, Labelled
from bert_jax.inference.model import Model
from bert_jax.inference.tags import Tags
from bert_jax.objective_configs import TaggingConfig
from bert_jax.transfer import metrics
from bert_jax.transfer.kinds.base import Kind, Prepared, Reading, Scores, Units, windows_note

# An example is a document: its sentences, each a tuple of words; its label has their tags in the same way.
Sentences = tuple[tuple[str, ...], ...]


class Tagging(Kind):
  name = "tagging"
  main = "f1"
  reads = frozenset(("text", "label"))
  predictions = "predictions.conll"
  rounds = 200

  def columns(self, text: str | None, pair: str | None, label: str | None, choices: tuple[str, ...]) -> Columns:
    return Columns(text or "1", None, label)  # without a label, the last one

  def read(self, path: epath.PathLike, columns: Columns, training: bool) -> Labelled:
    found = conll.read(path, columns.text, columns.label)
    texts, labels = [], []
    for _, group in itertools.groupby(found.sentences, key=lambda sentence: sentence.document):
      sentences = list(group)
      texts.append(tuple(sentence.words for sentence in sentences))
      labels.append(tuple(sentence.tags for sentence in sentences))
    return Labelled(found.origin, tuple(texts), tuple(labels))

  def prepare(self, name: str, train: Labelled, dev: Labelled, reading: Reading) -> Prepared:
    labelled.warn_of_shared(train, dev)
    notes = _broken(train) + _broken(dev)
    if tag_schemes.scheme_of(_tags(train)):
      metrics.require_seqeval()
    known = set(_tags(train))
    unseen = Counter(tag for tag in _tags(dev) if tag not in known)
    if len(known) < 2:
      raise ValueError(f"{train.origin} has one tag only, {next(iter(known))!r}; there is nothing to tell apart")
    if unseen:
      listed = ", ".join(f"{tag!r} ({count})" for tag, count in unseen.most_common(5))
      notes += (f"{os.path.basename(dev.origin)} has tags that were not trained: {listed}; they count as wrong",)
    classes = labelled.classes_of(known)
    number = {tag: place for place, tag in enumerate(classes)}
    parts = []
    for part in (train, dev):
      windows = words.cut(
        [words.joined(_flat(text)) for text in part.texts], reading.frame, reading.tokenizer, reading.max_tokens
      )
      several = sum(count > 1 for count in Counter(window.example for window in windows).values())
      notes += windows_note(several, part, reading.max_tokens)
      encoded = Encoded([w.token_ids for w in windows], [reading.frame.segments(w.token_ids) for w in windows], 0)
      arrays = padded(encoded, reading.frame, reading.tokenizer.pad_id)
      rows = []
      for window in windows:
        of_text = np.array([number.get(tag, -1) for tag in _flat(part.labels[window.example])], np.int32)
        rows.append(np.where(window.words >= 0, of_text[window.words], -1))
      tags = padded_labels(rows, arrays["attention_mask"], -1)
      parts.append(TaskExamples(**arrays, labels={}, token_labels={"tags": tags}))
    for note in notes:
      logging.warning("%s", note)
    return Prepared(Task(name, TaggingConfig(len(classes)), classes, *parts), notes)

  def predict(self, model: Model, examples: Labelled) -> list[list[tuple[str, ...]]]:
    """Of each document, the tags of its sentences."""
    found: list[Tags] = model.predict([list(_flat(text)) for text in examples.texts])
    return [_by_sentence(tags.tags, text) for tags, text in zip(found, examples.texts, strict=True)]

  def answers_in(self, path: epath.PathLike, examples: Labelled, column: str) -> Sequence[Any]:
    """The tags of a file with the same words."""
    found = conll.read(path, tag=None if column == "label" else column).sentences
    gold = [(sentence, text) for text in examples.texts for sentence in text]
    for number, (one, (words_of, _)) in enumerate(zip(found, gold, strict=False)):
      if len(one.words) != len(words_of):
        raise ValueError(
          f"{path}, sentence {number + 1} has {len(one.words)} words ({' '.join(one.words[:5])} …), and that of"
          f" {examples.origin} {len(words_of)}"
        )
    if len(found) != len(gold):
      raise ValueError(f"{path} has {len(found):,} sentences, and {examples.origin} {len(gold):,}")
    rest = iter(found)
    return [[next(rest).tags for _ in text] for text in examples.texts]

  def score(self, examples: Labelled, answers: Sequence[Any]) -> Scores:
    gold = [list(tags) for label in examples.labels for tags in label]
    # A word without a token has no tag where none of the tags is O; seqeval reads that as O only.
    found = [[tag or tag_schemes.OUTSIDE for tag in tags] for answer in answers for tags in answer]
    accuracy = metrics.words(gold, found)
    # A few documents without a name still are of a scheme, where nothing else is said.
    marks_words = tag_schemes.scheme_of(itertools.chain.from_iterable(gold)) is None and any(
      tag != tag_schemes.OUTSIDE for tags in gold for tag in tags
    )
    return accuracy if marks_words else metrics.entities(gold, found) | accuracy

  def main_of(self, train: Labelled) -> str:
    return "f1" if tag_schemes.scheme_of(_tags(train)) else "accuracy"

  def table(self, examples: Labelled, answers: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for text, label, answer in zip(examples.texts, examples.labels, answers, strict=True):
      if any(len(part) > 1 for part in examples.texts):
        yield ["-DOCSTART-"]
        yield []
      for sentence, gold, found in zip(text, label, answer, strict=True):
        yield from zip(sentence, gold, found, strict=True)
        yield []

  def write(self, path: epath.Path, examples: Labelled, answers: Sequence[Any]) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in self.table(examples, answers)))

  def trivial(self, train: Labelled, dev: Labelled) -> dict[str, Sequence[Any]]:
    commonest = Counter(_tags(train)).most_common(1)[0][0]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in zip(train.texts, train.labels, strict=True):
      for word, tag in zip(_flat(text), _flat(label), strict=True):
        counts[word][tag] += 1
    of_word = {word: found.most_common(1)[0][0] for word, found in counts.items()}
    return {
      f"the tag {commonest}": [[(commonest,) * len(s) for s in text] for text in dev.texts],
      "each word's commonest tag": [[tuple(of_word.get(w, commonest) for w in s) for s in text] for text in dev.texts],
    }

  def units(self, train: Labelled, dev: Labelled) -> Units:
    classes = labelled.classes_of(_tags(train))
    number = {tag: place for place, tag in enumerate(classes)}
    targets = np.array([number[tag] for tag in _tags(train)], np.int32)
    return Units("words", "single_label", [_flat(text) for text in train.texts], [_flat(t) for t in dev.texts], targets)

  def answers(self, outputs: np.ndarray, train: Labelled, dev: Labelled) -> Sequence[Any]:
    classes = labelled.classes_of(_tags(train))
    tags, found = [classes[place] for place in outputs.argmax(axis=1)], []
    for text in dev.texts:
      length = len(_flat(text))
      found.append(_by_sentence(tags[:length], text))
      tags = tags[length:]
    return found


def _flat(sentences: Sentences) -> tuple[str, ...]:
  return tuple(itertools.chain.from_iterable(sentences))


def _tags(part: Labelled) -> Iterable[str]:
  return itertools.chain.from_iterable(tags for label in part.labels for tags in label)


def _by_sentence(tags: Sequence[str], text: Sentences) -> list[tuple[str, ...]]:
  rest = iter(tags)
  return [tuple(itertools.islice(rest, len(sentence))) for sentence in text]


def _broken(part: Labelled) -> tuple[str, ...]:
  """That some sequences break the scheme of their tags, where some do."""
  return tuple(tag_schemes.broken(os.path.basename(part.origin), [tags for label in part.labels for tags in label]))
