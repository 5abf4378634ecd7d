"""Checkpoints that are whole: state, resolved config, tokenizer, provenance and checksums; the one user of Orbax.

    FOLDER/STEP/state       parameters, optimizer and step, sharded arrays
    FOLDER/STEP/about       what the run was, its evaluation losses so far, and checksums of all three
    FOLDER/STEP/tokenizer   the tokenizer's files
    FOLDER/STEP.damaged     a checkpoint that did not read back as it was written

Orbax writes a checkpoint under another name and renames it when it is complete, so a killed save leaves the ones
before it as they were. It keeps no checksums: a flipped bit would come back silently. Ours find it.
"""

import base64
import dataclasses
import glob
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from bert_jax import settings
from bert_jax.config import Config
from bert_jax.data import tokenizers
from bert_jax.training import processes
from bert_jax.training.layout import Layout
from bert_jax.training.step import TrainState, state_shapes

# The settings that a checkpoint and a resuming run must share.
RESULT_GROUPS = ("model", "data", "objective", "optim", "train")


class CheckpointError(ValueError):
  """A checkpoint that cannot be read or written, with what to do about it."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """One restored checkpoint.

  Attributes:
    step: optimizer steps done.
    state: on the devices of the layout that it was restored to.
    about: what `Checkpoints.save` was given, and the checksums.
  """

  step: int
  state: TrainState
  about: dict[str, Any]


class _LatestAndBest:
  """Which checkpoints stay: the newest few, and the one whose evaluation loss was lowest. For Orbax to ask.

  Orbax's own way to keep the best would delete the newest where that is not among the best, and its losses are lost
  with a run that stops between an evaluation and the save after it.
  """

  def __init__(self, latest: int):
    self._latest = latest
    self.losses: Mapping[int, float] = {}

  def best(self, steps: Iterable[int]) -> int | None:
    evaluated = [step for step in steps if step in self.losses]
    return min(evaluated, key=lambda step: self.losses[step], default=None)

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    steps = sorted(checkpoint.step for checkpoint in checkpoints)
    keep = {*steps[-self._latest :], self.best(steps)}
    return [checkpoint.step in keep for checkpoint in checkpoints]


class Checkpoints:
  """The checkpoints of one run: the latest few and the best."""

  def __init__(self, folder: epath.PathLike, keep_latest: int = 2):
    self.folder = epath.Path(folder).resolve()  # Orbax takes absolute paths only
    self._policy = _LatestAndBest(keep_latest)
    self._saving = False
    self._alias = _alias(self.folder)
    self._manager = ocp.CheckpointManager(
      self._alias or self.folder,
      options=ocp.CheckpointManagerOptions(preservation_policy=self._policy),
      item_names=("state", "about", "tokenizer"),
      item_handlers={
        "state": ocp.StandardCheckpointHandler(),
        "about": ocp.JsonCheckpointHandler(),
        "tokenizer": ocp.JsonCheckpointHandler(),
      },
    )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
    try:
      self._manager.close()
    except Exception as error:
      if kind is None:
        raise self._write_error(error) from error
      logging.error("%s", self._write_error(error))  # and what stopped the run is raised
    finally:
      if self._alias is not None:
        shutil.rmtree(self._alias.parent)

  def steps(self) -> list[int]:
    """Steps of the complete checkpoints, ascending."""
    return sorted(self._manager.all_steps())

  def best_step(self) -> int | None:
    """The step whose evaluation loss was lowest, of those that are here; None where none was evaluated.

    Raises:
      CheckpointError: what says which is the best, the newest description with losses, cannot be read.
    """
    for step in reversed(self.steps()):
      if self._policy.losses:
        break
      self._policy.losses = _losses(self.about(step))
    return self._policy.best(self.steps())

  # ---- writing ----

  def save(
    self, state: TrainState, about: dict[str, Any], tokenizer: tokenizers.Tokenizer, losses: Mapping[int, float]
  ) -> None:
    """Starts saving; the arrays are copied before this returns, and written while training goes on.

    A checkpoint of the same step, saved before its evaluation, is replaced.

    Args:
      state: what to save.
      about: JSON values; `config` among them, as `settings.to_dict` gives it.
      tokenizer: saved beside the state, so that the checkpoint needs nothing else.
      losses: evaluation loss by step, this one's and those of all the steps before: what "best" goes by.

    Raises:
      CheckpointError: this save, or the one before it, could not be written.
    """
    self.wait()
    packed = _pack(tokenizer)
    about = about | {
      "losses": {str(step): loss for step, loss in losses.items() if math.isfinite(loss)},
      "checksums": checksums(state),
      "tokenizer_digest": settings.fingerprint(packed),
    }
    self._policy.losses = _losses(about)
    step = int(state.step)
    try:
      if step in self.steps():
        self._manager.delete(step)
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          about=ocp.args.JsonSave(about | {"digest": settings.fingerprint(about)}),
          tokenizer=ocp.args.JsonSave(packed),
        ),
        force=True,
      )
    except Exception as error:
      raise self._write_error(error) from error
    self._saving = True

  def check(self) -> None:
    """Does nothing while a save goes well, and costs nothing; to be called at every step.

    Raises:
      CheckpointError: the save under way has failed.
    """
    if self._saving and not self._manager.is_saving_in_progress():
      self.wait()

  def wait(self) -> None:
    """Returns when the save under way is on disk.

    Raises:
      CheckpointError: it could not be written.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._write_error(error) from error
    self._saving = False

  def _write_error(self, error: Exception) -> CheckpointError:
    self._saving = False
    self._manager.reload()  # what is there, not what would be there had the save gone well
    done = self.steps()
    kept = f"the last good one is step {done[-1]}" if done else "there is no earlier one"
    return CheckpointError(
      f"could not save a checkpoint in {self.folder}{_room(self.folder)}: {_first_line(error)}; {kept}. Make room there"
      " and run the same command again"
    )

  # ---- reading ----

  def restore_latest(self, config: Config, data_hash: str, layout: Layout) -> Checkpoint | None:
    """The newest checkpoint that is whole, for a run of `config` to go on from; None where there is none yet.

    One that is damaged is named in the log, and the one before it taken. What a killed save left is removed.

    Raises:
      CheckpointError: there are checkpoints and all are damaged.
      ValueError: the checkpoint is of another config or corpus.
    """
    for folder in list(self.folder.iterdir()) if processes.is_first() else ():  # no glob: the path may hold brackets
      if ".orbax-checkpoint-tmp" in folder.name:
        folder.rmtree()
    processes.wait_for_all("cleared")
    failures: dict[int, str] = {}
    for step in reversed(self.steps()):
      try:
        about = self.about(step)
        path = self.folder / str(step)
        settings.require_same(str(path), settings.from_dict(about["config"], Config), config, RESULT_GROUPS)
        if about["data_hash"] != data_hash:
          raise ValueError(
            f"{path} was trained on another text: its hash is {about['data_hash']} there and {data_hash} here. Give the"
            " same data.source, or another --workdir to start again"
          )
        restored = self.restore(step, layout)
      except CheckpointError as error:
        logging.error("%s", error)
        failures[step] = str(error)
        continue
      if failures:
        logging.warning("going on from step %d, the newest checkpoint that is whole", step)
      for damaged in failures:
        self._set_aside(damaged)
      self._policy.losses = _losses(restored.about)
      return restored
    if failures:
      raise CheckpointError(
        f"every checkpoint in {self.folder} is damaged: {'; '.join(failures.values())}. Remove that folder to start"
        " again"
      )
    return None

  def _set_aside(self, step: int) -> None:
    aside = self.folder / f"{step}.damaged"
    if processes.is_first():
      if aside.exists():
        aside.rmtree()
      (self.folder / str(step)).rename(aside)
    processes.wait_for_all("set aside")
    self._manager.reload()

  def about(self, step: int) -> dict[str, Any]:
    """What the checkpoint of a step says of itself.

    Raises:
      CheckpointError: there is no such checkpoint, or it cannot be read as it was written.
    """
    about = self._read(step, about=ocp.args.JsonRestore())["about"]
    digest = about.pop("digest", None)
    if digest != settings.fingerprint(about):
      raise CheckpointError(self._damage(step, "its description is not the one that was saved"))
    return about

  def tokenizer(self, step: int) -> tokenizers.Tokenizer:
    """The tokenizer that the checkpoint carries.

    Raises:
      CheckpointError: as `about`.
    """
    return _unpack(self._packed_tokenizer(step, self.about(step)))

  def _packed_tokenizer(self, step: int, about: dict[str, Any]) -> dict[str, str]:
    packed = self._read(step, tokenizer=ocp.args.JsonRestore())["tokenizer"]
    if about["tokenizer_digest"] != settings.fingerprint(packed):
      raise CheckpointError(self._damage(step, "its tokenizer is not the one that was saved"))
    return packed

  def restore(self, step: int, layout: Layout) -> Checkpoint:
    """The checkpoint of a step, on the devices of `layout`, whatever devices saved it.

    Raises:
      CheckpointError: it cannot be read, or its bits are not those that were saved.
    """
    about = self.about(step)
    self._packed_tokenizer(step, about)
    config = settings.from_dict(about["config"], Config)
    state = self._read(step, state=ocp.args.StandardRestore(state_shapes(config, layout)))["state"]
    found, wanted = checksums(state), about["checksums"]
    damaged = [name for name in wanted if found.get(name) != wanted[name]]
    if damaged or set(found) != set(wanted):
      raise CheckpointError(self._damage(step, f"the bits of {', '.join(damaged[:3])} are not those that were saved"))
    return Checkpoint(step, state, about)

  def _read(self, step: int, **items: Any) -> Any:
    if step not in self.steps():
      raise CheckpointError(f"{self.folder} has no checkpoint of step {step}; it has {self.steps() or 'none'}")
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:
      raise CheckpointError(self._damage(step, _first_line(error))) from error

  def _damage(self, step: int, reason: str) -> str:
    before = [s for s in self.steps() if s < step]
    way_out = f"step {before[-1]} is the one before" if before else "there is none before it"
    return f"the checkpoint {self.folder / str(step)} is damaged ({reason}); {way_out}"


