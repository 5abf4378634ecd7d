"""Checkpoints that are whole: state, resolved config, tokenizer, provenance and checksums; the one user of Orbax.

    FOLDER/STEP/state       parameters, optimizer and step, sharded arrays
    FOLDER/STEP/about       what the run was, and two sums over the bits of each array
    FOLDER/STEP/tokenizer   the tokenizer's files

Orbax writes a checkpoint under another name and renames it when it is complete, so a killed save leaves the ones
before it as they were. It keeps no checksums: a flipped bit would come back silently. The sums find it.
"""

import base64
import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.sharding import Mesh

from bert_jax import settings
from bert_jax.config import Config
from bert_jax.data import tokenizers
from bert_jax.training import sharding
from bert_jax.training.step import TrainState, init_state

RESULT_GROUPS = ("model", "data", "optim", "train")  # the settings that a checkpoint and a resuming run must share


class CheckpointError(ValueError):
  """A checkpoint that cannot be read or written, with what to do about it."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """One restored checkpoint.

  Attributes:
    step: optimizer steps done.
    state: on the devices of the mesh that it was restored to.
    about: what `Checkpoints.save` was given, and the checksums.
  """

  step: int
  state: TrainState
  about: dict[str, Any]


class Checkpoints:
  """The checkpoints of one run: the latest few and the best."""

  def __init__(self, folder: epath.PathLike, keep_latest: int = 2):
    self.folder = epath.Path(folder)
    policies = ocp.checkpoint_managers.preservation_policy
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        # `max_to_keep` with a `best_fn` would delete the newest checkpoint where it is not among the best.
        preservation_policy=policies.AnyPreservationPolicy(
          [
            policies.LatestN(keep_latest),
            policies.BestN(
              n=1, get_metric_fn=lambda m: m["mlm_loss"], reverse=True, keep_checkpoints_without_metrics=False
            ),
          ]
        ),
      ),
      item_names=("state", "about", "tokenizer"),
      item_handlers={
        "state": ocp.StandardCheckpointHandler(),
        "about": ocp.JsonCheckpointHandler(),
        "tokenizer": ocp.JsonCheckpointHandler(),
      },
    )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *_: Any) -> None:
    self._manager.close()

  def steps(self) -> list[int]:
    """Steps of the complete checkpoints, ascending."""
    return sorted(self._manager.all_steps())

  def best_step(self) -> int | None:
    """The step whose evaluation loss was lowest; None where none was evaluated."""
    losses = {}
    for step in self.steps():
      metrics = self._manager.metrics(step)
      if metrics:
        losses[step] = metrics["mlm_loss"]
    return min(losses, key=losses.__getitem__) if losses else None

  # ---- writing ----

  def save(
    self, state: TrainState, about: dict[str, Any], tokenizer: tokenizers.Tokenizer, mlm_loss: float | None
  ) -> None:
    """Starts saving; the arrays are copied before this returns, and written while training goes on.

    Args:
      state: what to save.
      about: JSON values; `config` among them, as `settings.to_dict` gives it.
      tokenizer: saved beside the state, so that the checkpoint needs nothing else.
      mlm_loss: evaluation loss of this very step, where it was evaluated and is finite: what "best" goes by.

    Raises:
      CheckpointError: this save, or the one before it, could not be written.
    """
    step = int(state.step)
    about = about | {"checksums": checksums(state)}
    metrics = {"mlm_loss": mlm_loss} if mlm_loss is not None and math.isfinite(mlm_loss) else None
    try:
      self._manager.wait_until_finished()
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          about=ocp.args.JsonSave(about),
          tokenizer=ocp.args.JsonSave(_pack(tokenizer)),
        ),
        metrics=metrics,
        force=True,
      )
    except Exception as error:
      raise self._write_error(step, error) from error

  def wait(self) -> None:
    """Returns when the save under way is on disk.

    Raises:
      CheckpointError: it could not be written.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._write_error(None, error) from error

  def _write_error(self, step: int | None, error: Exception) -> CheckpointError:
    done = self.steps()
    kept = f"the last good one is step {done[-1]}" if done else "there is no earlier one"
    name = "the checkpoint under way" if step is None else f"step {step}"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return CheckpointError(
      f"could not save {name} in {self.folder}: {reason}; {kept}. Make room there and run the same command again"
    )

  # ---- reading ----

  def restore_latest(self, config: Config, mesh: Mesh) -> Checkpoint | None:
    """The newest checkpoint that is whole, for a run of `config` to go on from; None where there is none yet.

    One that is damaged is named in the log, and the one before it taken.

    Raises:
      CheckpointError: there are checkpoints and all are damaged.
      ValueError: the checkpoint is of another config.
    """
    failures = []
    for step in reversed(self.steps()):
      try:
        about = self.about(step)
        _require_same_run(self.folder / str(step), settings.from_dict(about["config"]), config)
        restored = self.restore(step, mesh)
      except CheckpointError as error:
        logging.error("%s", error)
        failures.append(str(error))
        continue
      if failures:
        logging.warning("Going on from step %d, the newest checkpoint that is whole.", step)
        for damaged in [s for s in self.steps() if s > step]:
          self._manager.delete(damaged)
      return restored
    if failures:
      raise CheckpointError(
        f"every checkpoint in {self.folder} is damaged: {'; '.join(failures)}. Remove that folder to start anew"
      )
    return None

  def about(self, step: int) -> dict[str, Any]:
    """What the checkpoint of a step says of itself.

    Raises:
      CheckpointError: it cannot be read.
    """
    return self._read(step, about=ocp.args.JsonRestore())["about"]

  def tokenizer(self, step: int) -> tokenizers.Tokenizer:
    """The tokenizer that the checkpoint carries."""
    return _unpack(self._read(step, tokenizer=ocp.args.JsonRestore())["tokenizer"])

  def restore(self, step: int, mesh: Mesh) -> Checkpoint:
    """The checkpoint of a step, on the devices of `mesh`, whatever devices saved it.

    Raises:
      CheckpointError: it cannot be read, or its bits are not those that were saved.
    """
    about = self.about(step)
    config = settings.from_dict(about["config"])
    shapes = jax.eval_shape(lambda: init_state(config, mesh))
    whole = sharding.replicated(mesh)
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes)
    state = self._read(step, state=ocp.args.StandardRestore(target))["state"]
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
      reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
      raise CheckpointError(self._damage(step, reason)) from error

  def _damage(self, step: int, reason: str) -> str:
    before = [s for s in self.steps() if s < step]
    way_out = f"step {before[-1]} is the one before" if before else "there is none before it"
    return f"the checkpoint {self.folder / str(step)} is damaged ({reason}); {way_out}"


def _require_same_run(path: epath.Path, saved: Config, wanted: Config) -> None:
  """Refuses to go on from a checkpoint of another config, naming both values."""
  different = {
    name: values
    for name, values in settings.differences(saved, wanted).items()
    if name.split(".")[0] in RESULT_GROUPS and name != "data.store"
  }
  if different:
    listed = ", ".join(f"{name} is {old!r} there and {new!r} here" for name, (old, new) in different.items())
    raise ValueError(
      f"{path} is a checkpoint of another config: {listed}. Give the same settings to go on, or another --workdir to"
      " start anew"
    )


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
