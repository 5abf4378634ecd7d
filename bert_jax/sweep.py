"""Arms × seeds, each a run; a stopped sweep goes on where it was; a report after runs that take a while.

WORKDIR/data/                 the tokenized corpus, shared by all runs
WORKDIR/sweep.json            the question, the arms, the settings
WORKDIR/runs/ARM/seed-N/      one run: see `training/pretraining.py`; result.json when it is finished
WORKDIR/gates.json            what arms share, proved
WORKDIR/report.md, .html, results.csv, results.json, times.csv
"""

import contextlib
import dataclasses
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import logging
from etils import epath

import bert_jax
from bert_jax import claims, console, gates, one_run, parallel, preemption, results, settings
from bert_jax.analysis.report import write_report
from bert_jax.config import Config
from bert_jax.data import sources
from bert_jax.data.corpus import Corpus
from bert_jax.data.tasks import check_whole, task_names
from bert_jax.experiment import Arm, Plan, needs
from bert_jax.results import Failed, Gates
from bert_jax.training import platform, processes
from bert_jax.training.layout import Layout, make_layout
from bert_jax.training.metrics import in_one_line, in_words
from bert_jax.training.pretraining import check_corpus, check_devices, corpus_folder, prepare_corpus, resolve
from bert_jax.workdir import (
  alone,
  failed_under,
  has_sweep,
  is_done,
  refuse_others,
  run_folder,
  write_sweep,
)

# A report is refreshed after a run that took at least so many times as long as a report takes: runs of seconds do not
# spend half of their time on plots.
REPORT_SHARE = 10
# Settings that processes which train as one may have each of their own.
_OF_A_MACHINE = ("data.store", "runtime.num_workers", "runtime.store_cache", "runtime.store_cache_gib")
WAIT_SECONDS = 2.0  # between two looks at runs that other processes do


def run(plan: Plan) -> int:
  """Runs what is not finished yet, seed by seed, and keeps the report up to date; see `REPORT_SHARE`.

  Returns:
    The exit status: 0, or `preemption.EXIT_PREEMPTED` after a signal.

  Raises:
    ValueError: of the user's settings, or of the machine: a full disk, a damaged checkpoint.
  """
  workdir = epath.Path(plan.workdir)
  plan = _without_labels_no_tasks(plan)
  try:
    with _stop_at_signals():
      to_do = _not_finished(workdir, plan)
      split = parallel.shares(plan, to_do)
      if len(split) > 1:
        return _watch(workdir, plan, to_do, split)
      parallel.take_cores(split[0].cores)
      with _joined(plan):
        return _do(workdir, plan)
  except preemption.Preempted as stopped:
    print(stopped, file=sys.stderr)
    return preemption.EXIT_PREEMPTED


def _do(workdir: epath.Path, plan: Plan) -> int:
  """What is left to do, in this process. Returns and raises as `run` does."""
  work = _check(workdir, plan)
  failed = _run_all(workdir, plan, work) if work.to_do else {}
  if not processes.is_first() or plan.is_worker:
    return 0
  if failed:
    _report_in_spite_of(workdir, plan)
    raise _in_one(failed, len(work.jobs))
  if not work.to_do and not has_sweep(workdir):
    write_sweep(workdir, plan, [device.device_kind for device in jax.devices()])
  report = _report(workdir, plan)
  print(f"The report is {report}" if work.to_do else _nothing_to_do(workdir, len(work.jobs), report))
  return 0


@contextlib.contextmanager
def _joined(plan: Plan) -> Iterator[None]:
  """With the processes that train as one with this, if there are some; they learn how this one ends."""
  about: dict[str, Any] = {"bert_jax": bert_jax.__version__, "--seeds": list(plan.seeds)}
  for name, config in plan.configs.items():
    for leaf in settings.leaves(config):
      if leaf.path not in _OF_A_MACHINE:
        about[f"{name}: {leaf.path}"] = settings.lookup(config, leaf.path)
  others = processes.initialize(plan.processes, about)
  how, reason = "failed", ""
  try:
    if processes.is_several():
      platform.select_platform(plan.platform)  # before they ask each other
      if not processes.is_first():
        logging.set_verbosity(logging.WARNING)  # the first one speaks for all
    yield
    how = "done"
  except preemption.Preempted:
    how = "stopped"
    raise
  except Exception as error:
    reason = f"{error}"
    raise
  finally:
    if others is not None:
      others.leave(how, reason)


def work() -> None:
  """What a worker of `parallel.py` does, as a program."""
  logging.use_absl_handler()  # as absl's app.run does
  console.log_own_lines_only()
  plan, share = parallel.receive()
  parallel.take_cores(share.cores)
  try:
    status = run(plan)
  except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    status = 1
  sys.exit(status)