def _alias(folder: epath.Path) -> epath.Path | None:
  """Another name for a folder of which Orbax, which searches it with a glob, would take brackets for a pattern.

  It then finds nothing of what it wrote, and says that the checkpoint is saved.
  """
  if "://" in os.fspath(folder) or not glob.has_magic(os.fspath(folder)):
    return None
  folder.mkdir(parents=True, exist_ok=True)
  alias = Path(tempfile.mkdtemp(prefix="bert_jax-")) / "checkpoints"
  alias.symlink_to(folder, target_is_directory=True)
  return epath.Path(alias)


def _losses(about: dict[str, Any]) -> dict[int, float]:
  return {int(step): loss for step, loss in about["losses"].items()}


def _room(folder: epath.Path) -> str:
  """Says how much room there is, since a failed write does not always say that this is what it lacked."""
  if "://" in os.fspath(folder):
    return ""
  return f" ({shutil.disk_usage(folder).free / 2**20:,.0f} MiB free)"


def _first_line(error: Exception) -> str:
  """Of an error's message, which with Orbax may be a page."""
  lines = str(error).strip().splitlines()
  return lines[0][:300] if lines else type(error).__name__


def checksums(tree: Any) -> dict[str, list[int]]:
  """For each array two sums over its 32-bit words, w_i and w_i · (2i + 1), modulo 2³².

  Any single flipped bit changes the first; any two words swapped change the second.
  """
  named = {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in _leaves(tree)}
  return {name: [int(x) for x in sums] for name, sums in jax.device_get(_sums(named)).items()}


