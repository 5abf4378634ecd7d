"""A run that is stopped, killed or moved gives what an undisturbed one gives; settings of `runtime` change nothing."""

import gzip
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath

from bert_jax import preemption, settings
from bert_jax.config import Config
from bert_jax.data.batches import TrainBatches
from bert_jax.data.corpus import Corpus
from bert_jax.data.rows import Batch
from bert_jax.training import loop
from bert_jax.training.checkpoints import CheckpointError, Checkpoints
from bert_jax.training.evaluation import HeldOut
from bert_jax.training.layout import make_layout
from bert_jax.training.metrics import read_metrics
from bert_jax.training.pretraining import resolve
from bert_jax.training.step import train_step_of
from tests import tiny

STEPS, EVERY = tiny.ASSIGNMENTS["train.steps"], tiny.ASSIGNMENTS["evaluation.every_steps"]


@pytest.fixture(scope="module")
def config(source: str, corpus: Corpus) -> Config:
  return resolve(tiny.config(source), corpus)


class Batches(TrainBatches):
  """The batches of a run, with something that happens when the batch of a step is made."""

  happens: Callable[[int, Batch], None]

  def __call__(self, step: int, process_index: int = 0, process_count: int = 1) -> Batch:
    batch = super().__call__(step, process_index, process_count)
    self.happens(step, batch)
    return batch


def train(
  config: Config,
  corpus: Corpus,
  folder: Path,
  devices: int = 1,
  happens: Callable[[int, Batch], None] = lambda step, batch: None,
  held_out: type[HeldOut] = HeldOut,
) -> loop.Outcome:
  layout = make_layout(f"data:{devices}")
  batches = Batches(corpus, config.data, config.train.seed, config.train.batch_size)
  batches.happens = happens
  material = loop.Material(batches, held_out(config, corpus, layout), corpus.hash, corpus.tokenizer)
  return loop.train(config, material, epath.Path(folder), layout, "run")


@pytest.fixture(scope="module")
def undisturbed(config: Config, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[loop.Outcome, Path]:
  folder = tmp_path_factory.mktemp("undisturbed")
  return train(config, corpus, folder), folder


def evaluations(folder: Path) -> list[str]:
  return [line for line in (folder / "metrics.jsonl").read_text().splitlines() if '"eval"' in line]


def losses(folder: Path) -> np.ndarray:
  return np.array([line["mask_loss"] for line in read_metrics(folder) if line["kind"] == "eval"])


def assert_equal(outcome: loop.Outcome, folder: Path, wanted: tuple[loop.Outcome, Path]) -> None:
  """Bit by bit: the state, the evaluations, and what was counted."""
  for one, other in zip(jax.tree.leaves(outcome.state), jax.tree.leaves(wanted[0].state), strict=True):
    np.testing.assert_array_equal(one, other)
  assert evaluations(folder) == evaluations(wanted[1])
  assert outcome.measures == wanted[0].measures
  assert outcome.best_loss == wanted[0].best_loss
  assert (outcome.seen.tokens, outcome.seen.predicted_tokens) == (
    wanted[0].seen.tokens,
    wanted[0].seen.predicted_tokens,
  )
  steps = [line["step"] for line in read_metrics(folder)]
  assert steps == sorted(steps)
  assert len({(line["kind"], line["step"]) for line in read_metrics(folder)}) == len(steps)


def sends(number: signal.Signals, at: int) -> Callable[[int, Batch], None]:
  def happens(step: int, _: Batch) -> None:
    if step == at:
      signal.raise_signal(number)

  return happens


def test_it_learns(undisturbed: tuple[loop.Outcome, Path]) -> None:
  measured = losses(undisturbed[1])
  assert len(measured) == STEPS // EVERY
  assert measured[-1] < measured[0] - 0.1
  assert undisturbed[0].best_loss == measured.min()


# ---- stopped and gone on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_run_goes_on(
  number: signal.Signals, config: Config, corpus: Corpus, tmp_path: Path, undisturbed: tuple[loop.Outcome, Path]
) -> None:
  config = settings.assign(config, {"runtime.save_every_steps": 0})
  before = signal.getsignal(number)
  with pytest.raises(preemption.Preempted, match=r"saved at step \d+ of 20; the same command goes on"):
    train(config, corpus, tmp_path, happens=sends(number, 13))
  assert signal.getsignal(number) is before
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    assert 9 <= checkpoints.steps()[-1] <= 14  # batches are made ahead
  assert_equal(train(config, corpus, tmp_path), tmp_path, undisturbed)


