"""Arms × seeds, each a run; a stopped sweep goes on where it was; a report after runs that take a while.

WORKDIR/data/                 the tokenised corpus, shared by all runs
WORKDIR/sweep.json            the question, the arms, the settings
WORKDIR/runs/ARM/seed-N/      one run: see `training/pretraining.py`; result.json when it is finished
WORKDIR/gates.json            what arms share, proved
WORKDIR/report.md, .html, results.csv, results.json, times.csv
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
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
from bert_jax.training.pretraining import corpus_folder, prepare_corpus, pretrain, refuse_other_settings, resolve
from bert_jax.transfer.finetuning import measure_transfer

# A report is refreshed after a run that took at least so many times as long as a report takes: runs of seconds do not
# spend half of their time on plots.
REPORT_SHARE = 10


def run(plan: Plan) -> int:
  """Runs what is not finished yet, seed by seed, and keeps the report up to date; see `REPORT_SHARE`.

  Returns:
    The exit status: 0, or `loop.EXIT_PREEMPTED` after a signal.

  Raises:
    ValueError: of the user's settings, or of the machine: a full disk, a damaged checkpoint.
  """
  workdir = epath.Path(plan.workdir)
  try:
    with _only_one(workdir), _stop_at_signals():
      jobs = [(arm, seed) for seed in plan.seeds for arm in plan.arms]
      to_do = [job for job in jobs if not (_folder(workdir, *job) / "result.json").exists()]
      _refuse_other_settings(workdir, plan)
      if to_do:
        _run_all(workdir, plan, jobs, to_do)
      report = _report(workdir, plan)
      print(f"The report is {report}" if to_do else _nothing_to_do(workdir, len(jobs), report))
      return 0
  except loop.Preempted as stopped:
    print(stopped, file=sys.stderr)
    return loop.EXIT_PREEMPTED


def _nothing_to_do(workdir: epath.Path, number: int, report: os.PathLike[str]) -> str:
  return f"Nothing to do: all {number} runs in {workdir} are finished. The report is {report}"


def _run_all(workdir: epath.Path, plan: Plan, jobs: list[tuple[Arm, int]], to_do: list[tuple[Arm, int]]) -> None:
  sharding.select_platform(plan.platform)
  sharding.use_compilation_cache()
  mesh = sharding.make_mesh(plan.base.runtime.num_devices)
  for config in plan.configs.values():  # all arms, before the first hour is spent
    sharding.check_batch_size("train.batch_size", config.train.batch_size, mesh, config.runtime.accumulation_steps)
    sharding.check_batch_size("evaluation.batch_size", config.evaluation.batch_size, mesh)
  _write_sweep(workdir, plan, [device.device_kind for device in mesh.devices.flat])
  corpora: dict[epath.Path, Corpus] = {}
  reported, cost = time.monotonic(), 1.0  # seconds
  for arm, seed in to_do:
    if time.monotonic() - reported > REPORT_SHARE * cost:
      began = time.monotonic()
      _report(workdir, plan)
      reported = time.monotonic()
      cost = reported - began
    label = f"[{jobs.index((arm, seed)) + 1}/{len(jobs)}] {arm.name}, seed {seed}"
    config = plan.configs[arm.name]
    if (folder := corpus_folder(config, workdir)) not in corpora:
      corpora[folder] = prepare_corpus(config, workdir)
    corpus = corpora[folder]
    config = resolve(settings.assign(config, {"train.seed": seed}), corpus)
    logging.info("%s", label)
    _run_one(workdir, config, corpus, arm, seed, mesh, label)


def _report(workdir: epath.Path, plan: Plan) -> os.PathLike[str]:
  """Writes the report; it says which gates hold, so it is there even where one does not.

  Raises:
    ValueError: two runs that ought to share something do not; a comparison of them would not be fair.
  """
  gates = _gates(workdir, plan)
  write_json(workdir / "gates.json", gates)
  report = write_report(workdir)
  for gate in gates:
    if not gate["holds"]:
      raise ValueError(
        f"the arms {' and '.join(gate['arms'])} should {_duty(gate['gate'])} at seed {gate['seed']}, and do not:"
        f" {gate['detail']}. Their comparison would not be fair; remove the folder of the run that was tampered with,"
        " and run the same command again"
      )
  return report


def _duty(gate: str) -> str:
  return "predict at their masking rates" if gate == "predictions" else f"share their {gate}"


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
    transfer = measure_transfer(params, config, corpus.tokenizer, seed, mesh, cache=workdir / "baselines.json")
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
    except BlockingIOError as error:
      lock.seek(0)
      raise ValueError(
        f"--workdir={workdir} is in use by another live run ({lock.read().strip() or 'just started'}); wait for it,"
        " stop it, or choose another --workdir"
      ) from error
    lock.truncate(0)
    lock.write(f"process {os.getpid()}")
    lock.flush()
    yield


@contextlib.contextmanager
def _stop_at_signals() -> Iterator[None]:
  """Turns SIGTERM and Ctrl-C into `loop.Preempted` wherever the training loop does not catch them itself."""

  def stop(number: int, _: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C stops at once
    raise loop.Preempted(f"{signal.Signals(number).name}: stopped; the same command goes on from there")

  before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


# ---- what the runs of a workdir have in common -----------------------------------------------------------------------


def _refuse_other_settings(workdir: epath.Path, plan: Plan) -> None:
  """Refuses a workdir whose runs had other settings, before anything is spent.

  Raises:
    ValueError: with each setting's two values.
  """
  path = workdir / "sweep.json"
  if path.exists():
    there = json.loads(path.read_text())
    if there["experiment"] != plan.experiment.name:
      raise ValueError(f"--workdir={workdir} is of the experiment {there['experiment']}; choose another --workdir")
    groups = {field.name for field in dataclasses.fields(Config)} - {"runtime"}
    settings.require_same(str(workdir), settings.from_dict(there["config"]), plan.base, groups)
  for arm in plan.arms:
    for seed in plan.seeds:
      refuse_other_settings(_folder(workdir, arm, seed), settings.assign(plan.configs[arm.name], {"train.seed": seed}))


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
_TEXT = ("data.source", "data.text_documents", "data.jsonl_field", "data.tokenizer", "data.eval_fraction",
         "data.max_seq_len")  # fmt: skip
GATES = {
  "initialisation": ("model", "train.seed"),
  "data_order": (*_TEXT, "data.train_fraction", "data.format", "data.short_seq_prob", "data.random_next_prob",
                 "data.segmentations", "train.seed"),
  "evaluation": (*_TEXT, "evaluation.max_examples"),
}  # fmt: skip


def _gates(workdir: epath.Path, plan: Plan) -> list[dict[str, Any]]:
  """For each arm and its parent: do they share initial weights, data order and evaluation where they can?"""
  gates = []
  for arm in plan.arms:
    for seed in plan.seeds:
      pair = [a for a in plan.arms if a.name in (arm.name, arm.parent)]
      folders = [_folder(workdir, a, seed) for a in pair]
      if len(pair) < 2 or not all((folder / "result.json").exists() for folder in folders):
        continue
      parent, mine = (settings.from_dict(json.loads((folder / "config.json").read_text())) for folder in folders)
      results = [json.loads((folder / "result.json").read_text()) for folder in folders]
      theirs, ours = (result["fingerprints"] for result in results)
      names = [a.name for a in pair]
      gates += [gate | {"arms": names, "seed": seed} for gate in [_predictions(parent, mine, *results)] if gate]
      for gate, paths in GATES.items():
        if any(lookup(parent, path) != lookup(mine, path) for path in paths):
          continue
        holds = theirs[gate] == ours[gate]
        detail = f"fingerprint {ours[gate]}" if holds else f"{theirs[gate]} against {ours[gate]}"
        gates.append({"gate": gate, "arms": names, "seed": seed, "holds": holds, "detail": detail})
  return gates


# Rounding to whole predictions, and at least one of a short example, move the share of tokens that is predicted.
PREDICTIONS_TOLERANCE = 0.1


def _predictions(parent: Config, mine: Config, theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any] | None:
  """Where two arms differ in their masking rate, and in nothing else of how they mask: do they really predict so?"""
  rates = [config.data.masking.rate for config in (parent, mine)]
  if rates[0] == rates[1] or not all(result.get("predicted_tokens") for result in (theirs, ours)):
    return None
  shares = [result["predicted_tokens"] / result["tokens"] for result in (theirs, ours)]
  holds = abs(shares[1] / shares[0] / (rates[1] / rates[0]) - 1) <= PREDICTIONS_TOLERANCE
  detail = f"{shares[1]:.1%} and {shares[0]:.1%} of the tokens predicted, at rates of {rates[1]:.0%} and {rates[0]:.0%}"
  return {"gate": "predictions", "holds": holds, "detail": detail}
