"""Speed of one BERT pretraining step, here and in Hugging Face PyTorch, as a ratio measured in one run.

Both sides do the same work on the same batch: masked tokens and next sentences, dropout 0.1, clipping at 1.0,
AdamW, float32, as many predictions. Before the clock starts, the two losses of the same weights without dropout
must agree. The peer is run as its users run it: with its fused attention (sdpa), and with labels of [B, T], -100 where
nothing is predicted, which sends all positions through the vocabulary.

Needs the extra `parity`:

  python benchmarks/train_step.py --size=tiny --batch_size=32
  python benchmarks/train_step.py --size=base --batch_size=8 --compiled
  python benchmarks/train_step.py --size=tiny --shortest=0.2      # rows with padding, and ours packed too

On one NVIDIA GPU, where both sides multiply in bfloat16, with the share of the card's peak:

  python benchmarks/train_step.py --device=gpu --size=base --batch_size=256 --dropout=0 --attention=cudnn --compiled
"""

import contextlib
import dataclasses
import os
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # both sides share a GPU's memory

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from absl import app, flags

from bert_jax import costs, settings
from bert_jax.architectures import BertConfig
from bert_jax.config import Config, OptimConfig, TrainConfig
from bert_jax.data import packing
from bert_jax.models.dropout import Noise
from bert_jax.objectives import objective_of
from bert_jax.planning.accelerators import ACCELERATORS
from bert_jax.published import sized
from bert_jax.recipes import BERT_SIZES
from bert_jax.training.layout import Layout, make_layout
from bert_jax.training.optimizers import hyperparameters
from bert_jax.training.platform import select_platform
from bert_jax.training.step import init_params, init_state, train_step_of

DEVICE = flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "where both sides run; on a GPU both multiply in bfloat16")
SIZE = flags.DEFINE_enum("size", "tiny", list(BERT_SIZES), "model of bert_jax.recipes")
LAYERS = flags.DEFINE_integer("num_layers", None, "layers, where not those of the size")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "sequences a step")
SEQ_LEN = flags.DEFINE_integer("seq_len", 128, "tokens a sequence")
PREDICTIONS = flags.DEFINE_integer("predictions", 20, "predicted tokens a sequence")
VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 30522, "rows of the word table")
DROPOUT = flags.DEFINE_float("dropout", 0.1, "rate, everywhere BERT has it")
SHORTEST = flags.DEFINE_float(
  "shortest", 1.0, "shortest sequence, as a share of seq_len; below 1 rows are padded, and ours is timed packed too"
)
ATTENTION = flags.DEFINE_enum(
  "attention", "explicit", ["explicit", "fused", "cudnn"], "ours; explicit alone has dropout"
)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "of our matrix products; the peer has float32")
REPEATS = flags.DEFINE_integer("repeats", 7, "rounds; each times every side once, in turn")
SECONDS = flags.DEFINE_float("seconds", 2.0, "length of one timing, at least")
EAGER = flags.DEFINE_bool("eager", True, "time the peer as it is")
COMPILED = flags.DEFINE_bool("compiled", False, "time the peer under torch.compile too (minutes to compile)")

LOSS_TOLERANCE = 1e-5  # relative: two float32 programs that add in different orders
PACKING = 8  # sequences that may share a row
STEPS_AT_A_TIME = {"cpu": 1, "gpu": 10}  # between two waits: a GPU is given work ahead

Side = tuple[Callable[[], None], Callable[[], None]]  # a training step, and a wait for those that were begun


