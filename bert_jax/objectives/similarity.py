"""How alike two texts are, each encoded by itself (Reimers and Gurevych 2019). B batch, T tokens, D hidden size."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import optax

from bert_jax.models import networks
from bert_jax.models.arrays import Array
from bert_jax.models.dropout import Noise
from bert_jax.objective_configs import SimilarityConfig
from bert_jax.objectives.base import Params
from bert_jax.objectives.heads import HeadObjective, flat, noise_of_texts


@dataclasses.dataclass(frozen=True)
class Similarity(HeadObjective):
  """The cosine of two texts' vectors; tokens of a batch are [B, 2, T].

  Labels of a batch, with the loss `cosine`: float32 [B], how alike the two are, from 0 to 1. With `in_batch` there are
  none: the second text of a row answers the first, and those of all other rows do not, but for the rows that have the
  same one. This loss of a row depends on the other rows, so a batch cannot be split into microbatches; over devices it
  is whole.
  """

  settings: SimilarityConfig
  head: ClassVar[str] = "encoder"
  loss: ClassVar[str] = "similarity_loss"

  def kept(self) -> tuple[str, ...]:
    return ("encoder",)

  def apply(self, params: Params, batch: Mapping[str, Array], noise: Noise | None) -> Mapping[str, Array]:
    """→ `vectors` float32 [B, 2, D], of length 1."""
    inputs = flat(batch)
    outputs: Any = self.build().apply({"params": params}, inputs, noise_of_texts(noise, 2))
    vectors = networks.embed(outputs["hidden"], inputs.attention_mask, self.settings.pooling, normalize=True)
    return {"vectors": vectors.reshape(-1, 2, vectors.shape[-1])}

  def scored(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
    vectors, weights = outputs["vectors"], batch["label_weights"]
    if self.settings.loss == "cosine":
      cosines = jnp.sum(vectors[:, 0] * vectors[:, 1], axis=-1)
      return {self.loss: (jnp.square(cosines - batch["labels"]), weights)}
    cosines = vectors[:, 0] @ vectors[:, 1].T  # [B, B]
    own = jnp.arange(len(cosines))
    second = batch["token_ids"][:, 1]
    again = jnp.all(second[:, None] == second[None], axis=-1) & (own[:, None] != own[None])  # right answers as well
    # Rows that fill up a batch are no wrong answers.
    cosines = jnp.where((weights[None] > 0) & ~again, cosines, -1e9)
    nats = optax.softmax_cross_entropy_with_integer_labels(self.settings.scale * cosines, own)
    right = (jnp.argmax(cosines, axis=-1) == own).astype(jnp.float32)
    return {self.loss: (nats, weights), "match_accuracy": (right, weights)}
