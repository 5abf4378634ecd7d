"""The note's figures and tables, from the CSV files beside this script.

    python docs/note/figures.py

writes learning.png, transfer.png and recipe.png there, and prints the tables as they stand in docs/note.md.
`--data=DIR` takes the files of another measurement; the figures then go there too.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert_jax.analysis import plots, statistics

HERE = Path(__file__).parent
CLASSES = ("function words", "content words", "rest of a word", "numbers", "punctuation")
ALL = "all places"
RUN, LONGER, FREQUENCIES, NEIGHBOURS = "roberta", "longer", "token frequencies", "counts of neighbours"
WAYS = {  # as in transfer.csv → line and colour
  "roberta, fine-tuned": ("-", plots.BLUE),
  "roberta, frozen": ("--", plots.BLUE),
  "roberta, word vectors": (":", plots.BLUE),
  "not pretrained, fine-tuned": ("-", plots.VERMILLION),
  "not pretrained, frozen": ("--", plots.VERMILLION),
  "minilm, frozen": ("--", plots.GREEN),
  "minilm, word vectors": (":", plots.GREEN),
  "TF-IDF": ("-", plots.INK),
  "TF-IDF, what fine-tuning reads": ("-.", plots.INK),
}
Rows = list[dict[str, str]]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--data", type=Path, default=HERE, metavar="DIR")
  folder = parser.parse_args().data
  learning, transfer, arms = (read(folder / f"{name}.csv") for name in ("learning", "transfer", "arms"))
  with plots.styled():
    for name, figure in (
      ("learning", draw_learning(learning)),
      ("transfer", draw_transfer(transfer)),
      ("recipe", draw_recipe(arms)),
    ):
      (folder / f"{name}.png").write_bytes(plots.as_png(figure))
  print("\n\n".join([learning_table(learning), *(transfer_table(transfer, task) for task in tasks_of(transfer))]))


def read(path: Path) -> Rows:
  with path.open(newline="") as file:
    return list(csv.DictReader(file))


# ---- what is learned over training ----


def of_class(rows: Rows, run: str, name: str) -> list[dict[str, Any]]:
  """By step: tokens, nats and the share right, of a class or of all places."""
  found = []
  for step in sorted({int(row["step"]) for row in rows if row["run"] == run}):
    some = [r for r in rows if r["run"] == run and int(r["step"]) == step and name in (r["class"], ALL)]
    weights = [int(row["places"]) for row in some]
    means = {part: float(np.average([float(row[part]) for row in some], weights=weights)) for part in ("nats", "right")}
    found.append({"step": step, "tokens": int(some[0]["tokens"]), "places": sum(weights)} | means)
  return found


def draw_learning(rows: Rows):
  """Nats below token frequencies, and the share right, by tokens seen."""
  figure = plots.new_figure(7.8)
  gained, right = plots.stacked(figure, [1, 1])
  lines = [(RUN, name, name, "-", colour) for name, colour in zip(CLASSES, plots.ARM_COLOURS, strict=False)]
  lines += [
    (RUN, ALL, ALL, "-", plots.INK),
    (LONGER, ALL, f"{ALL}, a longer run", "-.", plots.INK),
    ("bert", ALL, f"{ALL}, BERT's recipe", "--", plots.INK),
  ]
  for run, name, label, line, colour in lines:
    points = of_class(rows, run, name)
    if not points:
      continue
    (trivial,) = of_class(rows, FREQUENCIES, name)
    tokens = [point["tokens"] / 1e6 for point in points]
    look: Any = {"color": colour, "ls": line, "lw": 2.2 if name == ALL else 1.4}
    gained.plot(tokens, [trivial["nats"] - point["nats"] for point in points], label=label, **look)
    right.plot(tokens, [100 * point["right"] for point in points], **look)
  (frequencies,), (counted,) = (of_class(rows, who, ALL) for who in (FREQUENCIES, NEIGHBOURS))
  label = f"{ALL}, counts of neighbours"
  gained.axhline(frequencies["nats"] - counted["nats"], color=plots.MUTED, ls=":", label=label)
  right.axhline(100 * counted["right"], color=plots.MUTED, ls=":")
  gained.set_ylabel("nats below token frequencies")
  right.set_ylabel("right, %")
  for axes in (gained, right):
    axes.grid(axis="y")
    axes.set_xlabel("tokens seen, millions")
    axes.set_xscale("log")
    axes.set_xticks([0.25, 0.5, 1, 2, 4, 8, 16], ["0.25", "0.5", "1", "2", "4", "8", "16"])
    axes.minorticks_off()
  plots.legend_above(figure, gained)
  return figure


def learning_table(rows: Rows) -> str:
  """By class: the share right, of the two that need no network, and of the two runs of RoBERTa's recipe."""
  seen = {run: [point["tokens"] for point in of_class(rows, run, ALL)] for run in (RUN, LONGER)}
  moments = [(RUN, min(seen[RUN], key=lambda tokens: abs(tokens - wanted))) for wanted in (0.2e6, 0.8e6, 2e6)]
  moments += [(run, max(seen[run])) for run in (RUN, LONGER)]
  heads = [f"{tokens / 1e6:.1f}M tokens" for _, tokens in moments]
  lines = [
    f"| right at [MASK], % | places | frequencies | neighbours | {' | '.join(heads)} |",
    f"| --- |{' ---: |' * (3 + len(moments))}",
  ]
  for name in (*CLASSES, ALL):
    trivial = [of_class(rows, who, name)[0] for who in (FREQUENCIES, NEIGHBOURS)]
    learned = [next(p for p in of_class(rows, run, name) if p["tokens"] == tokens) for run, tokens in moments]
    cells = [f"{100 * point['right']:.1f}" for point in (*trivial, *learned)]
    lines.append(f"| {name} | {trivial[0]['places']:,} | {' | '.join(cells)} |")
    if name == ALL:
      nats = [f"{point['nats']:.2f}" for point in (*trivial, *learned)]
      lines.append(f"| {name}, nats | {trivial[0]['places']:,} | {' | '.join(nats)} |")
  return "\n".join(lines)