def test_a_signal_during_an_evaluation_saves_without_it(
  config: Config, corpus: Corpus, tmp_path: Path, undisturbed: tuple[loop.Outcome, Path]
) -> None:
  class Interrupted(HeldOut):
    let_through = 0

    def __call__(self, params: Any, should_stop: Callable[[], bool] = lambda: False) -> Any:
      if Interrupted.let_through == 0:
        signal.raise_signal(signal.SIGTERM)
      Interrupted.let_through -= 1
      return super().__call__(params, should_stop)

  for let_through, stopped_at in ((0, 5), (0, 5), (1, 10), (2, 20)):
    Interrupted.let_through = let_through
    with pytest.raises(preemption.Preempted, match=f"saved at step {stopped_at} of"):
      train(config, corpus, tmp_path, held_out=Interrupted)
    assert len(losses(tmp_path)) == stopped_at // EVERY - 1
  assert_equal(train(config, corpus, tmp_path), tmp_path, undisturbed)
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    assert checkpoints.best_step() == STEPS


def test_a_signal_too_late_for_the_loop_is_not_lost(config: Config, corpus: Corpus, tmp_path: Path) -> None:
  class Late(HeldOut):
    def __call__(self, params: Any, should_stop: Callable[[], bool] = lambda: False) -> Any:
      measures = super().__call__(params, should_stop)
      if len(losses(tmp_path)) == STEPS // EVERY - 1:  # this is the last
        signal.raise_signal(signal.SIGTERM)
      return measures

  class Told(Exception):
    pass

  def tell(*_: Any) -> None:
    raise Told

  before = signal.signal(signal.SIGTERM, tell)
  try:
    with pytest.raises(Told):
      train(config, corpus, tmp_path, held_out=Late)
  finally:
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("at", [1, 10])
def test_a_crash_between_saves_repeats_what_was_lost(
  at: int, config: Config, corpus: Corpus, tmp_path: Path, undisturbed: tuple[loop.Outcome, Path]
) -> None:
  def crash(step: int, _: Batch) -> None:
    if step == at:
      raise RuntimeError("the machine is on fire")

  with pytest.raises(RuntimeError, match="on fire"):
    train(config, corpus, tmp_path, happens=crash)
  assert_equal(train(config, corpus, tmp_path), tmp_path, undisturbed)


def test_a_finished_run_is_not_trained_again(
  config: Config, corpus: Corpus, undisturbed: tuple[loop.Outcome, Path]
) -> None:
  def never(step: int, _: Batch) -> None:
    raise AssertionError(f"step {step}")

  assert_equal(train(config, corpus, undisturbed[1], happens=never), undisturbed[1], undisturbed)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_number_of_devices_may_change(
  config: Config, corpus: Corpus, tmp_path: Path, undisturbed: tuple[loop.Outcome, Path]
) -> None:
  for devices, stop in ((4, 6), (1, 11), (2, None)):
    if stop is None:
      outcome = train(config, corpus, tmp_path, devices)
    else:
      with pytest.raises(preemption.Preempted):
        train(config, corpus, tmp_path, devices, sends(signal.SIGTERM, stop))
  # Other devices add up in another order: 1e-7 a sum, grown over 20 steps of Adam.
  np.testing.assert_allclose(losses(tmp_path), losses(undisturbed[1]), rtol=1e-5)
  assert outcome.seen.tokens == undisturbed[0].seen.tokens


def test_another_number_of_steps_is_another_run(
  config: Config, corpus: Corpus, undisturbed: tuple[loop.Outcome, Path]
) -> None:
  with pytest.raises(ValueError, match=r"train.steps is 20 there and 30 here"):
    train(settings.assign(config, {"train.steps": 30}), corpus, undisturbed[1])


# ---- saving --------------------------------------------------------------------------------------------------------


def saved_steps(config: Config, corpus: Corpus, folder: Path, **runtime: float) -> list[int]:
  given = {f"runtime.{name}": value for name, value in (runtime | {"keep_latest": 99}).items()}
  train(settings.assign(config, given), corpus, folder)
  with Checkpoints(folder / "checkpoints") as checkpoints:
    return checkpoints.steps()


