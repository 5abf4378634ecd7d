"""Vectors of texts: each text is cut into windows, which are encoded in batches and pooled.

N texts, W windows, B rows of a batch, T tokens, D hidden size, L layers, H heads.
"""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from bert_jax.architectures import EncoderConfig
from bert_jax.data.frames import Frame, frame_of
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference import windows
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs

if TYPE_CHECKING:
  from bert_jax.inference.model import Model

_TEXTS_AT_ONCE = 65_536  # texts whose windows are in memory together
_CPU_TOKENS = 2048  # of a batch: with four times as many, MiniLM's activations leave the caches, and it runs at 3/4
Pooling = Literal["cls", "mean", "max"]


@dataclasses.dataclass(frozen=True)
class EmbeddingSettings:
  """How a model was made to embed texts, as the files of sentence-transformers say.

  Attributes:
    pooling: over the tokens; None where the files do not say.
    normalize: whether vectors are scaled to length 1.
    max_tokens: of a text, special tokens counted; None where the files do not say.
  """

  pooling: Pooling | None = None
  normalize: bool = False
  max_tokens: int | None = None


@dataclasses.dataclass(frozen=True)
class Windows:
  """How a long text is read.

  Attributes:
    max_tokens: of a window, special tokens counted.
    stride: tokens from one window to the next; with None only the first window is read.
    unpooled: tokens at the front of each window that are read and not pooled.
  """

  max_tokens: int
  stride: int | None
  unpooled: int = 0


def embed(
  model: "Model",
  texts: Sequence[str],
  pooling: Pooling | None,
  normalize: bool | None,
  batch_size: int,
  max_tokens: int | None,
  stride: int | None,
  prompt: str | None,
  long: str,
  bar: Any,
) -> np.ndarray:
  """See `Model.embed`.

  Args:
    bar: progress bar, which is told of each text that is done.
  """
  made_for, most = model.embedding, model.config.longest_input
  pooling = pooling or made_for.pooling or "mean"
  normalize = made_for.normalize if normalize is None else normalize
  max_tokens = made_for.max_tokens or most or 512 if max_tokens is None else max_tokens
  stride = max(1, (max_tokens - 2) // 2) if stride is None else stride
  if pooling not in ("cls", "mean", "max"):
    raise ValueError(f"pooling={pooling!r} must be cls, mean or max")
  if max_tokens < 3 or (most is not None and max_tokens > most):
    raise ValueError(f"max_tokens={max_tokens} must be at least 3, and at most the model's positions, {most}")
  if long not in ("windows", "cut"):
    raise ValueError(f"long={long!r} must be windows or cut")
  if not 1 <= stride <= max_tokens - 2:
    raise ValueError(f"stride={stride} must be at least 1, and at most max_tokens - 2 = {max_tokens - 2}")
  if batch_size < 1:
    raise ValueError(f"batch_size={batch_size} must be at least 1")
  unpooled = _unpooled(model, prompt)
  if unpooled and long == "windows":
    raise ValueError("the tokens of this model's prompts are not pooled, which windows do not do; say long='cut'")
  texts = model.prompts.before(texts, prompt)
  reading = Windows(max_tokens, None if long == "cut" else stride, unpooled)
  found = _text_vectors(model, texts, pooling, reading, batch_size, bar)
  return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12) if normalize else found


def _unpooled(model: "Model", prompt: str | None) -> int:
  """How many tokens at the front of each text, those of a prompt, are read and not pooled."""
  stated, tokenizer = model.prompts, model.require_tokenizer()
  words = stated.words(prompt)
  if not words:
    return 0
  logging.info("the model's prompt %r goes before every text", words)
  ((ids, _),) = tokenizer.encode([words])
  return 0 if stated.pooled else len(frame_of(model.config).text(ids, tokenizer)) - 1


def _text_vectors(
  model: "Model", texts: Sequence[str], pooling: Pooling, reading: Windows, batch_size: int, bar: Any
) -> np.ndarray:
  """float32 [N, D], not normalized."""
  result = np.zeros((len(texts), model.config.hidden_size), np.float32)
  for first in range(0, len(texts), _TEXTS_AT_ONCE):
    some = texts[first : first + _TEXTS_AT_ONCE]
    result[first : first + len(some)] = _some_vectors(model, some, pooling, reading, batch_size, bar)
  return result


