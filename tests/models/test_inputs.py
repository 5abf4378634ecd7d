"""What a packed row may not do: let one of its sequences see another."""

from typing import Any

import jax
import numpy as np
import pytest

from bert_jax.architectures import ARCHITECTURES
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs

SIZES: dict[str, Any] = {"vocab_size": 61, "num_layers": 3, "hidden_size": 24, "num_heads": 4, "intermediate_size": 37}
MORE: dict[str, dict[str, Any]] = {
  "albert": {"embedding_size": 13},
  "electra": {"embedding_size": 13},
  "deberta": {"max_distance": 20, "input_positions": True},
  "deberta-v2": {"max_distance": 20, "position_buckets": 6},
  "modernbert": {"local_window": 4},
  "crammed-bert": {"intermediate_size": 38},
}


# Those whose attention or positions are their own; the others have BERT's.
OWN = ("bert", "modernbert", "deberta", "mosaic-bert", "crammed-bert")


@pytest.mark.parametrize(
  "kind", [pytest.param(k, marks=() if k in OWN else pytest.mark.exhaustive) for k in ARCHITECTURES]
)
def test_a_packed_sequence_reads_as_it_does_alone(kind: str) -> None:
  """Sequence ids keep sequences apart, and position ids give each its own first position."""
  config = ARCHITECTURES[kind](**SIZES | MORE.get(kind, {}) | {"initializer_range": 0.2})
  network = networks.build("encoder", config, scan_layers=True)
  params = networks.init(network, "encoder", jax.random.key(0))
  draw = np.random.default_rng(0)
  lengths = (5, 7, 3)
  texts = [draw.integers(1, 61, length) for length in lengths]
  row = np.concatenate(texts)[None].astype(np.int32)

  def hidden(**more: Any) -> np.ndarray:
    found: Any = network.apply({"params": params}, Inputs(row, row * 0, row >= 0, **more))
    return np.asarray(found["hidden"][0])

  sequence_ids = np.repeat(np.arange(3), lengths)[None].astype(np.int32)
  position_ids = np.concatenate([np.arange(length) for length in lengths])[None].astype(np.int32)
  packed, mixed = hidden(sequence_ids=sequence_ids, position_ids=position_ids), hidden()
  for number, text in enumerate(texts):
    ids = text[None].astype(np.int32)
    alone: Any = network.apply({"params": params}, Inputs(ids, ids * 0, ids >= 0))
    mine = packed[sequence_ids[0] == number]
    np.testing.assert_allclose(mine, alone["hidden"][0], rtol=1e-4, atol=1e-5)  # sums over more keys
    assert np.abs(mixed[sequence_ids[0] == number] - mine).max() > 1e-2
