"""Fine-tuning for sequence classification with few labels, beside the same network not pretrained and TF-IDF.

N texts, B batch, C classes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from etils import epath
from flax import struct
from jax.sharding import Mesh

from bert_jax import records, settings
from bert_jax.config import Config, ModelConfig, OptimConfig, RuntimeConfig
from bert_jax.data import draws
from bert_jax.data.tasks import LabelledTexts, Task, load_task, task_names
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.models.dropout import DropoutKey, fold
from bert_jax.models.networks import ForSequenceClassification
from bert_jax.training import sharding
from bert_jax.training.optimizers import Hyperparameters, decayed, hyperparameters, learning_rate
from bert_jax.training.step import init_params
from bert_jax.transfer.baselines import majority_accuracy, tfidf_accuracy

# google-research/bert, run_classifier.py and optimization.py, but for Adam's bias correction, which a few hundred steps
# need: without it the first updates are three times as large.
WEIGHT_DECAY, CLIP_NORM, BETA1, BETA2, EPS = 0.01, 1.0, 0.9, 0.999, 1e-6
_ORDER = 34  # stream of `draws.bits`
_TEST_ROWS = 64  # texts of a test batch, on each device


@dataclasses.dataclass(frozen=True)
class Finetuned:
  """A fine-tuned classifier.

  Attributes:
    params: of `ForSequenceClassification`.
    accuracy: share of the task's test texts that it labels right.
    start: what its parameters started from, in words: "encoder as trained before, with a new classifier".
  """

  params: Any
  accuracy: float
  start: str


@struct.dataclass
class _State:
  step: jax.Array
  params: Any
  opt_state: Any


def finetune(params: Any, config: Config, task: Task, seed: int, mesh: Mesh) -> Finetuned:
  """Fine-tunes all parameters as `config.transfer` says, and tests the result.

  Args:
    params: of `ForPretraining`, from a checkpoint or fresh; they stay as they are.
    config: model, transfer and runtime are read.
    task: from `load_task`.
    seed: of the classifier's weights, data order and dropout.
    mesh: the devices.

  Raises:
    ValueError: a batch that the devices do not divide, or a loss that is not finite.
  """
  transfer = config.transfer
  sharding.check_batch_size("transfer.batch_size", transfer.batch_size, mesh)
  programs = _programs_of(config, len(task.classes), mesh)
  start, words = _start(params, programs.init(jax.random.key(seed)))
  state = programs.begin(start)
  order = _order(len(task.train.labels), transfer.batch_size, transfer.epochs, seed)
  warmup_steps = round(transfer.warmup_fraction * len(order))
  hyper = hyperparameters(OptimConfig(peak_lr=transfer.peak_lr, warmup_steps=warmup_steps), len(order), "none")
  loss = jnp.zeros(())
  for rows in order:
    state, loss = programs.step(state, sharding.put_batch(_rows(task.train, rows), mesh), hyper, jnp.uint32(seed))
  if not np.isfinite(loss):
    raise ValueError(
      f"fine-tuning on {task.name} ended with the loss {loss}; lower transfer.peak_lr={transfer.peak_lr}"
    )
  right = predict(state.params, config, task.test, len(task.classes), mesh) == task.test.labels
  return Finetuned(state.params, float(np.mean(right)), words)


def predict(params: Any, config: Config, texts: LabelledTexts, num_classes: int, mesh: Mesh) -> np.ndarray:
  """The class of each text, int [N], by a fine-tuned classifier's parameters."""
  programs = _programs_of(config, num_classes, mesh)
  number, size = len(texts.labels), _TEST_ROWS * mesh.shape["data"]
  found = []
  for first in range(0, number, size):
    rows = np.minimum(np.arange(first, first + size), number - 1)  # the last batch is filled up with its last text
    found.append(programs.classify(params, sharding.put_batch(_rows(texts, rows), mesh)))
  return np.concatenate(jax.device_get(found))[:number]


