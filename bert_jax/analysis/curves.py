"""Learning curves: accuracy by the number of labels, as a figure and as a table."""

import csv
import dataclasses
from collections.abc import Sequence

import numpy as np
from etils import epath

from bert_jax import results
from bert_jax.analysis import plots, statistics
from bert_jax.analysis.statistics import CONFIDENCE
from bert_jax.results import RunResult
from bert_jax.transfer.curves import FROZEN, SCRATCH, TUNED, WORDS, Point

_MAJORITY = "majority"
LEARNED = 1.0  # nats below what is reached without context: past the plateau that every run begins with


def write(points: Sequence[Point], folder: epath.PathLike, note: str) -> str:
  """Writes curves.csv, curves.png, curves.svg and curves.md, and returns the text of the last.

  Args:
    points: of all tasks.
    note: what these models can and cannot show.
  """
  folder = epath.Path(folder)
  with (folder / "curves.csv").open("w") as file:
    rows = csv.DictWriter(file, [field.name for field in dataclasses.fields(Point)], lineterminator="\n")
    rows.writeheader()
    rows.writerows(dataclasses.asdict(point) for point in points)
  with plots.styled():
    figure = _figure(points)
    png, svg = plots.as_png(figure), plots.as_svg(figure, "curves")
  (folder / "curves.png").write_bytes(png)
  (folder / "curves.svg").write_text(svg)
  text = _text(points, note)
  (folder / "curves.md").write_text(text)
  return text


def learned(run: epath.PathLike) -> str | None:
  """What a network had learned before it was given any labels; None where that is not known.

  Args:
    run: the folder of a run of a sweep.
  """
  found = results.read(epath.Path(run) / "result.json", RunResult)
  if found is None:
    return None
  loss = found.pretrained.measures.get("mask_loss")
  trivial = found.pretrained.trivial.get("context_free_mask_loss")
  if loss is None or trivial is None:
    return None
  said = "it has learned from context" if trivial - loss > LEARNED else "it has learned next to nothing from context"
  return (
    f"`{found.arm}`: {loss:.2f} nats at [MASK] places of held-out text after {found.pretrained.tokens or 0:,} tokens;"
    f" without context, {trivial:.2f} are reached: {said}."
  )


def _of(points: Sequence[Point], task: str, way: str, labels: int) -> dict[int, float]:
  """The accuracy of each draw, in percent."""
  found = [p for p in points if (p.task, p.way, p.labels) == (task, way, labels)]
  return {p.draw: 100 * p.accuracy for p in found}


def _labels(points: Sequence[Point], task: str) -> list[int]:
  return sorted({p.labels for p in points if p.task == task})


def _ways(points: Sequence[Point]) -> list[str]:
  return list(dict.fromkeys(p.way for p in points))


def _pairs(points: Sequence[Point]) -> list[tuple[str, str]]:
  """Each way of a pretrained network, fine-tuned or frozen, and the same of one that is not."""
  hows = {f"{SCRATCH}, {how}": how for how in (TUNED, FROZEN)}
  ways = _ways(points)
  return [(way, other) for other, how in hows.items() for way in ways if way.endswith(f", {how}") and way != other]


# ---- the figure ----


def _figure(points: Sequence[Point]):
  """A panel a task: the mean of the draws, and a band from the lowest to the highest."""
  tasks = list(dict.fromkeys(p.task for p in points))
  figure = plots.new_figure(3.4 * len(tasks) + 0.6)
  panels = plots.stacked(figure, [3.4] * len(tasks))
  ways = [way for way in _ways(points) if way != _MAJORITY]
  names = list(dict.fromkeys(way.split(", ")[0] for way in ways))
  colours = dict(zip(names, plots.ARM_COLOURS, strict=False)) | {"TF-IDF": plots.INK, SCRATCH: plots.MUTED}
  for axes, task in zip(panels, tasks, strict=True):
    labels = _labels(points, task)
    for way in ways:
      name = way.split(", ")[0]
      line = "--" if way.endswith(FROZEN) else ":" if way.endswith(WORDS) else "-." if "TF-IDF, " in way else "-"
      drawn = [list(_of(points, task, way, count).values()) for count in labels]
      low, high = ([bound(values) for values in drawn] for bound in (min, max))
      axes.fill_between(labels, low, high, color=colours[name], alpha=0.15, lw=0)
      axes.plot(labels, [np.mean(values) for values in drawn], line, color=colours[name], marker="o", ms=4, label=way)
    majority = list(_of(points, task, _MAJORITY, labels[0]).values())
    plots.by_labels(axes, task, labels, float(np.mean(majority)))
  plots.legend_above(figure, panels[0])
  return figure


# ---- the text ----


def _text(points: Sequence[Point], note: str) -> str:
  draws = 1 + max(p.draw for p in points)
  parts = [
    "# At how many labels does pretraining pay?",
    f"![accuracy by the number of labels](curves.png)\n\nBands reach from the lowest to the highest of {draws} draws of"
    " labelled texts; all ways see the same ones, and are tested on the same held-out texts.",
    note,
  ]
  for task in dict.fromkeys(p.task for p in points):
    labels = _labels(points, task)
    tests = next(p.test_texts for p in points if p.task == task)
    rows = [f"| labels a class | {' | '.join(map(str, labels))} |", f"| --- |{' ---: |' * len(labels)}"]
    for way in _ways(points):
      cells = [f"{np.mean(list(_of(points, task, way, count).values())):.1f}" for count in labels]
      rows.append(f"| {way} | {' | '.join(cells)} |")
    parts += [
      f"## {task}",
      f"Mean accuracy in percent, on {tests:,} texts.",
      "\n".join(rows),
      _pays(points, task, labels),
    ]
  return "\n\n".join(parts) + "\n"


def _pays(points: Sequence[Point], task: str, labels: Sequence[int]) -> str:
  """At which numbers of labels a pretrained network is better than the same one without pretraining."""
  lines = []
  tests = next(p.test_texts for p in points if p.task == task)
  for way, scratch in _pairs(points):
    cells = []
    for count in labels:
      one, other = _of(points, task, way, count), _of(points, task, scratch, count)
      differences = [(one[draw] - other[draw]) / 100 for draw in one]
      mean = float(np.mean(differences))
      draws = statistics.draws_error(differences)
      said = "not shown: one draw"
      if draws is not None:
        shares = [float(np.mean(list(of.values()))) / 100 for of in (one, other)]
        # Each number of labels is judged, so each interval is as wide as so many need.
        errors = [draws, statistics.independent_texts_error(shares[0], shares[1], tests)]
        half = statistics.half_width(errors, (1 - CONFIDENCE) / len(labels))
        said = statistics.verdict(mean - half, mean + half, higher_is_better=True, margin=0.0)
      cells.append(f"{100 * mean:+.1f} at {count} ({said})")
    lines.append(f"- {way}: {', '.join(cells)}")
  return (
    f"Points above the same network not pretrained, draw by draw ({CONFIDENCE:.0%} over all numbers of labels together;"
    " the choice of the test texts is counted in, as if each way had texts of its own):\n\n" + "\n".join(lines)
  )
