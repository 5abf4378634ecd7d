"""The report's figures: paired differences, loss against tokens, few-label accuracy.

matplotlib is imported where it is used, and without pyplot: no window, no global state.
"""

import contextlib
import io
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bert_jax.analysis import formatting
from bert_jax.analysis.comparisons import LOSS, RANDOM, Comparison, Measure, Results, answer_measure, task_measure
from bert_jax.analysis.runs import Run

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# The colours of Okabe and Ito (2008), which colour-blind people can tell apart; grey in place of their yellow,
# which does not show on white.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
INK, MUTED, GRID, PAPER = "#1c2127", "#6b7480", "#dfe3e8", "#fefefe"
ARM_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK, MUTED)
LINES = ("-", "--", ":")
# In the HTML page these follow the page's own colours, light or dark.
CSS_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}

VERDICT_MARKS = {  # verdict → marker, colour, filled
  "better": ("o", BLUE, True),
  "worse": ("s", VERMILLION, True),
  "no difference": ("D", INK, False),
  "not shown": ("o", MUTED, False),
  "void": ("x", MUTED, True),
}
NO_DIFFERENCE = 0.01  # half the width of a panel in which all differences are 0
WIDTH = 8.0  # inches; 800 px at 100 dots an inch
CLIP = 2.5  # an interval is cut at this many times the largest difference of single seeds, so that those can be seen


class Drawn(NamedTuple):
  """A figure as a PNG file, as an SVG file, and as an element of the HTML page."""

  png: bytes
  svg: str
  element: str


def draw(results: Results) -> dict[str, Drawn]:
  """Each figure that there is something to draw for, by name: differences, accuracies, loss, transfer."""
  shares = [answer_measure(answer) for answer in results.sweep.answers]
  shares += [task_measure(task) for task in results.sweep.tasks()]
  drawn = {}
  with styled():
    for name, figure in (
      ("differences", first_look(results)),
      ("accuracies", forest(results, shares)),
      ("loss", loss_curves(results)),
      ("transfer", transfer(results)),
    ):
      if figure is not None:
        png, svg = as_png(figure), as_svg(figure, name)
        drawn[name] = Drawn(png, svg, _for_the_page(svg))
  return drawn


def forest(results: Results, measures: list[Measure]) -> "Figure | None":
  """One panel a measure, one row a comparison: mean, interval and single seeds of the paired differences."""
  return _forest(list(map(results.on, measures)))


def first_look(results: Results) -> "Figure | None":
  """The changes on the loss at [MASK], and each arm's gain over random weights on the first task."""
  gains = [gain for gain in results.gains if gain.against == RANDOM and gain.mean is not None]
  panels = [results.on(LOSS), [gain for gain in gains if gain.measure == gains[0].measure]]
  return _forest(panels) if results.on(LOSS) else None


def _forest(panels: list[list[Comparison]]) -> "Figure | None":
  # A difference that cannot be judged, as the tables say, has no place on an axis from better to worse.
  panels = [[row for row in rows if row.verdict != "not measured"] for rows in panels]
  panels = [rows for rows in panels if any(row.mean is not None for row in rows)]
  if not panels:
    return None
  heights = [0.34 * len(rows) + 0.75 for rows in panels]
  figure = new_figure(sum(heights))
  for axes, rows in zip(stacked(figure, heights), panels, strict=True):
    _forest_panel(axes, rows)
  return figure


