"""Runs → what each arm reached, and how it differs from the arm it builds on."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from bert_jax.analysis import statistics
from bert_jax.analysis.runs import TRANSFER_PARTS, Run, Sweep
from bert_jax.analysis.statistics import Interval, Spread
from bert_jax.results import Answer, PlannedArm

# Nats that an arm has to gain on the best predictor without context before it counts as having learned any. The choice
# of held-out documents moves that gain by less than 0.005 at the demo's size.
LEARNED_MARGIN = 0.02


@dataclasses.dataclass(frozen=True)
class Measure:
  """A number that arms are compared by; `key` is its name among a run's values."""

  key: str
  label: str
  is_share: bool  # a share of right answers, higher is better; otherwise a loss in nats, lower is better


LOSS = Measure("mask_loss", "loss at [MASK]", is_share=False)


def answer_measure(answer: Answer) -> Measure:
  """How often an arm is right about a question with two answers, both counted alike."""
  return Measure(f"{answer.name}_balanced_accuracy", f"{answer.label} balanced accuracy", is_share=True)


def task_measure(task: str) -> Measure:
  """Accuracy of the fine-tuned arm on a transfer task."""
  return Measure(f"{task}.pretrained", f"{task} accuracy", is_share=True)


@dataclasses.dataclass(frozen=True)
class Comparison:
  """An arm against another thing on one measure, paired by seed: `differences[i]` is of `seeds[i]`."""

  arm: str
  against: str  # the parent arm; for a gain over a baseline: "scratch" or "tfidf"
  measure: Measure
  seeds: tuple[int, ...]
  differences: tuple[float, ...]
  interval: Interval | None
  verdict: str  # "better", "worse", "not shown", "void", "not measured" or "not run"
  direction: int
  agreement: str  # "agrees", "disagrees", "cannot say" or "no claim"
  sampling_error: float | None = None  # from the choice of held-out documents; of the loss at [MASK] only


@dataclasses.dataclass(frozen=True)
class ArmResult:
  """An arm over its finished runs. `void_seeds`: those that learned no context."""

  arm: PlannedArm
  runs: tuple[Run, ...]
  spreads: Mapping[str, Spread]
  void_seeds: tuple[int, ...]

  @property
  def is_void(self) -> bool:
    return bool(self.void_seeds)

  def seeds_with(self, status: str) -> list[int]:
    return [run.seed for run in self.runs if run.status == status]


@dataclasses.dataclass(frozen=True)
class Results:
  """All that is computed from a sweep."""

  sweep: Sweep
  arms: tuple[ArmResult, ...]
  comparisons: tuple[Comparison, ...]  # arm against parent, by measure and then in the order of the arms
  gains: tuple[Comparison, ...]  # arm against the baselines of its own transfer tasks

  def arm(self, name: str) -> ArmResult:
    return next(result for result in self.arms if result.arm.name == name)

  def on(self, measure: Measure) -> list[Comparison]:
    return [comparison for comparison in self.comparisons if comparison.measure == measure]

  def gain(self, arm: str, task: str, against: str) -> Comparison:
    wanted = (arm, task_measure(task), against)
    return next(gain for gain in self.gains if (gain.arm, gain.measure, gain.against) == wanted)


def learned_nothing(run: Run) -> bool:
  """Whether no evaluation of a run got LEARNED_MARGIN below what is reached at [MASK] without context."""
  line = run.values.get("context_free_mask_loss")
  losses = [evaluation.mask_loss for evaluation in run.evaluations]
  losses += [run.values["mask_loss"]] if "mask_loss" in run.values else []
  return line is not None and bool(losses) and min(losses) > line - LEARNED_MARGIN


