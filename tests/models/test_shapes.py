"""The shapes and dtypes that signatures state are checked while tests run; see `tests/conftest.py`."""

from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from bert_jax.models import networks
from bert_jax.models.attention import attention
from bert_jax.objectives.masked_tokens import pair_label

HIDDEN, SEEN = np.zeros((3, 7, 20), np.float32), np.ones((3, 7), bool)


@pytest.mark.parametrize(
  "changed", [{"attention_mask": SEEN[:, :6]}, {"attention_mask": SEEN * 1}, {"hidden": HIDDEN[0]}]
)
def test_another_shape_or_dtype_than_stated_is_found(changed: dict[str, Any]) -> None:
  given: dict[str, Any] = {"hidden": HIDDEN, "attention_mask": SEEN, "pooling": "mean", "normalize": True}
  assert networks.embed(**given).shape == (3, 20)
  with pytest.raises(jaxtyping.TypeCheckError, match=next(iter(changed))):
    networks.embed(**given | changed)


def test_it_is_found_while_a_program_is_traced() -> None:
  heads = jnp.zeros((3, 7, 4, 5))
  with pytest.raises(jaxtyping.TypeCheckError, match="mask"):
    jax.eval_shape(attention, heads, heads, heads, jnp.ones((3, 1, 7, 6), bool))
  with pytest.raises(jaxtyping.TypeCheckError, match="logits"):
    jax.eval_shape(pair_label, jnp.zeros((13, 3)), jnp.zeros(13, int))
