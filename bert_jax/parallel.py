"""Runs side by side: the processes that share a sweep's runs on one machine, and the one that starts and watches them.

Each worker does what the command would do alone: it takes a run that nobody does (`claims.py`), finishes it, and takes
the next. It has cores or accelerators of its own. What its user sees comes from the watcher: the workers' lines, one
progress display, which is read from the runs' folders, and one report.
"""

import contextlib
import dataclasses
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

from absl import logging
from etils import epath
from tqdm import tqdm

from bert_jax import claims, results, settings
from bert_jax.config import Config
from bert_jax.experiment import Arm, Experiment, Plan, Scale, Size
from bert_jax.preemption import EXIT_PREEMPTED
from bert_jax.results import Failed
from bert_jax.training import memory
from bert_jax.training.metrics import in_words
from bert_jax.workdir import last_step, run_folder

Job = tuple[Arm, int]
LOOK_SECONDS = 2.0  # between two looks at the runs' folders
MOST_DEATHS = 2  # of processes over one run, before it is left alone
_MEMORY_SHARE = 0.8  # of the machine's, for all workers
_WORKER = "import sys; sys.path[:] = sys.argv[1:]; from bert_jax import sweep; sweep.work()"
_DEVICES = (
  "import sys; sys.path[:] = sys.argv[2:]; import jax; sys.argv[1] and jax.config.update('jax_platforms', sys.argv[1]);"
  " print(jax.default_backend(), len({str(getattr(d, 'coords', d.id)) for d in jax.local_devices()}))"
)


@dataclasses.dataclass(frozen=True)
class Share:
  """What one worker computes on.

  Attributes:
    cores: numbers of the CPU cores; empty for all of them.
    accelerators: how many; 0 on CPUs.
    environment: variables that show it these only.
  """

  cores: tuple[int, ...] = ()
  accelerators: int = 0
  environment: dict[str, str] = dataclasses.field(default_factory=dict)


# ---- how many, and on what -------------------------------------------------------------------------------------------


