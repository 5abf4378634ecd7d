"""Runs → what each arm reached, how it differs from the arm it builds on, and what it gains on the baselines."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from bert_jax.analysis import statistics
from bert_jax.analysis.runs import TRANSFER_PARTS, Run, Sweep
from bert_jax.analysis.statistics import BySeed, Error, Spread
from bert_jax.results import Answer, Draws, PlannedArm

# Nats that a run has to gain at [MASK] on the best predictor without context before it counts as having learned from
# context. On the plateau before that, runs of the demo's size stand 0.2 nats below it at most (docs/demo.md).
LEARNED_MARGIN = 0.5
# Differences that are as good as none, where an interval lies within them: 5 % of perplexity, and one text in fifty.
LOSS_MARGIN, SHARE_MARGIN = 0.05, 0.02

RANDOM, TFIDF, TFIDF_CUT = "random", "tfidf", "tfidf_cut"


@dataclasses.dataclass(frozen=True)
class Measure:
  """A number that arms are compared by; `key` is its name among a run's values."""

  key: str
  label: str
  is_share: bool  # a share of right answers, higher is better; otherwise a loss in nats, lower is better

  @property
  def margin(self) -> float:
    """The largest difference that is as good as none."""
    return SHARE_MARGIN if self.is_share else LOSS_MARGIN


LOSS = Measure("mask_loss", "loss at [MASK]", is_share=False)


def answer_measure(answer: Answer) -> Measure:
  """How often an arm is right about a question with two answers, both counted alike."""
  return Measure(f"{answer.name}_balanced_accuracy", f"{answer.label} balanced accuracy", is_share=True)


def task_measure(task: str, way: str = "pretrained") -> Measure:
  """Few-label accuracy of an arm on a transfer task, from frozen features or `finetuned`."""
  return Measure(f"{task}.{way}", f"{task} accuracy" + (", fine-tuned" if way == "finetuned" else ""), is_share=True)


@dataclasses.dataclass(frozen=True)
class Comparison:
  """An arm against another thing on one measure, paired by seed: `differences[i]` is of `seeds[i]`.

  Attributes:
    against: the parent arm; for a gain over a baseline its name, such as "random".
    mean: of the differences; None without pairs.
    errors: of the mean, by source; empty where there is no interval, as for one seed.
    p: of no difference, alone; `corrected_p` among all comparisons of its family (Holm).
    interval: at 95 %, alone; `corrected`: at the level that Holm's correction judges it by.
    verdict: better, worse, no difference, not shown, void, not measured or not run.
    agreement: agrees, disagrees, cannot say or no claim.
    plateau: which of the two arms have not learned from context.
  """

  arm: str
  against: str
  measure: Measure
  seeds: tuple[int, ...]
  differences: tuple[float, ...]
  mean: float | None
  errors: tuple[Error, ...]
  verdict: str
  direction: int
  agreement: str
  plateau: tuple[str, ...] = ()
  p: float | None = None
  interval: tuple[float, float] | None = None
  corrected_p: float | None = None
  corrected: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class ArmResult:
  """An arm over its finished runs. `void_seeds`: those that have not learned from context."""

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
    measure = task_measure(task, "finetuned" if against == "scratch" else "pretrained")
    wanted = (arm, measure, against)
    return next(gain for gain in self.gains if (gain.arm, gain.measure, gain.against) == wanted)

  def tuned_tasks(self) -> list[str]:
    """The tasks that some arm was fine-tuned on."""
    return [task for task in self.sweep.tasks() if any(f"{task}.finetuned" in arm.spreads for arm in self.arms)]


def learned_nothing(run: Run) -> bool:
  """Whether no evaluation of a run got LEARNED_MARGIN below what is reached at [MASK] without context."""
  line = run.values.get("context_free_mask_loss")
  losses = [evaluation.mask_loss for evaluation in run.evaluations]
  losses += [run.values["mask_loss"]] if "mask_loss" in run.values else []
  return line is not None and bool(losses) and min(losses) > line - LEARNED_MARGIN


