"""A bundle: the folder that a fine-tuning leaves, which predicts without anything else.

It is a folder as `Model.save` writes it, with more beside it:
  metrics.json       figures on the texts that were held out, beside those of the baselines, and how they came about
  predictions.csv    what it predicts for these texts, with the true labels
  README.md          the model's card
"""

import csv
import dataclasses
import io
from typing import Any

from etils import epath

from bert_jax import provenance, records
from bert_jax.data.labelled import Labelled
from bert_jax.inference.model import Model
from bert_jax.inference.predictions import Prediction
from bert_jax.interop import folders, imported

METRICS, PREDICTIONS, CARD = "metrics.json", "predictions.csv", "README.md"


@dataclasses.dataclass(frozen=True)
class Figures:
  """What a classifier reaches on texts that it was not fitted to.

  Attributes:
    texts: how many there are.
    accuracy: share that is labelled right.
    macro_f1: mean of the classes' F1.
    matthews: correlation of Matthews.
  """

  texts: int
  accuracy: float
  macro_f1: float
  matthews: float


def score(labels: list[str], predicted: list[str]) -> Figures:
  """By scikit-learn."""
  from sklearn import metrics

  return Figures(
    texts=len(labels),
    accuracy=float(metrics.accuracy_score(labels, predicted)),
    macro_f1=float(metrics.f1_score(labels, predicted, average="macro", zero_division=0)),  # pyright: ignore
    matthews=float(metrics.matthews_corrcoef(labels, predicted)),
  )


def write(
  model: Model,
  folder: epath.PathLike,
  dev: Labelled,
  found: list[Prediction],
  figures: Figures,
  baselines: dict[str, float],
  settings: dict[str, Any],
) -> None:
  """Writes a bundle, whole or not at all.

  Args:
    model: a classifier.
    folder: new or empty.
    dev: the texts that were held out.
    found: what the model predicts for them.
    figures: of these predictions.
    baselines: accuracies on the same texts.
    settings: what the fine-tuning was asked to do.

  Raises:
    ValueError: something stands there already, or nothing can be written there.
  """
  measured = {"dev": dataclasses.asdict(figures), "baselines_accuracy": baselines}
  made = {"settings": settings, "finetuned": model.finetuned, "versions": provenance.versions()}
  with folders.atomic(folder) as scratch:
    imported.write(model, scratch)
    records.write_json(scratch / METRICS, measured | made | {"git_commit": provenance.git_commit()})
    (scratch / PREDICTIONS).write_text(_table(dev, found))
    (scratch / CARD).write_text(_card(model, figures, baselines, settings))


def _table(dev: Labelled, found: list[Prediction]) -> str:
  file = io.StringIO()
  writer = csv.writer(file, lineterminator="\n")
  pairs = any(isinstance(text, tuple) for text in dev.texts)
  writer.writerow([*(("text", "text_pair") if pairs else ("text",)), "label", "predicted", "probability"])
  for text, label, prediction in zip(dev.texts, dev.labels, found, strict=True):
    parts = text if isinstance(text, tuple) else (text,)
    writer.writerow([*parts, label, prediction.label, f"{prediction.probability:.6f}"])
  return file.getvalue()


def _card(model: Model, figures: Figures, baselines: dict[str, float], settings: dict[str, Any]) -> str:
  rows = [("this model", figures.accuracy), *baselines.items()]
  lines = [
    f"# A classifier with {model.num_classes} classes",
    f"{model.describe()}. Fine-tuned on {model.finetuned}.",
    f"On {figures.texts:,} texts that it was not fitted to:",
    "\n".join(["| | accuracy, % |", "| --- | ---: |", *(f"| {name} | {100 * value:.1f} |" for name, value in rows)]),
    f"Macro F1 {figures.macro_f1:.3f}, Matthews correlation {figures.matthews:.3f}. One seed, one split: how far"
    " another seed or other texts would move these figures was not measured.",
    "## To use it",
    "    bert-jax predict FOLDER texts.csv --text=text",
    "    python -c \"import bert_jax; print(bert_jax.load('FOLDER').predict(['a text']))\"",
    "## What it knows",
    f"Classes: {', '.join(model.class_names[:50])}{', …' if len(model.class_names) > 50 else ''}. It names one of them"
    f" whatever the text is. Texts beyond {model.max_tokens} tokens are cut. It was not tested for any use.",
    "## How it came about",
    "\n".join(f"- {name}: {value}" for name, value in settings.items()),
  ]
  return "\n\n".join(lines) + "\n"