def compute(sweep: Sweep) -> Results:
  """Everything the report states, from what is there of a sweep."""
  arms = tuple(_arm_result(sweep, arm) for arm in sweep.arms)
  void = {result.arm.name for result in arms if result.is_void}
  answered = [answer_measure(answer) for answer in sweep.answers]
  measures = [LOSS, *answered, *(task_measure(task) for task in sweep.tasks())]
  comparisons = []
  for measure in measures:
    for arm in sweep.arms:
      if arm.parent is None:
        continue
      ours, theirs = _by_seed(sweep, arm.name, measure.key), _by_seed(sweep, arm.parent, measure.key)
      if measure in answered and not (ours and theirs):
        continue  # an arm that is not asked has nothing to compare
      # The papers' findings are of language modelling and of tasks; the answers themselves are only described.
      direction = 0 if measure in answered else arm.direction
      is_void = bool(void & {arm.name, arm.parent})
      row = _compare(arm.name, arm.parent, measure, ours, theirs, is_void, direction)
      if measure == LOSS:
        row = dataclasses.replace(row, sampling_error=_sampling_error(sweep, row))
        if any(_is_unmeasured(sweep, name) for name in (arm.name, arm.parent)):
          row = dataclasses.replace(row, verdict="not measured")
      comparisons.append(row)
  gains = [
    _compare(
      arm.name,
      baseline,
      task_measure(task),
      _by_seed(sweep, arm.name, f"{task}.pretrained"),
      _by_seed(sweep, arm.name, f"{task}.{baseline}"),
      is_void=arm.name in void,
      direction=0,
    )
    for task in sweep.tasks()
    for arm in sweep.arms
    for baseline in ("scratch", "tfidf")
  ]
  return Results(sweep, arms, tuple(comparisons), tuple(gains))


def _arm_result(sweep: Sweep, arm: PlannedArm) -> ArmResult:
  finished = sweep.finished(arm.name)
  keys = [*sweep.measures(), *(f"{task}.{part}" for task in sweep.tasks() for part in TRANSFER_PARTS)]
  values = {key: [run.values[key] for run in finished if key in run.values] for key in keys}
  values["learned"] = [
    run.values["context_free_mask_loss"] - run.values["mask_loss"]
    for run in finished
    if {"context_free_mask_loss", "mask_loss"} <= set(run.values)
  ]
  spreads = {key: seen for key in values if (seen := statistics.spread(values[key])) is not None}
  void_seeds = tuple(run.seed for run in finished if learned_nothing(run))
  return ArmResult(arm, tuple(sweep.runs_of(arm.name)), spreads, void_seeds)


def _is_unmeasured(sweep: Sweep, arm: str) -> bool:
  """Whether an arm has runs that finished, and none was measured at [MASK]."""
  finished = sweep.finished(arm)
  return bool(finished) and not any(LOSS.key in run.values for run in finished)


def _sampling_error(sweep: Sweep, row: Comparison) -> float | None:
  """From the runs of the pairs, averaged over seeds; None where they were not evaluated on the same predictions."""
  runs = {(run.arm, run.seed): run.held_out for run in sweep.runs}
  pairs = [(runs[row.arm, seed], runs[row.against, seed]) for seed in row.seeds]
  found = [(ours, theirs) for ours, theirs in pairs if ours and theirs]
  if not found or len({(run.documents, run.count) for pair in found for run in pair}) > 1:
    return None
  differences = np.mean([np.subtract(ours.nats, theirs.nats) for ours, theirs in found], axis=0)
  return statistics.sampling_error(differences.tolist(), found[0][0].count)


def _by_seed(sweep: Sweep, arm: str, key: str) -> dict[int, float]:
  return {run.seed: run.values[key] for run in sweep.finished(arm) if key in run.values}


def _compare(
  arm: str,
  against: str,
  measure: Measure,
  ours: Mapping[int, float],
  theirs: Mapping[int, float],
  is_void: bool,
  direction: int,
) -> Comparison:
  seeds = tuple(seed for seed in ours if seed in theirs)
  differences = tuple(ours[seed] - theirs[seed] for seed in seeds)
  interval = statistics.paired_interval(differences, measure.is_share)
  verdict = statistics.verdict(interval, higher_is_better=measure.is_share)
  if is_void and interval is not None:
    verdict = "void"
  agreement = statistics.agreement(verdict, direction)
  return Comparison(arm, against, measure, seeds, differences, interval, verdict, direction, agreement)
