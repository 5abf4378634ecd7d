"""Asks the compiler whether a run fits, and reckons how long it takes and what it costs."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from bert_jax import settings
from bert_jax.config import MODEL_SETTINGS, Config, phases
from bert_jax.data import tokenizers
from bert_jax.planning import shapes
from bert_jax.planning.accelerators import Topology
from bert_jax.planning.estimate import Estimate, estimate
from bert_jax.training.layout import check_batch_size, mesh_sizes

_MOST_COMPILED = 4  # of the search for the largest batch, which as a rule needs two
_MOST_GROWTH = 64  # of a batch from one trial to the next: of a tiny network little can be told of a large one's memory


@dataclasses.dataclass(frozen=True)
class Fit:
  """What the compiler says.

  Attributes:
    fits: whether the run's own batch does.
    taken: bytes of a device that it takes; None where the compiler does not say.
    there: bytes of a device.
    parts: runtime.accumulation_steps with which the batch would fit, by these figures; None where none would.
    largest: the largest batch that was compiled and fits; 0 where none did.
    refused: the smallest batch that was compiled and does not fit; None where all did.
    reckoned: the largest batch by the figures of those that were compiled, where the search was not ended.
    seconds: that compiling took, now or when it was done.
  """

  fits: bool
  taken: float | None
  there: float
  parts: int | None
  largest: int
  refused: int | None
  reckoned: int | None
  seconds: float


@dataclasses.dataclass(frozen=True)
class Planned:
  """One phase of a run on some chips.

  Attributes:
    config: of a run with this phase alone.
    steps: of the phase.
    fit: None where no compiler was asked.
  """

  config: Config
  steps: int
  topology: Topology
  fit: Fit | None
  estimate: Estimate


Compile = Callable[[Config, Topology], dict[str, Any]]


class NotPlanned(ValueError):
  """There is no plan for these chips; others may do."""


class NotDivided(NotPlanned):
  """The mesh is not of these chips, or the rows of a batch cannot be dealt out to them."""


class CompilerCrashed(NotPlanned):
  """The compiler has a fault, and this step meets it."""


def plan(config: Config, topology: Topology, compile_step: Compile, minutes: float = 3.0) -> list[Planned]:
  """Each phase of a run.

  Args:
    compile_step: what `compiled.compile_step` says of a config on these chips.
    minutes: that compiling may take in all, once the run's own batches are compiled; see `_search`.

  Raises:
    NotDivided: its mesh or its batch does not go with the chips.
    CompilerCrashed: on its own batch.
    ValueError: the run takes up another network, its tokenizer cannot be read, or the compiler is not there.
  """
  for path in MODEL_SETTINGS[1:]:
    if any(leaf.path == path for leaf in settings.leaves(config)) and settings.lookup(config, path) is not None:
      raise ValueError(f"{path} takes up another network, which a plan does not know; plan the run without it")
  if config.model.vocab_size is None:
    wanted = config.data.tokenizer
    size = wanted.vocab_size if wanted.path is None else tokenizers.load(wanted.path, wanted).vocab_size
    config = settings.assign(config, {"model.vocab_size": size})
  parts = phases(config)
  alone = [shapes.of_phase(config, phase.max_seq_len, phase.batch_size) for phase in parts]
  ends = [*(phase.first_step for phase in parts[1:]), config.train.steps]
  unit = _check_division(alone, topology)
  fits = _search(alone, unit, topology, compile_step, 60 * minutes) if topology.chip.kind == "tpu" else {}
  return [
    Planned(own, end - phase.first_step, topology, fits.get(number), estimate(own, topology))
    for number, (own, phase, end) in enumerate(zip(alone, parts, ends, strict=True))
  ]


def _check_division(configs: list[Config], topology: Topology) -> int:
  """Rows of a batch that are one row of a microbatch on each device."""
  runtime = configs[0].runtime
  mesh = mesh_sizes(runtime.mesh, topology.devices)
  if (used := math.prod(mesh.values())) != topology.devices:
    raise NotDivided(
      f"runtime.mesh={runtime.mesh} is of {used} devices, and --topology={topology.name} has {topology.devices};"
      " leave one axis without a size, or take other chips"
    )
  for config in configs:
    try:
      check_batch_size("train.batch_size", config.train.batch_size, mesh, runtime.accumulation_steps)
    except ValueError as error:
      raise NotDivided(f"--topology={topology.name}: {error}") from None
  return mesh["data"] * mesh["fsdp"] * runtime.accumulation_steps


Answers = dict[int, dict[str, Any]]  # of the compiler, by rows of a microbatch on a device


def _search(
  configs: list[Config], unit: int, topology: Topology, compile_step: Compile, seconds: float
) -> dict[int, Fit]:
  """Compiles the batch of each phase, then what by these figures is the largest that fits, as long as there is time."""
  there = topology.chip.memory / topology.chip.devices
  known: list[Answers] = [{} for _ in configs]

  def ask(phase: int, rows: int) -> None:
    nonlocal there
    changed = settings.assign(configs[phase], {"train.batch_size": rows * unit})
    known[phase][rows] = compile_step(changed, topology)
    there = known[phase][rows]["limit"] or there

  for phase, config in enumerate(configs):
    ask(phase, config.train.batch_size // unit)
  for phase, answers in enumerate(known):
    while len(answers) < _MOST_COMPILED and (rows := _next(answers, there)) is not None:
      each = [answer["seconds"] for of_phase in known for answer in of_phase.values()]
      if sum(each) + 1.5 * max(each) > seconds:  # a larger batch takes longer
        break
      try:
        ask(phase, rows)
      except CompilerCrashed:  # which says nothing of the run's own batch
        break
  return {i: _found(known[i], config, unit, there) for i, config in enumerate(configs)}


def _found(answers: Answers, config: Config, unit: int, there: float) -> Fit:
  rows, steps = config.train.batch_size // unit, config.runtime.accumulation_steps
  own, rest = answers[rows], _next(answers, there)
  fitting = [rows for rows, answer in answers.items() if answer["fits"]]
  refused = [rows for rows, answer in answers.items() if not answer["fits"]]
  most = max(fitting, default=rest or 0)
  parts = (n for n in range(steps, rows * steps + 1) if rows * steps % n == 0 and rows * steps // n <= most)
  return Fit(
    own["fits"],
    own["bytes"],
    there,
    next(parts, None),
    max(fitting, default=0) * unit,
    min(refused) * unit if refused else None,
    None if rest is None else rest * unit,
    sum(answer["seconds"] for answer in answers.values()),
  )


def _next(answers: Answers, there: float) -> int | None:
  """Rows to try next, for a device's memory as a straight line of its rows; None where that would say little more."""
  low = max((n for n, answer in answers.items() if answer["fits"]), default=0)
  high = min((n for n, answer in answers.items() if not answer["fits"]), default=None)
  known = sorted((n, answer["bytes"]) for n, answer in answers.items() if answer["bytes"] is not None)
  if len(known) >= 2 and known[-1][1] > known[0][1]:
    slope = (known[-1][1] - known[0][1]) / (known[-1][0] - known[0][0])
    guess = int(known[0][0] + (there - known[0][1]) / slope)
  elif known and answers[known[0][0]]["held"] is not None:
    # One point alone. What is not held for the whole step grows with the rows, but for the gradient, which is as large
    # as the weights: a third of the state.
    (rows, taken), held = known[0], answers[known[0][0]]["held"] * 4 / 3
    guess = int(rows * (there - held) / max(taken - held, 0.05 * taken))
  else:
    guess = low * 2 if high is None else (low + high) // 2
  guess = min(guess, _MOST_GROWTH * max(low, min(answers)))
  step = 8 if guess >= 16 else 1  # a TPU works on rows in eights
  guess = guess // step * step
  if high is not None and guess >= high:
    guess = (low + high) // 2
  # One that is a sixteenth larger than what fits already is not worth a minute.
  return guess if guess > low * 17 / 16 and guess not in answers and guess > 0 else None
