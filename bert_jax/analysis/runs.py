"""A sweep's folder, read: what was planned, and what is there of it. Anything but the plan may be missing."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from bert_jax import records

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
TRANSFER_PARTS = ("pretrained", "scratch", "tfidf", "majority", "test_texts", "labels_per_class")
COUNTS = frozenset(
  (
    *("steps", "tokens", "predicted_tokens", "parameters", "train_documents", "train_tokens", "held_out_documents"),
    *("held_out_tokens", "held_out_examples", "near_duplicates", "near_duplicates_moved"),
    *("eval_examples", "test_texts", "labels_per_class"),
  )
)
TIMES = ("train_seconds", "eval_seconds", "transfer_seconds", "compile_seconds", "tokens_per_second", "data_wait_share")


@dataclasses.dataclass(frozen=True)
class Arm:
  """One recipe of the sweep. `direction`: the paper says better (+1), worse (-1) or claims neither (0)."""

  name: str
  parent: str | None
  change: str
  expects: str
  direction: int
  assignments: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Answer:
  """A question with two answers that some arm is trained on, such as next sentence prediction."""

  name: str
  label: str
  title: str


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """One evaluation while a run trained: its loss at the places that show [MASK]."""

  step: int
  tokens: float
  mask_loss: float


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """The last evaluation by document: predictions counted, the loss that arms are compared by, and the trivial's."""

  documents: tuple[int, ...]
  count: tuple[float, ...]
  nats: tuple[float, ...]
  trivial_nats: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Run:
  """One arm with one seed. `values` and `times` hold finite numbers only, and are empty until the run has ended."""

  arm: str
  seed: int
  status: str  # "not run", "unfinished", "diverged" or "finished"
  values: Mapping[str, float]
  times: Mapping[str, float]
  evaluations: tuple[Evaluation, ...]
  held_out: HeldOut | None = None


@dataclasses.dataclass(frozen=True)
class Gate:
  """One proof that arms share what they should share."""

  name: str
  arms: tuple[str, ...]
  seed: int | None
  holds: bool
  detail: str


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A sweep as planned, and its runs: one for every arm and seed, arms as declared and then seeds."""

  experiment: str
  question: str
  scale: str
  scale_note: str
  seeds: tuple[int, ...]
  answers: tuple[Answer, ...]
  arms: tuple[Arm, ...]
  hardware: str
  versions: Mapping[str, str]
  config: Mapping[str, Any]
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
  plan = records.read_json(folder / "sweep.json", "remove it and run the experiment again, which writes it again")
  if plan is None:
    raise ValueError(f"{folder} has no sweep.json; give the --workdir of an experiment that was started")
  try:
    arms = tuple(
      Arm(
        name=arm["name"],
        parent=arm["parent"],
        change=arm["change"],
        expects=arm["expects"],
        direction=arm["direction"],
        assignments=arm["assignments"],
      )
      for arm in plan["arms"]
    )
    _check_arms(arms, folder / "sweep.json")
    seeds = tuple(plan["seeds"])
    answers = tuple(Answer(**answer) for answer in plan["answers"])
    return Sweep(
      experiment=plan["experiment"],
      question=plan["question"],
      scale=plan["scale"],
      scale_note=plan["scale_note"],
      seeds=seeds,
      answers=answers,
      arms=arms,
      hardware=plan["hardware"],
      versions=plan["versions"],
      config=plan["config"],
      runs=tuple(_read_run(folder, arm.name, seed, answers) for arm in arms for seed in seeds),
      gates=_read_gates(folder / "gates.json"),
    )
  except KeyError as error:
    raise ValueError(
      f"{folder / 'sweep.json'} has no {error}; it was not written by this version of bert_jax"
    ) from error


def _check_arms(arms: tuple[Arm, ...], path: epath.Path) -> None:
  names = [arm.name for arm in arms]
  if len(set(names)) != len(names):
    raise ValueError(f"{path}: an arm's name must stand once, and the arms are {', '.join(names)}")
  for arm in arms:
    if arm.parent is not None and (arm.parent not in names or arm.parent == arm.name):
      raise ValueError(f"{path}: arm {arm.name} is compared with {arm.parent}, which must be another arm of the sweep")
    if arm.direction not in (-1, 0, 1):
      raise ValueError(f"{path}: direction={arm.direction} of arm {arm.name} must be -1, 0 or 1")


def _read_run(folder: epath.Path, arm: str, seed: int, answers: Sequence[Answer]) -> Run:
  folder = folder / "runs" / arm / f"seed-{seed}"
  evaluations = _read_evaluations(folder / "metrics.jsonl")
  result = records.read_json(folder / "result.json", "remove it and run the experiment again, which measures it again")
  if result is None:
    status = "unfinished" if (folder / "metrics.jsonl").exists() else "not run"
    return Run(arm, seed, status, {}, {}, evaluations)
  status = result["status"]
  if status not in ("finished", "diverged"):
    raise ValueError(
      f"{folder / 'result.json'}: status={status!r} must be finished or diverged; delete it to run again"
    )
  values = {name: result.get(name) for name in MEASURES}
  values |= {
    f"{answer.name}_{part}": result.get(f"{answer.name}_{part}") for answer in answers for part in ANSWER_PARTS
  }
  for task, parts in (result.get("transfer") or {}).items():
    values |= {f"{task}.{part}": parts.get(part) for part in TRANSFER_PARTS}
  values = _finite(values)
  if status == "finished" and "mlm_loss" not in values:
    status = "diverged"
  times = _finite(records.read_json(folder / "times.json", "remove it") or {})
  times = {name: times[name] for name in TIMES if name in times}
  return Run(arm, seed, status, values, times, evaluations, _read_held_out(folder / "heldout.json"))


def _read_held_out(path: epath.Path) -> HeldOut | None:
  way_out = "remove it, pretrained.json and result.json, and run the experiment again, which measures it again"
  content = records.read_json(path, way_out)
  if content is None:
    return None
  return HeldOut(**{field.name: tuple(content[field.name]) for field in dataclasses.fields(HeldOut)})


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
  """The numbers among `values`; null, NaN and infinities are left out."""
  return {name: value for name, value in values.items() if isinstance(value, int | float) and math.isfinite(value)}


def _read_evaluations(path: epath.Path) -> tuple[Evaluation, ...]:
  """The evaluations of a run by step. A step that was run twice, after a resume, counts as it was run last."""
  by_step: dict[int, Evaluation] = {}
  for entry in records.read_lines(path):
    if entry["kind"] == "eval" and _finite({"loss": entry["mask_loss"]}):
      by_step[entry["step"]] = Evaluation(entry["step"], entry["tokens"], entry["mask_loss"])
  return tuple(by_step[step] for step in sorted(by_step))


def _read_gates(path: epath.Path) -> tuple[Gate, ...] | None:
  gates = _read_json(path)
  if gates is None:
    return None
  return tuple(
    Gate(
      name=gate["gate"],
      arms=tuple(gate["arms"]),
      seed=gate["seed"],
      holds=gate["holds"],
      detail=gate["detail"],
    )
    for gate in gates
  )


def _read_json(path: epath.Path) -> Any:
  """The content of a JSON file; None where there is no such file."""
  if not path.exists():
    return None
  try:
    return json.loads(path.read_text())
  except json.JSONDecodeError as error:
    raise ValueError(f"{path} is not valid JSON ({error}); delete it and run the experiment again") from error
