"""A tag for each word (Devlin et al. 2018, 5.3). B batch, T tokens, C tags."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
import optax

from bert_jax.models import networks
from bert_jax.models.arrays import Array
from bert_jax.objective_configs import TaggingConfig
from bert_jax.objectives.heads import HeadObjective


@dataclasses.dataclass(frozen=True)
class Tagging(HeadObjective):
  """Tags of a batch: int32 [B, T], of the first token of each word; -1 on all other tokens, which do not count."""

  settings: TaggingConfig
  head: ClassVar[str] = "token_classification"
  loss: ClassVar[str] = "tag_loss"

  def build(self) -> networks.Network:
    return self.network(self.head, num_classes=self.settings.num_classes)

  def weights(self, batch: Mapping[str, Array]) -> Array:
    return (batch["tags"] >= 0) * batch["label_weights"][:, None]

  def scored(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
    logits, tags, weights = outputs["logits"], jnp.maximum(batch["tags"], 0), self.weights(batch)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, tags)
    right = (jnp.argmax(logits, axis=-1) == tags).astype(jnp.float32)
    return {self.loss: (nats, weights), "tag_accuracy": (right, weights)}