def transition(run: Run) -> float | None:
  """Tokens after which a run was LEARNED_MARGIN below what is reached at [MASK] without context, for the first time.

  Between two evaluations the loss is taken to fall in a straight line; before the first, from the line itself.
  """
  line = run.values.get("context_free_mask_loss")
  if line is None:
    return None
  tokens, loss, wanted = 0.0, line, line - LEARNED_MARGIN
  for evaluation in run.evaluations:
    if evaluation.mask_loss <= wanted:
      return tokens + (evaluation.tokens - tokens) * (loss - wanted) / (loss - evaluation.mask_loss)
    tokens, loss = evaluation.tokens, evaluation.mask_loss
  return None


def compute(sweep: Sweep) -> Results:
  """Everything the report states, from what is there of a sweep."""
  arms = tuple(_arm_result(sweep, arm) for arm in sweep.arms)
  void = {result.arm.name for result in arms if result.is_void}
  rungs = [(arm, arm.parent) for arm in sweep.arms if arm.parent is not None]
  tasks = [task_measure(task) for task in sweep.tasks()]
  families = [[LOSS], *([answer_measure(answer)] for answer in sweep.answers), tasks]
  comparisons: list[Comparison] = []
  for family in families:
    rows = [_rung(sweep, arm, parent, measure, void) for measure in family for arm, parent in rungs]
    # An arm that is not asked a question has nothing to compare.
    comparisons += _judged([row for row in rows if row.seeds or family[0] == LOSS or family is tasks])
  gains: list[Comparison] = []
  for baselines in ((RANDOM,), (TFIDF, TFIDF_CUT)):
    rows = [_gain(sweep, arm, t, b, void) for t in sweep.tasks() for arm in sweep.arms for b in baselines]
    gains += _judged(rows)
  found = Results(sweep, arms, tuple(comparisons), ())
  gains += _judged([_gain(sweep, arm, t, "scratch", void) for t in found.tuned_tasks() for arm in sweep.arms])
  return dataclasses.replace(found, gains=tuple(gains))


def _arm_result(sweep: Sweep, arm: PlannedArm) -> ArmResult:
  finished = sweep.finished(arm.name)
  keys = [*sweep.measures(), *(f"{task}.{part}" for task in sweep.tasks() for part in TRANSFER_PARTS)]
  values = {key: [run.values[key] for run in finished if key in run.values] for key in keys}
  values["learned"] = [
    run.values["context_free_mask_loss"] - run.values["mask_loss"]
    for run in finished
    if {"context_free_mask_loss", "mask_loss"} <= set(run.values)
  ]
  # Over all seeds or not at all: those that left the plateau are the quick ones.
  transitions = [transition(run) for run in finished]
  values["transition"] = [tokens for tokens in transitions if tokens is not None and None not in transitions]
  spreads = {key: seen for key in values if (seen := statistics.spread(values[key])) is not None}
  void_seeds = tuple(run.seed for run in finished if learned_nothing(run))
  return ArmResult(arm, tuple(sweep.runs_of(arm.name)), spreads, void_seeds)


# ---- one comparison --------------------------------------------------------------------------------------------------


def _rung(sweep: Sweep, arm: PlannedArm, parent: str, measure: Measure, void: set[str]) -> Comparison:
  """An arm against the arm that it builds on, without a verdict yet."""
  ours, theirs = (_by_seed(sweep, name, measure.key) for name in (arm.name, parent))
  seeds = tuple(seed for seed in ours if seed in theirs)
  differences = tuple(ours[seed] - theirs[seed] for seed in seeds)
  # The papers' findings are of language modelling and of tasks: not of the answers themselves, which are only
  # described, and not of a loss that is at home with one arm of the pair.
  no_claim = measure.key.endswith("_balanced_accuracy") or (measure == LOSS and is_at_home_with_one(sweep, arm.name))
  row = _unjudged(arm.name, parent, measure, seeds, differences, 0 if no_claim else arm.direction, void)
  if measure == LOSS and (
    any(_is_unmeasured(sweep, name) for name in (arm.name, parent)) or has_one_generator(sweep, arm.name, parent)
  ):
    return dataclasses.replace(row, verdict="not measured", agreement="no claim")
  pool = _pool(sweep, measure.key, void - {arm.name, parent})
  if (task := measure.key.partition(".")[0]) in sweep.tasks() and (random := _random(sweep, task)):
    pool.append(random)
  error = statistics.seeds_error(differences, statistics.residual(pool), 2)
  if error is None:
    return row
  return dataclasses.replace(row, errors=(error, *_sampling_errors(sweep, row, measure.key.partition(".")[2])))


