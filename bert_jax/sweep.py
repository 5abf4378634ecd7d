"""Arms × seeds, each a run; a stopped sweep goes on where it was; a report after runs that take a while.

WORKDIR/data/                 the tokenized corpus, shared by all runs
WORKDIR/sweep.json            the question, the arms, the settings
WORKDIR/runs/ARM/seed-N/      one run: see `training/pretraining.py`; result.json when it is finished
WORKDIR/gates.json            what arms share, proved
WORKDIR/report.md, .html, results.csv, results.json, times.csv
"""

import contextlib
import dataclasses
import functools
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging
from etils import epath

from bert_jax import records, results, settings
from bert_jax.analysis.report import write_report
from bert_jax.config import Config
from bert_jax.data import sources
from bert_jax.data.corpus import Corpus
from bert_jax.data.tasks import check_whole, task_names
from bert_jax.experiment import Arm, Plan
from bert_jax.inference.model import Model
from bert_jax.interop import start
from bert_jax.interop.start import Start
from bert_jax.objectives import objective_of
from bert_jax.results import Gate, Gates, Pretrained, RunResult, Times
from bert_jax.training import loop, memory, platform, processes
from bert_jax.training.checkpoints import CheckpointError, Checkpoints
from bert_jax.training.layout import Layout, make_layout
from bert_jax.training.metrics import in_one_line, in_words
from bert_jax.training.pretraining import check_corpus, corpus_folder, prepare_corpus, pretrain, read_config, resolve
from bert_jax.transfer.finetuning import measure_transfer, transfer_settings
from bert_jax.workdir import (
  has_sweep,
  is_done,
  only_one,
  read_result,
  refuse_others,
  run_folder,
  tasks_to_do,
  write_sweep,
)

# A report is refreshed after a run that took at least so many times as long as a report takes: runs of seconds do not
# spend half of their time on plots.
REPORT_SHARE = 10


def run(plan: Plan) -> int:
  """Runs what is not finished yet, seed by seed, and keeps the report up to date; see `REPORT_SHARE`.

  Returns:
    The exit status: 0, or `loop.EXIT_PREEMPTED` after a signal.

  Raises:
    ValueError: of the user's settings, or of the machine: a full disk, a damaged checkpoint.
  """
  workdir = epath.Path(plan.workdir)
  plan = _without_labels_no_tasks(plan)
  try:
    with _stop_at_signals(), contextlib.ExitStack() as held:
      processes.initialize(*plan.processes)
      if processes.is_several():
        platform.select_platform(plan.platform)  # before they ask each other
        if not processes.is_first():
          logging.set_verbosity(logging.WARNING)  # the first one speaks for all
      # A folder that is not there yet is made when the plan is known to be good, so that a mistake leaves no trace.
      if workdir.exists() and processes.is_first():
        held.enter_context(only_one(workdir))
      work = _check(workdir, plan)
      if not workdir.exists() and processes.is_first():
        held.enter_context(only_one(workdir))
      if work.to_do:
        _run_all(workdir, plan, work)
      if not processes.is_first():
        return 0
      if not work.to_do and not has_sweep(workdir):
        write_sweep(workdir, plan, [device.device_kind for device in jax.devices()])
      report = _report(workdir, plan)
      print(f"The report is {report}" if work.to_do else _nothing_to_do(workdir, len(work.jobs), report))
      return 0
  except loop.Preempted as stopped:
    print(stopped, file=sys.stderr)
    return loop.EXIT_PREEMPTED


def _nothing_to_do(workdir: epath.Path, number: int, report: os.PathLike[str]) -> str:
  return f"Nothing to do: all {number} runs in {workdir} are finished. The report is {report}"


@dataclasses.dataclass(frozen=True)
class _Work:
  """All runs of a plan, and those that are not finished; the devices, where there are some."""

  jobs: list[tuple[Arm, int]]
  to_do: list[tuple[Arm, int]]
  layout: Layout | None


