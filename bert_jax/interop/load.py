"""Loads a model from a run, an imported folder, a Hugging Face folder or its hub."""

import dataclasses
import re

import jax
from absl import logging
from etils import epath

from bert_jax import foreign, settings
from bert_jax.config import Config
from bert_jax.inference.model import Model
from bert_jax.interop import hub, imported, reading
from bert_jax.training import platform
from bert_jax.training.checkpoints import Checkpoint, CheckpointError, Checkpoints
from bert_jax.training.layout import local_layout


def load(path: epath.PathLike, step: int | None = None, head: str | None = None) -> Model:
  """See `bert_jax.load`."""
  if not jax.config.values["jax_compilation_cache_dir"]:  # whoever set it has set the rest too
    platform.use_compilation_cache()
  folder, origin = hub.fetch(path)
  if not folder.is_dir():
    raise ValueError(f"{path} is no folder; give a workdir, a run's folder, a checkpoint's, or a model's")
  ours, huggingface = imported.is_imported(folder), is_huggingface(folder)
  if step is not None and (ours or huggingface):
    raise ValueError(f"{path} is no run and has no steps; leave step={step} out")
  if ours:
    model = imported.load(folder)
    if head not in (None, model.network):
      raise ValueError(
        f"{path} was imported with the network {model.network}, and head={head!r} was asked for; import it again:"
        f" bert-jax import HF FOLDER --head={head}"
      )
    return model
  if huggingface:
    return dataclasses.replace(reading.read(folder, head), origin=origin)
  return _load_run(folder, step, head)


def is_huggingface(folder: epath.Path) -> bool:
  """Whether it is a Hugging Face folder; a run has a config.json too, of another form, and checkpoints beside it."""
  if not reading.has_huggingface_files(folder) or (folder / "checkpoints").is_dir():
    return False
  try:
    return "train" not in foreign.read_object(folder, reading.CONFIG)
  except ValueError:
    return True  # reading it says what is wrong


# ---- runs -------------------------------------------------------------------------------------------------------


def _load_run(path: epath.Path, step: int | None, head: str | None) -> Model:
  folder, in_path = _find_checkpoints(path)
  if step is not None and in_path not in (None, step):
    raise ValueError(
      f"{path} is the checkpoint of step {in_path}, and step={step} was asked for; give the run's folder"
    )
  step = in_path if step is None else step
  with Checkpoints(folder) as checkpoints:
    if not checkpoints.steps():
      raise ValueError(f"{folder} has no checkpoint yet; let the run go on until it has saved one")
    found = _restore(checkpoints, step)
    run: Config = settings.from_dict(found.about["config"], Config)
    return Model.of_run(run, found.state.params, checkpoints.tokenizer(found.step), found.step, head)


def _restore(checkpoints: Checkpoints, step: int | None) -> Checkpoint:
  """The checkpoint of `step`; by default the best, or where none was evaluated the latest that is not damaged."""
  layout = local_layout()
  steps, chosen = checkpoints.steps(), step
  try:
    if chosen is None:
      chosen = checkpoints.best_step()
    if chosen is not None:
      return checkpoints.restore(chosen, layout)
  except CheckpointError as error:
    damaged = steps[-1] if chosen is None else chosen
    if damaged not in steps:
      raise
    others = [s for s in steps if s != damaged]
    way_out = f"; bert_jax.load(…, step=N) opens another, N of {others}" if others else ""
    raise CheckpointError(f"{error}{way_out}") from error
  failures = []
  for candidate in reversed(checkpoints.steps()):
    try:
      return checkpoints.restore(candidate, layout)
    except CheckpointError as error:
      logging.warning("%s", error)
      failures.append(str(error))
  raise CheckpointError(f"every checkpoint in {checkpoints.folder} is damaged: {'; '.join(failures)}")


def find_run(path: epath.Path) -> epath.Path:
  """The folder of a run, from that of its workdir (with no other run), its own, its checkpoints' or one checkpoint's.

  Raises:
    ValueError: there is none, or there are several.
  """
  return _find_checkpoints(path)[0].parent


def _find_checkpoints(path: epath.Path) -> tuple[epath.Path, int | None]:
  """The folder of checkpoints of a workdir, of a run, or of a checkpoint; and the step, if it is a checkpoint."""
  if (path / "state").is_dir() and (path / "about").is_dir():
    if not path.name.isdigit():
      raise ValueError(f"{path} is a checkpoint, and its folder must be called by its step, a number; rename it back")
    return path.parent, int(path.name)
  if (path / "checkpoints").is_dir():
    return path / "checkpoints", None
  if path.name == "checkpoints":
    return path, None
  runs = [run for run in _runs(path) if (run / "checkpoints").is_dir()]
  if len(runs) > 1:
    listed = "\n".join(f"  {run}" for run in runs)
    raise ValueError(f"{path} holds {len(runs)} runs; give the folder of one of them:\n{listed}")
  if not runs:
    raise ValueError(
      f"{path} holds no run (runs/ARM/seed-N), no checkpoints, is no checkpoint, and no model (config.json); give a"
      " folder that an experiment wrote as its --workdir, that `bert-jax import` wrote, or one from Hugging Face"
    )
  return runs[0] / "checkpoints", None


def _runs(workdir: epath.Path) -> list[epath.Path]:
  """Folders WORKDIR/runs/ARM/seed-N, but no copies of them. No glob, for the path may hold brackets."""
  arms = sorted(arm for arm in (workdir / "runs").iterdir() if arm.is_dir()) if (workdir / "runs").is_dir() else []
  return sorted(run for arm in arms for run in arm.iterdir() if re.fullmatch(r"seed-\d+", run.name))
