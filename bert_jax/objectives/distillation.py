"""Distillation of a masked language model into a smaller one (Sanh et al. 2019; distillation/distiller.py).

B batch, T tokens, K predictions, D hidden size, L layers.

Teacher and student read the same masked text. The student learns the teacher's answers, the masked tokens, and the
direction of the teacher's last hidden states.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Float

from bert_jax.architectures import EncoderConfig
from bert_jax.config import DataConfig
from bert_jax.models import networks
from bert_jax.models.arrays import Array
from bert_jax.models.dropout import Noise
from bert_jax.models.inputs import Inputs
from bert_jax.models.vocabulary import divergence
from bert_jax.objective_configs import DistillationConfig
from bert_jax.objectives.base import Frozen, Means, Objective, Params, Sums, masked_sum
from bert_jax.objectives.masked_tokens import masked_lm, masked_lm_measure, masked_lm_measures, masked_lm_rows


@dataclasses.dataclass(frozen=True)
class Distillation(Objective):
  """A student; its teacher is the frozen network."""

  settings: DistillationConfig

  @property
  def frozen_from(self) -> tuple[str, str]:
    assert self.settings.teacher is not None  # see validation.py
    return "objective.teacher", self.settings.teacher

  @property
  def starts_from_frozen(self) -> bool:
    return self.settings.initialize == "teacher"

  def check_frozen(self, frozen: Frozen) -> None:
    setting, path = self.frozen_from
    if frozen.network not in ("masked_lm", "pretraining", "enhanced_masked_lm"):
      raise ValueError(f"{setting}={path} has the network {frozen.network}, which fills no masks; give one that does")
    width, ours = frozen.model.hidden_size, self.model.hidden_size
    if self.settings.cosine_weight and width != ours:
      raise ValueError(
        f"{setting}={path} has hidden states of {width}, and model.hidden_size={ours}: they have no cosine; set"
        " objective.cosine_weight=0, or give both one width"
      )
    if self.starts_from_frozen:
      self.given(frozen.params)

  @property
  def loss_weights(self) -> dict[str, float]:
    of = self.settings
    weights = {"distillation_loss": of.distillation_weight, "mlm_loss": of.mlm_weight, "cosine_loss": of.cosine_weight}
    return {name: weight for name, weight in weights.items() if weight}

  def init(self, key: Array) -> Params:
    return networks.init(self.network("masked_lm"), "masked_lm", key)

  def given(self, start: Mapping[str, Any]) -> Params:
    """The teacher's embeddings and head, and of its layers as many as the student has, evenly spaced.

    Of twelve these are 0, 2, 4, 7, 9 and 11, as distillation/extract.py takes them. What the student lacks, such as
    segments, is left out.

    Raises:
      ValueError: the two have not the same kinds of layers, or the teacher has fewer.
    """
    own: dict[Any, Any] = dict(traverse_util.flatten_dict(jax.eval_shape(self.init, jax.random.key(0))))
    theirs: dict[Any, Any] = dict(traverse_util.flatten_dict(dict(start)))
    found: dict[Any, Any] = {}
    for path, shape in own.items():
      if path not in theirs:
        raise ValueError(f"the teacher has no {'/'.join(path)} to start from; set objective.initialize=random")
      array = theirs[path]
      if path[1] == "layers" and len(array) > len(shape):
        array = np.asarray(array)[spaced(len(array), len(shape))]
      if array.shape != shape.shape:
        raise ValueError(
          f"{'/'.join(path)} has the shape {list(array.shape)} in the teacher and {list(shape.shape)} here, so nothing"
          " can start from it; set objective.initialize=random"
        )
      found[path] = array
    return traverse_util.unflatten_dict(found)

  def counts(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    text, masked = jnp.sum(batch["attention_mask"]), jnp.sum(batch["mlm_weights"])
    of_teacher = text if self.settings.loss_over == "all" else masked
    counts = {"distillation_loss": of_teacher, "mlm_loss": masked, "cosine_loss": text}
    return {name: counts[name] for name in self.loss_weights}

  def sums(self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, shards: int) -> Sums:
    assert frozen is not None
    inputs, positions, text = Inputs.of(batch), batch["mlm_positions"], batch["attention_mask"]
    everywhere = self.settings.loss_over == "all"
    at = None if everywhere else positions
    teacher = self.network(frozen.network, frozen.model)
    theirs: Any = teacher.apply({"params": frozen.params}, inputs, None, mlm_positions=at)
    ours: Any = self.network("masked_lm").apply({"params": params}, inputs, noise, mlm_positions=at)
    weights = text.astype(jnp.float32) if everywhere else batch["mlm_weights"]
    scores = ours["mlm_scores"]
    apart = divergence(scores, theirs["mlm_scores"], weights, self.settings.temperature, shards)
    at_masks = scores.at(positions) if everywhere else scores
    cosine = cosines(ours["hidden"], theirs["hidden"]) if self.settings.cosine_weight else jnp.ones(text.shape)
    return masked_lm(at_masks, batch["mlm_labels"], batch["mlm_weights"], shards) | {
      "distillation_loss": (apart, jnp.sum(weights)),
      "cosine_loss": masked_sum(1 - cosine, text),
    }

  def measure(self, data: DataConfig) -> str:
    return masked_lm_measure(data)

  def evaluate(
    self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, shards: int
  ) -> Sums:
    outputs: Any = self.network("masked_lm").apply(
      {"params": params}, Inputs.of(batch), None, mlm_positions=batch["mlm_positions"]
    )
    return masked_lm_rows(outputs["mlm_scores"], batch, shards)

  def measures(self, means: Mapping[str, Means], data: DataConfig) -> dict[str, float]:
    """The student's alone: see `masked_lm_measures`."""
    return masked_lm_measures(means, data)

  def trained(self, params: Params) -> dict[str, tuple[EncoderConfig, Params]]:
    return {"masked_lm": (self.model, params)}


def spaced(of: int, number: int) -> list[int]:
  """So many layers of a teacher's, from the first to the last in even steps; of one, the first."""
  return np.rint(np.linspace(0, of - 1, number)).astype(int).tolist()


def cosines(one: Float[Array, "B T D"], other: Float[Array, "B T D"]) -> Float[Array, "B T"]:
  """The cosine of each token's two vectors."""
  product, squares = jnp.sum(one * other, axis=-1), jnp.sum(one**2, axis=-1) * jnp.sum(other**2, axis=-1)
  return product / jnp.sqrt(jnp.maximum(squares, 1e-16))
