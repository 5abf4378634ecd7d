"""XLNet's loss against a calculation of its own, what a prediction may see, and its memory."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.architectures import XlnetConfig
from bert_jax.config import Config, RuntimeConfig
from bert_jax.data.rows import Batch
from bert_jax.models.inputs import Inputs
from bert_jax.objective_configs import MaskedTokensConfig, PermutationConfig
from bert_jax.objectives import objective_of
from bert_jax.objectives.permutation import Permutation
from bert_jax.training.step import init_params
from tests.data.conftest import CLS, MASK, SEP
from tests.data.test_permutations import prepared, random_rows, take
from tests.models.networks import noise_of

MODEL = XlnetConfig(
  vocab_size=97,
  num_layers=2,
  hidden_size=20,
  num_heads=5,
  intermediate_size=37,
  hidden_dropout=0.0,
  attention_dropout=0.0,
  initializer_range=0.4,  # large enough that every part of the network matters to the result
)
SETTINGS = PermutationConfig(tokens_per_target=2.5, longest_span=3, window=6)
ROWS, LENGTH = 13, 11
QUICK = RuntimeConfig(scan_layers=True)  # to compile


@pytest.fixture(scope="module")
def objective() -> Permutation:
  found = objective_of(Config(MODEL, objective=SETTINGS, runtime=QUICK))
  assert isinstance(found, Permutation)
  return found


@pytest.fixture(scope="module")
def params(objective: Permutation) -> Any:
  return init_params(objective, 3)


@pytest.fixture
def batch() -> Batch:
  return prepared(random_rows(ROWS, LENGTH), settings=SETTINGS)


def arrays(batch: Batch) -> dict[str, jax.Array]:
  return {name: jnp.asarray(array) for name, array in batch.items()}


@functools.cache
def _compiled(objective: Any) -> tuple[Any, Any]:
  return (
    jax.jit(lambda params, batch: objective.sums(params, None, batch, noise_of(ROWS), 1)),
    jax.jit(lambda params, batch: objective.evaluate(params, None, batch, noise_of(ROWS), 1)),
  )


def loss(objective: Any, params: Any, batch: Batch) -> tuple[float, float]:
  """Sum and count."""
  total, count = _compiled(objective)[0](params, arrays(batch))["mlm_loss"]
  return float(total), float(count)


def evaluated(objective: Any, params: Any, batch: Batch) -> dict[str, np.ndarray]:
  return {n: np.stack(pair, axis=1) for n, pair in _compiled(objective)[1](params, arrays(batch)).items()}


def logits_of(objective: Any, params: Any, batch: Batch, **more: Any) -> np.ndarray:
  """Of the language model, with more of `Inputs`."""
  network = objective.network("permutation_lm")
  apply = jax.jit(lambda inputs: network.apply({"params": params}, inputs)["mlm_scores"].logits())
  return np.asarray(apply(dataclasses.replace(Inputs.of(batch), **more)))


def left_padded(batch: Batch, length: int) -> tuple[Batch, np.ndarray]:
  """A batch as XLNet has it, `pad text <sep> <cls>`, and where each place of it stands in ours, -1 for padding."""
  source = np.full((len(batch["token_ids"]), length), -1)
  for row, mask in enumerate(batch["attention_mask"]):
    real = int(mask.sum())
    if real:
      source[row, length - real :] = [*range(1, real), 0]
  found = {name: np.take_along_axis(batch[name], source, axis=1) for name in ("token_ids", "segment_ids")}
  found["segment_ids"][:, -1] = 2
  return found | {"attention_mask": source >= 0}, source


def by_hand(batch: Batch) -> tuple[Batch, np.ndarray, np.ndarray]:
  """The left-padded batch, where the places come from, and what each place may not see, in loops."""
  padded, source = left_padded(batch, LENGTH)
  hidden = np.zeros((ROWS, LENGTH, LENGTH), bool)
  for row in range(ROWS):
    targets = batch["mlm_positions"][row][batch["mlm_weights"][row] > 0].tolist()
    for one, mine in enumerate(source[row]):
      for other, theirs in enumerate(source[row]):
        in_order = theirs in targets or padded["token_ids"][row, other] in (CLS, SEP, MASK)
        if mine < 0 or theirs < 0 or not in_order:
          continue  # seen by all
        ours, its = batch["ranks"][row, mine], batch["ranks"][row, theirs]
        hidden[row, one, other] = its > ours or (its == ours and mine in targets)
  return padded, source, hidden


def nats(logits: np.ndarray, label: int) -> float:
  logits = logits.astype(np.float64)
  return float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label])


def test_the_loss_is_that_of_a_calculation_by_hand(objective: Permutation, params: Any, batch: Batch) -> None:
  """The network's logits are taken as they are; order of the tokens, masks, places and losses are those of loops."""
  padded, source, hidden = by_hand(batch)
  every = np.broadcast_to(np.eye(LENGTH, dtype=np.float32), (ROWS, LENGTH, LENGTH))  # every place is asked for
  logits = logits_of(objective, params, padded, hidden_tokens=hidden, target_mapping=jnp.asarray(every))
  found, right = [], []
  for row, slot in zip(*np.nonzero(batch["mlm_weights"]), strict=True):
    place = int(np.flatnonzero(source[row] == batch["mlm_positions"][row, slot])[0])
    label = batch["mlm_labels"][row, slot]
    assert padded["token_ids"][row, place] == label
    found.append(nats(logits[row, place], label))
    right.append(logits[row, place].argmax() == label)
  sums = _compiled(objective)[0](params, arrays(batch))
  assert float(sums["mlm_loss"][0]) == pytest.approx(sum(found), rel=1e-5)
  assert float(sums["mlm_accuracy"][0]) == sum(right)
  counts = {name: float(count) for name, count in objective.counts(arrays(batch)).items()}
  assert counts == {"mlm_loss": len(found)} == {"mlm_loss": float(sums["mlm_loss"][1])}
  assert objective.loss_weights == {"mlm_loss": 1.0}
  assert list(objective.trained(params)) == ["permutation_lm"]