# ---- what of it transfers ----


def tasks_of(rows: Rows) -> list[str]:
  return list(dict.fromkeys(row["task"] for row in rows))


def accuracy(rows: Rows, task: str, way: str, labels: int) -> tuple[float, float]:
  """Mean over draws and half of its 95 % interval, over other labelled texts and other test texts, in percent."""
  some = [row for row in rows if (row["task"], row["way"], int(row["labels"])) == (task, way, labels)]
  by_draw, tests = [float(row["accuracy"]) for row in some], int(some[0]["test_texts"])
  share = (tests * float(np.mean(by_draw)) + 1) / (tests + 2)
  texts = statistics.Error("texts", float(np.sqrt(share * (1 - share) / (tests + 2))), tests - 1)
  draws = statistics.draws_error(by_draw)
  half = statistics.half_width([texts, *([draws] if draws else [])], 1 - statistics.CONFIDENCE)
  return 100 * float(np.mean(by_draw)), 100 * half


def labels_of(rows: Rows, task: str) -> list[int]:
  return sorted({int(row["labels"]) for row in rows if row["task"] == task})


def draw_transfer(rows: Rows):
  """A panel a task: accuracy by the number of labels, with intervals."""
  tasks = tasks_of(rows)
  figure = plots.new_figure(3.4 * len(tasks) + 0.6)
  panels = plots.stacked(figure, [1] * len(tasks))
  for axes, task in zip(panels, tasks, strict=True):
    labels = labels_of(rows, task)
    for number, (way, (line, colour)) in enumerate(WAYS.items()):
      means, halves = zip(*(accuracy(rows, task, way, count) for count in labels), strict=True)
      at = np.array(labels) * 1.025 ** (number - len(WAYS) / 2)  # apart, so that the bars do not cover each other
      axes.errorbar(at, means, halves, color=colour, ls=line, marker="o", ms=3, lw=1.4, elinewidth=0.9, label=way)
    plots.by_labels(axes, task, labels, accuracy(rows, task, "majority", labels[0])[0])
  plots.legend_above(figure, panels[0])
  return figure


def transfer_table(rows: Rows, task: str) -> str:
  """Every way by the number of labels."""
  labels = labels_of(rows, task)
  tests = next(row["test_texts"] for row in rows if row["task"] == task)
  lines = [
    f"| {task}, {int(tests):,} test texts; labels a class | {' | '.join(map(str, labels))} |",
    f"| --- |{' ---: |' * len(labels)}",
  ]
  for way in dict.fromkeys(row["way"] for row in rows if row["task"] == task):
    cells = ["{:.1f} ± {:.1f}".format(*accuracy(rows, task, way, count)) for count in labels]
    lines.append(f"| {way} | {' | '.join(cells)} |")
  return "\n".join(lines)


# ---- what the changes of recipe did ----


def draw_recipe(rows: Rows):
  """A lane for each arm, a point for each run: nats at [MASK] below what is reached without context."""
  experiments: list[str] = list(dict.fromkeys(row["experiment"] for row in rows))
  of = {name: list(dict.fromkeys(row["arm"] for row in rows if row["experiment"] == name)) for name in experiments}
  heights = [len(arms) + 1.2 for arms in of.values()]
  figure = plots.new_figure(0.28 * sum(heights) + 0.8)
  panels = plots.stacked(figure, heights)
  most = max(float(row["learned"]) for row in rows)
  for axes, (name, arms) in zip(panels, of.items(), strict=True):
    for place, arm in enumerate(arms):
      values = [float(row["learned"]) for row in rows if (row["experiment"], row["arm"]) == (name, arm)]
      axes.plot(values, [place] * len(values), "o", color=plots.BLUE, ms=5, alpha=0.7)
      axes.plot([np.mean(values)] * 2, [place - 0.3, place + 0.3], color=plots.INK, lw=1.6)
    named(axes, name, arms)
    axes.axvline(0, color=plots.MUTED, lw=0.8)
    axes.set_xlim(min(0.0, *(float(row["learned"]) for row in rows)) - 0.05, most * 1.05)
    if axes is not panels[-1]:
      axes.tick_params(axis="x", labelbottom=False)
  panels[-1].set_xlabel("learned from context: nats at [MASK] below the best predictor without context")
  return figure


def named(axes: Any, title: str, arms: Sequence[str]) -> None:
  axes.set_title(title, loc="left")
  axes.set_ylim(len(arms) - 0.5, -0.5)
  axes.set_yticks(range(len(arms)), arms)
  axes.tick_params(axis="y", length=0)
  axes.grid(axis="x")


if __name__ == "__main__":
  main()
