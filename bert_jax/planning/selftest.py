"""Shows on the user's own devices what has to hold wherever a model is trained: a small real run, in a few minutes."""

import contextlib
import dataclasses
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from bert_jax import preemption, recipes, settings
from bert_jax.config import Config
from bert_jax.data.batches import PhasedBatches
from bert_jax.data.corpus import Corpus
from bert_jax.models.attention import Visible, attention
from bert_jax.objectives import objective_of
from bert_jax.training import loop
from bert_jax.training.checkpoints import CheckpointError, Checkpoints, checksums
from bert_jax.training.evaluation import HeldOut
from bert_jax.training.layout import Layout, make_layout
from bert_jax.training.optimizers import hyperparameters
from bert_jax.training.pretraining import prepare_corpus, resolve
from bert_jax.training.step import init_state, train_step_of

_STEPS = 12
_HEADS = 4
# Sums over other devices or microbatches add up in another order. On a TPU and on GPUs the products of float32 are made
# of shorter numbers, unless they are asked for in full, which is done here.
_ROUNDING = 1e-4
# Of bfloat16, whose 8 bits of fraction round by up to 1/256, against float32.
_BFLOAT16 = 0.05


@dataclasses.dataclass(frozen=True)
class Check:
  """One thing that was tried.

  Attributes:
    what: has to hold.
    said: what was measured.
    holds: None where it could not be tried here.
  """

  what: str
  said: str
  holds: bool | None


def run() -> Iterator[Check]:
  """All checks, each as soon as it is done; on all devices that JAX finds, in a folder that is removed at the end."""
  with tempfile.TemporaryDirectory() as folder, jax.default_matmul_precision("highest"):
    config = _config(epath.Path(folder) / "text")
    corpus = prepare_corpus(config, epath.Path(folder))
    config = resolve(config, corpus)
    for name, tried in _TRIALS.items():
      try:
        yield from tried(config, corpus, epath.Path(folder) / "runs")
      except Exception as error:  # the other checks say more about where it lies
        yield Check(name, f"{type(error).__name__}: {error}", False)


def _config(text: epath.Path) -> Config:
  """Of a run on text that is made here."""
  text.mkdir(parents=True)
  draws = np.random.default_rng(3)
  words = ["".join(draws.choice(list("abcdefghij"), draws.integers(2, 6))) for _ in range(200)]
  for number in range(120):
    sentences = [" ".join(draws.choice(words, draws.integers(4, 11))) + "." for _ in range(draws.integers(4, 12))]
    (text / f"{number:03}.txt").write_text(" ".join(sentences))
  given: dict[str, Any] = {
    "model.num_layers": 2,
    "model.hidden_size": 64,
    "model.num_heads": _HEADS,
    "model.intermediate_size": 128,
    "model.max_positions": 64,
    "model.initializer_range": 0.1,
    "data.source": f"text:{text}",
    "data.max_seq_len": 64,
    "data.eval_fraction": 0.2,
    "data.tokenizer.vocab_size": 256,
    "data.masking.max_predictions": None,
    # Whose first moment after one step is the gradient.
    "optim.beta1": 0.0,
    "optim.warmup_steps": 0,
    "optim.peak_lr": 1e-3,
    "train.phases": None,
    "train.steps": _STEPS,
    "train.batch_size": 8 * jax.device_count(),
    "evaluation.every_steps": _STEPS // 2,
    "evaluation.batch_size": 8 * jax.device_count(),
    "evaluation.max_examples": 64,
    "transfer.tasks": "",
    "runtime.scan_layers": True,
    "runtime.num_workers": 1,
    "runtime.log_every_steps": _STEPS,
  }
  return settings.assign(recipes.recipe("bert_base"), given)


# ---- the same gradient, however it is computed ----


