"""From labelled texts to a bundle: fine-tunes or fits a classifier, measures it beside its baselines, and writes it."""

import dataclasses
import os
import shutil
from typing import Any, Literal

from absl import logging
from etils import epath

from bert_jax import records
from bert_jax.config import Config, RuntimeConfig, TransferConfig
from bert_jax.data import labelled
from bert_jax.data.frames import frame_of
from bert_jax.data.labelled import Labelled
from bert_jax.data.tasks import Task, require_sklearn
from bert_jax.inference.model import Model
from bert_jax.interop import load as loading
from bert_jax.interop.params import fingerprint
from bert_jax.settings import check_bounds
from bert_jax.training import platform
from bert_jax.training.layout import make_layout
from bert_jax.transfer import bundles, frozen
from bert_jax.transfer.baselines import majority_accuracy, tfidf_accuracy
from bert_jax.transfer.bundles import Figures
from bert_jax.transfer.finetuning import finetune


@dataclasses.dataclass(frozen=True)
class Asked:
  """What a fine-tuning is asked to do; defaults: Devlin et al. 2018, A.3.

  Attributes:
    way: all parameters, or a layer over frozen features, for which only `max_tokens` counts.
    epochs, batch_size, peak_lr, pooling: see `TransferConfig`.
    max_tokens: of a text, special ones counted; longer ones are cut.
    seed: of new weights, data order and dropout.
  """

  way: Literal["full", "frozen"] = "full"
  epochs: int = 3
  batch_size: int = 32
  peak_lr: float = 5e-5
  pooling: Literal["cls", "mean"] = "cls"
  max_tokens: int = 128
  seed: int = 0

  def config(self, start: Model) -> Config:
    """As settings of a run.

    Raises:
      ValueError: one is out of its range, or the model has fewer positions.
    """
    most = start.config.longest_input
    if most is not None and self.max_tokens > most:
      raise ValueError(f"--max-tokens={self.max_tokens} is more than the model's {most} positions; set it to {most}")
    transfer = TransferConfig(
      max_seq_len=self.max_tokens,
      batch_size=self.batch_size,
      pooling=self.pooling,
      epochs=self.epochs,
      peak_lr=self.peak_lr,
    )
    try:
      check_bounds(transfer, "--")
    except ValueError as error:
      name, _, rule = str(error).partition("=")
      raise ValueError(f"{name.replace('_', '-')}={rule}") from error
    # A program for each length of batches: layers in a loop compile in a fraction of the time.
    runtime = RuntimeConfig(scan_layers=True, log_every_steps=10)
    return dataclasses.replace(Config(), model=start.config, transfer=transfer, runtime=runtime)


def make(
  model: epath.PathLike, train: Labelled, dev: Labelled, asked: Asked, folder: epath.PathLike
) -> tuple[Figures, dict[str, float]]:
  """Makes a bundle of any model that `bert_jax.load` opens.

  Args:
    model: what to start from.
    train, dev: labelled texts to train on, and to measure on.
    asked: how.
    folder: of the bundle, new or empty. FOLDER.run keeps the checkpoints until it is written.

  Returns:
    The figures on `dev`, and the accuracies of the baselines there.

  Raises:
    ValueError: of the texts, the settings or the model; scikit-learn is not installed.
  """
  require_sklearn()
  platform.use_compilation_cache()
  start = loading.load(model)
  config = asked.config(start)
  name = os.path.basename(train.origin)
  tokenizer, frame = start.require_tokenizer(), frame_of(start.config)
  task, cut = labelled.as_task(name, train, dev, frame, tokenizer, asked.max_tokens)
  if cut:
    count = len(train.texts) + len(dev.texts)
    logging.warning("%d of %d texts have more than %d tokens; they are cut", cut, count, asked.max_tokens)
  workdir = epath.Path(f"{os.path.abspath(folder)}.run")
  _refuse_other(workdir, dataclasses.asdict(asked) | {"texts": task.fingerprint, "weights": fingerprint(start.params)})
  made = _made(start, config, task, asked, workdir)
  predictions = made.predict(list(dev.texts))
  figures = bundles.score(list(dev.labels), [prediction.label for prediction in predictions])
  baselines = {"the majority class": majority_accuracy(task), "TF-IDF, whole texts": tfidf_accuracy(task)}
  about = {
    "model": os.path.basename(os.path.normpath(model)),
    "train": f"{name}, {len(train.texts):,} texts, fingerprint {train.fingerprint}",
    "dev": f"{os.path.basename(dev.origin)}, {len(dev.texts):,} texts, fingerprint {dev.fingerprint}",
  }
  bundles.write(made, folder, dev, predictions, figures, baselines, about | dataclasses.asdict(asked))
  if workdir.exists():
    shutil.rmtree(workdir)
  return figures, baselines


def _refuse_other(workdir: epath.Path, wanted: dict[str, Any]) -> None:
  """Notes what a fine-tuning is asked to do, and refuses to go on with one that was asked for something else."""
  way_out = f"remove {workdir} to start again"
  before = records.read_json(workdir / "asked.json", way_out) or wanted
  differing = [f"{name} was {before[name]!r} and is {new!r}" for name, new in wanted.items() if before[name] != new]
  if differing:
    raise ValueError(f"{workdir} is left of a fine-tuning that was stopped: {', '.join(differing)}; {way_out}")
  records.write_json(workdir / "asked.json", wanted)


def _made(start: Model, config: Config, task: Task, asked: Asked, workdir: epath.Path) -> Model:
  if asked.way == "frozen":
    return frozen.fit(start, task, asked.max_tokens)
  return finetune(start, config, task, asked.seed, make_layout(), workdir, "fine-tuning", by_length=True).model
