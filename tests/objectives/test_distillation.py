"""A student's three losses against numpy's, and what it takes of its teacher."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from bert_jax import one_run
from bert_jax.architectures import BertConfig, DebertaV2Config, DistilBertConfig
from bert_jax.config import Config, DataConfig
from bert_jax.inference.model import Model
from bert_jax.interop import start
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs
from bert_jax.models.vocabulary import VocabularyScores, divergence
from bert_jax.objective_configs import DistillationConfig
from bert_jax.objectives import objective_of
from bert_jax.objectives.base import Frozen
from bert_jax.objectives.distillation import Distillation, spaced
from bert_jax.training.step import init_params
from tests.models.networks import noise_of, random_batch

SIZES: dict[str, Any] = {
  "vocab_size": 99,
  "hidden_size": 24,
  "num_heads": 4,
  "intermediate_size": 40,
  "max_positions": 16,
  "hidden_dropout": 0.0,
  "attention_dropout": 0.0,
  "initializer_range": 0.3,
}
TEACHER, STUDENT = BertConfig(num_layers=5, **SIZES), DistilBertConfig(num_layers=2, **SIZES)


def objective_with(**settings: Any) -> Distillation:
  found = objective_of(Config(STUDENT, objective=DistillationConfig(teacher="somewhere", **settings)))
  assert isinstance(found, Distillation)
  return found


@pytest.fixture(scope="module")
def teacher() -> Frozen:
  network = networks.build("pretraining", TEACHER)
  return Frozen(networks.init(network, "pretraining", jax.random.key(8)), TEACHER, "pretraining")


@pytest.mark.parametrize("loss_over", ["all", "masked"])
def test_the_losses_are_those_of_a_calculation_by_hand(teacher: Frozen, loss_over: Any) -> None:
  objective, batch = objective_with(loss_over=loss_over, temperature=3.0), random_batch(seed=4)
  params = init_params(objective, 3)
  theirs: Any = networks.build("pretraining", TEACHER).apply({"params": teacher.params}, Inputs.of(batch))
  ours: Any = networks.build("masked_lm", STUDENT).apply({"params": params}, Inputs.of(batch))
  logits = [np.asarray(of["mlm_scores"].logits(), np.float64) for of in (theirs, ours)]
  soft = [x / 3 - np.log(np.exp(x / 3).sum(-1, keepdims=True)) for x in logits]
  apart = 9 * (np.exp(soft[0]) * (soft[0] - soft[1])).sum(-1)
  real, used = batch["attention_mask"], batch["mlm_weights"] > 0
  at_masks = np.take_along_axis(apart, batch["mlm_positions"], 1)[used]
  h = [np.asarray(of["hidden"], np.float64) for of in (theirs, ours)]
  cosine = (h[0] * h[1]).sum(-1) / np.linalg.norm(h[0], axis=-1) / np.linalg.norm(h[1], axis=-1)
  rows = np.nonzero(used)[0]
  at = logits[1][rows, batch["mlm_positions"][used]]
  nats = np.log(np.exp(at).sum(-1)) - at[np.arange(len(at)), batch["mlm_labels"][used]]

  arrays = {name: jnp.asarray(x) for name, x in batch.items()}
  sums = objective.sums(params, teacher, arrays, noise_of(13), 1)
  means = {name: float(total / count) for name, (total, count) in sums.items()}
  assert means["distillation_loss"] == pytest.approx((apart[real] if loss_over == "all" else at_masks).mean(), rel=1e-4)
  assert means["cosine_loss"] == pytest.approx((1 - cosine)[real].mean(), rel=1e-4)
  assert means["mlm_loss"] == pytest.approx(nats.mean(), rel=1e-4)
  counts = objective.counts(arrays)
  assert {name: float(count) for name, count in counts.items()} == {
    name: float(sums[name][1]) for name in objective.loss_weights
  }
  assert objective.loss_weights == {"distillation_loss": 5.0, "mlm_loss": 2.0, "cosine_loss": 1.0}


def test_the_divergence_has_its_gradient_in_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
  """Of blocks as of the whole: (student's softmax - teacher's) · temperature, and none to the teacher."""
  key = iter(jax.random.split(jax.random.key(0), 9))

  def scores(size: int) -> VocabularyScores:
    shapes = (6, 3, size), (31, size), (31,)
    return VocabularyScores(*(jax.random.normal(next(key), shape) for shape in shapes))

  own, other, weights = scores(5), scores(7), jnp.arange(18.0).reshape(6, 3)

  def value(own: VocabularyScores) -> Any:
    return divergence(own, other, weights, 2.0)

  whole = jax.value_and_grad(value)(own)
  ours, theirs = (jax.nn.softmax(x.logits() / 2.0) for x in (own, other))
  of_logits = 2.0 * weights[..., None] * (ours - theirs)
  np.testing.assert_allclose(whole[1].bias, of_logits.sum((0, 1)), rtol=1e-4, atol=1e-4)
  monkeypatch.setattr("bert_jax.models.vocabulary.BLOCK_BYTES", 4 * 3 * 31 * 2)
  for one, of_blocks in zip(jax.tree.leaves(whole), jax.tree.leaves(jax.value_and_grad(value)(own)), strict=True):
    np.testing.assert_allclose(one, of_blocks, rtol=2e-5, atol=1e-4)


def test_layers_are_taken_as_distilberts() -> None:
  assert spaced(12, 6) == [0, 2, 4, 7, 9, 11]  # distillation/extract.py
  assert spaced(5, 2) == [0, 4]
  assert spaced(3, 3) == [0, 1, 2]
  assert spaced(7, 1) == [0]


def test_a_student_starts_with_layers_of_its_teacher(teacher: Frozen) -> None:
  given = objective_with().given(teacher.params)
  own = init_params(objective_with(), 0)
  assert jax.tree.map(jnp.shape, given) == jax.tree.map(jnp.shape, own), "whole, and without segments or pooler"
  layers: Any = teacher.params["encoder"]["layers"]
  np.testing.assert_array_equal(
    given["encoder"]["layers"]["query"]["kernel"], layers["query"]["kernel"][np.array([0, 4])]
  )
  words = teacher.params["encoder"]["embeddings"]["words"]
  np.testing.assert_array_equal(given["encoder"]["embeddings"]["words"], words)


def test_a_teacher_that_does_not_fit_is_refused_with_a_way_out(teacher: Frozen) -> None:
  wide = dataclasses.replace(TEACHER, hidden_size=32)
  with pytest.raises(ValueError, match=r"hidden states of 32.*cosine_weight=0"):
    objective_with().check_frozen(Frozen({}, wide, "masked_lm"))
  with pytest.raises(ValueError, match="fills no masks"):
    objective_with().check_frozen(Frozen({}, TEACHER, "encoder"))
  shallow: Any = jax.tree.map(lambda x: x, teacher.params)
  shallow["encoder"]["layers"] = jax.tree.map(lambda x: x[:1], shallow["encoder"]["layers"])
  with pytest.raises(ValueError, match=r"initialize=random"):
    objective_with().check_frozen(Frozen(shallow, TEACHER, "masked_lm"))


@pytest.mark.parametrize(("convolution", "packing"), [(0, 8), (3, 1), (3, 8)])
def test_a_teacher_that_cannot_read_packed_rows_is_refused(monkeypatch, convolution: int, packing: int) -> None:
  model = DebertaV2Config(num_layers=5, convolution_size=convolution, **SIZES)
  found = start.Start(Model(model, "masked_lm", {}, None), {})
  monkeypatch.setattr(one_run.start, "load", lambda path: found)
  objective = DistillationConfig(teacher=f"of-{convolution}-{packing}", initialize="random")
  config, unread = Config(STUDENT, DataConfig(packing=packing), objective=objective), cast(Any, None)
  if convolution and packing > 1:
    with pytest.raises(ValueError, match=r"packing=8 is not for objective.teacher=.*convolution_size=3.*set it to 1"):
      one_run.others_of(epath.Path("/nowhere"), config, unread, 0)
  else:
    assert one_run.others_of(epath.Path("/nowhere"), config, unread, 0).frozen is found
