"""XLNet's permutation language model (Yang et al. 2019, section 2; xlnet, data_utils.py and function_builder.py).

B batch, T tokens, K predictions, M tokens of memory.

A factorization order is drawn for each example. The query stream predicts the tokens at the end of the order, each from
those before it; the content stream, whose tokens see themselves too, is what it looks at.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int

from bert_jax.architectures import EncoderConfig, XlnetConfig
from bert_jax.config import DataConfig
from bert_jax.data import permutations
from bert_jax.data.rows import Batch, Rows
from bert_jax.models import networks
from bert_jax.models.arrays import Array
from bert_jax.models.dropout import Noise
from bert_jax.models.inputs import Inputs
from bert_jax.models.vocabulary import VocabularyScores
from bert_jax.models.xlnet import remember
from bert_jax.objective_configs import PermutationConfig
from bert_jax.objectives.base import Frozen, Means, Objective, Params, Sums
from bert_jax.objectives.cls_last import cls_last
from bert_jax.objectives.masked_tokens import masked_lm, masked_lm_measure, masked_lm_measures, masked_lm_rows

if TYPE_CHECKING:
  from bert_jax.data.tokenizers import Tokenizer

_NETWORK = "permutation_lm"
_OF_MEMORY = 1 << 16  # noise of its own; no layer has this number


@dataclasses.dataclass(frozen=True)
class Permutation(Objective):
  """Tokens predicted in a random order.

  Memory is Transformer-XL's cut to one segment back (Dai et al. 2019, 3.2), so that a step depends on its batch alone:
  the tokens before an example, of the same document, are encoded by themselves, without a gradient, and every layer
  sees what came into it there. The released code carries these states from step to step instead, over rows that follow
  each other: its states had a memory themselves, come from parameters of a step before, did not see that row's targets,
  and are zeros at the beginning, where here nothing is seen. Evaluation has no memory, as fine-tuning has none: so the
  held-out batches are the same for every arm.
  """

  model: XlnetConfig
  settings: PermutationConfig

  def prepare(self, rows: Rows, seed: int, data: DataConfig, tokenizer: "Tokenizer") -> Batch:
    return permutations.prepare(rows, seed, data, tokenizer, self.settings)

  @property
  def loss_weights(self) -> dict[str, float]:
    return {"mlm_loss": 1.0}

  def init(self, key: Array) -> Params:
    return networks.init(self.network(_NETWORK), _NETWORK, key)

  def counts(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    return {"mlm_loss": jnp.sum(batch["mlm_weights"])}

  def sums(self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, shards: int) -> Sums:
    batch = cls_last(batch)
    mapping = at_places(batch["mlm_positions"], batch["mlm_weights"], batch["token_ids"].shape[1])
    hidden = hidden_in_order(batch["ranks"], jnp.any(mapping > 0, axis=1))
    asked = dataclasses.replace(Inputs.of(batch), hidden_tokens=hidden, target_mapping=mapping)
    scores = self._scores(params, dataclasses.replace(asked, **self._memory(params, batch, noise)), noise)
    return masked_lm(scores, batch["mlm_labels"], batch["mlm_weights"], shards)

  def _scores(self, params: Params, inputs: Inputs, noise: Noise | None) -> VocabularyScores:
    outputs: Any = self.network(_NETWORK).apply({"params": params}, inputs, noise)
    return outputs["mlm_scores"]

  def _memory(self, params: Params, batch: Mapping[str, Array], noise: Noise) -> dict[str, Array]:
    """Of `Inputs`, what the tokens before the examples come to; {} where the batch has none of these."""
    if "preceding_ids" not in batch:
      return {}
    token_ids = batch["preceding_ids"]
    places, size = jnp.arange(token_ids.shape[1])[None], token_ids.shape[1]
    there = places >= size - batch["num_preceding"][:, None]
    encoder = {"encoder": jax.lax.stop_gradient(params["encoder"])}
    outputs: Any = self.network("encoder", record=True).apply(
      {"params": encoder}, Inputs(token_ids, jnp.zeros_like(token_ids), there), noise.fold_in(_OF_MEMORY)
    )
    return {"memory": remember(outputs["hidden_states"], None, self.model), "memory_mask": there}

  def measure(self, data: DataConfig) -> str:
    return masked_lm_measure(data)

  def evaluate(
    self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, shards: int
  ) -> Sums:
    """As a masked language model is measured, at the same places, each predicted by the query stream.

    Nothing sees a place that shows [MASK], and so `mask_loss` is that of a token given all that is shown, as there. At
    the other predicted places the query stream does not look at the token that is shown there, but others do, so there
    `mlm_loss` measures neither copying nor prediction alone.
    """
    batch = cls_last(batch)
    length = batch["token_ids"].shape[1]
    mapping = at_places(batch["mlm_positions"], batch["mlm_weights"], length)
    shows_mask = jnp.any(at_places(batch["mlm_positions"], batch["mask_weights"], length) > 0, axis=1)
    hidden = shows_mask[:, None] | jnp.eye(length, dtype=bool)[None]  # the content stream sees itself nevertheless
    asked = dataclasses.replace(Inputs.of(batch), hidden_tokens=hidden, target_mapping=mapping)
    scores = self._scores(params, asked, None)
    return masked_lm_rows(scores, batch, shards)

  def measures(self, means: Mapping[str, Means], data: DataConfig) -> dict[str, float]:
    """See `masked_lm_measures`."""
    return masked_lm_measures(means, data)

  def trained(self, params: Params) -> dict[str, tuple[EncoderConfig, Params]]:
    return {_NETWORK: (self.model, params)}


def at_places(
  positions: Int[Array, "B K"], weights: Float32[Array, "B K"], length: int
) -> Float32[Array, "B K {length}"]:
  """One-hot, where each prediction stands; zeros for a slot that is not used."""
  return jax.nn.one_hot(positions, length) * weights[..., None]


def hidden_in_order(ranks: Int[Array, "B T"], targets: Bool[Array, "B T"]) -> Bool[Array, "B T T"]:
  """Where a token (row) may not look at another in the factorization order (xlnet, data_utils.py, _local_perm).

  A token looks at those of a lower rank, and so all look at those that are known from the beginning, which look at one
  another alone. A special token looks at itself, a target does not.

  Args:
    ranks: in the order; -1 for what is known from the beginning.
    targets: which tokens are predicted.
  """
  first_hidden = jnp.where(targets, ranks, ranks + 1)
  return (first_hidden[:, :, None] <= ranks[:, None]) & (ranks[:, None] >= 0)