def main(_: list[str]) -> None:
  warnings.filterwarnings("ignore", module="torch")
  select_platform(DEVICE.value)
  on_gpu = DEVICE.value == "gpu"
  model = dataclasses.replace(
    sized(BertConfig, *BERT_SIZES[SIZE.value]),
    vocab_size=VOCAB_SIZE.value,
    max_positions=max(512, SEQ_LEN.value),
    hidden_dropout=DROPOUT.value,
    attention_dropout=DROPOUT.value,
  )
  if LAYERS.value is not None:
    model = dataclasses.replace(model, num_layers=LAYERS.value)
  given = {
    "data.max_seq_len": SEQ_LEN.value,
    "data.masking.rate": PREDICTIONS.value / SEQ_LEN.value,
    "data.masking.max_predictions": PREDICTIONS.value,
    "runtime.compute_dtype": "bfloat16" if on_gpu else DTYPE.value,
    "runtime.attention": ATTENTION.value,
  }
  train = TrainConfig(steps=1_000_000, batch_size=BATCH_SIZE.value)
  config = settings.assign(Config(model=model, optim=OptimConfig(warmup_steps=10), train=train), given)
  batch = random_batch(np.random.default_rng(0))
  batches = {"ours": batch}
  if SHORTEST.value < 1:
    config = settings.assign(config, {"data.packing": PACKING})
    lengths = batch["attention_mask"].sum(axis=1)
    batches["packed"] = packing.pack(batch, packing.plan(lengths, SEQ_LEN.value, PACKING, 1), config.data, 0)
  layout = make_layout("data:1")
  peer = peer_of(config, init_params(objective_of(config), config.train.seed))

  theirs = peer_loss(peer, batch)
  for name, arrays in batches.items():
    loss = loss_of(config, arrays)
    print(f"loss without dropout, same weights: {name} {loss:.6f}, peer {theirs:.6f}")
    if config.runtime.compute_dtype == "float32" and abs(loss - theirs) > LOSS_TOLERANCE * theirs:
      raise SystemExit("the losses differ: the two sides do not compute the same thing")

  sides: dict[str, Side] = {name: step_of(config, layout, arrays) for name, arrays in batches.items()}
  if EAGER.value:
    sides["eager"] = peer_step_of(peer, config.optim, batch)
  if COMPILED.value:
    compiled: Any = torch.compile(peer_of(config, init_params(objective_of(config), config.train.seed)))
    sides["compiled"] = peer_step_of(compiled, config.optim, batch)
  tokens = int(batch["attention_mask"].sum())
  rates = {name: [tokens / seconds for seconds in times] for name, times in alternate(sides).items()}

  print(
    f"{SIZE.value}: {model.num_layers} layers, {model.hidden_size} wide, V {VOCAB_SIZE.value}, batch {BATCH_SIZE.value}"
    f" x {SEQ_LEN.value}, {tokens / BATCH_SIZE.value / SEQ_LEN.value:.2f} of it real, {PREDICTIONS.value} predictions,"
    f" dropout {DROPOUT.value}, {ATTENTION.value} attention\n"
    f"{jax.devices()[0].device_kind if on_gpu else f'{os.cpu_count()} cores'}; jax {jax.__version__}, torch"
    f" {torch.__version__}, transformers {transformers.__version__}"
  )
  for name, values in rates.items():
    rows = len(batches.get(name, batch)["token_ids"])
    line = f"{name:>9}: {statistics.median(values):9,.0f} real token/s"
    if (peak := peak_of_card()) is not None:
      operations = 2 * costs.multiplications(settings.assign(config, {"train.steps": 1, "train.batch_size": rows}))
      line += f", {operations * statistics.median(values) / tokens / peak:.1%} of the peak, padding counted"
    if name not in batches:
      for ours in batches:
        ratios = sorted(a / b for a, b in zip(rates[ours], values, strict=True))
        line += f"; {ours} / {name} = {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})"
    print(line)


def peak_of_card() -> float | None:
  """Operations a second by the maker's figures; None on a CPU, and of a card that is not in our table."""
  kind = jax.devices()[0].device_kind.lower()
  return next((chip.peak for name, chip in ACCELERATORS.items() if re.search(rf"\b{name}\b", kind)), None)


