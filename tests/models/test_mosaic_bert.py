"""MosaicBERT against its formulas."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from bert_jax.architectures import MosaicBertConfig
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs
from bert_jax.models.mosaic_bert import MosaicBertBlock, alibi_slopes
from tests.models.formulas import as_float64, attend, dense, gelu, layer_norm, of_layer, random_params
from tests.models.networks import noise_of

CONFIG = MosaicBertConfig(vocab_size=61, num_layers=3, hidden_size=20, num_heads=5, intermediate_size=37)
SLOPES = [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2]  # of 5 heads
LENGTHS = np.array([11, 3, 7, 9])


def inputs_of(padding: int = 0, length: int = 11) -> Any:
  """Four pairs of texts of LENGTHS, padded, with `padding` for all token ids that are padding."""
  draw = np.random.default_rng(1)
  token_ids = np.pad(draw.integers(1, 61, (4, 11), dtype=np.int32), ((0, 0), (0, length - 11)))
  seen = np.arange(length)[None] < LENGTHS[:, None]
  segment_ids = (np.arange(length)[None] >= LENGTHS[:, None] // 2).astype(np.int32)
  return Inputs(np.where(seen, token_ids, padding), segment_ids, seen)


def run(name: str, inputs: Any, **more: Any) -> tuple[Any, Any]:
  """(parameters, outputs) of a network."""
  network = networks.build(name, CONFIG, scan_layers=True, **more)
  params = random_params(jax.eval_shape(networks.initial(name, CONFIG)))
  return params, jax.jit(network.apply)({"params": params}, inputs)


def hidden_states(params: Any, token_ids: np.ndarray, segment_ids: np.ndarray) -> np.ndarray:
  """Of one text, in numpy: [T, D]."""
  embeddings, length = params["embeddings"], len(token_ids)
  x = layer_norm(embeddings["words"][token_ids] + embeddings["segments"][segment_ids], embeddings["layer_norm"])
  bias = np.zeros((5, length, length))
  for head, query, key in np.ndindex(bias.shape):
    bias[head, query, key] = -SLOPES[head] * abs(query - key)
  for layer in range(CONFIG.num_layers):
    block = of_layer(params["layers"], layer)
    attended = dense(attend(x, block, CONFIG.num_heads, bias), block["attention_output"])
    x = layer_norm(x + attended, block["attention_norm"])
    wide = dense(x, block["intermediate"])
    x = layer_norm(x + dense(gelu(wide[:, :37]) * wide[:, 37:], block["output"]), block["output_norm"])
  return x


def test_states_and_scores_are_those_of_the_formula() -> None:
  inputs = inputs_of()
  params, outputs = run("masked_lm", inputs)
  exact, logits = as_float64(params), np.asarray(outputs["mlm_scores"].logits())
  assert set(params["encoder"]["embeddings"]) == {"words", "segments", "layer_norm"}
  assert set(params["encoder"]["layers"]["intermediate"]) == {"kernel"}
  head = exact["mlm_head"]
  for row, length in enumerate(LENGTHS):
    wanted = hidden_states(exact["encoder"], inputs.token_ids[row, :length], inputs.segment_ids[row, :length])
    np.testing.assert_allclose(outputs["hidden"][row, :length], wanted, rtol=1e-4, atol=1e-4)  # float32
    features = layer_norm(gelu(dense(wanted, head["dense"])), head["layer_norm"])
    scores = features @ exact["encoder"]["embeddings"]["words"].T + head["bias"]
    np.testing.assert_allclose(logits[row, :length], scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("heads", "slopes"),
  [
    (1, [2**-8]),
    (8, [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]),
    (5, SLOPES),
    # BERT-base's: those of 8, and the first, third, fifth and seventh of 16
    (12, [*(2.0 ** -np.arange(1, 9)), 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
  ],
)
def test_slopes_are_those_of_alibis_code(heads: int, slopes: list[float]) -> None:
  np.testing.assert_allclose(alibi_slopes(heads), slopes, rtol=1e-12)


def test_padding_has_no_influence() -> None:
  inputs = inputs_of()
  one, other, longer = (
    np.asarray(run("encoder", x)[1]["hidden"]) for x in (inputs, inputs_of(padding=7), inputs_of(7, length=29))
  )
  np.testing.assert_array_equal(one[inputs.attention_mask], other[inputs.attention_mask])
  seen = longer[:, :11][inputs.attention_mask]
  np.testing.assert_allclose(seen, one[inputs.attention_mask], rtol=1e-4, atol=1e-5)  # sums over more keys
  assert not np.allclose(one[~inputs.attention_mask], other[~inputs.attention_mask], atol=0.1)


def test_fused_attention_has_the_biases_too() -> None:
  inputs = inputs_of()
  explicit, fused = (
    np.asarray(run("encoder", inputs, attention_implementation=name)[1]["hidden"]) for name in ("explicit", "fused")
  )
  np.testing.assert_allclose(
    fused[inputs.attention_mask], explicit[inputs.attention_mask], rtol=1e-4, atol=1e-5
  )  # sums in another order


def test_a_gates_dropout_is_before_the_second_layer() -> None:
  """With its inputs dropped, but for a share of 1e-9, the feed-forward part adds that layer's bias."""
  block = MosaicBertBlock(dataclasses.replace(CONFIG, hidden_dropout=1 - 1e-9))
  x = np.random.default_rng(0).normal(size=(4, 11, 20)).astype(np.float32)
  rest: Any = (inputs_of().visible(), noise_of(4), np.array(0, np.uint32))
  params = random_params(jax.eval_shape(lambda: block.init(jax.random.key(0), x, *rest))["params"])
  found: Any = jax.jit(block.apply)({"params": params}, x, *rest)
  exact = as_float64(params)
  normed = layer_norm(x.astype(np.float64), exact["attention_norm"])
  wanted = layer_norm(normed + exact["output"]["bias"], exact["output_norm"])
  np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-4)
