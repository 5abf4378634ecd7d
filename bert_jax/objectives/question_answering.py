"""Where an answer starts and ends (Devlin et al. 2018, 4.2 and 4.3). B batch, T tokens."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from bert_jax.models.arrays import Array
from bert_jax.objective_configs import QuestionAnsweringConfig
from bert_jax.objectives.heads import HeadObjective


@dataclasses.dataclass(frozen=True)
class QuestionAnswering(HeadObjective):
  """Labels of a batch: starts and ends, bool [B, T], each True at one token; at [CLS] where a window has no answer."""

  settings: QuestionAnsweringConfig
  head: ClassVar[str] = "question_answering"
  loss: ClassVar[str] = "span_loss"

  def scored(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
    nats, right = jnp.zeros_like(batch["label_weights"]), jnp.ones_like(batch["label_weights"])
    for logits, places in ((outputs["start_logits"], batch["starts"]), (outputs["end_logits"], batch["ends"])):
      # Padding is no place for an answer, and so not among what the probability is shared out over.
      logits = jnp.where(batch["attention_mask"], logits, -1e9)
      nats -= jnp.sum(jnp.where(places, jax.nn.log_softmax(logits), 0), axis=1) / 2
      right *= jnp.take_along_axis(places, jnp.argmax(logits, axis=1)[:, None], axis=1)[:, 0]
    return {self.loss: (nats, batch["label_weights"]), "span_accuracy": (right, batch["label_weights"])}
