"""What every kind of task says of itself; the way from labelled files to a bundle knows none by name.

N examples, U units (texts, or words) that a linear model reads, C outputs.
"""

import abc
import csv
import dataclasses
import io
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from etils import epath

from bert_jax.data import tables
from bert_jax.data.examples import Task
from bert_jax.data.frames import Frame, frame_of
from bert_jax.data.labelled import Columns, Labelled
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference.model import Model
from bert_jax.inference.prompts import Prompts
from bert_jax.objective_configs import Problem
from bert_jax.transfer import metrics
from bert_jax.transfer.metrics import Scores


@dataclasses.dataclass(frozen=True)
class Reading:
  """How a model reads the examples of a task.

  Attributes:
    frame: special tokens of its architecture.
    tokenizer: its own.
    max_tokens: of a text or a window, special tokens counted.
    pooling: what a head over a whole text reads.
    prompts: what the model puts before texts that it embeds.
  """

  frame: Frame
  tokenizer: Tokenizer
  max_tokens: int
  pooling: Literal["cls", "mean"]
  prompts: Prompts

  @classmethod
  def of(cls, model: Model, max_tokens: int, pooling: Literal["cls", "mean"]) -> "Reading":
    """That of a model."""
    return cls(frame_of(model.config), model.require_tokenizer(), max_tokens, pooling, model.prompts)


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A task as a model reads it.

  Attributes:
    task: for `finetune`.
    notes: what a reader of its figures should know, such as how many texts were cut.
  """

  task: Task
  notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Units:
  """What a linear model over fixed features reads and learns.

  Attributes:
    of: whether a unit is a text (or a pair) or a word.
    problem: what its outputs are.
    train, dev: texts, or sequences of words.
    targets: of the training units: classes int [U], labels [U, C], or numbers [U].
  """

  of: Literal["texts", "words"]
  problem: Problem
  train: list[Any]
  dev: list[Any]
  targets: np.ndarray


class Kind(abc.ABC):
  """A kind of task.

  Attributes:
    name: as on the command line.
    main: the measure that it is about, of `score`; see `main_of`.
    reads: which columns are asked for, of text, pair, label and choices; and pooling, where a head reads whole texts.
    predictions: the file of a bundle that holds what the model predicts.
    pooling, max_tokens: where nothing else is asked for.
    compares: whether vectors of texts are all that its answers come from.
    rounds: of the bootstrap over examples; fewer where a score takes long.
  """

  name: ClassVar[str]
  main: ClassVar[str]
  reads: ClassVar[frozenset[str]] = frozenset(("text", "pair", "label", "pooling"))
  predictions: ClassVar[str] = "predictions.csv"
  pooling: ClassVar[Literal["cls", "mean"]] = "cls"
  max_tokens: ClassVar[int] = 128
  compares: ClassVar[bool] = False
  rounds: ClassVar[int] = 1000

  # ---- data ----

  def columns(self, text: str | None, pair: str | None, label: str | None, choices: tuple[str, ...]) -> Columns:
    """The columns that are asked for; those that are not have the usual names."""
    return Columns(text or "text", pair, label or "label", choices)

  @abc.abstractmethod
  def read(self, path: epath.PathLike, columns: Columns, training: bool) -> Labelled:
    """The examples of a file; training: whether they are to learn from.

    Raises:
      ValueError: the file is not what this kind reads.
    """

  @abc.abstractmethod
  def prepare(self, name: str, train: Labelled, dev: Labelled, reading: Reading) -> Prepared:
    """The task of learning from `train`, measured on `dev`.

    Raises:
      ValueError: there is nothing to be learned, or `dev` asks for what `train` does not have.
    """

  # ---- what comes of it ----

  def predict(self, model: Model, examples: Labelled) -> list[Any]:
    """A fine-tuned model's answer to each example."""
    return model.predict(list(examples.texts))

  def finish(self, model: Model, train: Labelled, dev: Labelled) -> Model:
    """A model as fine-tuning leaves it, made one that answers as its users expect."""
    return model

  def shown(self, text: Any) -> list[str]:
    """An example's texts, as a table of predictions has them in the columns text and text_pair."""
    return text_fields(text)

  def answer_in(self, cell: str) -> Any:
    """The answer that a cell of a table of predictions is.

    Raises:
      ValueError: it is none.
    """
    raise AssertionError(self.name)

  def answers_in(self, path: epath.PathLike, examples: Labelled, column: str) -> Sequence[Any]:
    """The answers to some examples that a file holds; of a table in a column, row by row.

    Raises:
      ValueError: it cannot be read, has another number of answers than there are examples, or is of other texts.
    """
    answers = []
    beside = [name for name in ("text", "text_pair") if name in tables.columns(path)]
    for place, row in enumerate(tables.read(path, [column, *beside])):
      wanted = self.shown(examples.texts[place]) if place < len(examples) else []
      for name, text, right in zip(beside, row.values[1:], wanted, strict=False):
        if text.split() != right.split():
          raise ValueError(
            f"{path}, line {row.line}: {name}={text!r:.60}, where {examples.origin} has {right!r:.60}; predictions must"
            f" be of the same examples in the same order. If they are, take the column {name} out"
          )
      try:
        answers.append(self.answer_in(row.values[0].strip()))
      except ValueError as error:
        raise ValueError(f"{path}, line {row.line}: {column}={row.values[0]!r:.80} {error}") from error
    if len(answers) != len(examples):
      raise ValueError(f"{path} has {len(answers):,} predictions, and {examples.origin} {len(examples):,} examples")
    return answers

  def main_of(self, train: Labelled) -> str:
    """The measure that a task with these training examples is about."""
    return self.main

  @abc.abstractmethod
  def score(self, examples: Labelled, answers: Sequence[Any]) -> Scores:
    """How good answers are, be they of `predict` or of what the model has to beat."""

  def interval(self, examples: Labelled, answers: Sequence[Any], measure: str) -> tuple[float, float] | None:
    """Between what a score would lie over other examples, 95 %; None where that is not known."""

    def score(chosen: np.ndarray) -> float:
      # Of a resample with one class only there is no F1.
      return self.score(examples.part(chosen), [answers[i] for i in chosen]).get(measure, math.nan)

    return metrics.bootstrap(score, len(examples), rounds=self.rounds)

  @abc.abstractmethod
  def table(self, examples: Labelled, answers: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Answers beside the examples and what they should be: a header, then rows."""

  def write(self, path: epath.Path, examples: Labelled, answers: Sequence[Any]) -> None:
    """Writes `table` to a file of a bundle."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(self.table(examples, answers))
    path.write_text(file.getvalue())

  # ---- what it has to beat ----

  @abc.abstractmethod
  def trivial(self, train: Labelled, dev: Labelled) -> dict[str, Sequence[Any]]:
    """By name, the answers on `dev` of what does not read, or hardly does."""

  def units(self, train: Labelled, dev: Labelled) -> Units | None:
    """What a linear model reads; None where this kind has none."""
    return None

  def compared(self, one: Any, other: Any) -> Sequence[Any]:
    """Where `compares`, the answers that vectors of the first and second texts on `dev` give.

    Args:
      one, other: of length 1, [N, D]; sparse where words are counted.
    """
    raise AssertionError(self.name)

  def answers(self, outputs: np.ndarray, train: Labelled, dev: Labelled) -> Sequence[Any]:
    """The answers that a linear model's outputs [U, C] on `dev` are."""
    raise AssertionError(self.name)


def text_columns(examples: Labelled) -> list[str]:
  """The header over `text_fields`."""
  return ["text", "text_pair"] if any(isinstance(text, tuple) for text in examples.texts) else ["text"]


def text_fields(text: Any) -> list[str]:
  """A text, or both of a pair."""
  return list(text) if isinstance(text, tuple) else [text]


def windows_note(several: int, part: Labelled, max_tokens: int) -> tuple[str, ...]:
  """That some texts are read in windows, where some are."""
  of = os.path.basename(part.origin)
  return (f"{several:,} of {len(part):,} texts of {of} are read in windows of {max_tokens} tokens",) if several else ()


def cut_note(cut: int, number: int, max_tokens: int) -> tuple[str, ...]:
  """That texts were cut, where some were."""
  return (f"{cut:,} of {number:,} texts have more than {max_tokens} tokens; they are cut",) if cut else ()
