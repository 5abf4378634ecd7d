"""What a text or a pair of texts is (Devlin et al. 2018, 4.1). B batch, C outputs."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
import optax

from bert_jax.models import networks
from bert_jax.models.arrays import Array
from bert_jax.objective_configs import ClassificationConfig
from bert_jax.objectives.heads import HeadObjective


@dataclasses.dataclass(frozen=True)
class Classification(HeadObjective):
  """One class, any of several labels, or a number.

  Labels of a batch: int32 [B] classes; or float32 [B, C], 1 where a label holds; or float32 [B], a number.
  """

  settings: ClassificationConfig
  head: ClassVar[str] = "sequence_classification"
  loss: ClassVar[str] = "label_loss"

  def build(self) -> networks.Network:
    return self.network(self.head, num_classes=self.settings.num_classes, pooling=self.settings.pooling)

  def kept(self) -> tuple[str, ...]:
    # A pooler that nothing reads is none of this network's.
    return ("encoder",) if self.settings.pooling == "mean" else ("encoder", "pooler")

  def scored(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
    logits, labels, weights = outputs["logits"], batch["labels"], batch["label_weights"]
    if self.settings.problem == "regression":
      return {self.loss: (jnp.square(logits[:, 0] - labels), weights)}
    if self.settings.problem == "multi_label":
      nats = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels), axis=1)
      right = jnp.mean((logits > 0) == (labels > 0), axis=1)  # of the labels, whether each holds
    else:
      nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      right = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    return {self.loss: (nats, weights), "label_accuracy": (right, weights)}