def changed(batch: Batch, row: int, place: int) -> Batch:
  """The batch with another token at this place."""
  token_ids = batch["token_ids"].copy()
  token_ids[row, place] = (token_ids[row, place] + 7) % 97
  return batch | {"token_ids": token_ids}


def test_a_prediction_sees_what_is_before_it_in_the_order(objective: Permutation, params: Any, batch: Batch) -> None:
  """So the last target's content is of no effect, its own prediction included, and the first one's is."""
  row = int(batch["mlm_weights"].sum(axis=1).argmax())
  targets = batch["mlm_positions"][row][batch["mlm_weights"][row] > 0]
  first, *_, last = sorted(targets, key=lambda place: batch["ranks"][row, place])
  known = next(p for p in range(LENGTH) if batch["attention_mask"][row, p] and batch["ranks"][row, p] < 0)
  before = loss(objective, params, batch)[0]
  assert loss(objective, params, changed(batch, row, last))[0] == pytest.approx(before, rel=1e-6)
  for place in (first, known):
    assert abs(loss(objective, params, changed(batch, row, place))[0] - before) > 1e-3


# ---- evaluation ----


def masked(shown: Any = (MASK, MASK, None, 20)) -> Batch:
  """Rows with four predictions each, which show [MASK], [MASK], the token itself and another one."""
  rows = random_rows(ROWS, LENGTH, seed=1)
  text = [np.flatnonzero(row)[:4] for row in rows.is_text & (rows.token_ids != MASK)]
  positions = np.zeros((ROWS, 4), np.int32)
  weights, shows_mask = (np.zeros((ROWS, 4), np.float32) for _ in range(2))
  token_ids = rows.token_ids.copy()
  for row, places in enumerate(text):
    positions[row, : len(places)], weights[row, : len(places)] = places, 1
    for slot, place in enumerate(places):
      shows_mask[row, slot] = shown[slot] == MASK
      token_ids[row, place] = token_ids[row, place] if shown[slot] is None else shown[slot]
  labels = np.take_along_axis(rows.token_ids, positions, axis=1)
  names = ("segment_ids", "attention_mask", "pair_labels")
  return {name: getattr(rows, name) for name in names} | {
    "token_ids": token_ids,
    "mlm_positions": positions,
    "mlm_labels": labels,
    "mlm_weights": weights,
    "mask_weights": shows_mask,
  }


