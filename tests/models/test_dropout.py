"""Dropout: its rate, its scale, and what its bits depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.models.dropout import Noise, dropout, fold


def noise_of(rows: np.ndarray | range, seed: int = 3) -> Noise:
  return Noise(fold(jnp.uint32(seed), 0), jnp.asarray(rows, jnp.uint32))


@pytest.mark.parametrize("rate", [0.1, 0.37, 0.9])
def test_the_share_of_zeros_is_the_rate(rate: float):
  shape = (200, 1500)
  dropped = np.asarray(dropout(jnp.ones(shape), rate, noise_of(range(200)))) == 0
  limit = 5 * (rate * (1 - rate) / dropped.size) ** 0.5  # five standard deviations of a binomial share
  assert abs(dropped.mean() - rate) < limit + 1 / 512  # the bits may round the rate
  # Rows and columns too: no place is dropped more often than chance has it.
  for axis in (0, 1):
    spread = dropped.mean(axis).std() / (rate * (1 - rate) / shape[axis]) ** 0.5
    assert 0.8 < spread < 1.2


def test_what_is_kept_is_scaled_so_that_the_mean_stays():
  kept = np.asarray(dropout(jnp.full((50, 400), 2.0), 0.25, noise_of(range(50))))
  values = np.unique(kept)
  assert values[0] == 0
  assert len(values) == 2
  assert values[1] == pytest.approx(2 / 0.75, rel=2e-3)
  assert kept.mean() == pytest.approx(2, rel=0.02)


def test_a_row_has_the_same_zeros_whatever_batch_it_stands_in():
  x = jnp.ones((6, 5, 7))
  whole = dropout(x, 0.5, noise_of(range(6)))
  np.testing.assert_array_equal(dropout(x[:3], 0.5, noise_of([4, 0, 5])), whole[jnp.array([4, 0, 5])])


def test_rows_places_and_seeds_draw_apart():
  x = jnp.ones((2, 4000))
  key = noise_of(range(2))
  draws = [*dropout(x, 0.5, key), *dropout(x, 0.5, key.fold_in(1)), *dropout(x, 0.5, key.fold_in(2))]
  draws += [*dropout(x, 0.5, noise_of(range(2), seed=4))]
  equal = np.corrcoef(np.stack(draws) > 0) - np.eye(len(draws))
  assert np.abs(equal).max() < 5 / 4000**0.5


def test_neighbours_are_dropped_independently():
  dropped = np.asarray(dropout(jnp.ones((300, 1000)), 0.1, noise_of(range(300)))) == 0
  for shift in (1, 2, 3, 4, 8, 128):
    both = (dropped[:, shift:] & dropped[:, :-shift]).mean()
    assert both == pytest.approx(0.01, rel=0.08)


def test_the_gradient_passes_where_the_value_did():
  key = noise_of(range(3))
  x = jnp.arange(1.0, 61.0).reshape(3, 20)
  value, back = jax.vjp(lambda x: dropout(x, 0.3, key), x)
  (gradient,) = back(jnp.ones_like(x))
  np.testing.assert_allclose(gradient * x, value, rtol=1e-6)


def test_without_a_key_or_a_rate_nothing_changes():
  x = jnp.ones((3, 4))
  assert dropout(x, 0.5, None) is x
  assert dropout(x, 0.0, noise_of(range(3))) is x
