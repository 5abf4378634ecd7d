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
  """Sequence ids keep sequences apart, and position ids give each its own first position.

  One batch has the packed row, each of its sequences in a row of its own, and the row without sequence ids.
  """
  config = ARCHITECTURES[kind](**SIZES | MORE.get(kind, {}) | {"initializer_range": 0.2})
  network = networks.build("encoder", config, scan_layers=True)
  params = networks.init(network, "encoder", jax.random.key(0))
  lengths = (5, 7, 3)
  packed = np.random.default_rng(0).integers(1, 61, sum(lengths))
  sequences = np.split(np.arange(len(packed)), np.cumsum(lengths)[:-1])  # places of each in the packed row
  token_ids = np.zeros((len(lengths) + 2, len(packed)), np.int32)
  token_ids[[0, -1]] = packed
  sequence_ids = np.zeros_like(token_ids)
  position_ids = np.broadcast_to(np.arange(len(packed), dtype=np.int32), token_ids.shape).copy()
  for number, places in enumerate(sequences):
    token_ids[1 + number, : len(places)] = packed[places]
    sequence_ids[0, places], position_ids[0, places] = number, np.arange(len(places))
  inputs = Inputs(token_ids, token_ids * 0, token_ids > 0, sequence_ids=sequence_ids, position_ids=position_ids)
  hidden = jax.jit(lambda given: network.apply({"params": params}, given)["hidden"])(inputs)
  for number, places in enumerate(sequences):
    np.testing.assert_allclose(hidden[0, places], hidden[1 + number, : len(places)], rtol=1e-4, atol=1e-5)  # other sums
    assert np.abs(hidden[-1, places] - hidden[0, places]).max() > 1e-2
