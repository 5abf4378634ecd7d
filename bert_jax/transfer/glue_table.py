"""GLUE's tasks from one checkpoint: a bundle each, and one table."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from absl import logging
from etils import epath

from bert_jax import records
from bert_jax.data.labelled import Labelled
from bert_jax.interop import load as loading
from bert_jax.interop.params import fingerprint
from bert_jax.transfer import bundles, glue, grids, making
from bert_jax.transfer.glue import PUBLISHED, GlueTask

_SHOWN = ("the majority class", "the training texts' mean", "TF-IDF, what the model reads", "random weights, frozen")
_COLUMNS = ("no reading", "TF-IDF", "random, frozen", "frozen")


def run(
  model: str,
  data: str,
  names: str,
  workdir: str,
  way: Literal["full", "frozen"] = "full",
  recipe: str | None = None,
  seeds: tuple[int, ...] = (),
  pooling: Literal["cls", "mean"] | None = None,
  peak_lr: float | None = None,
  epochs: int | None = None,
  most: int | None = None,
  max_tokens: int | None = None,
) -> int:
  """Fine-tunes for each task of `names`, and writes and prints the table; see experiments/glue.py for the arguments."""
  tasks = glue.chosen(names)
  for task in tasks:  # what is not there is said before anything is trained
    for part in ("train", *task.dev):
      task.file(data, part)
  if recipe is not None and recipe not in grids.RECIPES:
    raise ValueError(f"--recipe={recipe} is none of {', '.join(grids.RECIPES)}")
  if way == "frozen":
    trained = {"recipe": recipe, "pooling": pooling, "peak_lr": peak_lr, "epochs": epochs}
    for name, value in trained.items():
      if value is not None:
        raise ValueError(f"--{name}={value} is of no use with --way=frozen, which fits a layer to means over tokens")
    if len(seeds) > 1:
      raise ValueError("--way=frozen is fitted, not trained: give one seed, which draws the random weights beside it")
  grid = grids.RECIPES[recipe] if recipe else grids.Grid((5e-5,), (32,), (3,))  # Devlin et al. 2018, A.3
  given = {"peak_lr": peak_lr, "epochs": epochs}
  grid = dataclasses.replace(grid, **{name: (value,) for name, value in given.items() if value is not None})
  searching = len(grid.settings()) > 1 or len(seeds) > 1
  seeds = seeds or ((0, 1, 2, 3, 4) if searching else (0,))
  start = loading.load(model)
  if max_tokens is None:
    max_tokens = start.config.length_within(128)  # Devlin et al. 2018
  wanted = {
    "weights": fingerprint(start.params), "way": way, "recipe": recipe, "seeds": list(seeds),
    "pooling": pooling, "peak_lr": peak_lr, "epochs": epochs, "max_train_examples": most, "max_tokens": max_tokens,
  }  # fmt: skip
  making.refuse_other(epath.Path(workdir), wanted, "holds bundles that were asked for otherwise")
  rows = []
  for task in tasks:
    for part in task.dev:
      bundle = epath.Path(workdir) / (task.name if len(task.dev) == 1 else f"{task.name}-{part}")
      if not (bundle / bundles.METRICS).exists():
        logging.info("%s, %s", task.name, part)
        train = _first(task.read(data, "train"), most)
        source = making.Source.of(model, task.kind, train, task.read(data, part), task.measure)
        first: dict[str, Any] = {**grid.settings()[0], **grid.fixed}
        asked = making.Asked(
          kind=task.kind, way=way, pooling=pooling or "cls", max_tokens=max_tokens, seed=seeds[0], **first
        )
        making.make(source, asked, bundle, grid=grid if searching else None, seeds=seeds)
      rows.append((task, part, records.read_json(bundle / bundles.METRICS, f"remove {bundle}") or {}))
  table = _table(rows, most)
  (epath.Path(workdir) / "glue.md").write_text(table)
  print(table)
  return 0


def _first(examples: Labelled, most: int | None) -> Labelled:
  return examples if most is None else examples.part(np.arange(min(most, len(examples))))


def _table(rows: list[tuple[GlueTask, str, dict[str, Any]]], most: int | None) -> str:
  """In Markdown, in percent."""
  head = ["task", "measure", "this model", *_COLUMNS, *PUBLISHED]
  lines = [f"| {' | '.join(head)} |", f"| --- | --- |{' ---: |' * (len(head) - 2)}"]
  for task, part, found in rows:
    name = task.name if len(task.dev) == 1 else f"{task.name} {part.removeprefix('dev_')}"
    beaten = found["baselines"]
    trivial = next((beaten[label] for label in _SHOWN[:2] if label in beaten), {})
    cells = [trivial, *(beaten.get(label, {}) for label in _SHOWN[2:]), beaten.get("the encoder, frozen", {})]
    values = [_cell(scores.get(task.measure)) for scores in (found["scores"], *cells)]
    published = [_cell(row[task.name] / 100 if task.name in row else None) for row in PUBLISHED.values()]
    lines.append(f"| {' | '.join([name, task.measure, *values, *published])} |")
  runs = [f"{task.name}: {line}" for task, _, found in rows for line in _searched(task, found)]
  model = rows[0][2]["settings"]["model"] if rows else ""
  notes = [
    f"This model is {model}; each figure is on the dev set, with the settings that its bundle's metrics.json has"
    + (f", trained on the first {most:,} examples of each task" if most is not None else "")
    + ".",
    "The published rows are medians or best runs of their papers, of much larger models than one trains on a laptop;"
    " MRPC is F1 here and accuracy in RoBERTa's row, STS-B Spearman here and Pearson there. bert_jax/transfer/glue.py"
    " has the sources.",
    *runs,
  ]
  return "\n".join([*lines, "", *notes]) + "\n"


def _cell(value: float | None) -> str:
  return "" if value is None or not math.isfinite(value) else f"{round(100 * value, 1) + 0.0:.1f}"  # no -0.0


def _searched(task: GlueTask, found: dict[str, Any]) -> list[str]:
  if not found.get("tried"):
    return []
  best = grids.Summary(**found["tried"][0])
  return [f"best of {len(found['tried'])} settings: {best.line(lambda value: bundles.shown(task.measure, value))}"]
