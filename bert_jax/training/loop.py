"""The training loop. Its order is law: evaluate, save, next batch, step, log the step before.

Evaluation comes before saving, so that a checkpoint knows its loss; saving before the next batch, so that a resumed run
repeats nothing; and a step's metrics are read when the next step is under way, so that the device never waits.
"""

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from etils import epath

from bert_jax import preemption, settings
from bert_jax.config import Config, phases
from bert_jax.data.batches import prefetch
from bert_jax.data.rows import Batch
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.objectives import objective_of
from bert_jax.objectives.base import Frozen
from bert_jax.provenance import git_commit, versions
from bert_jax.results import Measures
from bert_jax.training import processes
from bert_jax.training.checkpoints import Checkpoints
from bert_jax.training.layout import Layout
from bert_jax.training.metrics import MetricsWriter, NoWriter, Progress, read_metrics
from bert_jax.training.optimizers import hyperparameters
from bert_jax.training.step import TrainState, init_state, train_step_of


class Diverged(Exception):
  """The gradient was not finite for `train.max_nonfinite_steps` steps in a row, or the last evaluation was not."""

  def __init__(self, step: int, reason: str):
    super().__init__(reason)
    self.step = step


@dataclasses.dataclass
class Seen:
  """What has gone into the state: real tokens and predictions, of all processes, and seconds by purpose."""

  tokens: int = 0
  predicted_tokens: int = 0
  compile_seconds: float = 0.0
  train_seconds: float = 0.0
  data_wait_seconds: float = 0.0
  eval_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Material:
  """What a run is made of, beside its config.

  Attributes:
    batches: (step, process index, number of processes) → that process's part of the step's batch.
    evaluate: parameters → measures, or None where it was told to stop; see `Evaluator`.
    data_hash: of what is trained on; a checkpoint goes on with the same only.
    tokenizer: saved with every checkpoint.
    start: makes the parameters that a run starts from where it has no checkpoint; see `init_state`.
    frozen: a network that is not trained, on the layout's devices.
    frozen_from: what it is, for the checkpoints to say; a run goes on with the same only.
    started_from: what `start` is, for the checkpoints to say; None for a start at random.
  """

  batches: Callable[[int, int, int], Batch]
  evaluate: Callable[..., Measures | None]
  data_hash: str
  tokenizer: Tokenizer
  start: Callable[[], Any] | None = None
  frozen: Frozen | None = None
  frozen_from: dict[str, Any] | None = None
  started_from: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A finished training run: its last state, last evaluation, best loss by the objective's measure, and what it saw."""

  state: TrainState
  measures: Measures
  best_loss: float
  seen: Seen