def random_batch(draw: np.random.Generator) -> dict[str, np.ndarray]:
  """A batch of random tokens, pairs and predictions; of SHORTEST below 1, with padding."""
  rows, length, predictions = BATCH_SIZE.value, SEQ_LEN.value, PREDICTIONS.value
  shortest = round(SHORTEST.value * length)
  if not 2 <= shortest <= length or predictions >= length:
    raise SystemExit("--shortest must leave two tokens and be at most 1, and --predictions be fewer than --seq_len")
  lengths = np.linspace(shortest, length, rows).astype(int)
  real = np.arange(length) < lengths[:, None]
  predicted = np.arange(predictions) < np.maximum(1, predictions * lengths // length)[:, None]
  places = np.zeros((rows, predictions), np.int32)  # 0, which nothing predicts, where there is no prediction
  for row, n in enumerate(lengths):
    places[row, predicted[row]] = np.sort(draw.permutation(np.arange(1, n))[: predicted[row].sum()])
  return {
    "token_ids": np.where(real, draw.integers(1, VOCAB_SIZE.value, (rows, length), dtype=np.int32), 0),
    "segment_ids": (real & (np.arange(length) >= lengths[:, None] // 2)).astype(np.int32),
    "attention_mask": real,
    "mlm_positions": places,
    "mlm_labels": draw.integers(0, VOCAB_SIZE.value, (rows, predictions), dtype=np.int32),
    "mlm_weights": predicted.astype(np.float32),
    "pair_labels": draw.integers(0, 2, rows, dtype=np.int32),
  }


def alternate(sides: dict[str, Side]) -> dict[str, list[float]]:
  """Seconds a step of each side, one figure a round. Sides take turns, so that a busy machine slows all of them."""
  times: dict[str, list[float]] = {name: [] for name in sides}
  for step, wait in sides.values():
    for _ in range(3):  # compilation, then whatever the first steps still set up
      step()
    wait()
  for _ in range(REPEATS.value):
    for name, (step, wait) in sides.items():
      count, start = 0, time.perf_counter()
      while (elapsed := time.perf_counter() - start) < SECONDS.value:
        for _ in range(STEPS_AT_A_TIME[DEVICE.value]):
          step()
          count += 1
        wait()
      times[name].append(elapsed / count)
  return times


# ---- this project -------------------------------------------------------------------------------------------------


def step_of(config: Config, layout: Layout, batch: dict[str, np.ndarray]) -> Side:
  """One training step on a batch that is on the device, as the peer's is."""
  state, placed, metrics = init_state(config, layout), layout.put(batch), None
  hyper = hyperparameters(config.optim, config.train.steps, objective_of(config).loss_weights)
  step, seed = train_step_of(config, layout), np.uint32(config.train.seed)

  def run() -> None:
    nonlocal state, metrics
    state, metrics = step(state, None, placed, hyper, seed)

  return run, lambda: jax.block_until_ready(metrics)


def loss_of(config: Config, batch: dict[str, np.ndarray]) -> float:
  model = dataclasses.replace(config.model, hidden_dropout=0.0, attention_dropout=0.0)
  objective = objective_of(dataclasses.replace(config, model=model))
  arrays = {name: jnp.asarray(array) for name, array in batch.items()}
  noise = Noise(jnp.uint32(0), jnp.arange(len(batch["token_ids"]), dtype=jnp.uint32))
  sums = objective.sums(init_params(objective, config.train.seed), None, arrays, noise, 1)
  return sum(float(total / count) for total, count in (sums[name] for name in objective.loss_weights))


# ---- the peer -----------------------------------------------------------------------------------------------------


def torch_device() -> str:
  return "cuda" if DEVICE.value == "gpu" else "cpu"


def in_bfloat16() -> contextlib.AbstractContextManager[Any]:
  """Products in bfloat16 on a GPU, as PyTorch's users have them; float32 on a CPU."""
  return torch.autocast("cuda", torch.bfloat16) if DEVICE.value == "gpu" else contextlib.nullcontext()


def peer_of(config: Config, params: Any) -> transformers.BertForPreTraining:
  """Hugging Face's BERT with our parameters."""
  c = config.model
  assert isinstance(c, BertConfig)
  assert c.vocab_size is not None
  model: Any = transformers.BertForPreTraining(
    transformers.BertConfig(
      vocab_size=c.vocab_size,
      num_hidden_layers=c.num_layers,
      hidden_size=c.hidden_size,
      num_attention_heads=c.num_heads,
      intermediate_size=c.intermediate_size,
      max_position_embeddings=c.max_positions,
      hidden_dropout_prob=c.hidden_dropout,
      attention_probs_dropout_prob=c.attention_dropout,
    )
  )
  with torch.no_grad():
    names = dict(model.named_parameters())
    for name, value in peer_parameters(jax.device_get(params)):
      names.pop(name).copy_(torch.from_numpy(np.array(value)))
  assert not names, f"parameters left as they were: {list(names)}"
  return model.to(torch_device())


def peer_parameters(params: Any) -> Iterator[tuple[str, np.ndarray]]:
  """Our parameter tree under Hugging Face's names and in its shapes; the tied decoder is not repeated."""

  def dense(name: str, part: Any) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{name}.weight", part["kernel"].T
    yield f"{name}.bias", part["bias"]

  def norm(name: str, part: Any) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{name}.weight", part["scale"]
    yield f"{name}.bias", part["bias"]

  embeddings, layers = params["encoder"]["embeddings"], params["encoder"]["layers"]
  yield "bert.embeddings.word_embeddings.weight", embeddings["words"]
  yield "bert.embeddings.position_embeddings.weight", embeddings["positions"]
  yield "bert.embeddings.token_type_embeddings.weight", embeddings["segments"]
  yield from norm("bert.embeddings.LayerNorm", embeddings["layer_norm"])
  for number in range(len(layers["query"]["bias"])):
    layer, prefix = jax.tree.map(lambda x, n=number: x[n], layers), f"bert.encoder.layer.{number}"
    for name in ("query", "key", "value"):
      yield from dense(f"{prefix}.attention.self.{name}", layer[name])
    yield from dense(f"{prefix}.attention.output.dense", layer["attention_output"])
    yield from norm(f"{prefix}.attention.output.LayerNorm", layer["attention_norm"])
    yield from dense(f"{prefix}.intermediate.dense", layer["intermediate"])
    yield from dense(f"{prefix}.output.dense", layer["output"])
    yield from norm(f"{prefix}.output.LayerNorm", layer["output_norm"])
  yield from dense("bert.pooler.dense", params["pooler"]["dense"])
  yield from dense("cls.predictions.transform.dense", params["mlm_head"]["dense"])
  yield from norm("cls.predictions.transform.LayerNorm", params["mlm_head"]["layer_norm"])
  yield "cls.predictions.bias", params["mlm_head"]["bias"]
  yield from dense("cls.seq_relationship", params["nsp_head"])


def peer_inputs(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
  labels = np.full(batch["token_ids"].shape, -100)
  predicted = np.where(batch["mlm_weights"] > 0, batch["mlm_labels"], -100)
  np.put_along_axis(labels, batch["mlm_positions"], predicted, axis=1)
  arrays = {
    "input_ids": batch["token_ids"],
    "token_type_ids": batch["segment_ids"],
    "attention_mask": batch["attention_mask"],
    "labels": labels,
    "next_sentence_label": batch["pair_labels"],
  }
  return {name: torch.from_numpy(rows.astype(np.int64)).to(torch_device()) for name, rows in arrays.items()}


def peer_step_of(model: Any, optim: OptimConfig, batch: dict[str, np.ndarray]) -> Side:
  """One training step, the way of Hugging Face's Trainer."""
  model.train()
  plain = [p for name, p in model.named_parameters() if "bias" in name or "LayerNorm" in name]
  decayed = [p for name, p in model.named_parameters() if not ("bias" in name or "LayerNorm" in name)]
  groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": plain, "weight_decay": 0.0}]
  optimizer = torch.optim.AdamW(groups, lr=optim.peak_lr, betas=(optim.beta1, optim.beta2), eps=optim.eps)
  inputs = peer_inputs(batch)

  def run() -> None:
    with in_bfloat16():
      loss = model(**inputs).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), optim.clip_norm)
    optimizer.step()
    optimizer.zero_grad()

  return run, torch.cuda.synchronize if DEVICE.value == "gpu" else lambda: None


def peer_loss(model: Any, batch: dict[str, np.ndarray]) -> float:
  model.eval()
  with torch.no_grad(), in_bfloat16():
    return float(model(**peer_inputs(batch)).loss)


if __name__ == "__main__":
  app.run(main)