def is_of_generator(sweep: Sweep, arm: str) -> bool:
  """Whether an arm's loss at [MASK] is that of a network beside the one it is about: ELECTRA's generator."""
  values = [run.values for run in sweep.finished(arm)]
  return any("replaced_loss" in found or "tokens_loss" in found for found in values)


def has_one_generator(sweep: Sweep, arm: str, parent: str) -> bool:
  """Whether the loss at [MASK] is of other networks in the two arms."""
  return is_of_generator(sweep, arm) != is_of_generator(sweep, parent)


def is_at_home_with_one(sweep: Sweep, name: str) -> bool:
  """Whether an arm or its parent, one of them alone, trains on what the loss at [MASK] measures.

  That is: single tokens masked, in rows that nothing is known to stand before.
  """
  arms = {arm.name: arm for arm in sweep.arms}
  arm = arms[name]
  if "data.preceding_tokens" in arm.assignments or "data.masking.unit" in arm.assignments:
    return True
  # A student of a teacher predicts masked tokens too.
  kinds = [arms[one].assignments.get("objective.kind") for one in (name, arm.parent) if one in arms]
  return "objective.kind" in arm.assignments and "distillation" not in kinds


def _gain(sweep: Sweep, arm: PlannedArm, task: str, baseline: str, void: set[str]) -> Comparison:
  """An arm against a baseline of its own task, without a verdict yet."""
  way = "finetuned" if baseline == "scratch" else "pretrained"
  measure = task_measure(task, way)
  ours, theirs = (_by_seed(sweep, arm.name, f"{task}.{part}") for part in (way, baseline))
  seeds = tuple(seed for seed in ours if seed in theirs)
  differences = tuple(ours[seed] - theirs[seed] for seed in seeds)
  row = _unjudged(arm.name, baseline, measure, seeds, differences, 0, set())
  pool = _pool(sweep, measure.key, void - {arm.name})
  if baseline == RANDOM:
    pool.append(_random(sweep, task))
  of_pair = 1 if baseline in (TFIDF, TFIDF_CUT) else 2
  pooled = statistics.within(pool) if of_pair == 1 else statistics.residual(pool)
  error = statistics.seeds_error(differences, pooled, of_pair)
  if error is None:
    return row
  return dataclasses.replace(row, errors=(error, *_sampling_errors(sweep, row, way)))


def _unjudged(
  arm: str,
  against: str,
  measure: Measure,
  seeds: tuple[int, ...],
  differences: tuple[float, ...],
  direction: int,
  void: set[str],
) -> Comparison:
  mean = float(np.mean(differences)) if differences else None
  plateau = tuple(name for name in (arm, against) if name in void)
  verdict = "not run" if mean is None else "void" if len(plateau) == 2 else "not shown"
  return Comparison(
    arm,
    against,
    measure,
    seeds,
    differences,
    mean,
    (),
    verdict,
    direction,
    statistics.agreement(verdict, direction),
    plateau,
  )


def _judged(rows: Sequence[Comparison]) -> list[Comparison]:
  """A family of comparisons with intervals and verdicts, corrected for their number."""
  # Where no error was seen at all, of two runs that differ by chance alike, nothing is known of the error.
  rows = [row if any(e.standard_error for e in row.errors) else dataclasses.replace(row, errors=()) for row in rows]
  tested = [i for i, row in enumerate(rows) if row.errors and row.verdict == "not shown"]
  p_values = [statistics.p_value(rows[i].mean or 0.0, rows[i].errors) for i in tested]
  corrected = dict(zip(tested, zip(p_values, statistics.holm(p_values), strict=True), strict=True))
  found = []
  for i, row in enumerate(rows):
    if row.mean is not None and row.errors:
      alone = statistics.half_width(row.errors, 1 - statistics.CONFIDENCE)
      row = dataclasses.replace(row, interval=(row.mean - alone, row.mean + alone))
    if row.mean is not None and i in corrected:
      p, among = corrected[i]
      half = statistics.half_width(row.errors, among.level)
      low, high = row.mean - half, row.mean + half
      verdict = statistics.verdict(low, high, row.measure.is_share, row.measure.margin)
      agreement = statistics.agreement(verdict, row.direction)
      row = dataclasses.replace(
        row, p=p, corrected_p=among.p, corrected=(low, high), verdict=verdict, agreement=agreement
      )
    found.append(row)
  return found


# ---- what it is computed from ----------------------------------------------------------------------------------------


