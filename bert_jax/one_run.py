"""One run of a sweep: pretraining, then what its tasks measure.

WORKDIR/runs/ARM/seed-N/      see `training/pretraining.py`; result.json, written last, says that the run is finished
"""

import dataclasses
import functools
import os
import time
from typing import Any

from absl import logging
from etils import epath

from bert_jax import records, results, settings
from bert_jax.config import Config
from bert_jax.data.corpus import Corpus
from bert_jax.experiment import ARM, Arm
from bert_jax.inference.model import Model
from bert_jax.interop import start
from bert_jax.interop.start import Start
from bert_jax.objectives import objective_of
from bert_jax.objectives.base import Frozen
from bert_jax.results import FewLabels, Pretrained, RunResult, Times
from bert_jax.training import processes
from bert_jax.training.checkpoints import CheckpointError, Checkpoints
from bert_jax.training.layout import Layout
from bert_jax.training.pretraining import pretrain
from bert_jax.transfer import few_labels
from bert_jax.transfer.finetuning import transfer_settings
from bert_jax.validation import why_reads_no_packed
from bert_jax.workdir import run_folder, tasks_to_do


@dataclasses.dataclass(frozen=True)
class Others:
  """The other models that a run takes up: the one it starts from, and the one that it uses and does not train."""

  start: Start | None = None
  frozen: Start | None = None

  def arguments(self, config: Config) -> dict[str, Any]:
    """The arguments of `pretrain` that they are."""
    objective, more = objective_of(config), {}
    begin = self.start or (self.frozen if objective.starts_from_frozen else None)
    if begin is not None:
      more |= {"start": lambda: objective.given(begin.model.params), "started_from": begin.about}
    if self.frozen is not None:
      more |= {"frozen": _as_frozen(self.frozen), "frozen_from": self.frozen.about}
    return more


def others_of(workdir: epath.Path, config: Config, corpus: Corpus, seed: int) -> Others:
  """The other models of a run; `arm:NAME` is the run of that arm with the same seed.

  Raises:
    ValueError: one reads other tokens than the corpus has, is of a kind that the objective cannot use, or
      cannot read packed rows where the run has them.
  """

  def load(setting: str, path: str) -> Start:
    found = _loaded(os.fspath(run_folder(workdir, path.removeprefix(ARM), seed)) if path.startswith(ARM) else path)
    tokenizer = found.model.tokenizer
    if tokenizer is not None and tokenizer.hash != corpus.tokenizer.hash:
      raise ValueError(
        f"{setting}={path} reads text by the tokenizer {tokenizer.hash}, and {corpus.folder} is tokenized by"
        f" {corpus.tokenizer.hash}; set data.tokenizer.path to the model's own tokenizer"
      )
    return found

  path, objective = config.train.start_from, objective_of(config)
  begin = None if path is None else load("train.start_from", path)
  if objective.frozen_from is None:
    return Others(begin, None)
  setting, path = objective.frozen_from
  frozen = load(setting, path)
  objective.check_frozen(_as_frozen(frozen))
  if config.data.packing > 1 and (why := why_reads_no_packed(frozen.model.config)):
    raise ValueError(f"data.packing={config.data.packing} is not for {setting}={path}, with {why}; set it to 1")
  return Others(begin, frozen)


@functools.lru_cache(maxsize=2)
def _loaded(path: str) -> Start:
  return start.load(path)


def _as_frozen(begin: Start) -> Frozen:
  return Frozen(begin.model.params, begin.model.config, begin.model.network)


def do(
  workdir: epath.Path,
  config: Config,
  corpus: Corpus,
  arm: Arm,
  seed: int,
  layout: Layout,
  label: str,
) -> Pretrained:
  """Pretrains, then measures; result.json is written last, so that a run with one is finished."""
  folder, others = run_folder(workdir, arm.name, seed), others_of(workdir, config, corpus, seed)
  before = processes.read_first(folder / "result.json", RunResult)
  draws_before = processes.read_first(folder / "fewlabels.json", FewLabels)
  pretrained = pretrain(config, corpus, folder, layout, label, **others.arguments(config))
  same = before is not None and before.transfer_settings == transfer_settings(config)
  result = RunResult(arm.name, seed, pretrained, before.transfer if before and same else {}, transfer_settings(config))
  if to_do := tasks_to_do(result, config):
    logging.info("%s: few-label accuracy on %s", label, ", ".join(to_do))
    began = time.monotonic()
    params = _final_params(config, corpus, folder, layout, label, others)
    start = Model.of_run(config, params, corpus.tokenizer, config.train.steps)
    asked, cache = settings.assign(config, {"transfer.tasks": ",".join(to_do)}), workdir / "baselines"
    new, draws = few_labels.measure(start, asked, seed, layout, label, folder / "transfer", cache)
    draws = few_labels.merged(draws_before, result.transfer, draws)
    result = dataclasses.replace(result, transfer=result.transfer | new)
    if processes.is_first():
      results.write(folder / "fewlabels.json", draws)
      times = results.read(folder / "times.json", Times) or Times()
      results.write(folder / "times.json", dataclasses.replace(times, transfer_seconds=time.monotonic() - began))
  if processes.is_first():
    results.write(folder / "result.json", result)
    records.write_json(folder / "config.json", settings.to_dict(config))  # whose `transfer` may have changed
  processes.wait_for_all("result")
  return pretrained


def _final_params(
  config: Config, corpus: Corpus, folder: epath.Path, layout: Layout, label: str, others: Others
) -> Any:
  """The parameters after the last step; the last steps are trained again if their checkpoint is gone or damaged."""
  try:
    with Checkpoints(folder / "checkpoints", config.runtime.keep_latest) as checkpoints:
      return checkpoints.restore(config.train.steps, layout).state.params
  except CheckpointError as error:
    logging.warning("%s; its last steps are trained again", error)
  if processes.is_first():
    (folder / "pretrained.json").unlink()
  pretrain(config, corpus, folder, layout, label, **others.arguments(config))
  with Checkpoints(folder / "checkpoints", config.runtime.keep_latest) as checkpoints:
    return checkpoints.restore(config.train.steps, layout).state.params
