"""A checkpoint reads back as it was written, or is refused by name; the newest whole one is what a run goes on from."""

import dataclasses
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from bert_jax import settings
from bert_jax.config import Config
from bert_jax.data.corpus import Corpus
from bert_jax.training.checkpoints import CheckpointError, Checkpoints, checksums
from bert_jax.training.layout import make_layout
from bert_jax.training.pretraining import resolve
from bert_jax.training.step import TrainState, init_state
from tests import tiny


@pytest.fixture(scope="module")
def config(source: str, corpus: Corpus) -> Config:
  return resolve(tiny.config(source), corpus)


@pytest.fixture(scope="module")
def first(config: Config) -> TrainState:
  """A state with something in every array, on four devices."""
  state = init_state(config, make_layout("data:4"))
  numbers = np.random.default_rng(1)
  random = jax.tree.map(lambda x: jax.device_put(numbers.normal(size=x.shape).astype(x.dtype), x.sharding), state)
  return dataclasses.replace(random, step=state.step, nonfinite_steps=state.nonfinite_steps)


def at(state: TrainState, step: int) -> TrainState:
  return dataclasses.replace(state, step=state.step + step)


def about(config: Config, corpus: Corpus) -> dict[str, object]:
  return {"config": settings.to_dict(config), "data_hash": corpus.hash}


def save(folder: Path, state: TrainState, config: Config, corpus: Corpus, losses: dict[int, float | None]) -> None:
  """Saves at each step of `losses` in turn; a loss of None stands for no evaluation at that step."""
  with Checkpoints(folder, keep_latest=2) as checkpoints:
    known: dict[int, float] = {}
    for step, loss in losses.items():
      if loss is not None:
        known[step] = loss
      checkpoints.save(at(state, step), about(config, corpus), corpus.tokenizer, known)


@pytest.fixture(scope="module")
def saved(first: TrainState, config: Config, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
  """Checkpoints of steps 4 and 8."""
  folder = tmp_path_factory.mktemp("saved") / "checkpoints"
  save(folder, first, config, corpus, {4: 2.0, 8: 1.0})
  return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
  shutil.copytree(saved, tmp_path / "checkpoints")
  return tmp_path / "checkpoints"


def same(one: TrainState, other: TrainState) -> bool:
  return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_what_four_devices_saved_is_the_same_on_any_number(devices: int, saved: Path, first: TrainState) -> None:
  with Checkpoints(saved) as checkpoints:
    restored = checkpoints.restore(8, make_layout(f"data:{devices}"))
  assert restored.step == 8
  assert same(restored.state, at(first, 8))
  assert {len(x.sharding.device_set) for x in jax.tree.leaves(restored.state)} == {devices}


def test_it_needs_nothing_else(saved: Path, config: Config, corpus: Corpus) -> None:
  with Checkpoints(saved) as checkpoints:
    assert settings.from_dict(checkpoints.about(8)["config"], Config) == config
    assert checkpoints.tokenizer(8).hash == corpus.tokenizer.hash


# ---- which are kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("losses", "kept", "best"),
  [
    ({2: 3.0, 4: 1.0, 6: 2.0, 8: 2.5, 10: 2.2}, [4, 8, 10], 4),
    ({2: 3.0, 4: 2.0, 6: 1.0}, [4, 6], 6),
    ({2: None, 4: 1.0, 6: None, 8: None, 10: None}, [4, 8, 10], 4),
    ({2: None, 4: None, 6: None}, [4, 6], None),
    ({2: float("nan"), 4: 5.0, 6: float("nan"), 8: 6.0}, [4, 6, 8], 4),
  ],
)
def test_the_latest_two_and_the_best_are_kept(
  losses: dict[int, float | None],
  kept: list[int],
  best: int | None,
  first: TrainState,
  config: Config,
  corpus: Corpus,
  tmp_path: Path,
) -> None:
  save(tmp_path, first, config, corpus, losses)
  with Checkpoints(tmp_path) as checkpoints:  # opened again: what it knows is on disk
    assert checkpoints.steps() == kept
    assert checkpoints.best_step() == best


