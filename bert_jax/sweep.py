"""Arms × seeds, each a run; a stopped sweep goes on where it was; a report after every run.

WORKDIR/data/                 the tokenised corpus, shared by all runs
WORKDIR/sweep.json            the question, the arms, the settings
WORKDIR/runs/ARM/seed-N/      one run: see `training/pretraining.py`; result.json when it is finished
WORKDIR/gates.json            what arms share, proved
WORKDIR/report.md, .html, results.csv, results.json, times.csv
"""

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from absl import logging
from etils import epath
from jax.sharding import Mesh

from bert_jax import provenance, settings
from bert_jax.analysis.report import write_report
from bert_jax.config import Config, lookup
from bert_jax.data.store import Corpus
from bert_jax.experiment import Arm, Plan
from bert_jax.training import loop, sharding
from bert_jax.training.checkpoints import Checkpoints
from bert_jax.training.metrics import write_json
from bert_jax.training.pretraining import corpus_folder, prepare_corpus, pretrain, resolve
from bert_jax.transfer.finetuning import measure_transfer


def run(plan: Plan) -> int:
  """Runs what is not finished yet, seed by seed, and writes the report after each run."""
  workdir = epath.Path(plan.workdir)
  with _only_one(workdir):
    jobs = [(arm, seed) for seed in plan.seeds for arm in plan.arms]
    to_do = [job for job in jobs if not (_folder(workdir, *job) / "result.json").exists()]
    _refuse_other_settings(workdir, plan)
    if not to_do:
      report = write_report(workdir)
      print(f"Nothing to do: all {len(jobs)} runs in {workdir} are finished. The report is {report}")
      return 0
    return _run_all(workdir, plan, jobs, to_do)


def _run_all(workdir: epath.Path, plan: Plan, jobs: list[tuple[Arm, int]], to_do: list[tuple[Arm, int]]) -> int:
  sharding.select_platform(plan.platform)
  sharding.use_compilation_cache()
  mesh = sharding.make_mesh(plan.base.runtime.num_devices)
  for config in plan.configs.values():  # all arms, before the first hour is spent
    sharding.check_batch_size("train.batch_size", config.train.batch_size, mesh, config.runtime.accumulation_steps)
    sharding.check_batch_size("evaluation.batch_size", config.evaluation.batch_size, mesh)
  _write_sweep(workdir, plan, [device.device_kind for device in mesh.devices.flat])
  corpora: dict[epath.Path, Corpus] = {}
  report = None
  for arm, seed in to_do:
    label = f"[{jobs.index((arm, seed)) + 1}/{len(jobs)}] {arm.name}, seed {seed}"
    config = plan.configs[arm.name]
    if (folder := corpus_folder(config, workdir)) not in corpora:
      corpora[folder] = prepare_corpus(config, workdir)
    corpus = corpora[folder]
    config = resolve(settings.assign(config, {"train.seed": seed}), corpus)
    logging.info("%s", label)
    try:
      _run_one(workdir, config, corpus, arm, seed, mesh, label)
    except loop.Preempted as stopped:
      print(stopped, file=sys.stderr)
      return loop.EXIT_PREEMPTED
    _write_gates(workdir, plan)
    report = write_report(workdir)
  print(f"The report is {report}")
  return 0


def _run_one(workdir: epath.Path, config: Config, corpus: Corpus, arm: Arm, seed: int, mesh: Mesh, label: str) -> None:
  """Pretrains, then fine-tunes; result.json is written last, so that a run with one is finished."""
  folder = _folder(workdir, arm, seed)
  result = pretrain(config, corpus, folder, mesh, label)
  transfer: dict[str, Any] = {}
  if result["status"] == "finished" and config.transfer.tasks:
    logging.info("%s: fine-tuning on %s", label, config.transfer.tasks)
    began = time.monotonic()
    with Checkpoints(folder / "checkpoints", config.runtime.keep_latest) as checkpoints:
      params = checkpoints.restore(config.train.steps, mesh).state.params
    transfer = measure_transfer(params, config, corpus, seed, mesh, cache=workdir / "baselines.json")
    times = json.loads((folder / "times.json").read_text())
    write_json(folder / "times.json", times | {"transfer_seconds": time.monotonic() - began})
  write_json(folder / "result.json", result | {"arm": arm.name, "seed": seed, "transfer": transfer})


def _folder(workdir: epath.Path, arm: Arm, seed: int) -> epath.Path:
  return workdir / "runs" / arm.name / f"seed-{seed}"


