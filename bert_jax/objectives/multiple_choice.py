"""Which of several texts fits (Devlin et al. 2018, 4.4). B batch, A texts to choose from, T tokens."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import optax

from bert_jax.models.arrays import Array
from bert_jax.models.dropout import Noise
from bert_jax.models.inputs import Inputs
from bert_jax.objective_configs import MultipleChoiceConfig
from bert_jax.objectives.base import Params
from bert_jax.objectives.heads import HeadObjective, noise_of_texts


@dataclasses.dataclass(frozen=True)
class MultipleChoice(HeadObjective):
  """Labels of a batch: int32 [B], which of the A texts; its tokens are [B, A, T]."""

  settings: MultipleChoiceConfig
  head: ClassVar[str] = "multiple_choice"
  loss: ClassVar[str] = "choice_loss"

  def apply(self, params: Params, batch: Mapping[str, Array], noise: Noise | None) -> Mapping[str, Array]:
    noise = noise_of_texts(noise, batch["token_ids"].shape[1])
    found: Any = self.build().apply({"params": params}, Inputs.of(batch), noise)
    return found

  def scored(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
    logits, labels, weights = outputs["logits"], batch["labels"], batch["label_weights"]
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    right = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    return {self.loss: (nats, weights), "choice_accuracy": (right, weights)}