def test_masks_are_predicted_from_all_that_is_shown(objective: Permutation, params: Any) -> None:
  batch = masked()
  before = evaluated(objective, params, batch)
  np.testing.assert_array_equal(before["mask_loss"][:, 1], batch["mask_weights"].sum(axis=1))
  np.testing.assert_array_equal(before["mlm_loss"][:, 1], batch["mlm_weights"].sum(axis=1))
  # What stands at the masks is of no effect on anything.
  for row in range(ROWS):
    for slot in np.flatnonzero(batch["mask_weights"][row]):
      batch["token_ids"][row, batch["mlm_positions"][row, slot]] = 30 + slot
  for name, found in evaluated(objective, params, batch).items():
    np.testing.assert_allclose(found, before[name], rtol=1e-6, err_msg=name)
  # What another place shows is, predicted or not.
  row = ROWS - 1
  free = next(p for p in range(1, LENGTH - 1) if p not in batch["mlm_positions"][row])
  for place in (batch["mlm_positions"][row, 2], batch["mlm_positions"][row, 3], free):
    after = evaluated(objective, params, changed(batch, row, place))["mask_loss"][:, 0]
    assert abs(after[row] - before["mask_loss"][row, 0]) > 1e-3
    np.testing.assert_allclose(after[:row], before["mask_loss"][:row, 0], rtol=1e-6)


def test_a_mask_is_predicted_as_if_there_were_padding(objective: Permutation, params: Any) -> None:
  """By the query stream, which sees all else that is shown, but for what is shown at its own place."""
  batch = masked()
  padded, source = left_padded(batch, LENGTH)
  for row, slot in zip(*np.nonzero(batch["mask_weights"]), strict=True):
    padded["attention_mask"][row, source[row] == batch["mlm_positions"][row, slot]] = False
  every = np.broadcast_to(np.eye(LENGTH, dtype=np.float32), (ROWS, LENGTH, LENGTH))
  logits = logits_of(objective, params, padded, hidden_tokens=every > 0, target_mapping=jnp.asarray(every))
  found = evaluated(objective, params, batch)
  for name in ("mask", "mlm"):
    wanted = np.zeros(ROWS)
    for row, slot in zip(*np.nonzero(batch[f"{name}_weights"]), strict=True):
      place = int(np.flatnonzero(source[row] == batch["mlm_positions"][row, slot])[0])
      wanted[row] += nats(logits[row, place], batch["mlm_labels"][row, slot])
    np.testing.assert_allclose(found[f"{name}_loss"][:, 0], wanted, rtol=1e-5)


def test_padding_of_whole_rows_is_nothing_and_finite(objective: Permutation, params: Any) -> None:
  batch = masked()
  batch["attention_mask"][3] = False
  batch["mlm_weights"][3] = batch["mask_weights"][3] = 0
  found = evaluated(objective, params, batch)
  assert all(np.isfinite(pair).all() for pair in found.values())
  assert not any(pair[3].any() for pair in found.values())