def _without_labels_no_tasks(plan: Plan) -> Plan:
  """The plan without transfer, and a line that says so, where the text has no labels."""
  if sources.labelled_tasks(plan.base.data) or not any(task_names(config.transfer) for config in plan.configs.values()):
    return plan
  logging.info("data.source=%s has no labels, so there is no fine-tuning after pretraining", plan.base.data.source)
  none = {"transfer.tasks": ""}
  configs = {name: settings.assign(config, none) for name, config in plan.configs.items()}
  return dataclasses.replace(plan, base=settings.assign(plan.base, none), configs=configs)


def _check(workdir: epath.Path, plan: Plan) -> _Work:
  """What there is to do, once the folder, the devices, the text and the tasks are known to be good; writes nothing.

  Raises:
    ValueError: one of them is not.
  """
  jobs = [(arm, seed) for seed in plan.seeds for arm in plan.arms]
  to_do = [
    (arm, seed) for arm, seed in jobs if not is_done(run_folder(workdir, arm.name, seed), plan.configs[arm.name])
  ]
  numbers = processes.of_first([jobs.index(job) for job in to_do])
  to_do = [jobs[number] for number in numbers]
  if to_do:
    platform.select_platform(plan.platform)
    platform.use_compilation_cache()
  refuse_others(workdir, plan)
  if not to_do:
    return _Work(jobs, to_do, None)
  layout = make_layout(plan.base.runtime.mesh)
  for config in plan.configs.values():  # all arms, before the first hour is spent
    layout.check_batch_size("train.batch_size", config.train.batch_size, config.runtime.accumulation_steps)
    layout.check_batch_size("evaluation.batch_size", config.evaluation.batch_size)
    memory.require_room(config, layout)
  texts = {corpus_folder(config, workdir): config for config in plan.configs.values()}
  for config in texts.values():
    check_corpus(config, workdir)
  asked = {(config.data.source, config.data.eval_fraction, config.transfer): config for config in plan.configs.values()}
  for config in asked.values():
    if task_names(config.transfer):
      layout.check_batch_size("transfer.batch_size", config.transfer.batch_size)
      check_whole(config.data, config.transfer)
  return _Work(jobs, to_do, layout)


def _run_all(workdir: epath.Path, plan: Plan, work: _Work) -> None:
  assert work.layout is not None
  corpora: dict[epath.Path, Corpus] = {}
  configs: dict[str, Config] = {}
  for name, config in plan.configs.items():
    if (folder := corpus_folder(config, workdir)) not in corpora:
      corpora[folder] = prepare_corpus(config, workdir)
    configs[name] = resolve(config, corpora[folder])
  if processes.is_first():
    write_sweep(workdir, plan, [device.device_kind for device in work.layout.mesh.devices.flat])
  reported, cost = time.monotonic(), 1.0  # seconds
  left = _TimeLeft([configs[arm.name] for arm, _ in work.to_do])
  for arm, seed in work.to_do:
    if processes.is_first() and time.monotonic() - reported > REPORT_SHARE * cost:
      began = time.monotonic()
      _report(workdir, plan)
      reported = time.monotonic()
      cost = reported - began
    label = f"[{work.jobs.index((arm, seed)) + 1}/{len(work.jobs)}] {arm.name}, seed {seed}"
    config = settings.assign(configs[arm.name], {"train.seed": seed})
    logging.info("%s", label)
    corpus = corpora[corpus_folder(config, workdir)]
    result = _run_one(workdir, config, corpus, arm, seed, work.layout, label, _start_of(config, corpus))
    logging.info("%s: %s%s", label, in_one_line(result), left.after_one())


def _start_of(config: Config, corpus: Corpus) -> Start | None:
  """What a run starts from, where that is not at random.

  Raises:
    ValueError: it reads other tokens than the corpus has.
  """
  path = config.train.start_from
  if path is None:
    return None
  begin = _loaded(path)
  tokenizer = begin.model.tokenizer
  if tokenizer is not None and tokenizer.hash != corpus.tokenizer.hash:
    raise ValueError(
      f"train.start_from={path} reads text by the tokenizer {tokenizer.hash}, and {corpus.folder} is tokenized by"
      f" {corpus.tokenizer.hash}; set data.tokenizer.path to the model's own tokenizer"
    )
  return begin