def _watch(workdir: epath.Path, plan: Plan, to_do: list[parallel.Job], split: Sequence[parallel.Share]) -> int:
  """Has workers do the runs, and writes the report. Raises as `run` does."""
  reported = _Reported(workdir, plan)
  if status := parallel.run(plan, to_do, split, reported.refresh):
    return status
  folders = {f"{arm.name}, seed {seed}": run_folder(workdir, arm.name, seed) for arm, seed in to_do}
  failed = {name: found for name, folder in folders.items() if (found := failed_under(folder, plan.command))}
  if failed:
    _report_in_spite_of(workdir, plan)
    raise _in_one({name: ValueError(found.reason) for name, found in failed.items()}, len(plan.arms) * len(plan.seeds))
  print(f"The report is {_report(workdir, plan)}")
  return 0


def _report_in_spite_of(workdir: epath.Path, plan: Plan) -> None:
  """The report, after runs have failed, whose errors say more than one of the report does."""
  with contextlib.suppress(ValueError):
    _report(workdir, plan)


def _in_one(failed: Mapping[str, Exception], runs: int) -> Exception:
  """One error for all runs that failed; a single one's stays as it is."""
  if len(failed) == 1:
    return next(iter(failed.values()))
  listed = "; ".join(f"{name}: {error}" for name, error in failed.items())
  return ValueError(f"{len(failed)} of {runs} runs failed, which the same command tries again: {listed}")


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
  logging.info("data.source=%s has no labels, so few-label accuracy is not measured", plan.base.data.source)
  none = {"transfer.tasks": ""}
  configs = {name: settings.assign(config, none) for name, config in plan.configs.items()}
  return dataclasses.replace(plan, base=settings.assign(plan.base, none), configs=configs)


def _not_finished(workdir: epath.Path, plan: Plan) -> list[parallel.Job]:
  """The runs that are left, seed by seed."""
  jobs = [(arm, seed) for seed in plan.seeds for arm in plan.arms]
  return [(arm, seed) for arm, seed in jobs if not is_done(run_folder(workdir, arm.name, seed), plan.configs[arm.name])]


def _is_finished(workdir: epath.Path, plan: Plan, name: str, seed: int) -> bool:
  """Whether the run of another arm is there whole; of an arm that this plan leaves out, with whatever settings."""
  folder = run_folder(workdir, name, seed)
  planned = any(arm.name == name for arm in plan.arms)
  return is_done(folder, plan.configs[name]) if planned else (folder / "result.json").exists()


def _require_needed(workdir: epath.Path, plan: Plan, jobs: Sequence[parallel.Job]) -> None:
  """Raises ValueError where a run needs one of an arm that this plan leaves out, and that is not there."""
  planned = [arm.name for arm in plan.arms]
  for arm, seed in jobs:
    for name in needs(plan.configs[arm.name]):
      if name not in planned and not _is_finished(workdir, plan, name, seed):
        raise ValueError(
          f"the arm {arm.name} takes up the model of {name}, and --workdir={workdir} has no finished run of that with"
          f" seed {seed}; add it: --arms={name},{arm.name}"
        )


def _check(workdir: epath.Path, plan: Plan) -> _Work:
  """What there is to do, once the folder, the devices, the text and the tasks are known to be good; writes nothing.

  Raises:
    ValueError: one of them is not.
  """
  jobs = [(arm, seed) for seed in plan.seeds for arm in plan.arms]
  to_do = _not_finished(workdir, plan)
  numbers = processes.of_first([jobs.index(job) for job in to_do])
  to_do = [jobs[number] for number in numbers]
  if to_do:
    platform.select_platform(plan.platform)
    platform.use_compilation_cache()
  refuse_others(workdir, plan)
  _require_needed(workdir, plan, to_do)
  if not to_do:
    return _Work(jobs, to_do, None)
  layout = make_layout(plan.base.runtime.mesh)
  for config in plan.configs.values():  # all arms, before the first hour is spent
    check_devices(config, layout)
  texts = {corpus_folder(config, workdir): config for config in plan.configs.values()}
  for config in texts.values():
    check_corpus(config, workdir)
  asked = {(config.data.source, config.data.eval_fraction, config.transfer): config for config in plan.configs.values()}
  for config in asked.values():
    if task_names(config.transfer):
      layout.check_batch_size("transfer.batch_size", config.transfer.batch_size)
      check_whole(config.data, config.transfer)
  return _Work(jobs, to_do, layout)


