"""Attention: its implementations agree, and a row that may look nowhere stays finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.models.attention import Visible, attention
from bert_jax.models.dropout import Noise


def inputs(dtype: jnp.dtype = jnp.float32) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """query [3, 5, 2, 7], key and value [3, 11, 2, 7], and a mask whose last row is False throughout."""
  draw = np.random.default_rng(0)
  query = jnp.asarray(draw.normal(size=(3, 5, 2, 7)), dtype)
  key, value = (jnp.asarray(draw.normal(size=(3, 11, 2, 7)), dtype) for _ in range(2))
  return query, key, value, jnp.arange(11)[None, None, None] < jnp.array([11, 4, 0])[:, None, None, None]


def oracle(query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Vaswani et al. 2017, equation 1, a row at a time."""
  out = np.zeros_like(query)
  for b, t, h in np.ndindex(query.shape[:3]):
    seen = np.flatnonzero(mask[b, 0, 0])
    scores = np.exp(key[b, seen, h] @ query[b, t, h] / query.shape[-1] ** 0.5)
    out[b, t, h] = scores / scores.sum() @ value[b, seen, h]
  return out


def test_explicit_attention_is_the_formula():
  query, key, value, mask = inputs()
  out, _ = attention(query, key, value, mask)
  expected = oracle(*(np.asarray(x[:2], np.float64) for x in (query, key, value)), np.asarray(mask))
  np.testing.assert_allclose(out[:2], expected, rtol=1e-5, atol=1e-6)


