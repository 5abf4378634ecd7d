"""A sweep's folder: who works in it, what was done in it, with which settings.

A setting binds once something was made with it. A run binds from its first checkpoint on, so that a mistake which stops
the first command leaves nothing that stops the second.
"""

import contextlib
import dataclasses
import fcntl
import os
import re
from collections.abc import Iterator

from absl import logging
from etils import epath

from bert_jax import flags, provenance, results, settings
from bert_jax.config import Config
from bert_jax.data.tasks import task_names
from bert_jax.experiment import Arm, Plan
from bert_jax.objectives import objective_of
from bert_jax.results import Failed, PlannedArm, PlannedSweep, RunResult
from bert_jax.training.pretraining import is_used, read_config, refuse_other_settings
from bert_jax.transfer.finetuning import transfer_settings


def run_folder(workdir: epath.Path, arm: str, seed: int) -> epath.Path:
  """The folder of a run."""
  return workdir / "runs" / arm / f"seed-{seed}"


def runs_there(workdir: epath.Path) -> list[tuple[str, int]]:
  """(arm, seed) of every run that has come as far as a checkpoint; anything else there is ignored."""
  found = []
  for arm in sorted(_folders(workdir / "runs")):
    for seed in sorted(_folders(arm)):
      if re.fullmatch(r"seed-(0|[1-9]\d*)", seed.name) and is_used(seed):
        found.append((arm.name, int(seed.name.removeprefix("seed-"))))
  return found


def _folders(folder: epath.Path) -> list[epath.Path]:
  return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def read_result(folder: epath.Path) -> RunResult | None:
  """A run's result.json; None where it is not finished.

  Raises:
    ValueError: it is damaged.
  """
  return results.read(folder / "result.json", RunResult)


def is_done(folder: epath.Path, config: Config) -> bool:
  """Whether a run is finished, and was measured on every task of `config` as that says."""
  result = read_result(folder)
  return result is not None and not tasks_to_do(result, config)


def tasks_to_do(result: RunResult, config: Config) -> list[str]:
  """The tasks of `config` that a result lacks, or has with other settings of `transfer`."""
  if result.pretrained.status != "finished":
    return []
  same = result.transfer_settings == transfer_settings(config)
  return [name for name in task_names(config.transfer) if not (same and name in result.transfer)]


def last_step(folder: epath.Path) -> int:
  """The last step that a run's metrics.jsonl tells of, read from its end; 0 without one."""
  path = folder / "metrics.jsonl"
  try:
    with path.open("rb") as file:
      file.seek(max(0, path.stat().length - 8192))
      lines = file.read().split(b"\n")[1:-1]
  except OSError:
    return 0
  found = re.search(rb'"step": (\d+)', lines[-1]) if lines else None
  return int(found[1]) if found else 0


def failed_under(folder: epath.Path, command: str) -> Failed | None:
  """How a run failed under this command, where it did."""
  failed = results.read(folder / "failed.json", Failed)
  return failed if failed is not None and failed.command == command else None