def train(config: Config, material: Material, folder: epath.Path, layout: Layout, label: str) -> Outcome:
  """Trains to `train.steps`. Where the weights start:

  1. from the newest checkpoint in FOLDER/checkpoints;
  2. from `material.start`, where there is one;
  3. at random.

  Args:
    config: resolved and validated.
    material: what to train on and to measure with.
    folder: of this run.
    layout: the devices.
    label: of the progress bar.

  Raises:
    ValueError: a batch that the devices do not divide; a checkpoint of another config.
    CheckpointError: a checkpoint could not be written or read.
    Preempted: a signal came, and all is saved.
    Diverged: too many non-finite updates in a row; the checkpoints before stay.
  """
  runtime, steps, objective = config.runtime, config.train.steps, objective_of(config)
  for phase in phases(config):
    layout.check_batch_size("train.batch_size", phase.batch_size, runtime.accumulation_steps)
  train_step = train_step_of(config, layout)
  hyper = hyperparameters(config.optim, steps, objective.loss_weights)
  seed, part = jnp.uint32(config.train.seed), layout.process_slice(config.train.batch_size)

  with contextlib.ExitStack() as stack:
    signals = stack.enter_context(_Signals())
    checkpoints = stack.enter_context(Checkpoints(folder / "checkpoints", runtime.keep_latest))
    restored = checkpoints.restore_latest(config, material.data_hash, layout)
    losses: dict[int, float] = {}  # of evaluations, by step
    if restored is None:
      state, seen = init_state(config, layout, material.start and material.start()), Seen()
    else:
      _refuse_another_frozen(restored.about.get("frozen_from"), material.frozen_from)
      state, seen = restored.state, Seen(**restored.about["seen"])
      losses = {int(at): loss for at, loss in restored.about["losses"].items()}
      logging.info("%s: going on from step %d of %d", label, restored.step, steps)
    first = step = int(state.step)
    saved = (step, step in losses)  # the step, and whether its evaluation was saved with it
    writer = stack.enter_context(MetricsWriter(folder, step) if processes.is_first() else NoWriter())
    # An evaluation that is written was of the step that a checkpoint here is of, or of one before it: it stands.
    lines = processes.of_first(read_metrics(folder))
    evaluations = {line["step"]: _measures(line) for line in lines if line["kind"] == "eval"}
    measure = objective.measure(config.data)
    losses |= {at: line[measure] for at, line in evaluations.items() if line[measure] is not None}
    progress = stack.enter_context(Progress(label, step, steps))
    log = _StepLog(config, writer, progress, seen)
    feed = prefetch(lambda at: material.batches(at, *part), step, steps, runtime.prefetch_batches)
    stack.callback(feed.close)
    profile = stack.enter_context(_Profile(folder / "profile", step, runtime.profile_steps))
    saved_time = time.monotonic()

    while True:
      paused = time.monotonic()
      # Several processes see a signal and the clock at other moments; they agree on both at the same steps.
      timely = 0 < runtime.save_every_minutes <= (paused - saved_time) / 60
      received = signals.received is not None
      if processes.count() > 1:
        asked = step % runtime.log_every_steps == 0
        received, timely = asked and processes.any_of(received), asked and processes.of_first(timely)
      # 1. Evaluate.
      if step not in evaluations and step > 0 and (step == steps or step % config.evaluation.every_steps == 0):
        log.flush()
        if evaluation := material.evaluate(state.params, should_stop=signals.stop_evaluation):
          evaluations[step] = evaluation
          counts = {"tokens": seen.tokens, "predicted_tokens": seen.predicted_tokens}
          writer.write("eval", step, counts | evaluation)
          if (loss := evaluation[measure]) is not None:
            losses[step] = loss

      # 2. Save.
      if processes.count() == 1:
        received = signals.received is not None  # which may have come while it was evaluated
      checkpoints.check()
      best = step in losses and losses[step] == min(losses.values())
      every = runtime.save_every_steps > 0 and step % runtime.save_every_steps == 0
      if saved != (step, step in losses) and (best or every or timely or step == steps or received):
        log.flush()
        checkpoints.save(state, _about(config, material, seen), material.tokenizer, losses)
        saved, saved_time = (step, step in losses), time.monotonic()
      if step == steps and step in evaluations:
        checkpoints.wait()
        if step not in losses:
          raise Diverged(step, f"the evaluation loss of the last step, {step}, is not finite")
        seen.eval_seconds += time.monotonic() - paused
        return Outcome(state, evaluations[step], min(losses.values()), seen)
      if received:
        checkpoints.wait()
        raise preemption.Preempted(f"{label}: saved at step {step} of {steps}; the same command goes on from there")
      began = time.monotonic()
      seen.eval_seconds += began - paused

      # 3. Next batch.
      batch = next(feed)
      seen.data_wait_seconds += time.monotonic() - began

      # 4. Step.
      if step == first:
        progress.say("compiling the training step")
      profile.before(step)
      state, metrics = train_step(state, material.frozen, layout.put(batch), hyper, seed)
      profile.after(step, metrics)
      if step == first:
        jax.block_until_ready(metrics)
        seen.compile_seconds += time.monotonic() - began
        began = time.monotonic()
      step += 1

      # 5. Log the step before.
      log.push(step, metrics)
      seen.train_seconds += time.monotonic() - began


def _refuse_another_frozen(there: dict[str, Any] | None, here: dict[str, Any] | None) -> None:
  """Refuses to go on with other parameters than the run had for the network that is not trained.

  Raises:
    ValueError: with both.
  """
  hashes = [None if about is None else about["params_sha256"] for about in (there, here)]
  if hashes[0] != hashes[1]:
    raise ValueError(
      f"the run's frozen network, such as its teacher, was {there}, and is {here} now; give the same one, or another"
      " --workdir to start again"
    )


def _measures(line: dict[str, Any]) -> Measures:
  """Of a line of metrics.jsonl that tells an evaluation, what was measured."""
  return {name: value for name, value in line.items() if name not in ("kind", "step", "tokens", "predicted_tokens")}