def test_it_saves_by_steps_and_at_the_best(config: Config, corpus: Corpus, tmp_path: Path) -> None:
  steps = saved_steps(config, corpus, tmp_path, save_every_steps=7, save_every_minutes=0)
  measured = losses(tmp_path)
  best = {EVERY * (i + 1) for i in range(len(measured)) if measured[i] == measured[: i + 1].min()}
  assert steps == sorted({7, 14, STEPS} | best)


def test_it_saves_by_time(config: Config, corpus: Corpus, tmp_path: Path) -> None:
  steps = saved_steps(config, corpus, tmp_path, save_every_steps=0, save_every_minutes=1e-9)
  assert steps == list(range(1, STEPS + 1))


def test_a_full_disk_stops_the_run_and_loses_nothing(
  config: Config, corpus: Corpus, tmp_path: Path, undisturbed: tuple[loop.Outcome, Path]
) -> None:
  with pytest.raises(preemption.Preempted):
    train(config, corpus, tmp_path, happens=sends(signal.SIGTERM, 9))
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    good = checkpoints.steps()[-1]
  with (
    tiny.largest_file(8_000),
    pytest.raises(CheckpointError, match=f"could not save .* last good one is step {good}. Make room there and run"),
  ):
    train(config, corpus, tmp_path)
  tiny.clear_failed_save(tmp_path / "checkpoints")
  assert_equal(train(config, corpus, tmp_path), tmp_path, undisturbed)


def test_metrics_that_cannot_be_written_stop_the_run(
  config: Config, corpus: Corpus, tmp_path: Path, undisturbed: tuple[loop.Outcome, Path]
) -> None:
  with (
    tiny.largest_file(100),
    pytest.raises(ValueError, match=r"could not write .*metrics.jsonl: File too large. Make room there"),
  ):
    train(config, corpus, tmp_path)
  tiny.clear_failed_save(tmp_path / "checkpoints")
  assert_equal(train(config, corpus, tmp_path), tmp_path, undisturbed)


# ---- updates that are not finite -----------------------------------------------------------------------------------


def overflows(step: int, batch: Batch) -> None:
  batch["mlm_weights"][0, :2] = 3e38, -3e38  # times a loss above 1.2 these are infinities; their sum is 0


def test_one_bad_batch_is_skipped_and_counted(config: Config, corpus: Corpus, tmp_path: Path) -> None:
  config = settings.assign(config, {"runtime.log_every_steps": 1, "runtime.save_every_steps": 1})

  def once(step: int, batch: Batch) -> None:
    if step == 6:
      overflows(step, batch)

  config = settings.assign(config, {"runtime.keep_latest": 99})
  train(config, corpus, tmp_path, happens=once)
  skipped = {line["step"]: line["skipped"] for line in read_metrics(tmp_path) if line["kind"] == "train"}
  assert [step for step, value in skipped.items() if value] == [7]  # the step that the batch of step 6 leads to
  layout = make_layout("data:1")
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    six, seven, eight = (checkpoints.restore(step, layout).state for step in (6, 7, 8))
  assert [int(state.nonfinite_steps) for state in (six, seven, eight)] == [0, 1, 0]
  for one, other in zip(jax.tree.leaves(six.params), jax.tree.leaves(seven.params), strict=True):
    np.testing.assert_array_equal(one, other)


def test_too_many_in_a_row_end_the_run_across_a_resume(config: Config, corpus: Corpus, tmp_path: Path) -> None:
  config = settings.assign(config, {"train.max_nonfinite_steps": 6})

  def from_eight(step: int, batch: Batch) -> None:
    if step >= 8:
      overflows(step, batch)

  def stopped(step: int, batch: Batch) -> None:
    from_eight(step, batch)
    sends(signal.SIGTERM, 14)(step, batch)

  with pytest.raises(preemption.Preempted):  # between the first bad step and the sixth, as batches are made 4 ahead
    train(config, corpus, tmp_path, happens=stopped)
  with pytest.raises(loop.Diverged, match=r"for 6 steps in a row .*up to step 14; lower optim.peak_lr=0.005") as error:
    train(config, corpus, tmp_path, happens=from_eight)
  assert error.value.step == 14
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    assert checkpoints.steps()[-1] < 14, "what is there is from before it was given up"


# ---- what may not change a result ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  "runtime",
  [
    {"prefetch_batches": 1, "log_every_steps": 1, "save_every_steps": 1, "keep_latest": 1},
    {"save_every_steps": 0, "save_every_minutes": 0},
  ],
  ids=str,
)
def test_scheduling_does_not_change_a_bit(
  runtime: dict[str, Any], config: Config, corpus: Corpus, tmp_path: Path, undisturbed: tuple[loop.Outcome, Path]
) -> None:
  config = settings.assign(config, {f"runtime.{name}": value for name, value in runtime.items()})
  assert_equal(train(config, corpus, tmp_path), tmp_path, undisturbed)