def _gradient(config: Config, corpus: Corpus, mesh: str) -> tuple[dict[str, float], dict[str, np.ndarray]]:
  """Metrics and gradient of the first step."""
  layout, objective = make_layout(mesh), objective_of(config)
  batch = PhasedBatches(corpus, config, None, objective.prepare)(0, *layout.process_slice(config.train.batch_size))
  hyper = hyperparameters(config.optim, config.train.steps, objective.loss_weights)
  step, state = train_step_of(config, layout), init_state(config, layout)
  state, metrics = step(state, None, layout.put(batch), hyper, jnp.uint32(0))
  gradient = {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree.leaves_with_path(state.opt_state.first)}
  return {name: float(value) for name, value in metrics.items()}, gradient


def _apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
  """The length of the difference of two gradients, as a share of the first's length."""
  difference = sum(float(np.sum((one[name].astype(np.float64) - other[name]) ** 2)) for name in one)
  return (difference / sum(float(np.sum(array.astype(np.float64) ** 2)) for array in one.values())) ** 0.5


def _gradients(config: Config, corpus: Corpus, folder: epath.Path) -> Iterator[Check]:
  devices = jax.device_count()
  whole = f"data:{devices}"
  metrics, gradient = _gradient(config, corpus, whole)
  again = _gradient(config, corpus, whole)
  same = metrics == again[0] and all(np.array_equal(gradient[name], again[1][name]) for name in gradient)
  yield Check("a step repeated has the same bits", "yes" if same else f"{_apart(gradient, again[1]):.1e} apart", same)

  def near(what: str, changed: Config, mesh: str, allowed: float = _ROUNDING) -> Check:
    apart = _apart(gradient, _gradient(changed, corpus, mesh)[1])
    return Check(what, f"{apart:.1e} apart, of the gradient's length; {allowed:.0e} may be", apart <= allowed)

  split = settings.assign(config, {"runtime.accumulation_steps": 4})
  yield near("four microbatches have the gradient of one batch", split, whole)
  meshes = [f"data:{devices // n},{axis}:{n}" for axis in ("fsdp", "tensor") for n in (2,) if devices % n == 0]
  for mesh in ["data:1", *meshes] if devices > 1 else ():
    yield near(f"{mesh} has the gradient of {whole}", config, mesh)
  if devices == 1:
    yield Check("several devices have the gradient of one", "there is one device", None)
  no_dropout = settings.assign(config, {"model.hidden_dropout": 0.0, "model.attention_dropout": 0.0})
  metrics, gradient = _gradient(no_dropout, corpus, whole)
  fused = settings.assign(no_dropout, {"runtime.attention": "fused"})
  yield near("fused attention has the gradient of the explicit one", fused, whole)
  remade = settings.assign(no_dropout, {"runtime.remat": "full"})
  yield near("activations made again have the same gradient", remade, whole)
  short = settings.assign(no_dropout, {"runtime.compute_dtype": "bfloat16"})
  yield near("bfloat16 has nearly the gradient of float32", short, whole, _BFLOAT16)


def _kernels(config: Config, corpus: Corpus, folder: epath.Path) -> Iterator[Check]:
  draws = np.random.default_rng(0)
  query, key, value = (jnp.asarray(draws.normal(size=(2, 128, _HEADS, 64)), jnp.float32) for _ in range(3))
  seen = jnp.asarray(np.arange(128) < np.array([128, 77])[:, None])

  def mixed(implementation: Any, dtype: Any) -> Any:
    def total(query: Any, key: Any, value: Any) -> Any:
      mixed, _ = attention(query, key, value, Visible(seen), implementation=implementation)
      return jnp.sum(jnp.where(seen[:, :, None, None], jnp.sin(mixed.astype(jnp.float32)), 0))

    arrays = (x.astype(dtype) for x in (query, key, value))
    total_and_gradient = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(*arrays)
    return [np.asarray(x, np.float64) for x in jax.tree.leaves(total_and_gradient)]

  def near(implementation: str, dtype: Any, allowed: float) -> Check:
    one, other = mixed("explicit", jnp.float32), mixed(implementation, dtype)
    apart = max(float(np.max(np.abs(a - b)) / np.max(np.abs(a))) for a, b in zip(one, other, strict=True))
    what = f"{implementation} attention is the explicit one, forward and backward"
    return Check(what, f"{apart:.1e} apart; {allowed:.0e} may be", apart <= allowed)

  yield near("fused", jnp.float32, _ROUNDING)
  kernel = {"tpu": "splash", "gpu": "cudnn"}.get(jax.default_backend())
  if kernel is None:
    yield Check("the device's own kernel is the explicit attention", "a CPU has none", None)
  else:
    yield near(kernel, jnp.bfloat16, _BFLOAT16)