def test_the_denoising_baseline_reads_masks_in_the_content_stream(params: Any) -> None:
  """The same network without its query stream, on rows in the same order."""
  baseline = objective_of(Config(MODEL, objective=MaskedTokensConfig(), runtime=QUICK))
  batch = masked()
  padded, source = left_padded(batch, LENGTH)
  logits = logits_of(baseline, params, padded)
  wanted = np.zeros(ROWS)
  for row, slot in zip(*np.nonzero(batch["mlm_weights"]), strict=True):
    place = int(np.flatnonzero(source[row] == batch["mlm_positions"][row, slot])[0])
    wanted[row] += nats(logits[row, place], batch["mlm_labels"][row, slot])
  np.testing.assert_allclose(evaluated(baseline, params, batch)["mlm_loss"][:, 0], wanted, rtol=1e-5)
  assert list(baseline.trained(params)) == ["permutation_lm"]


# ---- memory ----


def with_memory(batch: Batch, counts: Any, size: int = 5) -> Batch:
  """The batch with so many tokens before each row."""
  ids = np.random.default_rng(2).integers(12, 90, (ROWS, size)).astype(np.int32)
  return batch | {"preceding_ids": ids, "num_preceding": np.broadcast_to(np.int32(counts), ROWS)}


def test_memory_is_what_came_into_the_layers_there(objective: Permutation, params: Any) -> None:
  """With rows that have no padding, so that the text stands next to its memory however it is padded."""
  rows = random_rows(4 * ROWS, LENGTH)
  full = np.resize(np.flatnonzero(rows.lengths == LENGTH), ROWS)
  batch = with_memory(prepared(take(rows, full, example_ids=np.arange(ROWS)), settings=SETTINGS), 5)
  padded, source, hidden = by_hand(batch)
  before = batch["preceding_ids"]
  seen: Any = jax.jit(objective.network("encoder", record=True).apply)(
    {"params": {"encoder": params["encoder"]}}, Inputs(before, before * 0, before >= 0)
  )
  logits = logits_of(
    objective,
    params,
    padded,
    hidden_tokens=hidden,
    target_mapping=jnp.broadcast_to(jnp.eye(LENGTH)[None], (ROWS, LENGTH, LENGTH)),
    memory=seen["hidden_states"][:-1],
  )
  total = 0.0
  for row, slot in zip(*np.nonzero(batch["mlm_weights"]), strict=True):
    place = int(np.flatnonzero(source[row] == batch["mlm_positions"][row, slot])[0])
    total += nats(logits[row, place], batch["mlm_labels"][row, slot])
  assert loss(objective, params, batch)[0] == pytest.approx(total, rel=1e-5)


def test_what_is_not_there_is_no_memory(objective: Permutation, params: Any, batch: Batch) -> None:
  without, some = loss(objective, params, batch)[0], with_memory(batch, np.arange(ROWS) % 6)
  assert loss(objective, params, with_memory(batch, 0))[0] == pytest.approx(without, rel=1e-6)
  before = loss(objective, params, some)[0]
  assert abs(before - without) > 1e-2
  ids = some["preceding_ids"].copy()
  ids[np.arange(5) < 5 - some["num_preceding"][:, None]] = 3
  assert loss(objective, params, some | {"preceding_ids": ids})[0] == pytest.approx(before, rel=1e-6)
  ids[1, 4] = 3
  assert abs(loss(objective, params, some | {"preceding_ids": ids})[0] - before) > 1e-3


def test_no_gradient_goes_into_the_memory(objective: Permutation, params: Any, batch: Batch) -> None:
  batch = with_memory(batch, 5)

  def remembered(params: Any) -> tuple[jax.Array, jax.Array]:
    memory = objective._memory(params, arrays(batch), noise_of(ROWS))["memory"]
    return jnp.sum(memory**2), memory

  gradient, memory = jax.jit(jax.grad(remembered, has_aux=True))(params)
  assert memory.shape == (MODEL.num_layers, ROWS, 5, 20)
  assert np.abs(memory).min(axis=(1, 2, 3)).max() > 0
  assert not any(np.any(x) for x in jax.tree.leaves(gradient))