def _is_unmeasured(sweep: Sweep, arm: str) -> bool:
  """Whether an arm has runs that finished, and none was measured at [MASK]."""
  finished = sweep.finished(arm)
  return bool(finished) and not any(LOSS.key in run.values for run in finished)


def _by_seed(sweep: Sweep, arm: str, key: str) -> dict[int, float]:
  return {run.seed: run.values[key] for run in sweep.finished(arm) if key in run.values}


def _pool(sweep: Sweep, key: str, without: set[str]) -> list[BySeed]:
  """The arms that a variance is pooled over: those on the plateau have a spread of their own."""
  arms = [_by_seed(sweep, arm.name, key) for arm in sweep.arms if arm.name not in without]
  return [arm for arm in arms if arm]


def _random(sweep: Sweep, task: str) -> BySeed:
  """Accuracies of random weights by seed; arms of one network share them."""
  return {
    run.seed: run.values[f"{task}.random"]
    for run in sweep.runs
    if run.status == "finished" and f"{task}.random" in run.values
  }


def _sampling_errors(sweep: Sweep, row: Comparison, way: str) -> list[Error]:
  """From held-out documents, or from draws and test texts; none where runs were not measured on the same."""
  if row.measure == LOSS:
    return _from_documents(sweep, row)
  task = row.measure.key.partition(".")[0]
  runs = {(run.arm, run.seed): run for run in sweep.runs}
  if task not in sweep.tasks():  # an answer
    return [_from_shares(runs, row, row.measure.key, row.measure.key, "eval_examples")]
  is_arm = any(arm.name == row.against for arm in sweep.arms)
  other = way if is_arm else row.against
  by_draw, by_text = [], []
  for seed in row.seeds:
    ours = _draws(runs[row.arm, seed], task, way)
    theirs = _draws(runs[row.against if is_arm else row.arm, seed], task, other)
    if ours is None or theirs is None or _sizes(ours) != _sizes(theirs):
      return [_from_shares(runs, row, f"{task}.{way}", f"{task}.{other}", f"{task}.test_texts")]
    by_draw.append(np.subtract(ours.by_draw, theirs.by_draw))
    by_text.append(np.subtract(ours.by_text, theirs.by_text) / len(ours.by_draw))
  if len({len(texts) for texts in by_text}) > 1 or len({len(draws) for draws in by_draw}) > 1:
    return [_from_shares(runs, row, f"{task}.{way}", f"{task}.{other}", f"{task}.test_texts")]
  draws = statistics.draws_error(np.mean(by_draw, axis=0).tolist())
  texts = statistics.texts_error(np.mean(by_text, axis=0).tolist())
  return [texts] if draws is None else [draws, texts]


def _sizes(draws: Draws) -> tuple[int, int]:
  return len(draws.by_draw), len(draws.by_text)


def _draws(run: Run, task: str, way: str) -> Draws | None:
  return None if run.few_labels is None else run.few_labels.tasks.get(task, {}).get(way)


def _from_shares(runs: Mapping[tuple[str, int], Run], row: Comparison, mine: str, other: str, number: str) -> Error:
  """Of test texts, where it was not kept which of them were right; of the keys of two shares, and of their number."""
  ours = [runs[row.arm, seed].values for seed in row.seeds]
  theirs = [runs.get((row.against, seed), runs[row.arm, seed]).values for seed in row.seeds]
  shares = [float(np.mean([values[key] for values in of])) for of, key in ((ours, mine), (theirs, other))]
  return statistics.independent_texts_error(shares[0], shares[1], int(min(values[number] for values in ours)))


def _from_documents(sweep: Sweep, row: Comparison) -> list[Error]:
  """From the runs of the pairs, averaged over seeds; none where they were not evaluated on the same predictions."""
  runs = {(run.arm, run.seed): run.held_out for run in sweep.runs}
  pairs = [(runs[row.arm, seed], runs[row.against, seed]) for seed in row.seeds]
  found = [(ours, theirs) for ours, theirs in pairs if ours and theirs]
  if not found or len({(run.documents, run.count) for pair in found for run in pair}) > 1:
    return []
  differences = np.mean([np.subtract(ours.nats, theirs.nats) for ours, theirs in found], axis=0)
  error = statistics.documents_error(differences.tolist(), found[0][0].count)
  return [] if error is None else [error]