def _run_all(workdir: epath.Path, plan: Plan, work: _Work) -> dict[str, Exception]:
  """Does what no other process does, until all is done; what failed, by the name of the run."""
  assert work.layout is not None
  # A folder that is not there yet is made now, where the plan is known to be good: a mistake leaves no trace.
  if processes.is_first():
    with alone(workdir):
      refuse_others(workdir, plan)
  corpora: dict[epath.Path, Corpus] = {}
  configs: dict[str, Config] = {}
  for name, config in plan.configs.items():
    if (folder := corpus_folder(config, workdir)) not in corpora:
      corpora[folder] = prepare_corpus(config, workdir)
    configs[name] = resolve(config, corpora[folder])
  if processes.is_first():
    with alone(workdir):
      write_sweep(workdir, plan, [device.device_kind for device in work.layout.mesh.devices.flat])
  reported, failed = _Reported(workdir, plan), {}
  left = _TimeLeft([configs[arm.name] for arm, _ in work.to_do])
  for arm, seed in _taken(workdir, plan, work):
    if processes.is_first() and not plan.is_worker:
      reported.refresh()
    label = f"[{work.jobs.index((arm, seed)) + 1}/{len(work.jobs)}] {arm.name}, seed {seed}"
    config = settings.assign(configs[arm.name], {"train.seed": seed})
    logging.info("%s", label)
    corpus = corpora[corpus_folder(config, workdir)]
    try:
      result = one_run.do(workdir, config, corpus, arm, seed, work.layout, label)
    except Exception as error:  # whatever it is, it is of this run, and the others go on
      if processes.is_several():
        raise  # the others of this run wait for this process, and end with it
      failed[f"{arm.name}, seed {seed}"] = error
      if len(work.jobs) > 1:
        logging.warning("%s failed: %s; the other runs go on", label, error)
      _leave_failed(run_folder(workdir, arm.name, seed), error, plan)
      continue
    after = "" if plan.is_worker else left.after_one()
    logging.info("%s: %s%s", label, in_one_line(result), after)
  return failed


def _leave_failed(folder: epath.Path, error: Exception, plan: Plan) -> None:
  if not isinstance(error, ValueError | OSError):  # ours, or a library's: whoever mends it needs the place
    logging.error("%s", "".join(traceback.format_exception(error)))
  with contextlib.suppress(ValueError):  # the disk may be full, which the error says
    results.write(folder / "failed.json", Failed(f"{error}", plan.command))


def _taken(workdir: epath.Path, plan: Plan, work: _Work) -> Iterator[parallel.Job]:
  """The runs that are left, each when this process has taken it; waits for those that others do, lest they die."""
  mine, waits = claims.Claims(), False
  left = list(work.to_do)
  while True:
    claim, chosen, busy = None, None, {}
    for job in list(left) if processes.is_first() else ():
      folder = run_folder(workdir, job[0].name, job[1])
      lacks = [name for name in needs(plan.configs[job[0].name]) if not _is_finished(workdir, plan, name, job[1])]
      if is_done(folder, plan.configs[job[0].name]) or failed_under(folder, plan.command):
        left.remove(job)
      elif failed := [name for name in lacks if failed_under(run_folder(workdir, name, job[1]), plan.command)]:
        results.write(folder / "failed.json", Failed(f"{failed[0]}, which it needs, has failed", plan.command))
        left.remove(job)
      elif lacks:
        busy[f"{job[0].name}, seed {job[1]}"] = f"after {lacks[0]}"
      elif (claim := mine.take(folder)) is None:
        busy[f"{job[0].name}, seed {job[1]}"] = claims.in_words(mine.holder(folder) or {})
      elif is_done(folder, plan.configs[job[0].name]):  # by whoever had it a moment ago
        claim.let_go()
        left.remove(job)
      else:
        chosen = work.jobs.index(job)
        break
    chosen = processes.of_first(chosen)
    if chosen is not None:
      job = work.jobs[chosen]
      try:
        if processes.is_first():
          (run_folder(workdir, job[0].name, job[1]) / "failed.json").unlink(missing_ok=True)
        yield job
      finally:
        if claim is not None:
          claim.let_go()
      if job in left:
        left.remove(job)
      continue
    if not processes.of_first(bool(busy)):
      return
    if not waits and not plan.is_worker:
      waits = True
      others = "; ".join(f"{name}: {words}" for name, words in busy.items())
      logging.info("waiting for runs of other processes, to go on with them if these should die (%s)", others)
    time.sleep(WAIT_SECONDS)


class _Reported:
  """Keeps the report up to date, at a small share of the time."""

  def __init__(self, workdir: epath.Path, plan: Plan):
    self._workdir, self._plan = workdir, plan
    self._last, self._cost = time.monotonic(), 1.0  # seconds

  def refresh(self) -> None:
    """Writes the report where the last one is old enough; see `REPORT_SHARE`."""
    began = time.monotonic()
    if began - self._last > REPORT_SHARE * self._cost:
      _report(self._workdir, self._plan)
      self._last = time.monotonic()
      self._cost = self._last - began


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
  found = gates.check(workdir, plan)
  results.write(workdir / "gates.json", Gates(tuple(found)))
  report = write_report(workdir)
  for gate in found:
    if not gate.holds:
      raise ValueError(
        f"the arms {' and '.join(gate.arms)} should {_duty(gate.name)} at seed {gate.seed}, and do not:"
        f" {gate.detail}. Their comparison would not be fair; remove the folder of the run that was tampered with,"
        " and run the same command again"
      )
  return report


def _duty(gate: str) -> str:
  return "predict at their masking rates" if gate == "predictions" else f"share their {gate}"


@contextlib.contextmanager
def _stop_at_signals() -> Iterator[None]:
  """Turns SIGTERM and Ctrl-C into `preemption.Preempted` wherever the training loop does not catch them itself."""

  def stop(number: int, _: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C stops at once
    raise preemption.Preempted(f"{signal.Signals(number).name}: stopped; the same command goes on from there")

  before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