def shares(plan: Plan, jobs: Sequence[Job]) -> list[Share]:
  """One for each worker; a single one where the command does its runs itself.

  Raises:
    ValueError: more runs at a time than accelerators, or cores that cannot be set.
  """
  asked, cores = plan.parallel_runs, _cores()
  of_run = plan.cores_per_run
  if of_run is not None and not (cores and of_run <= len(cores)):
    there = f"this process may use {len(cores)}" if cores else "cores cannot be chosen on this system"
    raise ValueError(f"--cores_per_run={of_run}: {there}; leave it out, or give fewer")
  alone = [Share(cores[:of_run] if of_run else ())]
  if asked == 1 or len(jobs) < 2 or (asked == "auto" and plan.scale == "smoke"):
    return alone  # runs of seconds are done before a second process has started
  if plan.processes.coordinator is not None:
    if asked == "auto":
      return alone
    raise ValueError("--parallel_runs is for runs of one process each; leave it or --coordinator out")
  kind, devices = _accelerators(plan.platform)
  if kind == "cpu":
    most = max(1, len(cores or range(os.cpu_count() or 1)) // (of_run or 1))
    number = min(len(jobs), min(most, _that_fit(plan)) if asked == "auto" else int(asked))
    return _of_cores(number, cores, of_run) if number > 1 else alone
  if asked != "auto" and int(asked) > devices:
    raise ValueError(f"--parallel_runs={asked}: there are {devices} accelerators, and each run needs one of its own")
  number = min(len(jobs), devices if asked == "auto" else int(asked))
  split = _of_cores(number, cores, of_run)
  each = 1 if kind == "tpu" else devices // number  # several chips of a TPU would need a topology of their own
  if idle := devices - number * each:
    logging.info("%d accelerators are left idle; --parallel_runs=1 gives every run all of them", idle)
  return [
    dataclasses.replace(split[i], accelerators=each, environment=_visible(kind, range(i * each, (i + 1) * each)))
    for i in range(number)
  ]


def _cores() -> tuple[int, ...]:
  """Numbers of the cores that this process may use; none where the system does not tell."""
  return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def _of_cores(number: int, cores: tuple[int, ...], of_run: int | None) -> list[Share]:
  if not cores:
    return [Share()] * number
  each = of_run or max(1, len(cores) // number)
  return [Share(tuple(cores[(i * each + j) % len(cores)] for j in range(each))) for i in range(number)]


def _that_fit(plan: Plan) -> int:
  """How many runs the machine's memory holds at a time, by the arithmetic of `training/memory.py`."""
  needed = max(memory.state_bytes(config) + memory.batch_bytes(config, 1) for config in plan.configs.values())
  there = memory.of_machine()
  return 1 << 30 if there is None else max(1, int(_MEMORY_SHARE * there / (needed + memory.OF_A_PROCESS)))


def _accelerators(platform: str | None) -> tuple[str, int]:
  """(what JAX computes on, how many chips), asked in a process of its own: whoever asks takes the devices' memory.

  A chip of some TPUs is two devices, with the same coordinates.
  """
  if platform == "cpu" or os.environ.get("JAX_PLATFORMS") == "cpu":
    return "cpu", 1
  asked = {"gpu": "cuda,rocm"}.get(platform or "", platform or "")
  done = subprocess.run([sys.executable, "-c", _DEVICES, asked, *sys.path], capture_output=True, text=True)
  kind, _, number = done.stdout.strip().rpartition(" ")
  return (kind, int(number)) if done.returncode == 0 and number.isdigit() else ("cpu", 1)


def _visible(kind: str, which: range) -> dict[str, str]:
  """Variables that show a process some of the accelerators, of a TPU one."""
  if kind == "tpu":
    one = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
    return one | {"TPU_VISIBLE_CHIPS": str(which[0])}
  name = "CUDA_VISIBLE_DEVICES" if kind in ("cuda", "gpu") else "HIP_VISIBLE_DEVICES"
  given = os.environ.get(name)
  names = given.split(",") if given else [str(i) for i in range(which.stop)]
  return {name: ",".join(names[i] for i in which)}


def take_cores(cores: tuple[int, ...]) -> None:
  """Has this process, and its threads that are still to come, compute on some cores only."""
  if cores:
    os.sched_setaffinity(0, cores)


# ---- a worker --------------------------------------------------------------------------------------------------------


def receive() -> tuple[Plan, Share]:
  """What a worker is to do, from its standard input. When that closes, the watcher has ended, and the worker stops."""
  plan, share = pickle.load(sys.stdin.buffer)  # our own words, from the process that started this one

  def stop_with_the_watcher() -> None:
    while os.read(sys.stdin.fileno(), 1):  # of no buffer, which this thread would hold when the worker ends
      pass
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=stop_with_the_watcher, daemon=True).start()
  return plan, share


def _for_workers(plan: Plan) -> Plan:
  """The plan without functions, which cannot be sent: what they gave stands in the arms' configs."""

  def values(arm: Arm) -> dict[str, Any]:
    config = plan.configs.get(arm.name)
    return {path: settings.lookup(config, path) if config else None for path in arm.assignments}

  arms = {arm.name: dataclasses.replace(arm, assignments=values(arm)) for arm in plan.experiment.arms}
  sizes: dict[Scale, Size] = {
    scale: Size({}, size.seeds, size.note, runs=size.runs) for scale, size in plan.experiment.sizes.items()
  }
  old = plan.experiment
  experiment = Experiment(old.name, old.question, tuple(arms.values()), sizes, old.recipe)
  own = tuple(arms[arm.name] for arm in plan.arms)
  return dataclasses.replace(plan, experiment=experiment, arms=own, parallel_runs=1, cores_per_run=None, is_worker=True)


class _Worker:
  """A process, and what it prints."""

  def __init__(self, plan: Plan, share: Share, say: Callable[[str], None]):
    self.share = share
    self.process = subprocess.Popen(
      [sys.executable, "-c", _WORKER, *sys.path],
      stdin=subprocess.PIPE,
      stderr=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      env=os.environ | share.environment,
      start_new_session=True,  # a Ctrl-C of the terminal reaches the watcher alone, which passes it on
    )
    assert self.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
      self.process.stdin.write(pickle.dumps((plan, share)))
      self.process.stdin.flush()
    self._reader = threading.Thread(target=self._read, args=(self.process.stderr, say), daemon=True)
    self._reader.start()

  def _read(self, stream: IO[bytes], say: Callable[[str], None]) -> None:
    for line in stream:
      say(line.decode(errors="replace").rstrip("\n"))

  def ended(self) -> int | None:
    """Its exit status, once it has one and all that it printed was read."""
    status = self.process.poll()
    if status is not None:
      self._reader.join(timeout=10)
    return status


# ---- the watcher -----------------------------------------------------------------------------------------------------


def run(plan: Plan, jobs: Sequence[Job], split: Sequence[Share], refresh: Callable[[], None]) -> int:
  """Has as many workers as `split` has shares do the runs, until they are done.

  Args:
    jobs: the runs that were not finished when this command began.
    refresh: writes the report; called now and then, when a run was finished.

  Returns:
    The exit status: 0 where the runs are done or have failed, 1 where a worker could not begin, 75 where somebody else
    told one to stop.

  Raises:
    Preempted: a signal came, and the workers have saved.
  """
  lines: queue.SimpleQueue[str] = queue.SimpleQueue()
  sent = _for_workers(plan)
  on, each = ("accelerator", split[0].accelerators) if split[0].accelerators else ("core", max(1, len(split[0].cores)))
  logging.info("%d runs at a time, each on %d %s%s", len(split), each, on, "s" if each > 1 else "")
  workers = [_Worker(sent, share, lines.put) for share in split]
  shown, deaths, codes = _Shown(plan, jobs), {}, set()
  try:
    while workers:
      with contextlib.suppress(queue.Empty):
        shown.line(lines.get(timeout=LOOK_SECONDS))
        while True:
          shown.line(lines.get_nowait())
      for worker in [worker for worker in workers if worker.ended() is not None]:
        workers.remove(worker)
        code = worker.process.returncode
        if code in (0, 1, EXIT_PREEMPTED):
          codes.add(code)
        elif _may_go_on(plan, jobs, worker, code, deaths):
          workers.append(_Worker(sent, worker.share, lines.put))
      if shown.look():
        refresh()
  except BaseException:
    _stop(workers, lines, shown)
    raise
  finally:
    shown.close()
  while not lines.empty():
    shown.line(lines.get())
  return max(codes, default=1)


def _stop(workers: Sequence[_Worker], lines: "queue.SimpleQueue[str]", shown: "_Shown") -> None:
  """Has them save and end, and shows what they say."""
  for worker in workers:
    with contextlib.suppress(ProcessLookupError):
      worker.process.terminate()
  while any(worker.ended() is None for worker in workers):
    with contextlib.suppress(queue.Empty):
      shown.line(lines.get(timeout=0.1))
  while not lines.empty():
    shown.line(lines.get())


def _may_go_on(plan: Plan, jobs: Sequence[Job], worker: _Worker, code: int, deaths: dict[str, int]) -> bool:
  """What to do about a worker that was killed or crashed: another one goes on, but not for ever with one run."""
  how = f"signal {-code}" if code < 0 else f"status {code}"
  for arm, seed in jobs:
    folder = run_folder(epath.Path(plan.workdir), arm.name, seed)
    if not claims.held_by(folder, worker.process.pid):
      continue
    name = f"{arm.name}, seed {seed}"
    deaths[name] = deaths.get(name, 0) + 1
    if deaths[name] >= MOST_DEATHS:
      reason = f"its process ended {MOST_DEATHS} times ({how}), perhaps for want of memory; try --parallel_runs=1"
      logging.error("%s: %s", name, reason)
      results.write(folder / "failed.json", Failed(reason, plan.command))
    else:
      logging.warning("%s: its process ended (%s); another one goes on with it", name, how)
    return True
  deaths[""] = deaths.get("", 0) + 1
  logging.warning("a process ended (%s)", how)
  return deaths[""] < MOST_DEATHS


class _Shown:
  """What a person sees of all workers: a bar on a terminal, else a line a minute."""

  def __init__(self, plan: Plan, jobs: Sequence[Job]):
    self._workdir, self._jobs = epath.Path(plan.workdir), jobs
    self._configs: dict[str, Config] = {arm.name: plan.configs[arm.name] for arm, _ in jobs}
    self._said: dict[str, int] = {}
    self._terminal = sys.stderr.isatty()
    self._looked, self._told, self._began = 0.0, time.monotonic(), time.monotonic()
    self._finished = self._count()
    steps = self._steps()
    self._first = self._places(steps)
    total = sum(self._size(arm) * self._configs[arm.name].train.steps for arm, _ in jobs)
    self._total = total
    self._bar = tqdm(
      total=100, desc="all runs", disable=not self._terminal, bar_format="{desc} {percentage:3.0f} %|{bar}| {postfix}"
    )

  def line(self, text: str) -> None:
    """Shows a worker's line, and one that every worker says once."""
    seen = self._said.get(text, 0)
    self._said[text] = seen + 1
    if not seen and text:
      tqdm.write(text, file=sys.stderr)

  def look(self) -> bool:
    """Brings the display up to date; whether a run was finished since the last time."""
    now = time.monotonic()
    if now - self._looked < LOOK_SECONDS:
      return False
    self._looked = now
    steps, finished = self._steps(), self._count()
    share = self._places(steps) / max(1, self._total)
    self._bar.n = 100 * share
    self._bar.set_postfix_str(self._in_words(steps, finished, share))
    if not self._terminal and now - self._told >= 60:
      self._told = now
      logging.info("%.0f %% of all steps; %s", 100 * share, self._in_words(steps, finished, share))
    grown, self._finished = finished > self._finished, finished
    return grown

  def close(self) -> None:
    self._bar.close()

  def _in_words(self, steps: Sequence[int], finished: int, share: float) -> str:
    left = ""
    done = self._places(steps) - self._first
    if done > 0 and share < 1:
      seconds = (time.monotonic() - self._began) / done * (self._total - self._places(steps))
      left = f", about {in_words(seconds)} left"
    running = [
      f"{arm.name} {seed}: {100 * at / self._configs[arm.name].train.steps:.0f} %"
      for (arm, seed), at in zip(self._jobs, steps, strict=True)
      if 0 < at < self._configs[arm.name].train.steps
    ]
    return f"{finished} of {len(self._jobs)} runs finished{left}" + (f" ({', '.join(running)})" if running else "")

  def _size(self, arm: Arm) -> int:
    config = self._configs[arm.name]
    return config.train.batch_size * config.data.max_seq_len

  def _places(self, steps: Sequence[int]) -> int:
    return sum(self._size(arm) * at for (arm, _), at in zip(self._jobs, steps, strict=True))

  def _steps(self) -> list[int]:
    return [last_step(run_folder(self._workdir, arm.name, seed)) for arm, seed in self._jobs]

  def _count(self) -> int:
    return sum((run_folder(self._workdir, arm.name, seed) / "result.json").exists() for arm, seed in self._jobs)


__all__ = ["Share", "receive", "run", "shares", "take_cores"]
