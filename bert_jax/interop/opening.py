"""A run, an imported folder or a Hugging Face folder, opened alike, on one device."""

import dataclasses
import re

from absl import logging
from etils import epath

from bert_jax import foreign, settings
from bert_jax.config import ClassificationConfig, Config
from bert_jax.interop import hub, imported, reading
from bert_jax.interop.pretrained import Pretrained
from bert_jax.objectives import objective_of
from bert_jax.training.checkpoints import Checkpoint, CheckpointError, Checkpoints
from bert_jax.training.layout import make_layout


@dataclasses.dataclass(frozen=True)
class Opened:
  """A model, and where it stands if it is a run's.

  Attributes:
    model: with its parameters and tokenizer.
    run: the run's config; None for a model from elsewhere.
    step: optimizer steps done; None for a model from elsewhere.
  """

  model: Pretrained
  run: Config | None = None
  step: int | None = None


def open_model(path: epath.PathLike, step: int | None = None, head: str | None = None) -> Opened:
  """Opens whatever stands at a path; see `bert_jax.load`, which raises the same errors."""
  folder, origin = hub.fetch(path)
  if not folder.is_dir():
    raise ValueError(f"{path} is no folder; give a workdir, a run's folder, a checkpoint's, or a model's")
  ours, huggingface = imported.is_imported(folder), is_huggingface(folder)
  if step is not None and (ours or huggingface):
    raise ValueError(f"{path} is no run and has no steps; leave step={step} out")
  if ours:
    return Opened(imported.load(folder))
  if huggingface:
    return Opened(dataclasses.replace(reading.read(folder, head), origin=origin))
  return _open_run(folder, step, head)


def is_huggingface(folder: epath.Path) -> bool:
  """A run has a config.json too, of another form, and its checkpoints beside it."""
  if not reading.is_huggingface(folder) or (folder / "checkpoints").is_dir():
    return False
  try:
    return "train" not in foreign.read_object(folder, reading.CONFIG)
  except ValueError:
    return True  # which says what is wrong with it


# ---- runs -------------------------------------------------------------------------------------------------------


def _open_run(path: epath.Path, step: int | None, head: str | None) -> Opened:
  folder, in_path = _find(path)
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
    trained = objective_of(run).trained(found.state.params)
    name = head or next(iter(trained))
    if name not in trained:
      raise ValueError(f"head={head!r} is none of the networks that this run trained: {', '.join(trained)}")
    config, params = trained[name]
    classes = run.objective.num_classes if isinstance(run.objective, ClassificationConfig) else 2
    model = Pretrained(
      config=config,
      network=name,
      params=params,
      tokenizer=checkpoints.tokenizer(found.step),
      num_classes=classes,
    )
    return Opened(model, run, found.step)


def _restore(checkpoints: Checkpoints, step: int | None) -> Checkpoint:
  """The checkpoint of a step; else the best; else, where none was evaluated, the latest that is whole."""
  layout = make_layout("data:1")
  chosen = checkpoints.best_step() if step is None else step
  if chosen is not None:
    try:
      return checkpoints.restore(chosen, layout)
    except CheckpointError as error:
      if chosen not in checkpoints.steps():
        raise
      others = [s for s in checkpoints.steps() if s != chosen]
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
  """The folder of the run that a path stands for: a workdir with one run, a run's folder, its checkpoints, or one.

  Raises:
    ValueError: there is none, or there are several.
  """
  return _find(path)[0].parent


def _find(path: epath.Path) -> tuple[epath.Path, int | None]:
  """The folder of checkpoints that a workdir, run, or checkpoint stands for, and the step if it is one checkpoint."""
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
  """Folders WORKDIR/runs/ARM/seed-N; no glob, for the path may hold brackets, and no copies of a seed's folder."""
  arms = sorted(arm for arm in (workdir / "runs").iterdir() if arm.is_dir()) if (workdir / "runs").is_dir() else []
  return sorted(run for arm in arms for run in arm.iterdir() if re.fullmatch(r"seed-\d+", run.name))