def _some_vectors(
  model: "Model", texts: Sequence[str], pooling: Pooling, reading: Windows, batch_size: int, bar: Any
) -> np.ndarray:
  config, tokenizer, frame = model.config, model.require_tokenizer(), frame_of(model.config)
  rows, owners = _cut(texts, tokenizer, frame, pooling, reading)
  lengths = np.array([len(row) for row in rows])
  run, found = _pooled(config, pooling), np.zeros((len(rows), config.hidden_size), np.float32)
  encoder = {"encoder": model.device_params["encoder"]}
  left = np.bincount(owners)  # windows of each text that are still to come

  def of_batch(batch: tuple[int, int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    size, length, indices = batch
    inputs = Inputs.of(frame.batch([rows[i] for i in indices], size, length, tokenizer.pad_id))
    unpooled = np.where(np.arange(size) < len(indices), reading.unpooled, 0).astype(np.int32)
    return indices, np.asarray(run(encoder, inputs, unpooled))[: len(indices)]

  # Two at a time: while one is prepared, or is in a part that uses one core only, the other keeps the device busy.
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    most = _CPU_TOKENS if jax.default_backend() == "cpu" else None
    for indices, some in pool.map(of_batch, windows.batches(lengths, batch_size, config.longest_input, most)):
      found[indices] = some
      touched, counts = np.unique(owners[indices], return_counts=True)
      left[touched] -= counts
      bar.update(int(np.sum(left[touched] == 0)))
  return _over_windows(found, owners, pooling)


def _cut(
  texts: Sequence[str], tokenizer: Tokenizer, frame: Frame, pooling: Pooling, reading: Windows
) -> tuple[list[np.ndarray], np.ndarray]:
  """The token ids of each window with special tokens, and the number of the text that it is of: int [W], ascending."""
  rows, owners, beyond = [], [], 0
  room = reading.max_tokens - 2
  for owner, (ids, _) in enumerate(tokenizer.encode(texts)):
    some = windows.windows(ids, room, reading.stride) if reading.stride else [ids[:room]]
    rows += [frame.text(window, tokenizer) for window in some]
    owners += [owner] * len(some)
    beyond += len(ids) > room
  if beyond:
    how = f"read in windows of that length, {reading.stride} tokens apart, and pooled over all of them ({pooling})"
    logging.info(
      "%d of %d texts have more than %d tokens; they are %s",
      *(beyond, len(texts), reading.max_tokens, how if reading.stride else "cut"),
    )
  return rows, np.array(owners)


def _over_windows(found: np.ndarray, owners: np.ndarray, pooling: Pooling) -> np.ndarray:
  """Pools the vectors of windows [W, D] to those of their texts [N, D]; `owners` is the text of each, ascending.

  All windows of a text have one length, so their plain mean is the mean over their tokens.
  """
  starts = np.flatnonzero(np.diff(owners, prepend=-1))
  if len(starts) == len(owners):
    return found
  if pooling == "max":
    return np.maximum.reduceat(found, starts)
  return np.add.reduceat(found, starts) / np.bincount(owners)[:, None]


def attention(model: "Model", token_ids: np.ndarray, segment_ids: np.ndarray) -> np.ndarray:
  """What each token of one row attends to, float32 [L, H, T, T].

  Args:
    token_ids, segment_ids: int32 [T], with special tokens.

  Raises:
    ValueError: the row is longer than the model's positions.
  """
  model.check_length(len(token_ids))
  padded = windows.bucket(len(token_ids), model.config.longest_input)
  pad_id = model.require_tokenizer().pad_id
  batch = frame_of(model.config).batch([token_ids], 1, padded, pad_id, [segment_ids])
  encoder = {"encoder": model.device_params["encoder"]}
  probabilities = np.asarray(attention_probabilities(model.config)(encoder, Inputs.of(batch)))[:, 0]
  seen = np.flatnonzero(batch["attention_mask"][0])
  return probabilities[:, :, seen][..., seen]


# ---- compiled programs: one for each shape ----------------------------------------------------------------------


def _encoder(config: EncoderConfig, **computation: Any) -> Any:
  """The encoder alone: its parameters are the same in every network."""
  # Layers in a loop compile in a third of the time, and without a backward pass they run as fast.
  return networks.build("encoder", config, scan_layers=True, **computation)


@functools.cache
def _pooled(config: EncoderConfig, pooling: Pooling):
  """(params, inputs, unpooled) → [B, D]; `unpooled`: see `Windows`, int32 [B]."""
  network = _encoder(config)

  def run(params: Any, inputs: Inputs, unpooled: jax.Array) -> jax.Array:
    outputs: Any = network.apply({"params": params}, inputs)
    if pooling == "cls" and config.cls_last:
      return outputs["hidden"][:, -1]
    seen = inputs.attention_mask
    pooled = seen & (jnp.cumsum(seen, axis=1) > unpooled[:, None])
    return networks.embed(outputs["hidden"], pooled, pooling, normalize=False)

  return jax.jit(run)


@functools.cache
def hidden_states(config: EncoderConfig):
  """(params, inputs) → the last layer's vectors, [B, T, D]."""
  network = _encoder(config)
  return jax.jit(lambda params, inputs: network.apply({"params": params}, inputs)["hidden"])


@functools.cache
def attention_probabilities(config: EncoderConfig):
  """(params, inputs) → what each token attends to, [L, B, H, T, T]."""
  network = _encoder(config, record=True)
  return jax.jit(lambda params, inputs: network.apply({"params": params}, inputs)["attentions"])