def test_a_resumed_run_still_knows_the_best(first: TrainState, config: Config, corpus: Corpus, tmp_path: Path) -> None:
  layout = make_layout("data:1")
  save(tmp_path, first, config, corpus, {2: 1.0, 4: 2.0})
  with Checkpoints(tmp_path) as checkpoints:
    restored = checkpoints.restore_latest(config, corpus.hash, layout)
    assert restored is not None
    losses = {int(step): loss for step, loss in restored.about["losses"].items()}
    for step in (6, 8):
      losses[step] = 3.0
      checkpoints.save(at(first, step), about(config, corpus), corpus.tokenizer, losses)
    checkpoints.wait()
    assert checkpoints.steps() == [2, 6, 8]


# ---- damage --------------------------------------------------------------------------------------------------------


def flip(path: Path, bit: int) -> None:
  content = bytearray(path.read_bytes())
  content[bit // 8] ^= 1 << bit % 8
  path.write_bytes(content)


def data_files(checkpoint: Path) -> list[Path]:
  """What holds arrays; part of it is superseded and never read."""
  return [path for path in sorted((checkpoint / "state").rglob("d/*")) if path.stat().st_size > 2000]


def test_no_flipped_bit_comes_back_silently(copy: Path, first: TrainState, corpus: Corpus) -> None:
  """Anywhere in a checkpoint's files; most bits are those of arrays."""
  draws, layout = np.random.default_rng(7), make_layout("data:1")
  files = [path for path in sorted((copy / "8").rglob("*")) if path.is_file() and path.stat().st_size]
  found = 0
  for path in 3 * data_files(copy / "8") + files[::3]:  # tests/soak.py flips hundreds
    whole = path.read_bytes()
    bit = int(draws.integers(8 * len(whole)))
    flip(path, bit)
    try:
      with Checkpoints(copy) as checkpoints:
        restored = checkpoints.restore(8, layout)
        tokenizer = checkpoints.tokenizer(8)
    except CheckpointError as error:
      assert "checkpoints/8 is damaged" in str(error)  # noqa: PT017 - not every bit is one that is read
      found += 1
    else:
      assert same(restored.state, at(first, 8)), f"bit {bit} of {path} came back silently"
      assert tokenizer.hash == corpus.tokenizer.hash
    path.write_bytes(whole)
  assert found > 2


def test_a_flipped_bit_of_any_array_changes_its_checksum(first: TrainState) -> None:
  state = jax.device_get(first)
  leaves, structure = jax.tree.flatten(state)
  before, draws = checksums(state), np.random.default_rng(2)
  for number, leaf in enumerate(leaves):
    array = np.array(leaf, copy=True)
    words = array.reshape(-1).view(np.uint32)
    words[draws.integers(words.size)] ^= np.uint32(1 << int(draws.integers(32)))
    after = checksums(structure.unflatten([*leaves[:number], array, *leaves[number + 1 :]]))
    assert sum(before[name] != after[name] for name in before) == 1


def damage_arrays(checkpoint: Path) -> None:
  for path in data_files(checkpoint):
    for bit in range(5, 8 * path.stat().st_size, 999):
      flip(path, bit)


def truncate(checkpoint: Path) -> None:
  for path in data_files(checkpoint):
    os.truncate(path, path.stat().st_size // 2)


def remove_data(checkpoint: Path) -> None:
  for path in data_files(checkpoint):
    path.unlink()


def remove_description(checkpoint: Path) -> None:
  shutil.rmtree(checkpoint / "about")


def change_description(checkpoint: Path) -> None:
  path = checkpoint / "about" / "metadata"
  text = path.read_text()
  assert '"seed": 0' in text
  path.write_text(text.replace('"seed": 0', '"seed": 1'))


DAMAGES = [damage_arrays, truncate, remove_data, remove_description, change_description]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_one_before_a_damaged_one_is_offered_and_taken(damage, copy: Path, config: Config, corpus: Corpus) -> None:
  layout = make_layout("data:1")
  damage(copy / "8")
  with Checkpoints(copy) as checkpoints:
    with pytest.raises(CheckpointError, match=r"checkpoints/8 is damaged .*step 4 is the one before"):
      checkpoints.restore(8, layout)
    restored = checkpoints.restore_latest(config, corpus.hash, layout)
    assert restored is not None
    assert restored.step == 4
    checkpoints.save(at(restored.state, 4), about(config, corpus), corpus.tokenizer, {})  # step 8 again
    checkpoints.wait()
    assert checkpoints.steps() == [4, 8]
    checkpoints.restore(8, layout)
  assert (copy / "8.damaged").is_dir(), "nothing is lost"


def test_all_damaged_is_an_error(copy: Path, config: Config, corpus: Corpus) -> None:
  for step in (4, 8):
    damage_arrays(copy / str(step))
  with (
    Checkpoints(copy) as checkpoints,
    pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged: .*Remove that folder to start again"),
  ):
    checkpoints.restore_latest(config, corpus.hash, make_layout("data:1"))
  assert sorted(path.name for path in copy.iterdir()) == ["4", "8"]


# ---- of another run ------------------------------------------------------------------------------------------------


def test_another_config_is_refused_with_both_values(copy: Path, config: Config, corpus: Corpus) -> None:
  other = settings.assign(config, {"optim.peak_lr": 0.25, "train.batch_size": 40})
  with Checkpoints(copy) as checkpoints, pytest.raises(ValueError, match="other settings") as error:
    checkpoints.restore_latest(other, corpus.hash, make_layout("data:1"))
  assert "optim.peak_lr is 0.005 there and 0.25 here, train.batch_size is 8 there and 40 here" in str(error.value)


def test_another_corpus_is_refused_with_both_values(copy: Path, config: Config, corpus: Corpus) -> None:
  with (
    Checkpoints(copy) as checkpoints,
    pytest.raises(ValueError, match=f"its hash is {corpus.hash} there and beef here"),
  ):
    checkpoints.restore_latest(config, "beef", make_layout("data:1"))


def test_runtime_settings_may_change(copy: Path, config: Config, corpus: Corpus) -> None:
  other = settings.assign(config, {"runtime.scan_layers": False, "runtime.prefetch_batches": 9})
  with Checkpoints(copy) as checkpoints:
    assert checkpoints.restore_latest(other, corpus.hash, make_layout("data:1")) is not None


def test_a_missing_step_is_named_with_those_there_are(saved: Path) -> None:
  with Checkpoints(saved) as checkpoints, pytest.raises(CheckpointError, match=r"no checkpoint of step 6.*\[4, 8\]"):
    checkpoints.restore(6, make_layout("data:1"))


# ---- writing that fails --------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_last_good_one(copy: Path, first: TrainState, config: Config, corpus: Corpus) -> None:
  def save_twelve() -> None:
    with Checkpoints(copy) as checkpoints:
      checkpoints.restore_latest(config, corpus.hash, make_layout("data:1"))
      checkpoints.save(at(first, 12), about(config, corpus), corpus.tokenizer, {})
      checkpoints.wait()

  with tiny.largest_file(8_000), pytest.raises(CheckpointError, match=r"last good one is step 8. Make room") as error:
    save_twelve()
  assert "\n" not in str(error.value)
  with Checkpoints(copy) as checkpoints:
    assert checkpoints.steps() == [4, 8]
    assert checkpoints.restore(8, make_layout("data:1")).step == 8
  tiny.clear_failed_save(copy)
  save_twelve()  # there is room again
  with Checkpoints(copy) as checkpoints:
    assert checkpoints.restore(12, make_layout("data:1")).step == 12


def test_a_checkpoint_saved_before_its_evaluation_is_replaced(
  first: TrainState, config: Config, corpus: Corpus, tmp_path: Path
) -> None:
  save(tmp_path, first, config, corpus, {2: 2.0, 4: None})
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(at(first, 4), about(config, corpus), corpus.tokenizer, {2: 2.0, 4: 1.0})
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.steps() == [2, 4]
    assert checkpoints.best_step() == 4


def test_a_failed_save_is_raised_by_the_next_check(
  copy: Path, first: TrainState, config: Config, corpus: Corpus
) -> None:
  def failing() -> None:
    checkpoints.save(at(first, 12), about(config, corpus), corpus.tokenizer, {})
    for _ in range(10_000_000):
      checkpoints.check()

  with Checkpoints(copy) as checkpoints, tiny.largest_file(8_000), pytest.raises(CheckpointError, match="step 8"):
    failing()


def test_what_a_killed_save_left_is_removed_by_the_next_run(copy: Path, config: Config, corpus: Corpus) -> None:
  left_over = epath.Path(copy) / "12.orbax-checkpoint-tmp"
  shutil.copytree(copy / "8", left_over)
  with Checkpoints(copy) as checkpoints:
    assert checkpoints.steps() == [4, 8]
    assert left_over.exists(), "a reader leaves it: it may be a live run's"
    checkpoints.restore_latest(config, corpus.hash, make_layout("data:1"))
    assert not left_over.exists()