@pytest.mark.parametrize(
  ("runtime", "devices"),
  [
    ({"scan_layers": False, "remat": "full"}, 1),
    pytest.param({"accumulation_steps": 2}, 4, marks=pytest.mark.exhaustive),  # of one step: test_step.py
  ],
  ids=str,
)
def test_another_way_to_compute_changes_rounding_only(
  runtime: dict[str, Any],
  devices: int,
  config: Config,
  corpus: Corpus,
  tmp_path: Path,
  undisturbed: tuple[loop.Outcome, Path],
) -> None:
  config = settings.assign(config, {f"runtime.{name}": value for name, value in runtime.items()})
  outcome = train(config, corpus, tmp_path, devices)
  # Sums in another order: 1e-7 a step, grown over 20 steps of Adam. Another mask or dropout would change 1e-2.
  np.testing.assert_allclose(losses(tmp_path), losses(undisturbed[1]), rtol=1e-5)
  assert outcome.seen.tokens == undisturbed[0].seen.tokens


@pytest.mark.exhaustive
def test_a_packed_run_ends_in_the_losses_of_one_that_is_not(config: Config, corpus: Corpus, tmp_path: Path) -> None:
  """Without dropout, which is drawn by row. tests/training/test_packed_step.py has the gradients of a step."""
  without = {"model.hidden_dropout": 0.0, "model.attention_dropout": 0.0, "data.short_seq_prob": 0.8}
  ends = []
  for packing in (1, 4):
    config = settings.assign(config, without | {"data.packing": packing})
    ends.append(train(config, corpus, tmp_path / str(packing)))
  np.testing.assert_allclose(losses(tmp_path / "4"), losses(tmp_path / "1"), rtol=1e-5)  # as above
  assert ends[0].seen.tokens == ends[1].seen.tokens
  assert ends[0].seen.predicted_tokens == ends[1].seen.predicted_tokens


@pytest.mark.exhaustive
def test_some_steps_are_recorded_and_nothing_changes(
  config: Config, corpus: Corpus, tmp_path: Path, undisturbed: tuple[loop.Outcome, Path]
) -> None:
  config = settings.assign(config, {"runtime.profile_steps": 2})
  assert_equal(train(config, corpus, tmp_path), tmp_path, undisturbed)
  (trace,) = (tmp_path / "profile").rglob("perfetto_trace.json.gz")
  with gzip.open(trace) as file:
    assert b"XLA" in file.read()


def test_arms_that_differ_in_traced_values_share_one_executable(
  config: Config, corpus: Corpus, tmp_path: Path, undisturbed: tuple[loop.Outcome, Path]
) -> None:
  step = train_step_of(config, make_layout("data:1"))
  compiled = step._cache_size()
  other = settings.assign(
    config,
    {
      "optim.peak_lr": 1e-3,
      "optim.warmup_steps": 7,
      "optim.beta2": 0.98,
      "optim.weight_decay": 0.1,
      "optim.clip_norm": 0.0,
      "train.steps": 10,
      "train.seed": 4,
      "data.masking.policy": "dynamic",
      "data.masking.mask_prob": 1.0,
      "data.masking.random_prob": 0.0,
    },
  )
  train(other, corpus, tmp_path)
  assert train_step_of(other, make_layout("data:1")) is step
  assert step._cache_size() == compiled


# ---- refused -------------------------------------------------------------------------------------------------------


def test_a_batch_that_the_devices_do_not_divide_is_refused(config: Config, corpus: Corpus, tmp_path: Path) -> None:
  config = settings.assign(config, {"train.batch_size": 10})
  with pytest.raises(ValueError, match=r"train.batch_size=10 must be divisible by the 4 devices .* try 8 or 12"):
    train(config, corpus, tmp_path, devices=4)


def test_a_loop_in_another_thread_leaves_signals_alone(config: Config, corpus: Corpus, tmp_path: Path) -> None:
  config, done = settings.assign(config, {"train.steps": 5}), []
  thread = threading.Thread(target=lambda: done.append(train(config, corpus, tmp_path)))
  thread.start()
  thread.join()
  assert done[0].measures["mask_loss"] == losses(tmp_path)[-1]
