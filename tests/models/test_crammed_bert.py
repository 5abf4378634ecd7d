"""The crammed BERT against its formulas."""

from typing import Any

import jax
import numpy as np
import pytest

from bert_jax.architectures import CrammedBertConfig, check
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs
from tests.models.formulas import as_float64, attend, dense, gelu, layer_norm, of_layer, random_params

CONFIG = CrammedBertConfig(
  vocab_size=61, num_layers=3, hidden_size=20, num_heads=5, intermediate_size=38, max_positions=17, pooler_size=11
)
LENGTHS = np.array([11, 3, 7, 9])


def inputs_of(padding: int = 0) -> Any:
  """Four texts of LENGTHS, padded to 11 tokens, with `padding` for all token ids that are padding."""
  token_ids = np.random.default_rng(1).integers(1, 61, (4, 11), dtype=np.int32)
  seen = np.arange(11)[None] < LENGTHS[:, None]
  return Inputs(np.where(seen, token_ids, padding), np.zeros_like(token_ids), seen)


def run(name: str, inputs: Any, **more: Any) -> tuple[Any, Any]:
  """(parameters, outputs) of a network."""
  network = networks.build(name, CONFIG, 4, scan_layers=True, **more)
  params = random_params(jax.eval_shape(networks.initial(name, CONFIG, 4)))
  return params, jax.jit(network.apply)({"params": params}, inputs)


def hidden_states(params: Any, token_ids: np.ndarray) -> np.ndarray:
  """Of one text, in numpy: [T, D]."""
  embeddings, length, size = params["embeddings"], len(token_ids), CONFIG.hidden_size
  sinusoids = np.zeros((length, size))
  for position, pair in np.ndindex(length, size // 2):
    angle = position / 10_000 ** (2 * pair / size)
    sinusoids[position, 2 * pair : 2 * pair + 2] = np.sin(angle), np.cos(angle)
  x = embeddings["words"][token_ids] + embeddings["position_scale"] * sinusoids
  x = layer_norm(x, embeddings["layer_norm"])
  for layer in range(CONFIG.num_layers):
    block = of_layer(params["layers"], layer)
    x = x + dense(attend(layer_norm(x, block["attention_norm"]), block, CONFIG.num_heads), block["attention_output"])
    wide = dense(layer_norm(x, block["output_norm"]), block["intermediate"])
    x = x + dense(wide[:, :19] * gelu(wide[:, 19:]), block["output"])
  return layer_norm(x, params["final_norm"])


def test_states_and_scores_are_those_of_the_formula() -> None:
  inputs = inputs_of()
  params, outputs = run("masked_lm", inputs)
  exact, logits = as_float64(params), np.asarray(outputs["mlm_scores"].logits())
  assert set(params) == {"encoder"}, "the head has no parameters"
  for row, length in enumerate(LENGTHS):
    wanted = hidden_states(exact["encoder"], inputs.token_ids[row, :length])
    np.testing.assert_allclose(outputs["hidden"][row, :length], wanted, rtol=1e-4, atol=1e-4)  # float32
    scores = wanted @ exact["encoder"]["embeddings"]["words"].T
    np.testing.assert_allclose(logits[row, :length], scores, rtol=1e-4, atol=1e-4)


def test_a_classifier_reads_a_layer_of_its_own_width() -> None:
  inputs = inputs_of()
  params, outputs = run("sequence_classification", inputs)
  exact = as_float64(params)
  assert exact["pooler"]["dense"]["kernel"].shape == (20, 11)
  for row, length in enumerate(LENGTHS):
    first = hidden_states(exact["encoder"], inputs.token_ids[row, :length])[0]
    wanted = dense(np.tanh(dense(first, exact["pooler"]["dense"])), exact["classifier"])
    np.testing.assert_allclose(outputs["logits"][row], wanted, rtol=1e-4, atol=1e-4)


def test_padding_has_no_influence() -> None:
  inputs = inputs_of()
  one, other = (np.asarray(run("encoder", x)[1]["hidden"]) for x in (inputs, inputs_of(padding=7)))
  np.testing.assert_array_equal(one[inputs.attention_mask], other[inputs.attention_mask])
  assert not np.allclose(one[~inputs.attention_mask], other[~inputs.attention_mask], atol=0.1)


def test_the_scale_of_positions_begins_at_one_by_the_root_of_the_width() -> None:
  params: Any = networks.initial("encoder", CONFIG)()
  assert float(params["encoder"]["embeddings"]["position_scale"]) == pytest.approx(20**-0.5)


def test_what_cannot_be_is_refused() -> None:
  token_ids = np.ones((1, 18), np.int32)
  with pytest.raises(ValueError, match=r"18 tokens is longer than model\.max_positions=17"):
    run("encoder", Inputs(token_ids, token_ids, token_ids == 1))  # type: ignore[arg-type]
  with pytest.raises(ValueError, match=r"^model\.intermediate_size=37 must be even: .*; try 38$"):
    check(CrammedBertConfig(intermediate_size=37))
