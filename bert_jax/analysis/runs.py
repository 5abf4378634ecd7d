"""A sweep's folder, read: what was planned, and what is there of it. Anything but the plan may be missing."""

import dataclasses
import math
from collections.abc import Mapping

from etils import epath

from bert_jax import records, results
from bert_jax.results import ByDocument, Failed, FewLabels, Gate, Gates, Measures, PlannedSweep, RunResult, Times

# What a finished run may report, in the order of the tables. Losses in nats, shares between 0 and 1. `mask_…` is at the
# predicted places that show [MASK], `mlm_…` at all of them; `context_free_…` is what the best predictor without context
# reaches on the same places; `own_…` is on examples cut as the arm trains on them.
MEASURES = (
  "steps",
  "tokens",
  "predicted_tokens",
  "epochs",
  "parameters",
  "train_documents",
  "train_tokens",
  "held_out_documents",
  "held_out_tokens",
  "held_out_examples",
  "near_duplicates",
  "near_duplicates_moved",
  "eval_examples",
  "mask_loss",
  "context_free_mask_loss",
  "best_loss",
  "mask_accuracy",
  "context_free_mask_accuracy",
  "mlm_loss",
  "context_free_mlm_loss",
  "mlm_perplexity",
  "mlm_accuracy",
  "context_free_mlm_accuracy",
  "own_mask_loss",
  "context_free_own_mask_loss",
)
# Of a question with two answers; a measure is named ANSWER_PART.
ANSWER_PARTS = ("accuracy", "majority", "balanced_accuracy")
# What one transfer task reports; a value is named TASK.PART.
TRANSFER_PARTS = (
  *("pretrained", "random", "tfidf", "tfidf_cut", "majority", "finetuned", "scratch"),
  *("draws", "finetuned_draws", "test_texts", "labels_per_class"),
)
COUNTS = frozenset(
  (
    *("steps", "tokens", "predicted_tokens", "parameters", "train_documents", "train_tokens", "held_out_documents"),
    *("held_out_tokens", "held_out_examples", "near_duplicates", "near_duplicates_moved"),
    *("eval_examples", "test_texts", "labels_per_class", "draws", "finetuned_draws"),
  )
)
TIMES = tuple(field.name for field in dataclasses.fields(Times))


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """One evaluation while a run trained: its loss at the places that show [MASK]."""

  step: int
  tokens: float
  mask_loss: float


@dataclasses.dataclass(frozen=True)
class Run:
  """One arm with one seed.

  Attributes:
    status: not run, unfinished, diverged, failed or finished.
    values, times: finite numbers only; empty until the run has ended.
    evaluations: while it trained.
    held_out: its last evaluation by document.
    few_labels: its accuracies by draw and by text.
    reason: why it failed.
  """

  arm: str
  seed: int
  status: str
  values: Mapping[str, float]
  times: Mapping[str, float]
  evaluations: tuple[Evaluation, ...]
  held_out: ByDocument | None = None
  few_labels: FewLabels | None = None
  reason: str = ""


@dataclasses.dataclass(frozen=True)
class Sweep(PlannedSweep):
  """A sweep as planned, and its runs: one for every arm and seed, arms as declared and then seeds."""

  runs: tuple[Run, ...]
  gates: tuple[Gate, ...] | None  # None: not run

  def runs_of(self, arm: str) -> list[Run]:
    """All runs of an arm, by seed."""
    return [run for run in self.runs if run.arm == arm]

  def finished(self, arm: str) -> list[Run]:
    """The runs of an arm that came to their end with finite losses."""
    return [run for run in self.runs_of(arm) if run.status == "finished"]

  def measures(self) -> list[str]:
    """All that a run may report beside its tasks, in the order of the tables."""
    return [*MEASURES, *(f"{answer.name}_{part}" for answer in self.answers for part in ANSWER_PARTS)]

  def tasks(self) -> list[str]:
    """The transfer tasks that some run reports, by name."""
    return sorted({name.rpartition(".")[0] for run in self.runs for name in run.values if "." in name})


def read_sweep(folder: epath.PathLike) -> Sweep:
  """The sweep in `folder`.

  Raises:
    ValueError: there is no sweep.json, or a file holds what it must not.
  """
  folder = epath.Path(folder)
  plan = results.read(folder / "sweep.json", PlannedSweep)
  if plan is None:
    raise ValueError(f"{folder} has no sweep.json; give the --workdir of an experiment that was started")
  _check_arms(plan, folder / "sweep.json")
  runs = tuple(_read_run(folder, arm.name, seed) for arm in plan.arms for seed in plan.seeds)
  found = results.read(folder / "gates.json", Gates)
  return Sweep(**vars(plan), runs=runs, gates=None if found is None else found.gates)


def _check_arms(plan: PlannedSweep, path: epath.Path) -> None:
  names = [arm.name for arm in plan.arms]
  if len(set(names)) != len(names):
    raise ValueError(f"{path}: an arm's name must stand once, and the arms are {', '.join(names)}")
  for arm in plan.arms:
    if arm.parent is not None and (arm.parent not in names or arm.parent == arm.name):
      raise ValueError(f"{path}: arm {arm.name} is compared with {arm.parent}, which must be another arm of the sweep")
    if arm.direction not in (-1, 0, 1):
      raise ValueError(f"{path}: direction={arm.direction} of arm {arm.name} must be -1, 0 or 1")


def _read_run(folder: epath.Path, arm: str, seed: int) -> Run:
  folder = folder / "runs" / arm / f"seed-{seed}"
  evaluations = _read_evaluations(folder / "metrics.jsonl")
  result = results.read(folder / "result.json", RunResult)
  if result is None:
    if failed := results.read(folder / "failed.json", Failed):
      return Run(arm, seed, "failed", {}, {}, evaluations, reason=failed.reason)
    status = "unfinished" if (folder / "metrics.jsonl").exists() else "not run"
    return Run(arm, seed, status, {}, {}, evaluations)
  values, status = values_of(result), result.pretrained.status
  if status == "finished" and "mlm_loss" not in values:
    status = "diverged"
  times = _finite(dataclasses.asdict(results.read(folder / "times.json", Times) or Times()))
  held_out = results.read(folder / "heldout.json", ByDocument)
  few_labels = results.read(folder / "fewlabels.json", FewLabels)
  return Run(arm, seed, status, values, times, evaluations, held_out, few_labels)


def values_of(result: RunResult) -> dict[str, float]:
  """The numbers of a result by the names of the tables; a task's are TASK.PART. What is not finite is left out."""
  done = result.pretrained
  values: Measures = {name: getattr(done, name) for name in ("steps", "tokens", "predicted_tokens", "best_loss")}
  values |= dataclasses.asdict(done.facts) | done.trivial | done.measures
  for task, found in result.transfer.items():
    parts = dataclasses.asdict(found)
    parts |= parts.pop("baselines")
    values |= {f"{task}.{part}": value for part, value in parts.items()}
  return _finite(values)


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
  """The numbers among `values`; None, NaN and infinities are left out."""
  return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def _read_evaluations(path: epath.Path) -> tuple[Evaluation, ...]:
  """The evaluations of a run by step. A step that was run twice, after a resume, counts as it was run last."""
  by_step: dict[int, Evaluation] = {}
  for entry in records.read_lines(path):
    if entry["kind"] == "eval" and _finite({"loss": entry["mask_loss"]}):
      by_step[entry["step"]] = Evaluation(entry["step"], entry["tokens"], entry["mask_loss"])
  return tuple(by_step[step] for step in sorted(by_step))