# ---- one at a time ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def alone(workdir: epath.Path) -> Iterator[None]:
  """Holds WORKDIR/.lock while settings are compared and written; waits for another process that does.

  Raises:
    ValueError: the folder cannot be made.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ValueError(f"--workdir={workdir} cannot be made: {error}") from error
  if "://" in os.fspath(workdir):  # a bucket has no locks
    yield
    return
  with open(workdir / ".lock", "a+") as lock:
    with contextlib.suppress(OSError):  # a file system without locks
      fcntl.flock(lock, fcntl.LOCK_EX)
    yield


# ---- settings --------------------------------------------------------------------------------------------------------


def refuse_others(workdir: epath.Path, plan: Plan) -> None:
  """Refuses a workdir that has runs of another experiment or of other settings, before anything is spent.

  Settings of `transfer` may change, as long as every run that was measured with the old ones is measured again.

  Raises:
    ValueError: with each setting's two values.
  """
  there = runs_there(workdir)
  before = results.read(workdir / "sweep.json", PlannedSweep) if there else None
  if before is not None:
    if before.experiment != plan.experiment.name:
      raise ValueError(f"--workdir={workdir} is of the experiment {before.experiment}; choose another --workdir")
    groups = {field.name for field in dataclasses.fields(Config)} - {"runtime", "transfer"}
    base = settings.from_dict(before.config, Config)
    settings.require_same(str(workdir), base, plan.base, groups)
    _refuse_mixed_transfer(workdir, base, plan, there)
  for arm in plan.arms:
    for seed in plan.seeds:
      config = settings.assign(plan.configs[arm.name], {"train.seed": seed})
      refuse_other_settings(run_folder(workdir, arm.name, seed), config)


def _refuse_mixed_transfer(workdir: epath.Path, base: Config, plan: Plan, there: list[tuple[str, int]]) -> None:
  old, new = transfer_settings(base), transfer_settings(plan.base)
  changed = {name: (old[name], new[name]) for name in new if old[name] != new[name]}
  planned = {(arm.name, seed) for arm in plan.arms for seed in plan.seeds}
  others = {run: read_result(run_folder(workdir, *run)) for run in there if run not in planned}
  left = [run for run, result in others.items() if result is not None and result.transfer]
  if changed and left:
    listed = ", ".join(f"transfer.{name} is {one!r} there and {two!r} here" for name, (one, two) in changed.items())
    raise ValueError(
      f"{workdir} has runs that this command leaves out, and that were fine-tuned with other settings: {listed} (of"
      f" {', '.join(f'{arm}, seed {seed}' for arm, seed in left)}). Give --arms and --seeds that include them, so that"
      " all are measured again, or the same settings"
    )


def has_sweep(workdir: epath.Path) -> bool:
  """Whether WORKDIR/sweep.json is there."""
  return (workdir / "sweep.json").exists()


def write_sweep(workdir: epath.Path, plan: Plan, device_kinds: list[str]) -> None:
  """WORKDIR/sweep.json: of this plan, and of runs of the same experiment that are there already."""
  there = runs_there(workdir)
  if there and not has_sweep(workdir):
    logging.warning("%s had no sweep.json: it is written again, with the machine and versions of now", workdir)
  names = {arm.name for arm in plan.arms} | {name for name, _ in there}
  arms = [arm for arm in plan.experiment.arms if arm.name in names]
  seeds = sorted({*plan.seeds, *(seed for _, seed in there)})
  configs = [plan.configs.get(arm.name) or _config_there(workdir, arm.name) for arm in arms]
  answers = dict.fromkeys(answer for config in configs if config for answer in objective_of(config).answers)
  planned = PlannedSweep(
    experiment=plan.experiment.name,
    question=plan.experiment.question,
    scale=plan.scale,
    scale_note=_note(plan),
    seeds=tuple(seeds),
    answers=tuple(answers),
    arms=tuple(_planned(arm, plan, names) for arm in arms),
    hardware=_hardware(device_kinds),
    versions=provenance.versions(),
    git_commit=provenance.git_commit(),
    config=settings.to_dict(plan.base),
  )
  results.write(workdir / "sweep.json", planned)


def _note(plan: Plan) -> str:
  """What the scale can show; where the command line changed what that rests on, with the changes."""
  note, others = plan.experiment.sizes[plan.scale].note, ("runtime.", "transfer.", "evaluation.")
  own = [f"`{path}={flags.shown(value)}`" for path, value in plan.given.items() if not path.startswith(others)]
  return f"{note} That is said of the scale as it is; here the command line set {', '.join(own)}." if own else note


def _config_there(workdir: epath.Path, arm: str) -> Config | None:
  """The config of an arm that this plan leaves out."""
  return next((read_config(run_folder(workdir, *run)) for run in runs_there(workdir) if run[0] == arm), None)


def _planned(arm: Arm, plan: Plan, names: set[str]) -> PlannedArm:
  return PlannedArm(
    name=arm.name,
    parent=arm.parent if arm.parent in names else None,
    change=arm.change,
    expects=arm.expects,
    direction=arm.direction,
    assignments={
      path: settings.lookup(plan.configs[arm.name], path) if arm.name in plan.configs else "see config.json"
      for path in arm.assignments
    },
  )


def _hardware(device_kinds: list[str]) -> str:
  kinds = sorted(set(device_kinds))
  if kinds == ["cpu"]:
    return provenance.cpu_in_words()
  return ", ".join(f"{device_kinds.count(kind)} × {kind}" for kind in kinds)