def _forest_panel(axes: "Axes", rows: list[Comparison]) -> None:
  scale = 100.0 if rows[0].measure.is_share else 1.0
  limit = _forest_limit(rows) * scale
  for place, row in enumerate(rows):
    beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    if row.mean is not None:
      axes.annotate(formatting.difference(row), (1, place), xytext=(50, 0), ha="right", **beside)
    axes.annotate(formatting.verdict(row), (1, place), xytext=(58, 0), **beside)
    if row.mean is None:
      continue
    marker, colour, filled = VERDICT_MARKS[row.verdict]
    for ends, width in ((row.corrected, 1.0), (row.interval, 2.6)):
      if ends is None:
        continue
      low, high = (end * scale for end in ends)
      axes.plot([max(low, -limit), min(high, limit)], [place, place], color=colour, lw=width, zorder=2)
      for end, head in ((low, "<"), (high, ">")):
        if abs(end) > limit:  # goes on outside
          axes.plot(np.sign(end) * limit, place, marker=head, color=colour, ms=6, clip_on=False, zorder=3)
    axes.plot(np.array(row.differences) * scale, [place] * len(row.seeds), "|", color=INK, ms=8, mew=1, zorder=3)
    axes.plot(row.mean * scale, place, marker, color=colour, ms=7, mew=1.6, mfc=colour if filled else PAPER, zorder=4)
  axes.axvline(0, color=INK, lw=1, zorder=1)
  axes.set_xlim(-limit * 1.04, limit * 1.04)
  axes.set_ylim(len(rows) - 0.5, -0.5)
  axes.set_yticks(range(len(rows)), [f"{row.arm} vs {row.against.replace(RANDOM, 'random weights')}" for row in rows])
  axes.tick_params(axis="y", length=0)
  axes.locator_params(axis="x", nbins=6)
  axes.grid(axis="x")
  share = rows[0].measure.is_share
  axes.set_title(rows[0].measure.label, loc="left")
  unit = "percentage points" if share else "nats"
  axes.set_xlabel(f"worse ←   difference, {unit}   → better" if share else f"better ←   difference, {unit}   → worse")


def _forest_limit(rows: list[Comparison]) -> float:
  """Half the width of a panel: all single seeds, and the intervals as far as they do not hide those."""
  single = max(abs(difference) for row in rows for difference in row.differences) or NO_DIFFERENCE
  ends = [abs(end) for row in rows for end in row.corrected or row.interval or ()]
  return max(1.1 * single, min(max(ends, default=0.0), CLIP * single))