def test_fused_attention_is_the_explicit_one():
  query, key, value, mask = inputs()
  value_and_back = [
    jax.vjp(lambda *x, i=i: attention(*x, mask, implementation=i)[0][:2], query, key, value)
    for i in ("explicit", "fused")
  ]
  (explicit, back), (fused, fused_back) = value_and_back
  np.testing.assert_allclose(explicit, fused, rtol=1e-5, atol=1e-6)
  for a, b in zip(back(explicit), fused_back(explicit), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("implementation", ["explicit", "fused"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_fully_masked_row_is_finite_forward_and_backward(implementation, dtype):
  query, key, value, mask = inputs(dtype)
  out, back = jax.vjp(lambda *x: attention(*x, mask, implementation=implementation)[0], query, key, value)
  assert out.dtype == dtype
  for array in (out, *back(jnp.ones_like(out))):
    assert np.isfinite(array.astype(jnp.float32)).all()


@pytest.mark.parametrize("everywhere", [None, False, True])
def test_the_kernel_of_tpus_is_the_explicit_attention_of_packed_rows(everywhere):
  """Interpreted; of three rows, one is padded, one has two sequences and one has none. 150 is no multiple of 128."""
  draw = np.random.default_rng(1)
  query, key, value = (jnp.asarray(draw.normal(size=(3, 150, 2, 8)), jnp.float32) for _ in range(3))
  places = np.arange(150)
  seen = jnp.asarray(places < np.array([[150], [101], [0]]))
  visible = Visible(seen, jnp.asarray(np.stack([places // 63, 0 * places, 0 * places])))
  if everywhere is not None:
    visible = visible.near(20, unless=jnp.asarray(everywhere))

  def total(*arrays: jax.Array, implementation: str) -> jax.Array:
    mixed, _ = attention(*arrays, visible, implementation=implementation)
    return jnp.sum(jnp.where(seen[:, :, None, None], jnp.sin(mixed), 0))

  explicit, splash = (
    jax.jit(jax.value_and_grad(lambda *x, i=i: total(*x, implementation=i), argnums=(0, 1, 2)))(query, key, value)
    for i in ("explicit", "splash")
  )
  # Each is a sum of thousands of float32 numbers of size 1, in another order.
  np.testing.assert_allclose(explicit[0], splash[0], rtol=1e-4)
  for a, b in zip(explicit[1], splash[1], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert np.isfinite(b).all()


def test_a_look_near_by_is_the_formula():
  sequences = jnp.asarray([[0] * 4 + [1] * 6])
  visible = Visible(jnp.asarray([[True] * 9 + [False]]), sequences).near(2, unless=jnp.array(False))
  mask = np.asarray(visible.mask())[0, 0]
  for query, key in np.ndindex(10, 10):
    assert mask[query, key] == (key < 9 and (query < 4) == (key < 4) and abs(query - key) <= 2), (query, key)
  assert np.asarray(visible.groups()).tolist() == [[1] * 4 + [2] * 5 + [0]]


@pytest.mark.gpu
@pytest.mark.skipif("jax.default_backend() != 'gpu'", reason="no GPU")
def test_the_kernel_of_gpus_is_the_explicit_attention_of_packed_rows():
  draw = np.random.default_rng(1)
  query, key, value = (jnp.asarray(draw.normal(size=(3, 151, 2, 64)), jnp.bfloat16) for _ in range(3))
  places = np.arange(151)
  seen = jnp.asarray(places < np.array([[151], [101], [0]]))
  visible = Visible(seen, jnp.asarray(np.stack([places // 63, 0 * places, 0 * places])))

  def total(*arrays: jax.Array, implementation: str) -> jax.Array:
    mixed, _ = attention(*arrays, visible, implementation=implementation)
    return jnp.sum(jnp.where(seen[:, :, None, None], jnp.sin(mixed.astype(jnp.float32)), 0))

  explicit, cudnn = (
    jax.jit(jax.grad(lambda *x, i=i: total(*x, implementation=i), argnums=(0, 1, 2)))(query, key, value)
    for i in ("explicit", "cudnn")
  )
  for a, b in zip(explicit, cudnn, strict=True):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert np.linalg.norm(a - b) < 0.02 * np.linalg.norm(a)  # bfloat16 rounds by up to 1 / 256


@pytest.mark.parametrize("implementation", ["cudnn", "splash"])
def test_a_kernel_without_bias_or_mask_says_so(implementation):
  query, _, _, mask = inputs()
  with pytest.raises(ValueError, match=r"runtime\.attention=fused"):
    attention(query, query, query, mask[..., :5], implementation=implementation)
  visible = Visible(jnp.ones((3, 5), bool))
  with pytest.raises(ValueError, match=r"runtime\.attention=fused"):
    attention(query, query, query, visible, bias=jnp.zeros((1, 1, 5, 5)), implementation=implementation)


def test_what_is_masked_has_no_influence():
  query, key, value, mask = inputs()
  other_key, other_value = (x.at[1, 4:].set(9.0) for x in (key, value))
  np.testing.assert_array_equal(
    attention(query, key, value, mask)[0][1], attention(query, other_key, other_value, mask)[0][1]
  )


def test_dropout_acts_on_the_probabilities():
  query, key, _, mask = inputs()
  # With one-hot values the output is the probabilities: each is dropped, or scaled by 1 / (1 - rate).
  value = jnp.broadcast_to(jnp.eye(11)[None, :, None], (3, 11, 2, 11))
  key_of = Noise(jnp.uint32(5), jnp.arange(3, dtype=jnp.uint32))
  plain = attention(query, key, value, mask)[0][0]
  dropped = attention(query, key, value, mask, dropout_rate=0.4, noise=key_of)[0][0]
  ratio = np.asarray(dropped / plain).round(2)
  assert set(np.unique(ratio)) == {0.0, np.float32(1.67)}


def test_fused_attention_with_dropout_is_refused():
  query, key, value, mask = inputs()
  key_of = Noise(jnp.uint32(5), jnp.arange(3, dtype=jnp.uint32))
  with pytest.raises(ValueError, match=r"runtime\.attention=explicit"):
    attention(query, key, value, mask, dropout_rate=0.1, noise=key_of, implementation="fused")