def _leaves(tree: Any) -> list[tuple[Any, jax.Array]]:
  return jax.tree_util.tree_flatten_with_path(tree)[0]


@jax.jit
def _sums(arrays: dict[str, jax.Array]) -> dict[str, tuple[jax.Array, jax.Array]]:
  def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    assert x.dtype.itemsize == 4, x.dtype
    words = jax.lax.bitcast_convert_type(x, jnp.uint32).reshape(-1)
    place = jax.lax.iota(jnp.uint32, words.size)
    return jnp.sum(words, dtype=jnp.uint32), jnp.sum(words * (2 * place + 1), dtype=jnp.uint32)

  return jax.tree.map(both, arrays)


def _pack(tokenizer: tokenizers.Tokenizer) -> dict[str, str]:
  """A tokenizer's files as text: name → base64."""
  with tempfile.TemporaryDirectory() as folder:
    tokenizer.save(folder)
    files = sorted(path for path in Path(folder).iterdir())
    return {path.name: base64.b64encode(path.read_bytes()).decode() for path in files}


def _unpack(files: dict[str, str]) -> tokenizers.Tokenizer:
  with tempfile.TemporaryDirectory() as folder:
    for name, text in files.items():
      (Path(folder) / Path(name).name).write_bytes(base64.b64decode(text))
    return tokenizers.load(folder, None)
