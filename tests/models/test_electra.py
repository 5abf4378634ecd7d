"""ELECTRA's span head, which Hugging Face has not, against its formula."""

from typing import Any

import jax
import numpy as np

from bert_jax.architectures import ElectraConfig
from bert_jax.models.electra import ElectraSpanHead


def gelu(x: np.ndarray) -> np.ndarray:
  return np.asarray(jax.nn.gelu(x, approximate=False))


def test_spans_are_scored_as_by_the_formula() -> None:
  draw = np.random.default_rng(0)
  hidden = draw.normal(size=(3, 7, 20)).astype(np.float32)
  mask = np.arange(7)[None] < np.array([7, 4, 5])[:, None]
  starts = np.array([[0, 3], [1, 2], [4, 0]], np.int32)
  head = ElectraSpanHead(ElectraConfig(hidden_size=20, initializer_range=0.3), joint_size=11)
  params: Any = head.init(jax.random.key(0), hidden, mask, starts)["params"]
  start, end, answer = head.apply({"params": params}, hidden, mask, starts)  # pyright: ignore[reportGeneralTypeIssues]

  def dense(name: str, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])

  for row in range(3):
    wanted = dense("start", hidden[row])[:, 0] - 1000 * ~mask[row]
    np.testing.assert_allclose(start[row], wanted, rtol=1e-5, atol=1e-4)
    for beam, place in enumerate(starts[row]):
      joint = [np.concatenate([hidden[row, place], hidden[row, token]]) for token in range(7)]
      wanted = dense("end_output", gelu(dense("end", np.stack(joint))))[:, 0] - 1000 * ~mask[row]
      np.testing.assert_allclose(end[row, beam], wanted, rtol=1e-5, atol=1e-4)
    chances = np.asarray(jax.nn.softmax(start[row]))
    joint = np.concatenate([hidden[row, 0], chances @ hidden[row]])
    np.testing.assert_allclose(
      answer[row], dense("answer_output", gelu(dense("answer", joint)))[0], rtol=1e-4, atol=1e-4
    )
