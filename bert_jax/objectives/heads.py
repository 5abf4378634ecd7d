"""What the objectives of tasks have alike: a head over an encoder, one loss. B batch, A texts, T tokens."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from bert_jax.architectures import EncoderConfig
from bert_jax.config import DataConfig
from bert_jax.models import inputs as inputs_of
from bert_jax.models import networks
from bert_jax.models.arrays import Array
from bert_jax.models.dropout import Noise
from bert_jax.models.inputs import Inputs
from bert_jax.objectives.base import Frozen, Means, Objective, Params, Sums, masked_sum, row_sums


@dataclasses.dataclass(frozen=True)
class HeadObjective(Objective):
  """A task's objective.

  Its batches have token_ids, segment_ids and attention_mask [B, T] (or [B, A, T]), label_weights float32 [B], which is
  0 on rows that fill up a batch, and what the task says.

  Attributes:
    head: the network, of `networks.NETWORKS`.
    loss: what is minimized, the first of `scored`.
  """

  head: ClassVar[str]
  loss: ClassVar[str]

  # ---- what a task says ----

  def build(self) -> networks.Network:
    """The network."""
    return self.network(self.head)

  @abc.abstractmethod
  def scored(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
    """The loss, then other measures: values and their weights, [B] or [B, T]. Summed, these weights are `counts`."""

  def weights(self, batch: Mapping[str, Array]) -> Array:
    """Those of the loss, [B] or [B, T]; they are known before the forward pass."""
    return batch["label_weights"]

  def kept(self) -> tuple[str, ...]:
    """Parts of a pretrained network that this one goes on with; its last layer is a new task's own."""
    return ("encoder", "pooler")

  # ---- what follows ----

  @property
  def loss_weights(self) -> dict[str, float]:
    return {self.loss: 1.0}

  def init(self, key: Array) -> Params:
    return networks.init(self.build(), self.head, key)

  def given(self, start: Mapping[str, Any]) -> Params:
    own = jax.eval_shape(self.init, jax.random.key(0))
    return {name: part for name, part in start.items() if name in self.kept() and name in own}

  def apply(self, params: Params, batch: Mapping[str, Array], noise: Noise | None) -> Mapping[str, Array]:
    """The network's outputs for a batch."""
    found: Any = self.build().apply({"params": params}, Inputs.of(batch), noise)
    return found

  def counts(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    return {self.loss: jnp.sum(self.weights(batch))}

  def sums(self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, shards: int) -> Sums:
    found = self.scored(self.apply(params, batch, noise), batch)
    return {name: masked_sum(*pair) for name, pair in found.items()}

  def seen(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    return {"tokens": jnp.sum(batch["attention_mask"]), "predicted_tokens": jnp.sum(self.weights(batch))}

  def measure(self, data: DataConfig) -> str:
    return self.loss

  def evaluate(
    self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, shards: int
  ) -> Sums:
    found = self.scored(self.apply(params, batch, None), batch)
    return {name: row_sums(*pair) for name, pair in found.items()}

  def measures(self, means: Mapping[str, Means], data: DataConfig) -> dict[str, float]:
    return dict(means["test"])

  def trained(self, params: Params) -> dict[str, tuple[EncoderConfig, Params]]:
    return {self.head: (self.model, params)}


def noise_of_texts(noise: Noise | None, texts: int) -> Noise | None:
  """The noise of B rows for A texts of each row: [B · A]."""
  if noise is None:
    return None
  rows = noise.rows[:, None] * texts + jnp.arange(texts, dtype=noise.rows.dtype)[None]
  return dataclasses.replace(noise, rows=rows.reshape(-1))


def flat(batch: Mapping[str, Array]) -> Inputs:
  """The inputs of a batch whose rows have A texts each: [B · A, T]."""
  return inputs_of.flat(Inputs.of(batch))