@contextlib.contextmanager
def _only_one(workdir: epath.Path) -> Iterator[None]:
  """Holds WORKDIR/.lock; the system lets go of it however the process ends.

  Raises:
    ValueError: another live run holds it.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ValueError(f"--workdir={workdir} cannot be made: {error}") from error
  if "://" in os.fspath(workdir):  # a bucket has no locks
    yield
    return
  with open(workdir / ".lock", "a+") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      lock.seek(0)
      raise ValueError(
        f"--workdir={workdir} is in use by another live run ({lock.read().strip() or 'just started'}); wait for it,"
        " stop it, or choose another --workdir"
      ) from error
    lock.truncate(0)
    lock.write(f"process {os.getpid()}")
    lock.flush()
    yield


# ---- what the runs of a workdir have in common -----------------------------------------------------------------------


def _refuse_other_settings(workdir: epath.Path, plan: Plan) -> None:
  """Refuses a workdir whose runs had other settings, before anything is spent.

  Raises:
    ValueError: with each setting's two values.
  """
  for arm in plan.arms:
    for seed in plan.seeds:
      path = _folder(workdir, arm, seed) / "config.json"
      if not path.exists():
        continue
      there = settings.from_dict(json.loads(path.read_text()))
      here = settings.assign(plan.configs[arm.name], {"train.seed": seed})
      different = {
        name: values
        for name, values in settings.differences(there, here).items()
        if not name.startswith("runtime.")
        and name != "data.store"
        and not (name == "model.vocab_size" and None in values)
      }
      if different:
        listed = ", ".join(f"{name} is {old!r} there and {new!r} here" for name, (old, new) in different.items())
        raise ValueError(
          f"{path.parent} is a run of other settings: {listed}. Give the same settings to go on, or another --workdir"
        )


def _write_sweep(workdir: epath.Path, plan: Plan, device_kinds: list[str]) -> None:
  """WORKDIR/sweep.json: of this plan, and of runs of the same experiment that are there already."""
  runs = workdir / "runs"
  there = {(path.parent.name, path.name) for path in runs.glob("*/seed-*")}
  arms = [arm for arm in plan.experiment.arms if arm in plan.arms or arm.name in {name for name, _ in there}]
  names = {arm.name for arm in arms}
  seeds = sorted({*plan.seeds, *(int(name.removeprefix("seed-")) for _, name in there)})
  write_json(
    workdir / "sweep.json",
    {
      "experiment": plan.experiment.name,
      "question": plan.experiment.question,
      "scale": plan.scale,
      "scale_note": plan.experiment.sizes[plan.scale].note,
      "seeds": seeds,
      "arms": [
        {
          "name": arm.name,
          "parent": arm.parent if arm.parent in names else None,
          "change": arm.change,
          "expects": arm.expects,
          "direction": arm.direction,
          "assignments": {
            path: lookup(plan.configs[arm.name], path) if arm.name in plan.configs else "see config.json"
            for path in arm.assignments
          },
        }
        for arm in arms
      ],
      "hardware": _hardware(device_kinds),
      "versions": provenance.versions(),
      "git_commit": provenance.git_commit(),
      "config": settings.to_dict(plan.base),
    },
  )


def _hardware(device_kinds: list[str]) -> str:
  kinds = sorted(set(device_kinds))
  if kinds == ["cpu"]:
    return provenance.cpu_in_words()
  return ", ".join(f"{device_kinds.count(kind)} × {kind}" for kind in kinds)


# What each gate is about: the fingerprint of it is equal wherever none of these settings differ.
GATES = {
  "initialisation": ("model", "train.seed"),
  "data_order": ("data.source", "data.eval_fraction", "data.train_fraction", "data.format", "data.max_seq_len",
                 "data.short_seq_prob", "data.random_next_prob", "data.segmentations", "data.tokenizer", "train.seed"),
  "evaluation": ("data.source", "data.eval_fraction", "data.max_seq_len", "data.tokenizer", "evaluation.max_examples"),
}  # fmt: skip


def _write_gates(workdir: epath.Path, plan: Plan) -> None:
  """WORKDIR/gates.json: that arms share initial weights, data order and evaluation wherever their settings allow.

  Raises:
    RuntimeError: two runs that ought to share something do not; a comparison of them would not be fair.
  """
  gates = []
  for arm in plan.arms:
    for seed in plan.seeds:
      paths = [_folder(workdir, a, seed) / "result.json" for a in plan.arms if a.name in (arm.name, arm.parent)]
      if arm.parent is None or len(paths) < 2 or not all(path.exists() for path in paths):
        continue
      mine, parents = plan.configs[arm.name], plan.configs[arm.parent]
      one, other = (json.loads(path.read_text())["fingerprints"] for path in paths)
      for gate, paths_of_gate in GATES.items():
        if any(lookup(mine, path) != lookup(parents, path) for path in paths_of_gate):
          continue
        holds = one[gate] == other[gate]
        detail = f"fingerprint {one[gate]}" if holds else f"{one[gate]} against {other[gate]}"
        gates.append({"gate": gate, "arms": [arm.parent, arm.name], "seed": seed, "holds": holds, "detail": detail})
  write_json(workdir / "gates.json", gates)
  broken = [gate for gate in gates if not gate["holds"]]
  if broken:
    raise RuntimeError(f"arms that should share their {broken[0]['gate']} do not: {broken[0]}")
