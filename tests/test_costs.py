"""Counted computation against the products of matrices in the traced step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from bert_jax.architectures import (
  AlbertConfig,
  Architecture,
  BertConfig,
  CrammedBertConfig,
  DistilBertConfig,
  ElectraConfig,
  ModernBertConfig,
  MosaicBertConfig,
  RobertaConfig,
  XlnetConfig,
)
from bert_jax.config import Config, DataConfig, TrainConfig
from bert_jax.costs import multiplications
from bert_jax.objective_configs import MaskedTokensConfig, Objective, ReplacedTokensConfig
from bert_jax.objectives import objective_of
from bert_jax.training import step
from tests.models.networks import noise_of
from tests.traced import products

B, T, K, V = 8, 40, 6, 256  # the product with the vocabulary pads it to a multiple of 128
SIZES: dict[str, Any] = {"num_layers": 3, "hidden_size": 24, "num_heads": 3, "intermediate_size": 52, "vocab_size": V}
ZERO = {"hidden_dropout": 0.0, "attention_dropout": 0.0}


AS_BERT = (RobertaConfig, DistilBertConfig)
KINDS = (
  BertConfig,
  AlbertConfig,
  ElectraConfig,
  ModernBertConfig,
  MosaicBertConfig,
  CrammedBertConfig,
)


@pytest.mark.parametrize(
  ("kind", "aim"),
  [
    *((kind, MaskedTokensConfig()) for kind in KINDS),
    *(pytest.param(kind, MaskedTokensConfig(), marks=pytest.mark.exhaustive) for kind in AS_BERT),
    (ElectraConfig, ReplacedTokensConfig(generator_size=0.5, generator_layers=0.7)),
    (ElectraConfig, ReplacedTokensConfig(predicts="tokens", sharing="none")),
  ],
)
def test_what_is_counted_is_what_the_step_multiplies(kind: Any, aim: Objective):
  sizes = SIZES | ZERO | ({"embedding_size": 20} if kind in (AlbertConfig, ElectraConfig) else {})
  model: Architecture = kind(**sizes)
  config = Config(
    model,
    data=DataConfig(max_seq_len=T),
    objective=aim,
    train=TrainConfig(steps=1, batch_size=B),
  )
  objective = objective_of(config)
  params = step.init_params(objective, 0)
  batch = {
    "token_ids": jnp.ones((B, T), jnp.int32),
    "segment_ids": jnp.zeros((B, T), jnp.int32),
    "attention_mask": jnp.ones((B, T), bool),
    "mlm_positions": jnp.zeros((B, K), jnp.int32),
    "mlm_labels": jnp.ones((B, K), jnp.int32),
    "mlm_weights": jnp.ones((B, K)),
  }

  def loss(params: Any) -> Any:
    sums = objective.sums(params, None, batch, noise_of(B), 1)
    return sum(sums[name][0] for name in objective.loss_weights)

  traced = products(jax.make_jaxpr(jax.value_and_grad(loss))(params).jaxpr)
  # Not counted: segments looked up by a product, the gradient of the vocabulary's bias, and the
  # scores of all tokens once more for their gradient, as the gate that copies has it.
  networks = 2 if isinstance(aim, ReplacedTokensConfig) else 1
  predictions = T if isinstance(aim, ReplacedTokensConfig) and aim.predicts == "tokens" else 0
  rest = networks * 2 * B * T * 2 * SIZES["hidden_size"] + B * (K + predictions) * V + B * predictions * 20 * V
  assert traced - rest <= multiplications(config) <= traced


def test_phases_are_counted_by_their_lengths_and_batches():
  config = Config(
    BertConfig(**SIZES),
    data=DataConfig(max_seq_len=T),
    train=TrainConfig(steps=10, batch_size=B, phases="0.7*16x4,0.3*40x8"),
  )

  def plain(length: int, rows: int, steps: int) -> int:
    train = TrainConfig(steps=steps, batch_size=rows)
    return multiplications(dataclasses.replace(config, data=DataConfig(max_seq_len=length), train=train))

  assert multiplications(config) == plain(16, 4, 7) + plain(40, 8, 3)


def test_what_is_not_counted_is_refused():
  with pytest.raises(ValueError, match=r"with bert, [a-z, -]*; got masked_tokens with xlnet"):
    multiplications(Config(XlnetConfig()))
