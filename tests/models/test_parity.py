"""The encoder and both heads against Hugging Face's PyTorch BERT, forward and gradient."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.config import ModelConfig, RuntimeConfig
from bert_jax.objectives.pretraining import pretraining_sums
from bert_jax.training.step import build_model, init_params
from tests.models.networks import MODEL, model_inputs, random_batch

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5  # of the largest element of each array: float32 sums in another order


def names_and_shapes(params: Any, num_layers: int) -> dict[str, np.ndarray]:
  """Our parameters (or gradients) under Hugging Face's names and in its shapes."""
  params = jax.device_get(params)
  named = {}

  def add(name: str, part: dict[str, np.ndarray]) -> None:
    named[f"{name}.weight"] = part["kernel"].T if "kernel" in part else part["scale"]
    named[f"{name}.bias"] = part["bias"]

  embeddings = params["encoder"]["embeddings"]
  for ours, theirs in (("words", "word"), ("positions", "position"), ("segments", "token_type")):
    named[f"bert.embeddings.{theirs}_embeddings.weight"] = embeddings[ours]
  add("bert.embeddings.LayerNorm", embeddings["layer_norm"])
  places = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
  }
  for number in range(num_layers):
    for ours, theirs in places.items():
      part = jax.tree.map(lambda x, n=number: x[n], params["encoder"]["layers"][ours])
      add(f"bert.encoder.layer.{number}.{theirs}", part)
  add("bert.pooler.dense", params["pooler"]["dense"])
  add("cls.predictions.transform.dense", params["mlm_head"]["dense"])
  add("cls.predictions.transform.LayerNorm", params["mlm_head"]["layer_norm"])
  named["cls.predictions.bias"] = params["mlm_head"]["bias"]
  add("cls.seq_relationship", params["nsp_head"])
  return named


def peer_of(model: ModelConfig, params: Any, activation: str) -> Any:
  """Hugging Face's model with our parameters; none is left as it was."""
  import torch
  import transformers

  assert model.vocab_size is not None
  config = transformers.BertConfig(
    vocab_size=model.vocab_size,
    num_hidden_layers=model.num_layers,
    hidden_size=model.hidden_size,
    num_attention_heads=model.num_heads,
    intermediate_size=model.intermediate_size,
    max_position_embeddings=model.max_positions,
    hidden_act=activation,
    layer_norm_eps=model.layer_norm_eps,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
  )
  peer = transformers.BertForPreTraining(config)
  left = dict(peer.named_parameters())
  with torch.no_grad():
    for name, value in names_and_shapes(params, model.num_layers).items():
      left.pop(name).copy_(torch.from_numpy(np.array(value)))
  assert not left
  return peer


def assert_close(name: str, ours: Any, theirs: Any, least: float = 0.0) -> None:
  """Relative to the array's largest element, or to `least` where that is more."""
  ours, theirs = np.asarray(ours), np.asarray(theirs)
  assert ours.shape == theirs.shape, name
  assert np.abs(ours - theirs).max() <= TOLERANCE * max(np.abs(theirs).max(), least), name


@pytest.mark.parametrize(("ours", "theirs"), [("gelu", "gelu"), ("gelu_tanh", "gelu_new")])
def test_outputs_and_gradients_are_those_of_hugging_face(ours: str, theirs: str):
  import torch

  model = dataclasses.replace(MODEL, activation=ours)
  draw = np.random.default_rng(2)
  params = jax.tree.map(lambda p: p + 0.1 * draw.normal(size=p.shape).astype(np.float32), init_params(model, seed=0))
  batch = random_batch(rows=13, length=7)
  batch["mlm_weights"][:] = 1  # the peer's mean is over what it is given
  network = build_model(model, RuntimeConfig())

  def loss(params: Any) -> tuple[jax.Array, Any]:
    outputs: Any = network.apply({"params": params}, *model_inputs(batch))
    everywhere: Any = network.apply({"params": params}, *model_inputs(batch)[:3])
    sums = pretraining_sums(outputs, {name: jnp.asarray(rows) for name, rows in batch.items()})
    return sum((sums[name][0] / sums[name][1] for name in ("mlm_loss", "nsp_loss")), jnp.float32(0)), everywhere

  (value, outputs), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

  peer = peer_of(model, params, theirs)
  labels = np.full((13, 7), -100)
  np.put_along_axis(labels, batch["mlm_positions"], batch["mlm_labels"], axis=1)
  inputs = {
    "input_ids": batch["token_ids"],
    "token_type_ids": batch["segment_ids"],
    "attention_mask": batch["attention_mask"],
    "labels": labels,
    "next_sentence_label": batch["nsp_labels"],
  }
  scored = peer(**{name: torch.from_numpy(x.astype(np.int64)) for name, x in inputs.items()}, output_hidden_states=True)
  scored.loss.backward()

  seen = batch["attention_mask"]
  assert_close("loss", value, scored.loss.detach())
  assert_close("hidden", outputs["hidden"][seen], scored.hidden_states[-1].detach()[seen])
  assert_close("mlm_logits", outputs["mlm_scores"].logits()[seen], scored.prediction_logits.detach()[seen])
  assert_close("nsp_logits", outputs["nsp_logits"], scored.seq_relationship_logits.detach())
  gradients = names_and_shapes(gradient, model.num_layers)
  # The gradient of the keys' bias is 0 in exact arithmetic, for softmax does not see it: what is left is rounding.
  largest = max(float(np.abs(x).max()) for x in gradients.values())
  for name, parameter in peer.named_parameters():
    assert_close(name, gradients[name], parameter.grad, least=largest / 100)


def test_every_hidden_state_is_that_of_hugging_face():
  """A model of fewer layers with the first of these parameters ends in the hidden state of that depth."""
  import torch

  params, batch = init_params(MODEL, seed=0), random_batch(seed=3)
  peer = peer_of(MODEL, params, "gelu").bert
  names = {"input_ids": "token_ids", "token_type_ids": "segment_ids", "attention_mask": "attention_mask"}
  inputs = {name: torch.from_numpy(batch[ours].astype(np.int64)) for name, ours in names.items()}
  with torch.no_grad():
    states = peer(**inputs, output_hidden_states=True).hidden_states
  seen = batch["attention_mask"]
  for depth in range(1, MODEL.num_layers + 1):
    shallow = {**params, "encoder": {**params["encoder"]}}
    shallow["encoder"]["layers"] = jax.tree.map(lambda x, n=depth: x[:n], params["encoder"]["layers"])
    network = build_model(dataclasses.replace(MODEL, num_layers=depth), RuntimeConfig())
    outputs: Any = network.apply({"params": shallow}, *model_inputs(batch))
    assert_close(f"hidden state {depth}", outputs["hidden"][seen], states[depth][seen])
