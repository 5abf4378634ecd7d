"""Architectures that are framed, padded or asked in ways of their own, as models to ask."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from bert_jax.config import Config
from bert_jax.data.frames import Frame, frame_of
from bert_jax.inference import masks, windows
from bert_jax.inference.embedding import Pooling
from bert_jax.inference.model import Model
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs
from bert_jax.objective_configs import MaskedTokensConfig
from tests.interop import small

TEXTS = ["Snow is white.", "The cat sat on the mat, and the sea is cold.", "cat"]


def model_of(name: str) -> Model:
  return small.make(name, tokenizer=small.tokenizer_of())


@pytest.mark.parametrize(
  ("name", "pooling"), [("xlnet", "cls"), ("deberta-v2", "mean"), ("modernbert", "cls"), ("albert", "mean")]
)
def test_padding_has_no_influence(name: str, pooling: Pooling, monkeypatch: pytest.MonkeyPatch) -> None:
  model = model_of(name)
  alone = np.stack([model.embed(text, pooling) for text in TEXTS])
  monkeypatch.setattr(windows, "bucket", lambda length, longest: 33)
  np.testing.assert_allclose(model.embed(TEXTS, pooling), alone, rtol=1e-4, atol=1e-5)  # sums in another order
  assert np.abs(alone[0] - alone[1]).max() > 1e-2


def test_xlnet_has_its_special_tokens_at_the_end_and_pads_in_front() -> None:
  model = model_of("xlnet")
  encoding = model.encode("cat")
  assert encoding.tokens == ["cat", "[SEP]", "[CLS]"]
  assert encoding.segment_ids.tolist() == [0, 0, 2]
  token_ids, segment_ids, attention_mask = Frame(cls_last=True).batch([encoding.token_ids], 2, 5, 0).values()
  assert token_ids[0].tolist() == [0, 0, *encoding.token_ids]
  assert segment_ids[0].tolist() == [0, 0, 0, 0, 2]
  assert attention_mask.tolist() == [[False, False, True, True, True], [False, False, False, False, True]]
  hidden = model.token_embeddings("cat").vectors
  np.testing.assert_allclose(model.embed("cat", "cls"), hidden[-1], rtol=1e-4, atol=1e-5)


def test_xlnet_fills_a_mask_from_what_stands_around_it() -> None:
  """Its query stream asks; the token that stands at the place is hidden, from itself and from all others."""
  model = model_of("xlnet")
  ids = model.encode("the cat is white").token_ids
  places = np.full((1, 8), 2, np.int32)
  score = masks._score(model.config, "permutation_lm", queried=True)

  def probabilities(token: int, other: int) -> np.ndarray:
    row = ids.copy()
    row[2], row[3] = token, other
    inputs = frame_of(model.config).batch([row], 1, len(row), model.tokenizer.pad_id)
    return np.asarray(score(model.params, Inputs.of(inputs), places))[0, 0]

  np.testing.assert_array_equal(probabilities(ids[2], ids[3]), probabilities(ids[0], ids[3]))
  assert np.abs(probabilities(ids[2], ids[3]) - probabilities(ids[2], ids[0])).max() > 1e-4
  assert len(model.fill_mask("the cat [MASK] white", top_k=3)) == 3


def test_an_xlnet_that_was_trained_on_masks_is_asked_at_them() -> None:
  """Such a run trains no query stream: what fills a mask is what stands at the mask token."""
  model = dataclasses.replace(model_of("xlnet"), run=Config(objective=MaskedTokensConfig()))
  ids, place = model.encode("the cat is white").token_ids.copy(), 2
  ids[place] = model.tokenizer.mask_id
  (found,) = masks.probabilities(model, [masks.Masked(ids, np.array([place]))])
  network = networks.build("permutation_lm", model.config, scan_layers=True)
  inputs = frame_of(model.config).batch([ids], 1, len(ids), model.tokenizer.pad_id)
  outputs: Any = network.apply({"params": model.params}, Inputs.of(inputs))
  wanted = jax.nn.softmax(outputs["mlm_scores"].logits(), axis=-1)[0, place]
  np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-7)
  (queried,) = masks.probabilities(model_of("xlnet"), [masks.Masked(ids, np.array([place]))])
  assert np.abs(found - queried).max() > 1e-4