@functools.lru_cache(maxsize=1)
def _loaded(path: str) -> Start:
  return start.load(path)


class _TimeLeft:
  """How long the runs of a sweep will still take, going by those that this command has finished."""

  def __init__(self, configs: list[Config]):
    # Places to compute decide how long a run takes, where arms have one network and one machine.
    self._places = [c.train.steps * c.train.batch_size * c.data.max_seq_len for c in configs]
    self._done, self._began = 0, time.monotonic()

  def after_one(self) -> str:
    """In words, once another run is finished; nothing after the last."""
    self._done += 1
    rest = sum(self._places[self._done :])
    if not rest:
      return ""
    seconds = (time.monotonic() - self._began) / sum(self._places[: self._done]) * rest
    number = len(self._places) - self._done
    return f"; about {in_words(seconds)} left for {number} more run{'s' if number > 1 else ''}"


def _report(workdir: epath.Path, plan: Plan) -> os.PathLike[str]:
  """Writes the report; it says which gates hold, so it is there even where one does not.

  Raises:
    ValueError: two runs that ought to share something do not; a comparison of them would not be fair.
  """
  gates = _gates(workdir, plan)
  results.write(workdir / "gates.json", Gates(tuple(gates)))
  report = write_report(workdir)
  for gate in gates:
    if not gate.holds:
      raise ValueError(
        f"the arms {' and '.join(gate.arms)} should {_duty(gate.name)} at seed {gate.seed}, and do not:"
        f" {gate.detail}. Their comparison would not be fair; remove the folder of the run that was tampered with,"
        " and run the same command again"
      )
  return report


def _duty(gate: str) -> str:
  return "predict at their masking rates" if gate == "predictions" else f"share their {gate}"


def _run_one(
  workdir: epath.Path,
  config: Config,
  corpus: Corpus,
  arm: Arm,
  seed: int,
  layout: Layout,
  label: str,
  begin: Start | None,
) -> Pretrained:
  """Pretrains, then fine-tunes; result.json is written last, so that a run with one is finished."""
  folder = run_folder(workdir, arm.name, seed)
  before = processes.read_first(folder / "result.json", RunResult)
  pretrained = _pretrain(config, corpus, folder, layout, label, begin)
  same = before is not None and before.transfer_settings == transfer_settings(config)
  result = RunResult(arm.name, seed, pretrained, before.transfer if before and same else {}, transfer_settings(config))
  if to_do := tasks_to_do(result, config):
    logging.info("%s: fine-tuning on %s", label, ", ".join(to_do))
    began = time.monotonic()
    params = _final_params(config, corpus, folder, layout, label, begin)
    start = Model.of_run(config, params, corpus.tokenizer, config.train.steps)
    asked, cache = settings.assign(config, {"transfer.tasks": ",".join(to_do)}), workdir / "baselines.json"
    new = measure_transfer(start, asked, seed, layout, folder / "transfer", cache)
    result = dataclasses.replace(result, transfer=result.transfer | new)
    if processes.is_first():
      times = results.read(folder / "times.json", Times) or Times()
      results.write(folder / "times.json", dataclasses.replace(times, transfer_seconds=time.monotonic() - began))
  if processes.is_first():
    results.write(folder / "result.json", result)
    records.write_json(folder / "config.json", settings.to_dict(config))  # whose `transfer` may have changed
  processes.wait_for_all("result")
  return pretrained


def _pretrain(
  config: Config, corpus: Corpus, folder: epath.Path, layout: Layout, label: str, begin: Start | None
) -> Pretrained:
  if begin is None:
    return pretrain(config, corpus, folder, layout, label)
  objective = objective_of(config)
  return pretrain(config, corpus, folder, layout, label, lambda: objective.given(begin.model.params), begin.about)


