"""Asks the compiler whether a run fits, and reckons how long it takes and what it costs."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import bert_jax
from bert_jax import records, settings
from bert_jax.config import MODEL_SETTINGS, Config, phases
from bert_jax.planning import compiled, shapes
from bert_jax.planning.accelerators import SLICES, Topology
from bert_jax.planning.estimate import USUAL_SHARE, Estimate, estimate
from bert_jax.planning.prices import Price
from bert_jax.training.layout import mesh_sizes

_MOST_COMPILED = 4  # of the search for the largest batch, which as a rule needs two
_MOST_GROWTH = 64  # of a batch from one trial to the next: of a tiny network little can be told of a large one's memory
_TIMEOUT = 1200.0  # seconds of one compilation
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Fit:
  """What the compiler says.

  Attributes:
    fits: whether the run's own batch does.
    taken: bytes of a device that it takes; None where the compiler does not say.
    there: bytes of a device.
    largest: the largest batch that was compiled and fits; 0 where none did.
    refused: the smallest batch that was compiled and does not fit; None where all did.
    reckoned: the largest batch by the figures of those that were compiled, where the search was not ended.
    seconds: that compiling took, now or when it was done.
  """

  fits: bool
  taken: float | None
  there: float
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


def plan(config: Config, topology: Topology, compile_step: Compile, minutes: float = 3.0) -> list[Planned]:
  """Each phase of a run.

  Args:
    compile_step: what `compiled.compile_step` says of a config on these chips.
    minutes: that compiling may take in all, once the run's own batches are compiled; see `_search`.

  Raises:
    ValueError: the run takes up another network, its batch cannot be split so, or the compiler is not there.
  """
  for path in MODEL_SETTINGS[1:]:
    if any(leaf.path == path for leaf in settings.leaves(config)) and settings.lookup(config, path) is not None:
      raise ValueError(f"{path} takes up another network, which a plan does not know; plan the run without it")
  if config.model.vocab_size is None:
    config = settings.assign(config, {"model.vocab_size": config.data.tokenizer.vocab_size})
  parts = phases(config)
  alone = [shapes.of_phase(config, phase.max_seq_len, phase.batch_size) for phase in parts]
  ends = [*(phase.first_step for phase in parts[1:]), config.train.steps]
  fits = _search(alone, topology, compile_step, 60 * minutes) if topology.chip.kind == "tpu" else {}
  return [
    Planned(own, end - phase.first_step, topology, fits.get(number), estimate(own, topology))
    for number, (own, phase, end) in enumerate(zip(alone, parts, ends, strict=True))
  ]


Answers = dict[int, dict[str, Any]]  # of the compiler, by rows of a microbatch on a device


def _search(configs: list[Config], topology: Topology, compile_step: Compile, seconds: float) -> dict[int, Fit]:
  """Compiles the batch of each phase, then what by these figures is the largest that fits, as long as there is time."""
  mesh = mesh_sizes(configs[0].runtime.mesh, topology.devices)
  unit = mesh["data"] * mesh["fsdp"] * configs[0].runtime.accumulation_steps  # one row of a microbatch on each device
  for config in configs:
    if config.train.batch_size % unit:
      raise ValueError(
        f"train.batch_size={config.train.batch_size} must be divisible by the {unit} of --topology={topology.name},"
        " runtime.mesh and runtime.accumulation_steps together"
      )
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
      ask(phase, rows)
  return {i: _found(known[i], config, unit, there) for i, config in enumerate(configs)}


def _found(answers: Answers, config: Config, unit: int, there: float) -> Fit:
  own, rest = answers[config.train.batch_size // unit], _next(answers, there)
  fitting = [rows for rows, answer in answers.items() if answer["fits"]]
  refused = [rows for rows, answer in answers.items() if not answer["fits"]]
  return Fit(
    own["fits"],
    own["bytes"],
    there,
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


# ---- in words ----


def in_words(planned: Planned, prices: dict[str, Price]) -> list[tuple[str, str]]:
  """(what, how much) of a phase, for a table."""
  config, found, topology = planned.config, planned.estimate, planned.topology
  lines = [("run", _run(planned))]
  if planned.fit is not None:
    lines += _fit_in_words(planned.fit, config)
  if config.runtime.compute_dtype == "float32":
    lines.append(("in float32", "chips are slower than reckoned here; --runtime.compute_dtype=bfloat16"))
  lines.append(("parameters", f"{found.parameters / 1e6:,.1f} million"))
  if found.operations is not None and found.products is not None:
    peak = topology.chip.peak / 1e12
    lines.append(
      (
        "products",
        f"{found.operations / 1e12:,.2f} TFLOP a step: {_ms(found.products)} at a chip's {peak:g} TFLOP/s",
      )
    )
  else:
    lines.append(("products", f"not counted for {config.objective.kind} with {config.model.kind}"))
  lines.append(("memory", f"{_ms(found.memory)} a step, at the {topology.chip.bandwidth / 1e9:,.0f} GB/s of a chip"))
  lines.append(("links", f"{_ms(found.links)} a step, at the {topology.chip.links / 2e9:,.0f} GB/s that a chip sends"))
  share = "" if found.products is None else f"; at most {found.products / found.seconds:.0%} of the peak (MFU)"
  lines.append(("at best", f"{_ms(found.seconds)} a step, bound by {found.bound_by}{share}"))
  hours = planned.steps * found.seconds / 3600
  usual = None if found.usual_seconds is None else planned.steps * found.usual_seconds / 3600
  at_usual = "" if usual is None else f"; {_hours(usual)} at {USUAL_SHARE:.0%} of the peak, as good runs have it"
  lines.append(("to the end", f"{_hours(hours)} at best{at_usual}"))
  price = prices.get(topology.chip.name)
  if price is None:
    lines.append(("price", f"no price of a {topology.chip.name} is known; --prices=FILE gives one"))
  else:
    at_best = _dollars(hours * topology.chips, price)
    at_usual = "" if usual is None else f"; {_dollars(usual * topology.chips, price)} at {USUAL_SHARE:.0%}"
    lines.append(("price", f"{at_best} at best{at_usual} (${price.low:g}{_to(price)} {price.what}; {price.as_of})"))
  return lines


COLUMNS = (
  *("arm", "topology", "chips", "batch × tokens", "GiB a device", "largest batch", "best step", "bound by"),
  *(f"hours at {USUAL_SHARE:.0%}", f"$ at {USUAL_SHARE:.0%}"),
)


def row(arm: str, planned: Planned, prices: dict[str, Price]) -> list[str]:
  """A phase as a line of a table with `COLUMNS`."""
  fit, found, chips, train = planned.fit, planned.estimate, planned.topology.chips, planned.config.train
  taken, largest = "not asked", "not asked"
  if fit is not None:
    taken = f"{'?' if fit.taken is None else f'{fit.taken / _GIB:.1f}'} of {fit.there / _GIB:.1f}"
    taken += "" if fit.fits else ": does not fit"
    largest = f"about {fit.reckoned:,}" if fit.reckoned else f"{fit.largest:,}" if fit.largest else "none"
  usual, price = found.usual_seconds, prices.get(planned.topology.chip.name)
  hours = None if usual is None else planned.steps * usual / 3600
  return [
    *(arm, planned.topology.name, f"{chips}", f"{train.batch_size:,} × {planned.config.data.max_seq_len}"),
    *(taken, largest, _ms(found.seconds), found.bound_by),
    "–" if hours is None else f"{hours:,.1f}",
    "–" if hours is None or price is None else _dollars(hours * chips, price).removeprefix("$"),
  ]


def _run(planned: Planned) -> str:
  config, topology = planned.config, planned.topology
  return (
    f"{planned.steps:,} steps of {config.train.batch_size:,} × {config.data.max_seq_len} tokens, on {topology.chips}"
    f" chip{'s' if topology.chips > 1 else ''} ({topology.name}), runtime.mesh={config.runtime.mesh},"
    f" {config.runtime.compute_dtype}"
  )


def _fit_in_words(fit: Fit, config: Config) -> list[tuple[str, str]]:
  taken = "more than" if fit.taken is None else f"{fit.taken / _GIB:.2f} of"
  said = f"{taken} {fit.there / _GIB:.2f} GiB a device"
  largest = fit.largest or fit.reckoned
  if not fit.fits:
    steps = config.runtime.accumulation_steps
    said += (
      f"; runtime.accumulation_steps={-(-config.train.batch_size // largest) * steps}, or a larger slice"
      if largest
      else "; a larger slice, runtime.mesh with fsdp, or runtime.remat=full"
    )
  tried = f"{fit.largest:,} sequences fit" if fit.largest else "none that was compiled fits"
  tried += f"; {fit.refused:,} do not" if fit.refused else ""
  tried += f"; by these figures about {fit.reckoned:,} would, which --minutes=10 may compile" if fit.reckoned else ""
  return [
    ("fits" if fit.fits else "does not fit", f"{said} (compiled: {fit.seconds:.0f} s)"),
    ("largest batch", tried),
  ]


def _ms(seconds: float) -> str:
  return f"{1000 * seconds:,.0f} ms" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms"


def _hours(hours: float) -> str:
  return f"{hours:,.1f} h" if hours >= 0.1 else f"{60 * hours:.1f} min"


def _to(price: Price) -> str:
  return "" if price.low == price.high else f" to {price.high:g}"


def _dollars(chip_hours: float, price: Price) -> str:
  low, high = chip_hours * price.low, chip_hours * price.high
  return f"${low:,.2f}" if low == high else f"${low:,.2f} to {high:,.2f}"


# ---- the compiler, in a process of its own ----


def compile_elsewhere(config: Config, topology: Topology) -> dict[str, Any]:
  """What `compiled.compile_step` says, from the cache where it was asked before; a line of progress on stderr.

  Raises:
    ValueError: the compiler of TPUs is not installed, does not know the slice, or fails.
  """
  asked = {"config": settings.to_dict(config), "topology": topology.name}
  file = _cache() / f"{settings.fingerprint({**asked, 'by': _versions()})}.json"
  if (known := records.read_json(file, "remove it")) is not None:
    return known
  what = f"compiling for {topology.name}, {config.train.batch_size:,} × {config.data.max_seq_len} tokens"
  done = _run_program(json.dumps(asked), what)
  if done.returncode:
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    raise ValueError(
      f"the compiler could not be asked about --topology={topology.name}: {last[:300]}; the slices that were tried are"
      f" {', '.join(f'{topology.chip.name}:{size}' for size in SLICES[topology.chip.name])}"
    )
  answer = json.loads(done.stdout.splitlines()[-1])
  file.parent.mkdir(parents=True, exist_ok=True)
  records.write_json(file, answer)
  return answer


def _versions() -> dict[str, str]:
  """Of all that decides what comes out: the libraries, and our own code."""
  try:
    known = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")}
  except importlib.metadata.PackageNotFoundError as error:
    raise ValueError('the compiler of TPUs is not installed: pip install "bert_jax[plan]"') from error
  hasher = hashlib.sha256()
  for folder, _, names in sorted(os.walk(pathlib.Path(bert_jax.__file__).parent)):
    for name in sorted(names):
      if name.endswith(".py"):
        hasher.update(pathlib.Path(folder, name).read_bytes())
  return {**known, "code": hasher.hexdigest()}


def _cache() -> Any:
  from etils import epath

  return epath.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "bert_jax" / "plans"


def _run_program(asked: str, what: str) -> subprocess.CompletedProcess[str]:
  command = [sys.executable, "-m", "bert_jax.planning.compiled"]
  began, shown = time.monotonic(), 0.0
  with subprocess.Popen(
    command,
    env={**os.environ, **compiled.ENVIRONMENT},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    sent: str | None = asked
    try:
      while True:
        try:
          out, errors = process.communicate(sent, timeout=1.0)
          break
        except subprocess.TimeoutExpired:
          sent, passed = None, time.monotonic() - began
          if passed > _TIMEOUT:
            raise ValueError(f"{what} took more than {_TIMEOUT:.0f} s") from None
          if sys.stderr.isatty():
            print(f"\r{what}: {passed:.0f} s", end="", file=sys.stderr, flush=True)
          elif passed - shown >= 15:
            shown = passed
            print(f"{what}: {passed:.0f} s", file=sys.stderr)
    finally:
      process.kill()
      if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
  return subprocess.CompletedProcess(command, process.returncode, out, errors)