def _about(config: Config, material: Material, seen: Seen) -> dict[str, Any]:
  """What a checkpoint says of the run that wrote it."""
  return {
    "config": settings.to_dict(config),
    "seen": dataclasses.asdict(seen),
    "started_from": material.started_from,
    "frozen_from": material.frozen_from,
    "data_hash": material.data_hash,
    "tokenizer_hash": material.tokenizer.hash,
    "versions": versions(),
    "git_commit": git_commit(),
    "devices": [str(device.device_kind) for device in jax.devices()],
  }


class _StepLog:
  """Reads each step's metrics when the next step is under way, and reports them."""

  def __init__(self, config: Config, writer: MetricsWriter | NoWriter, progress: Progress, seen: Seen):
    self._config, self._writer, self._progress, self._seen = config, writer, progress, seen
    self._pending: tuple[int, dict[str, jax.Array]] | None = None
    self._said = dataclasses.replace(seen)

  def push(self, step: int, metrics: dict[str, jax.Array]) -> None:
    """Takes a step just sent, and reports the one before."""
    self.flush()
    self._pending = (step, metrics)

  def flush(self) -> None:
    """Reports the step taken last, waiting for it.

    Raises:
      Diverged: too many non-finite updates in a row.
    """
    if self._pending is None:
      return
    step, metrics = self._pending
    self._pending = None
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    self._seen.tokens += int(values.pop("tokens"))
    self._seen.predicted_tokens += int(values.pop("predicted_tokens"))
    counts = {"tokens": self._seen.tokens, "predicted_tokens": self._seen.predicted_tokens}
    in_a_row, limit = int(values.pop("nonfinite_steps")), self._config.train.max_nonfinite_steps
    if in_a_row:
      logging.warning("step %d: the gradient is not finite; the update is skipped (%d in a row)", step, in_a_row)
    if in_a_row >= limit:
      raise Diverged(
        step,
        f"the gradient was not finite for {in_a_row} steps in a row (train.max_nonfinite_steps={limit}), up to step"
        f" {step}; lower optim.peak_lr={self._config.optim.peak_lr} or lengthen optim.warmup_steps",
      )
    if step % self._config.runtime.log_every_steps == 0:
      seconds = max(1e-9, self._seen.train_seconds - self._said.train_seconds)
      waited = self._seen.data_wait_seconds - self._said.data_wait_seconds
      values["tokens_per_second"] = (counts["tokens"] - self._said.tokens) / seconds
      values["data_wait_share"] = min(1.0, waited / seconds)
      self._said = dataclasses.replace(self._seen)
      self._writer.write("train", step, {**counts, **values})
      self._progress.update(step, values)
    self._progress.advance(step)


class _Profile:
  """Records some steps with JAX's profiler, once the first have passed: what compiles is not what takes the time."""

  _PASSED = 10  # steps before

  def __init__(self, folder: epath.Path, first: int, count: int):
    self._folder, self._first, self._end = folder, first + self._PASSED, first + self._PASSED + count
    self._records = False

  def __enter__(self) -> "_Profile":
    return self

  def __exit__(self, *_: Any) -> None:
    if self._records:
      jax.profiler.stop_trace()

  def before(self, step: int) -> None:
    if step == self._first < self._end:
      jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
      self._records = True

  def after(self, step: int, metrics: Any) -> None:
    if self._records and step == self._end - 1:
      jax.block_until_ready(metrics)
      self._records = False
      jax.profiler.stop_trace()
      logging.info(
        "steps %d to %d are in %s; https://ui.perfetto.dev opens its perfetto_trace.json.gz",
        *(self._first, step, self._folder),
      )


class _Signals:
  """Turns SIGTERM and the first Ctrl-C into a flag that the loop looks at. A second Ctrl-C stops at once."""

  def __init__(self) -> None:
    self.received: int | None = None
    self._before: dict[int, Any] = {}

  def __enter__(self) -> "_Signals":
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._before[number] = signal.signal(number, self._receive)
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    if self.received and kind is None:  # too late for the loop to see it, so whoever comes next gets it
      signal.raise_signal(self.received)

  def stop_evaluation(self) -> bool:
    """Whether to stop between two batches, which one process of several cannot do alone."""
    return self.received is not None and processes.count() == 1

  def _receive(self, number: int, _: Any) -> None:
    self.received = number
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # even where Python is waiting for a compiler
    logging.warning("%s: saving, then stopping", signal.Signals(number).name)