def _start(given: Any, fresh: Any) -> tuple[Any, str]:
  """A classifier's first parameters, those of encoder and pooler as given, and what they are in words."""
  kept = {name: given[name] for name in ("encoder", "pooler") if name in given and name in fresh}
  shapes = [jax.tree.map(jnp.shape, tree) for tree in (kept, {name: fresh[name] for name in kept})]
  assert shapes[0] == shapes[1], shapes
  new = sorted(fresh.keys() - kept.keys())
  return {**fresh, **kept}, f"{' and '.join(kept)} as trained before, with a new {' and a new '.join(new)}"


def _order(number: int, batch_size: int, epochs: int, seed: int) -> np.ndarray:
  """Indices of texts, int64 [steps, B]: every text once an epoch, in an order of its own; the last batch wraps."""
  steps = -(-number * epochs // batch_size)
  passes = np.arange(-(-steps * batch_size // number))
  shuffled = np.argsort(draws.bits(seed, _ORDER, passes[:, None], np.arange(number)[None]), axis=1, kind="stable")
  return shuffled.reshape(-1)[: steps * batch_size].reshape(steps, batch_size)


def _rows(texts: LabelledTexts, rows: np.ndarray) -> dict[str, np.ndarray]:
  names = ("token_ids", "segment_ids", "attention_mask", "labels")
  return {name: getattr(texts, name)[rows] for name in names}


# ---- beside its baselines ----------------------------------------------------------------------------------------


def measure_transfer(
  params: Any, config: Config, tokenizer: Tokenizer, seed: int, mesh: Mesh, cache: epath.PathLike | None = None
) -> dict[str, dict[str, float | int]]:
  """Few-label accuracy of pretrained parameters and of what they have to beat, on every task of `transfer.tasks`.

  Args:
    params: of `ForPretraining`.
    config: the run's; `data.source` and `data.eval_fraction` give the texts.
    tokenizer: the model's.
    seed: which texts are labelled, fresh weights, data order and dropout: equal for all that is compared.
    mesh: the devices.
    cache: a JSON file that keeps the baselines. They do not depend on `params`, so that runs which share model,
      tokenizer, seed and task share them.

  Returns:
    By task: accuracies `pretrained`, `scratch` (the same network from fresh weights, with the same steps and rate),
    `tfidf` and `majority`; `test_texts`, `labels_per_class` and `classes`.

  Raises:
    ValueError: see `load_task`, `finetune` and `tfidf_accuracy`.
  """
  # Not above the positions that the model has.
  max_seq_len = min(config.transfer.max_seq_len, config.model.max_positions)
  transfer = dataclasses.replace(config.transfer, max_seq_len=max_seq_len)
  results = {}
  for name in task_names(transfer):
    task = load_task(name, config.data, transfer, tokenizer, seed)
    done = finetune(params, config, task, seed, mesh)
    results[name] = {"pretrained": done.accuracy} | _baselines(config, task, seed, mesh, cache)
    logging.info(
      "%s: fine-tuned on %d texts, the %s: %.1f %% right (from random weights %.1f %%)",
      name, len(task.train.labels), done.start, 100 * done.accuracy, 100 * results[name]["scratch"],
    )  # fmt: skip
    results[name] |= {
      "test_texts": len(task.test.labels),
      "labels_per_class": transfer.labels_per_class,
      "classes": len(task.classes),
    }
  return results


def transfer_settings(config: Config) -> dict[str, Any]:
  """What a task's result depends on: all of `transfer` but the list of tasks."""
  return {name: value for name, value in settings.to_dict(config.transfer).items() if name != "tasks"}


def _baselines(config: Config, task: Task, seed: int, mesh: Mesh, cache: epath.PathLike | None) -> dict[str, float]:
  path = epath.Path(cache) if cache is not None else None
  known: dict[str, Any] = {}
  try:
    known = (path and records.read_json(path, "measured again")) or {}
  except ValueError as error:
    logging.warning("%s", error)
  values = [settings.to_dict(config.model), transfer_settings(config)]
  key = settings.fingerprint([*values, config.runtime.compute_dtype, task.fingerprint, seed])
  if key not in known:
    fresh = init_params(config.model, seed)
    known[key] = {
      "scratch": finetune(fresh, config, task, seed, mesh).accuracy,
      "tfidf": tfidf_accuracy(task),
      "majority": majority_accuracy(task),
    }
    if path is not None:
      records.write_json(path, known)
  return known[key]


# ---- compiled ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Programs:
  """The compiled functions of one network on one mesh, each compiled once for a shape of batch."""

  init: Callable[..., Any]  # key → fresh parameters
  begin: Callable[..., _State]  # parameters → state
  step: Callable[..., tuple[_State, jax.Array]]  # (state, batch, hyperparameters, seed) → (state, loss)
  classify: Callable[..., jax.Array]  # (parameters, batch) → int32 [B]


def _programs_of(config: Config, num_classes: int, mesh: Mesh) -> _Programs:
  # Only the settings that a compiled program depends on.
  names = ("compute_dtype", "attention", "scan_layers", "remat")
  runtime = RuntimeConfig(**{name: getattr(config.runtime, name) for name in names})
  return _programs(config.model, runtime, config.transfer.pooling, num_classes, mesh)


def _optimizer(rate: jax.Array | float) -> optax.GradientTransformation:
  mask = functools.partial(decayed, which="matrices")
  adamw = optax.adamw(rate, BETA1, BETA2, EPS, weight_decay=WEIGHT_DECAY, mask=mask)
  return optax.chain(optax.clip_by_global_norm(CLIP_NORM), adamw)


@functools.cache
def _programs(model: ModelConfig, runtime: RuntimeConfig, pooling: Any, num_classes: int, mesh: Mesh) -> _Programs:
  network = ForSequenceClassification(
    model,
    dtype=jnp.dtype(runtime.compute_dtype),
    attention_implementation=runtime.attention,
    scan_layers=runtime.scan_layers,
    remat=runtime.remat,
    num_classes=num_classes,
    pooling=pooling,
  )

  def logits(params: Any, batch: dict[str, jax.Array], key: DropoutKey | None = None) -> Any:
    inputs = (batch[name] for name in ("token_ids", "segment_ids", "attention_mask"))
    outputs: Any = network.apply({"params": params}, *inputs, key)
    return outputs["logits"]

  def init(key: jax.Array) -> Any:
    token_ids = jnp.zeros((1, 2), jnp.int32)
    return network.init(key, token_ids, token_ids, token_ids == 0)["params"]

  def begin(params: Any) -> _State:
    # Copies, since the step donates its state and the caller keeps what it gave.
    return _State(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params), _optimizer(0.0).init(params))

  def step(state: _State, batch: dict[str, jax.Array], hyper: Hyperparameters, seed: jax.Array):
    rows = jnp.arange(batch["labels"].shape[0], dtype=jnp.uint32)
    key = DropoutKey(fold(seed, state.step), rows)

    def mean_loss(params: Any) -> jax.Array:
      losses = optax.softmax_cross_entropy_with_integer_labels(logits(params, batch, key), batch["labels"])
      return jnp.mean(losses)

    loss, gradient = jax.value_and_grad(mean_loss)(state.params)
    optimizer = _optimizer(learning_rate(state.step, hyper, "linear"))
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    return _State(state.step + 1, optax.apply_updates(state.params, updates), opt_state), loss

  def classify(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
    return jnp.argmax(logits(params, batch), axis=-1)

  whole, rows = sharding.replicated(mesh), sharding.by_rows(mesh)
  return _Programs(
    init=jax.jit(init, out_shardings=whole),
    begin=jax.jit(begin, out_shardings=whole),
    step=jax.jit(step, donate_argnums=0, in_shardings=(whole, rows, whole, whole), out_shardings=whole),
    classify=jax.jit(classify, in_shardings=(whole, rows), out_shardings=whole),
  )
