"""The dense layer's product against autodiff of the plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bert_jax.models.dense import dense_product


@pytest.mark.parametrize(("width", "features"), [(5, 11), (11, 5), (7, 7)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_product_and_gradients_are_those_of_the_plain_product(width: int, features: int, dtype: jnp.dtype):
  draw = np.random.default_rng(0)
  x = jnp.asarray(draw.normal(size=(3, 13, width)), dtype)
  kernel = jnp.asarray(draw.normal(size=(width, features)), dtype)
  upstream = jnp.asarray(draw.normal(size=(3, 13, features)), dtype)
  dimensions = (((2,), (0,)), ((), ()))
  ours, back = jax.vjp(lambda x, kernel: dense_product(x, kernel, dimensions), x, kernel)
  plain, plain_back = jax.vjp(lambda x, kernel: lax.dot_general(x, kernel, dimensions), x, kernel)
  tolerance = 1e-5 if dtype == jnp.float32 else 2e-2  # sums of up to 39 terms, in another order
  for a, b in zip((ours, *back(upstream)), (plain, *plain_back(upstream)), strict=True):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), rtol=tolerance, atol=tolerance * 3)