# ---- stopped and gone on, and damaged ----


def _train(config: Config, corpus: Corpus, folder: epath.Path, layout: Layout, stop_at: int | None = None) -> Any:
  """Trains, and stops by a signal when the batch of a step is asked for."""
  batches = PhasedBatches(corpus, config, None, objective_of(config).prepare)

  def make(step: int, index: int, count: int) -> Any:
    if step == stop_at:
      signal.raise_signal(signal.SIGTERM)
    return batches(step, index, count)

  material = loop.Material(make, HeldOut(config, corpus, layout, None), corpus.hash, corpus.tokenizer)
  return loop.train(config, material, folder, layout, "selftest").state


def _resumed(config: Config, corpus: Corpus, folder: epath.Path) -> Iterator[Check]:
  layout = make_layout(f"data:{jax.device_count()}")
  undisturbed = checksums(_train(config, corpus, folder / "undisturbed", layout))
  with contextlib.suppress(preemption.Preempted):
    _train(config, corpus, folder / "stopped", layout, _STEPS // 2)
  with Checkpoints(folder / "stopped" / "checkpoints") as checkpoints:
    stopped = max(checkpoints.steps(), default=0)
  found = checksums(_train(config, corpus, folder / "stopped", layout))
  differ = [name for name in undisturbed if found.get(name) != undisturbed[name]]
  said = f"stopped at step {stopped} of {_STEPS}, {len(differ)} of {len(undisturbed)} arrays differ at the end"
  yield Check("a run that was stopped ends with the same bits", said, not differ and 0 < stopped < _STEPS)
  yield from _flipped(folder / "undisturbed" / "checkpoints", undisturbed, layout)


def _flipped(folder: epath.Path, sums: Any, layout: Layout) -> Iterator[Check]:
  walked = sorted(os.walk(folder / f"{_STEPS}" / "state"))
  files = [Path(within, name) for within, _, names in walked for name in sorted(names)]
  found = harmless = silent = 0
  for path in files:
    whole = path.read_bytes()
    if not whole:
      continue
    content = bytearray(whole)
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    try:
      with Checkpoints(folder) as checkpoints:
        same = checksums(checkpoints.restore(_STEPS, layout).state) == sums
      harmless, silent = harmless + same, silent + (not same)
    except CheckpointError:
      found += 1
    path.write_bytes(whole)
  said = f"{found} of {found + harmless + silent} flipped bits found, {harmless} where nothing is read, {silent} silent"
  yield Check("a flipped bit of a checkpoint is found", said, silent == 0 and found > 0)


_Trial = Callable[[Config, Corpus, epath.Path], Iterator[Check]]
_TRIALS: dict[str, _Trial] = {"gradients": _gradients, "attention": _kernels, "checkpoints": _resumed}


def report(checks: list[Check], began: float) -> str:
  """The last lines, to be pasted into a report of a bug."""
  failed, tried = [c for c in checks if c.holds is False], [c for c in checks if c.holds is not None]
  kinds = ", ".join(sorted({device.device_kind for device in jax.devices()}))
  return (
    f"{len(tried) - len(failed)} of {len(tried)} hold, in {time.monotonic() - began:.0f} s, on {jax.device_count()}"
    f" {jax.default_backend()} device{'s' if jax.device_count() > 1 else ''} ({kinds})"
  )
