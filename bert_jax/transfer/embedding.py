"""One vector for each text: cut into windows, encoded in batches, pooled.

N texts, W windows, B rows of a batch, T tokens, D hidden size.
"""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from bert_jax.architectures import EncoderConfig
from bert_jax.data.frames import Frame, frame_of
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.interop.pretrained import Pretrained
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs
from bert_jax.transfer import windows as windowed

_TEXTS_AT_ONCE = 65_536  # texts whose windows are in memory together
_CPU_TOKENS = 2048  # of a batch: with four times as many, MiniLM's activations leave the caches, and it runs at 3/4
Pooling = Literal["cls", "mean", "max"]


@dataclasses.dataclass(frozen=True)
class Windows:
  """How a text is read.

  Attributes:
    max_tokens: of a window, special tokens counted.
    stride: tokens from one window to the next; None: only the first window is read.
    unpooled: tokens at the front of each window that are read and not pooled.
  """

  max_tokens: int
  stride: int | None
  unpooled: int = 0


def vectors(
  model: Pretrained, params: Any, texts: Sequence[str], pooling: Pooling, windows: Windows, batch_size: int, bar: Any
) -> np.ndarray:
  """See `Model.embed`.

  Args:
    params: of the model, where they are to be computed with.
    bar: is told of each text that is done.

  Returns:
    float32 [N, D], not normalised.
  """
  result = np.zeros((len(texts), model.config.hidden_size), np.float32)
  for first in range(0, len(texts), _TEXTS_AT_ONCE):
    some = texts[first : first + _TEXTS_AT_ONCE]
    result[first : first + len(some)] = _some_vectors(model, params, some, pooling, windows, batch_size, bar)
  return result


def _some_vectors(
  model: Pretrained, params: Any, texts: Sequence[str], pooling: Pooling, windows: Windows, batch_size: int, bar: Any
) -> np.ndarray:
  config, tokenizer, frame = model.config, model.tokenizer, frame_of(model.config)
  assert tokenizer is not None
  rows, owners = _cut(texts, tokenizer, frame, pooling, windows)
  lengths = np.array([len(row) for row in rows])
  run, found = _pooled(config, pooling), np.zeros((len(rows), config.hidden_size), np.float32)
  encoder = {"encoder": params["encoder"]}
  left = np.bincount(owners)  # windows to come, of each text

  def of_batch(batch: tuple[int, int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    size, length, indices = batch
    inputs = Inputs.of(frame.batch([rows[i] for i in indices], size, length, tokenizer.pad_id))
    unpooled = np.where(np.arange(size) < len(indices), windows.unpooled, 0).astype(np.int32)
    return indices, np.asarray(run(encoder, inputs, unpooled))[: len(indices)]

  # Two at a time: while one is made ready, or is in a part that one core does, the other keeps the device busy.
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    most = _CPU_TOKENS if jax.default_backend() == "cpu" else None
    for indices, some in pool.map(of_batch, windowed.batches(lengths, batch_size, config.longest_input, most)):
      found[indices] = some
      touched, counts = np.unique(owners[indices], return_counts=True)
      left[touched] -= counts
      bar.update(int(np.sum(left[touched] == 0)))
  return _over_windows(found, owners, pooling)


def _cut(
  texts: Sequence[str], tokenizer: Tokenizer, frame: Frame, pooling: Pooling, windows: Windows
) -> tuple[list[np.ndarray], np.ndarray]:
  """The token ids of each window, special ones and all, and whose each is: int [W], ascending."""
  rows, owners, beyond = [], [], 0
  room = windows.max_tokens - 2
  for owner, (ids, _) in enumerate(tokenizer.encode(texts)):
    some = windowed.windows(ids, room, windows.stride) if windows.stride else [ids[:room]]
    rows += [frame.text(window, tokenizer) for window in some]
    owners += [owner] * len(some)
    beyond += len(ids) > room
  if beyond:
    how = f"read in windows of that length, {windows.stride} tokens apart, and pooled over all of them ({pooling})"
    logging.info(
      "%d of %d texts have more than %d tokens; they are %s",
      *(beyond, len(texts), windows.max_tokens, how if windows.stride else "cut"),
    )
  return rows, np.array(owners)


def _over_windows(found: np.ndarray, owners: np.ndarray, pooling: Pooling) -> np.ndarray:
  """Windows' vectors [W, D] to those of their texts [N, D]; `owners` says whose, in order.

  All windows of a text have one length, so their plain mean is that over their tokens.
  """
  starts = np.flatnonzero(np.diff(owners, prepend=-1))
  if len(starts) == len(owners):
    return found
  if pooling == "max":
    return np.maximum.reduceat(found, starts)
  return np.add.reduceat(found, starts) / np.bincount(owners)[:, None]


def encoder_of(config: EncoderConfig, **computation: Any) -> networks.Network:
  """The encoder alone: its parameters are the same in every network."""
  # Layers in a loop: in a third of the time compiled, and as quick to run without a backward pass.
  return networks.build("encoder", config, scan_layers=True, **computation)


@functools.cache
def _pooled(config: EncoderConfig, pooling: Pooling):
  """(params, inputs, unpooled) → [B, D]; `unpooled`: see `Windows`, int32 [B]."""
  network = encoder_of(config)

  def run(params: Any, inputs: Inputs, unpooled: jax.Array) -> jax.Array:
    outputs: Any = network.apply({"params": params}, inputs)
    if pooling == "cls" and config.cls_last:
      return outputs["hidden"][:, -1]
    seen = inputs.attention_mask
    pooled = seen & (jnp.cumsum(seen, axis=1) > unpooled[:, None])
    return networks.embed(outputs["hidden"], pooled, pooling, normalize=False)

  return jax.jit(run)