def loss_curves(results: Results) -> "Figure | None":
  """Held-out loss at [MASK] against tokens seen: the mean of an arm's finished runs, a band from least to most, and
  what is reached without context; a run that has not finished is a thin dotted line."""
  sweep = results.sweep
  if not any(run.evaluations for run in sweep.runs):
    return None
  figure = new_figure(4.8)
  axes = figure.add_subplot()
  ends: list[tuple[float, float, str, str]] = []  # tokens, loss, label, colour
  for index, arm in enumerate(sweep.arms):
    colour = ARM_COLOURS[index % len(ARM_COLOURS)]
    line = LINES[index // len(ARM_COLOURS) % len(LINES)]
    tokens, low, mean, high = _band(sweep.finished(arm.name))
    if len(tokens):
      axes.fill_between(tokens, low, high, color=colour, alpha=0.18, lw=0)
      axes.plot(tokens, mean, line, color=colour, lw=1.8, marker="o" if len(tokens) == 1 else None)
      ends.append((tokens[-1], mean[-1], f"{arm.name} {formatting.number(mean[-1], 3)}", colour))
    others = [run for run in sweep.runs_of(arm.name) if run.status != "finished" and run.evaluations]
    for run in others:
      axes.plot(*_curve(run), color=colour, lw=1, ls=(0, (1, 1.5)), marker="." if len(run.evaluations) == 1 else None)
    if others and not len(tokens):
      last = others[-1].evaluations[-1]
      ends.append((last.tokens, last.mask_loss, f"{arm.name} ({others[-1].status})", colour))
  values = [run.values for run in sweep.runs if "context_free_mask_loss" in run.values]
  lines = sorted({round(seen["context_free_mask_loss"], 4) for seen in values})
  _loss_axes(axes, results, lines)
  right = axes.get_xlim()[1]
  ends += [(right, line, f"no context {formatting.number(line, 3)}", "none") for line in lines]
  _label_ends(axes, ends)
  return figure


def _loss_axes(axes: "Axes", results: Results, lines: list[float]) -> None:
  from matplotlib.ticker import EngFormatter

  losses = [evaluation.mask_loss for run in results.sweep.runs for evaluation in run.evaluations]
  low, high = min([*losses, *lines]), max([*losses, *lines])
  if lines and low < lines[0]:
    # Losses before the first few hundred steps say nothing; what lies well above the line without context is cut off.
    high = min(high, lines[-1] + 0.2 * (lines[-1] - low))
  margin = 0.05 * (high - low) or 0.05
  axes.set_ylim(low - margin, high + margin)
  axes.set_xlim(left=0)
  for line in lines:
    axes.axhline(line, color=INK, lw=1, ls=(0, (5, 3)), zorder=1)
  axes.xaxis.set_major_formatter(EngFormatter(sep=""))
  axes.set_xlabel("tokens seen in training")
  axes.set_title("held-out loss at [MASK], nats", loc="left")
  axes.grid(axis="y")


def _label_ends(axes: "Axes", ends: list[tuple[float, float, str, str]]) -> None:
  """Name each line at the right edge, in its colour, with a faint line from its end to its name."""
  if not ends:
    return
  bottom, top = axes.get_ylim()
  right = axes.get_xlim()[1]
  edge = right * 1.035
  ends = sorted(ends, key=lambda end: end[1])
  places = _spread_out([end[1] for end in ends], 0.056 * (top - bottom), bottom, top)
  for (tokens, loss, label, colour), place in zip(ends, places, strict=True):
    axes.plot([tokens, edge], [min(loss, top), place], color=MUTED, lw=0.6, alpha=0.6, clip_on=False, zorder=1)
    axes.plot([min(tokens, right), edge], [min(loss, top), place], "o", color=colour, ms=5, ls="", clip_on=False)
    axes.annotate(label, (edge, place), xytext=(7, 0), textcoords="offset points", va="center", annotation_clip=False)
  axes.set_xlim(0, right)


def _spread_out(wanted: list[float], gap: float, bottom: float, top: float) -> list[float]:
  """The places nearest to the ascending `wanted` that are `gap` apart: least squares, by pooling neighbours."""
  pools: list[tuple[float, int]] = []  # (mean, members) of wanted − index × gap, which has to ascend
  for index, value in enumerate(wanted):
    mean, members = value - index * gap, 1
    while pools and pools[-1][0] > mean:
      before, others = pools.pop()
      mean, members = (before * others + mean * members) / (others + members), others + members
    pools.append((mean, members))
  starts = np.repeat([mean for mean, _ in pools], [members for _, members in pools])
  starts = np.clip(starts, bottom, max(bottom, top - (len(wanted) - 1) * gap))
  return [float(start + index * gap) for index, start in enumerate(starts)]


def _band(runs: list[Run]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Tokens, least, mean and most loss at each step that every one of the runs was evaluated at."""
  by_step: dict[int, list[Any]] = defaultdict(list)
  for run in runs:
    for evaluation in run.evaluations:
      by_step[evaluation.step].append(evaluation)
  shared = [by_step[step] for step in sorted(by_step) if len(by_step[step]) == len(runs)]
  losses = [np.array([evaluation.mask_loss for evaluation in evaluations]) for evaluations in shared]
  tokens = np.array([np.mean([evaluation.tokens for evaluation in evaluations]) for evaluations in shared])
  low, mean, high = (np.array([reduce(of_step) for of_step in losses]) for reduce in (np.min, np.mean, np.max))
  return tokens, low, mean, high


def _curve(run: Run) -> tuple[list[float], list[float]]:
  return [at.tokens for at in run.evaluations], [at.mask_loss for at in run.evaluations]


def transfer(results: Results) -> "Figure | None":
  """One panel a task, and for each arm a lane of the pretrained network's accuracy and one of the same network with
  random weights, bars from least to most over seeds; TF-IDF and the most frequent class as marks across both."""
  sweep = results.sweep
  tasks = [task for task in sweep.tasks() if any(f"{task}.pretrained" in arm.spreads for arm in results.arms)]
  if not tasks:
    return None
  heights = [0.46 * len(sweep.arms) + 0.75 for _ in tasks]
  figure = new_figure(sum(heights) + 0.3)
  lanes = (("pretrained", "pretrained", "o", BLUE, -0.15), ("random", "random weights", "s", VERMILLION, 0.15))
  marks = (("tfidf", "TF-IDF + logistic regression", INK, "-"), ("majority", "most frequent class", MUTED, ":"))
  panels = stacked(figure, heights)
  for axes, task in zip(panels, tasks, strict=True):
    for place, result in enumerate(results.arms):
      runs = sweep.finished(result.arm.name)

      def seen(part: str, task: str = task, runs: list[Run] = runs) -> list[float]:
        return [100 * run.values[f"{task}.{part}"] for run in runs if f"{task}.{part}" in run.values]

      if not seen("pretrained"):
        axes.text(0.5, place, "not run", transform=axes.get_yaxis_transform(), va="center", ha="center", color=MUTED)
        continue
      for part, _, colour, line in marks:
        if values := seen(part):
          axes.plot([np.mean(values)] * 2, [place - 0.32, place + 0.32], color=colour, lw=1.6, ls=line, zorder=2)
      for part, _, marker, colour, offset in lanes:
        if values := seen(part):
          axes.plot([min(values), max(values)], [place + offset] * 2, color=colour, lw=3, alpha=0.45, zorder=3)
          axes.plot(np.mean(values), place + offset, marker, color=colour, ms=6, zorder=4)
    axes.set_ylim(len(results.arms) - 0.5, -0.5)
    axes.set_yticks(range(len(results.arms)), [result.arm.name for result in results.arms])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlim(left=0)
    axes.set_title(task, loc="left")
    axes.set_xlabel("accuracy on test texts, %")
  for _, label, marker, colour, _ in lanes:
    panels[0].plot([], [], marker, color=colour, ms=6, label=label)
  for _, label, colour, line in marks:
    panels[0].plot([], [], color=colour, lw=1.6, ls=line, label=label)
  figure.legend(loc="outside upper left", ncols=4, frameon=False, handletextpad=0.4, columnspacing=1.4)
  return figure


# ---- shared by all figures ----


@contextlib.contextmanager
def styled() -> Iterator[None]:
  """The look that all figures have."""
  import matplotlib

  settings: dict[Any, Any] = {
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "svg.fonttype": "none",  # text stays text: small, and it can be searched
    "axes.unicode_minus": True,
  }
  with matplotlib.rc_context(settings):
    yield


def new_figure(height: float) -> "Figure":
  """An empty one, without a window; height in inches."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(WIDTH, height), layout="constrained")
  FigureCanvasAgg(figure)
  return figure


def stacked(figure: "Figure", heights: list[float]) -> "list[Axes]":
  """Axes one above the other."""
  return list(figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])


def by_labels(axes: "Axes", task: str, labels: list[int], majority: float) -> None:
  """Axes of accuracies in percent by the number of labels, with a line at what the most frequent class reaches."""
  axes.axhline(majority, color=MUTED, lw=0.8, ls=(0, (1, 3)))
  axes.set_xscale("log", base=2)
  axes.set_xticks(labels, [str(count) for count in labels])
  axes.set_title(task, loc="left")
  axes.set_xlabel("labelled texts of each class (dotted line: the most frequent class)")
  axes.set_ylabel("right, %")
  axes.grid(axis="y")


def legend_above(figure: "Figure", axes: "Axes") -> None:
  """A legend in three columns, over all panels, of what one of them shows."""
  place: Any = {"loc": "outside upper left", "ncols": 3, "frameon": False}
  figure.legend(*axes.get_legend_handles_labels(), columnspacing=1.2, handlelength=1.8, **place)


def as_png(figure: "Figure") -> bytes:
  """The figure as a PNG file; what is drawn of it afterwards has the same places."""
  file = io.BytesIO()
  figure.savefig(file, format="png", dpi=200)
  figure.set_layout_engine("none")  # keeps the places that were found; finding them is most of the work
  return file.getvalue()


def as_svg(figure: "Figure", name: str) -> str:
  """The figure as an SVG file; equal figures give equal text."""
  import matplotlib

  file = io.StringIO()
  with matplotlib.rc_context({"svg.hashsalt": name}):
    figure.savefig(file, format="svg", metadata={"Date": None})
  return file.getvalue()


def _for_the_page(svg: str) -> str:
  """An SVG file as an <svg> element that can stand in a page beside others, in the page's colours."""
  text = svg[svg.index("<svg") :]
  text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
  text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
  text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
  for colour, variable in CSS_COLOURS.items():
    text = text.replace(colour, variable)
  # Names that nothing points to would stand several times in one page.
  used = set(re.findall(r"#([\w-]+)", text))
  return re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in used else "", text).strip()