def _final_params(
  config: Config, corpus: Corpus, folder: epath.Path, layout: Layout, label: str, begin: Start | None
) -> Any:
  """The parameters after the last step; the last steps are trained again if their checkpoint is gone or damaged."""
  try:
    with Checkpoints(folder / "checkpoints", config.runtime.keep_latest) as checkpoints:
      return checkpoints.restore(config.train.steps, layout).state.params
  except CheckpointError as error:
    logging.warning("%s; its last steps are trained again", error)
  if processes.is_first():
    (folder / "pretrained.json").unlink()
  _pretrain(config, corpus, folder, layout, label, begin)
  with Checkpoints(folder / "checkpoints", config.runtime.keep_latest) as checkpoints:
    return checkpoints.restore(config.train.steps, layout).state.params


@contextlib.contextmanager
def _stop_at_signals() -> Iterator[None]:
  """Turns SIGTERM and Ctrl-C into `loop.Preempted` wherever the training loop does not catch them itself."""

  def stop(number: int, _: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C stops at once
    raise loop.Preempted(f"{signal.Signals(number).name}: stopped; the same command goes on from there")

  before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


# ---- what arms have in common ----------------------------------------------------------------------------------------

# What each gate is about: the fingerprint of it is equal wherever no setting differs that decides it.
GATES = {"initialization": (), "data_order": ("store", "examples", "order"), "evaluation": ("evaluation",)}


def _decided(config: Config, gate: str) -> Any:
  """The settings that decide what a gate is about."""
  if gate == "initialization":
    return config.model, config.train.seed, config.train.start_from
  return settings.deciding(config, *GATES[gate])


def _gates(workdir: epath.Path, plan: Plan) -> list[Gate]:
  """For each arm and its parent: do they share initial weights, data order and evaluation where they can?"""
  gates: list[Gate] = []
  for arm in plan.arms:
    for seed in plan.seeds:
      pair = [a for a in plan.arms if a.name in (arm.name, arm.parent)]
      folders = [run_folder(workdir, a.name, seed) for a in pair]
      found = [result.pretrained for result in map(read_result, folders) if result is not None]
      configs = [config for config in map(read_config, folders) if config is not None]
      if min(len(found), len(configs)) < 2:
        continue
      parent, mine = configs
      theirs, ours = found
      proofs = {"predictions": _predictions(parent, mine, theirs, ours)}
      for name in GATES:
        if _decided(parent, name) == _decided(mine, name):
          proofs[name] = _compared(getattr(theirs.fingerprints, name), getattr(ours.fingerprints, name))
      names = tuple(a.name for a in pair)
      gates += [Gate(name, names, seed, *proof) for name, proof in proofs.items() if proof is not None]
  return gates


def _compared(theirs: Any, ours: Any) -> tuple[bool, str]:
  """Whether two fingerprints are equal, and what they are; of networks with other heads, those of the shared parts."""
  if isinstance(ours, dict):
    both = [name for name in ours if name in theirs]
    theirs, ours = (", ".join(f"{name} {of[name]}" for name in both) for of in (theirs, ours))
  detail = f"fingerprint {ours}" if theirs == ours else f"{theirs} against {ours}"
  return theirs == ours, detail


# Rounding to whole predictions, and at least one of a short example, move the share of tokens that is predicted.
PREDICTIONS_TOLERANCE = 0.1


def _predictions(parent: Config, mine: Config, theirs: Pretrained, ours: Pretrained) -> tuple[bool, str] | None:
  """Where two arms differ in their masking rate, and in nothing else of how they mask: do they really predict so?"""
  rates = [config.data.masking.rate for config in (parent, mine)]
  if rates[0] == rates[1]:
    return None
  shares = [(of.predicted_tokens or 0) / (of.tokens or 1) for of in (theirs, ours)]
  if not all(shares):
    return None
  holds = abs(shares[1] / shares[0] / (rates[1] / rates[0]) - 1) <= PREDICTIONS_TOLERANCE
  detail = f"{shares[1]:.1%} and {shares[0]:.1%} of the tokens predicted, at rates of {rates[1]:.0%} and {rates[0]:.0%}"
  return holds, detail
