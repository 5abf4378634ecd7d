"""A bundle: the folder that a fine-tuning leaves, which predicts without anything else.

It is a folder as `Model.save` writes it, with more beside it:
  metrics.json       figures on the examples that were held out, beside those of the baselines, and how they came about
  predictions.*      what it predicts for these examples, with what it should have
  README.md          the model's card
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from etils import epath

from bert_jax import provenance, records
from bert_jax.data.labelled import Labelled
from bert_jax.inference.model import Model
from bert_jax.interop import folders, imported
from bert_jax.transfer.grids import Summary
from bert_jax.transfer.kinds.base import Kind, Scores

METRICS, CARD = "metrics.json", "README.md"
_FRACTIONS = ("pearson", "spearman", "rmse", "matthews", "mrr", "ndcg")  # all others are shares


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a fine-tuning reaches on examples that it was not fitted to.

  Attributes:
    scores: by measure, the one that the task is about first.
    interval: of that one, 95 %, by bootstrap over the examples; None where there is none.
    baselines: by name, their scores on the same examples.
    examples: how many there are.
    notes: what a reader of the figures should know.
    tried: of a search, the settings, the best first; the scores are of the best run of the first.
  """

  scores: Scores
  interval: tuple[float, float] | None
  baselines: dict[str, Scores]
  examples: int
  notes: tuple[str, ...]
  tried: tuple[Summary, ...] = ()

  @property
  def main(self) -> str:
    """The measure that the task is about."""
    return next(iter(self.scores))

  def rows(self) -> list[tuple[str, str]]:
    """(name, score) of the model and of what it has to beat, by that measure."""
    rows = [("this model", self.scores), *self.baselines.items()]
    return [(name, shown(self.main, scores[self.main])) for name, scores in rows]

  def lines(self) -> list[str]:
    """The figures in words."""
    others = ", ".join(f"{name} {shown(name, value)}" for name, value in list(self.scores.items())[1:])
    interval = ""
    if self.interval is not None:
      low, high = (shown(self.main, value) for value in self.interval)
      interval = f" (95 % over other examples: {low} to {high})"
    width = max(len(name) for name, _ in self.rows())
    return [
      f"{self.main} on {self.examples:,} held-out examples{interval}:",
      *(f"  {name:{width}}  {value}" for name, value in self.rows()),
      *([f"beside it: {others}"] if others else []),
      *(f"  {line}" for line in self.searched()),
    ]

  def searched(self) -> list[str]:
    """The settings that were tried, in words."""
    return [summary.line(lambda value: shown(self.main, value)) for summary in self.tried]


def write(
  model: Model,
  folder: epath.PathLike,
  kind: Kind,
  dev: Labelled,
  answers: Sequence[Any],
  outcome: Outcome,
  settings: dict[str, Any],
) -> None:
  """Writes a bundle, whole or not at all.

  Args:
    model: fine-tuned.
    folder: new or empty.
    kind: of task.
    dev: the examples that were held out.
    answers: what the model predicts for them.
    outcome: how good that is.
    settings: what the fine-tuning was asked to do.

  Raises:
    ValueError: something stands there already, or nothing can be written there.
  """
  made = {
    "task": kind.name,
    "measure": outcome.main,
    "settings": settings,
    "finetuned": model.finetuned,
    "versions": provenance.versions(),
  }
  with folders.atomic(folder) as scratch:
    imported.write(model, scratch)
    records.write_json(scratch / METRICS, dataclasses.asdict(outcome) | made | {"git_commit": provenance.git_commit()})
    kind.write(scratch / kind.predictions, dev, answers)
    (scratch / CARD).write_text(_card(model, kind, outcome, settings))


def shown(measure: str, value: float) -> str:
  """A score as it is printed: shares in percent."""
  return f"{100 * value:.1f} %" if measure not in _FRACTIONS and not measure.endswith("threshold") else f"{value:.3f}"


def _card(model: Model, kind: Kind, outcome: Outcome, settings: dict[str, Any]) -> str:
  main = outcome.main
  interval = ""
  if outcome.interval is not None:
    low, high = (shown(main, value) for value in outcome.interval)
    interval = f" Over other examples of this kind it would lie between {low} and {high} (95 %, bootstrap)."
  others = ", ".join(f"{name} {shown(name, value)}" for name, value in list(outcome.scores.items())[1:])
  classes = model.class_names
  named = (
    f"It answers with one of: {', '.join(classes[:50])}{', …' if len(classes) > 50 else ''}, whatever it is asked. "
  )
  lines = [
    f"# A model for {kind.name.replace('_', ' ')}",
    f"{model.describe()}. Fine-tuned on {model.finetuned}.",
    f"On {outcome.examples:,} examples that it was not fitted to:",
    "\n".join([f"| | {main} |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in outcome.rows())]),
    f"{others[:1].upper()}{others[1:]}.{interval} {_seeds(outcome)}",
    "\n".join(f"- {line}" for line in outcome.searched()),
    *outcome.notes,
    "## To use it",
    "    bert-jax predict FOLDER FILE\n    python -c \"import bert_jax; print(bert_jax.load('FOLDER').predict(…))\"",
    "## What it knows",
    f"{named if classes else ''}Texts beyond {model.max_tokens} tokens are cut, or read in windows. It was not tested"
    " for any use.",
    "## How it came about",
    "\n".join(f"- {name}: {value}" for name, value in settings.items()),
  ]
  return "\n\n".join(line for line in lines if line) + "\n"


def _seeds(outcome: Outcome) -> str:
  """What is known of how far another seed moves the figures."""
  if not outcome.tried:
    return "One seed, one split: how far another seed would move these figures was not measured."
  return (
    "It is the best run of the setting with the best median, both picked on these examples: on others, expect the"
    f" median rather than the best. {sum(s.seeds for s in outcome.tried)} runs were tried:"
  )
