"""One label for a text or a pair of texts (Devlin et al. 2018, 4.1). B batch, C classes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from bert_jax.architectures import EncoderConfig
from bert_jax.config import ClassificationConfig, DataConfig
from bert_jax.models import networks
from bert_jax.models.arrays import Array
from bert_jax.models.dropout import Noise
from bert_jax.models.inputs import Inputs
from bert_jax.objectives.base import Means, Objective, Params, Sums, masked_sum, row_sums

NAME = "sequence_classification"


@dataclasses.dataclass(frozen=True)
class Classification(Objective):
  """The label of a text.

  Its batches have token_ids, segment_ids and attention_mask [B, T], labels int32 [B] and label_weights float32 [B],
  which is 0 on rows that fill up a batch.
  """

  settings: ClassificationConfig

  @property
  def loss_weights(self) -> dict[str, float]:
    return {"label_loss": 1.0}

  def _network(self) -> networks.Network:
    return self.network(NAME, num_classes=self.settings.num_classes, pooling=self.settings.pooling)

  def init(self, key: Array) -> Params:
    return networks.init(self._network(), NAME, key)

  def given(self, start: Mapping[str, Any]) -> Params:
    # A classifier's last layer is a new task's own, and a pooler that nothing reads is none of this network's.
    kept = ("encoder",) if self.settings.pooling == "mean" else ("encoder", "pooler")
    return {name: part for name, part in start.items() if name in kept}

  def counts(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    return {"label_loss": jnp.sum(batch["label_weights"])}

  def sums(self, params: Params, frozen: Params, batch: Mapping[str, Array], noise: Noise, shards: int) -> Sums:
    nats, right = self._scored(params, batch, noise)
    weights = batch["label_weights"]
    return {"label_loss": masked_sum(nats, weights), "label_accuracy": masked_sum(right, weights)}

  def seen(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    return {"tokens": jnp.sum(batch["attention_mask"]), "predicted_tokens": jnp.sum(batch["label_weights"])}

  def _scored(self, params: Params, batch: Mapping[str, Array], noise: Noise | None) -> tuple[Array, Array]:
    outputs: Any = self._network().apply({"params": params}, Inputs.of(batch), noise)
    logits, labels = outputs["logits"], batch["labels"]
    right = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels), right

  def measure(self, data: DataConfig) -> str:
    return "label_loss"

  def evaluate(self, params: Params, batch: Mapping[str, Array], noise: Noise, shards: int) -> Sums:
    nats, right = self._scored(params, batch, None)
    weights = batch["label_weights"]
    return {"label_loss": row_sums(nats, weights), "label_accuracy": row_sums(right, weights)}

  def measures(self, means: Mapping[str, Means], data: DataConfig) -> dict[str, float]:
    return dict(means["test"])

  def trained(self, params: Params) -> dict[str, tuple[EncoderConfig, Params]]:
    return {NAME: (self.model, params)}
