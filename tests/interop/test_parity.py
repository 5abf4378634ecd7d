"""Every architecture with every head against Hugging Face's own model, through its files and back.

Hidden states, attentions, outputs and gradients; then what is written opens there again, with equal weights.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from bert_jax.config import Config
from bert_jax.inference.model import Model
from bert_jax.interop import reading, writing
from bert_jax.interop.array_names import entries
from bert_jax.interop.arrays import to_theirs
from bert_jax.interop.families import family_of
from bert_jax.models import xlnet
from bert_jax.models.inputs import Inputs
from bert_jax.models.networks import build
from bert_jax.objective_configs import PermutationConfig
from bert_jax.objectives import objective_of
from tests.data.conftest import MASK
from tests.data.test_permutations import prepared, random_rows
from tests.interop import peers
from tests.objectives import test_permutation

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5  # of the largest element of each array: float32 sums in another order
OUTPUTS = {  # ours: theirs
  "mlm_scores": ("prediction_logits", "logits"),
  "pair_logits": ("seq_relationship_logits", "sop_logits", "logits"),
  "replaced_logits": ("logits",),
  "logits": ("logits",),
  "start_logits": ("start_logits",),
  "end_logits": ("end_logits",),
  "pooled": ("pooler_output",),
}


def assert_close(name: str, ours: Any, theirs: Any, least: float = 0.0) -> None:
  """Relative to the array's largest element, or to `least` where that is more."""
  ours, theirs = np.asarray(ours), np.asarray(theirs)
  assert ours.shape == theirs.shape, (name, ours.shape, theirs.shape)
  assert np.abs(ours - theirs).max() <= TOLERANCE * max(np.abs(theirs).max(), least), name


def read(peer: Any, folder: Path) -> Model:
  """Their model, as we read what it saves."""
  peer.save_pretrained(folder / "theirs")
  said: list[str] = []
  model = reading.read(folder / "theirs", say=said.append)
  assert [text for text in said if "holds no tokenizer" not in text] == []
  return model


def assert_opens_there(model: Model, peer: Any, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
  """What we write is their model again, bit by bit, and they have nothing to say about it."""
  import torch
  import transformers

  writing.write_files(model, epath.Path(folder / "ours"))
  transformers.utils.logging.enable_propagation()
  caplog.clear()
  again, loading = type(peer).from_pretrained(folder / "ours", output_loading_info=True)
  assert not any(loading.values()), loading
  assert [record.message for record in caplog.records if "within the vocabulary" not in record.message] == []
  weights, wanted = again.state_dict(), peer.state_dict()
  assert set(weights) == set(wanted)
  assert all(torch.equal(weights[name], x) for name, x in wanted.items())


# The heads of tasks are one code for all architectures but for what ELECTRA, XLNet and ModernBERT have of their own,
# which is of whole texts and of answers.
ALWAYS = ("Model", "ForMaskedLM", "ForPreTraining", "LMHeadModel")
OWN = {"ForSequenceClassification", "ForQuestionAnswering", "ForQuestionAnsweringSimple"}


def always(name: str, suffix: str) -> bool:
  return suffix in ALWAYS or name == "bert" or (name in ("electra", "xlnet", "modernbert") and suffix in OWN)


@pytest.mark.parametrize(
  ("name", "suffix"),
  [
    pytest.param(name, suffix, marks=() if always(name, suffix) else pytest.mark.exhaustive)
    for name, suffix in peers.CASES
  ],
)
def test_outputs_hidden_states_gradients_and_the_way_back(
  name: str, suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
  import torch

  peer = peers.make(name, suffix)
  model = read(peer, tmp_path)
  assert_opens_there(model, peer, tmp_path, caplog)
  config, network, params = model.config, model.network, model.params
  found = entries(config, network)
  batch = peers.random_batch(peer.config, choices=3 if suffix == "ForMultipleChoice" else None)
  module = build(network, config, model.num_classes, record=True, scan_layers=True)  # quicker to compile
  inputs = Inputs.of(batch)
  theirs = peer(**peers.inputs_of(peer, batch), output_hidden_states=True, output_attentions=True)
  named = {ours: next((theirs[n] for n in names if n in theirs), None) for ours, names in OUTPUTS.items()}
  seen = batch["attention_mask"]

  def relevant(outputs: Any) -> dict[str, Any]:
    """What is compared, without what stands on padding: there the two need not agree."""
    result = {"hidden": outputs["hidden"][seen.reshape(outputs["hidden"].shape[:2])]}
    for ours in OUTPUTS:
      if ours in outputs:
        x = outputs[ours].logits() if ours == "mlm_scores" else outputs[ours]
        per_token = ours not in ("pair_logits", "pooled") and x.shape[:2] == seen.shape
        result[ours] = x[seen] if per_token else x
    return result

  def total(params: Any) -> tuple[jax.Array, Any]:
    outputs: Any = module.apply({"params": params}, inputs)
    parts = {ours: x for ours, x in relevant(outputs).items() if ours == "hidden" or named[ours] is not None}
    return sum((jnp.sum(jnp.sin(x)) for x in parts.values()), jnp.float32(0)), (parts, outputs)

  # Run once each, so what counts is the time to compile.
  options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
  run = jax.jit(jax.value_and_grad(total, has_aux=True)).lower(params).compile(compiler_options=options)
  (_, (parts, outputs)), gradient = run(params)

  def expected_of(theirs: Any) -> dict[str, Any]:
    """What corresponds to `parts` in their outputs."""
    last = theirs.get("last_hidden_state")
    last = theirs.hidden_states[-1] if last is None else last
    expected = {"hidden": last[torch.from_numpy(seen.reshape(last.shape[:2]))]}
    for ours, names in OUTPUTS.items():
      x = next((theirs[n] for n in names if n in theirs), None)
      if ours in parts and x is not None:
        per_token = ours not in ("pair_logits", "pooled") and tuple(x.shape[:2]) == seen.shape
        expected[ours] = x[torch.from_numpy(seen)] if per_token else x
    return expected

  states, expected = list(theirs.hidden_states), expected_of(theirs)
  assert set(expected) == set(parts)
  for ours, x in expected.items():
    assert_close(ours, parts[ours], x.detach())
  flat = seen.reshape(-1, seen.shape[-1])
  assert len(states) == len(outputs["hidden_states"])
  for number, (mine, other) in enumerate(zip(outputs["hidden_states"], states, strict=True)):
    if name.startswith("modernbert") and number == len(states) - 1:
      continue  # theirs is after the last LayerNorm, which is compared as `hidden`
    assert_close(f"hidden state {number}", mine[flat], other.detach().numpy()[flat])
  for number, (mine, other) in enumerate(zip(outputs["attentions"], theirs.attentions, strict=True)):
    mine, other = (np.moveaxis(np.asarray(x), 1, 2)[flat] for x in (mine, other.detach()))
    assert_close(f"attention {number}", mine, other)

  # Their gradient in float64: its own rounding in float32 is as large as ours, and the two together may pass 1e-5.
  # (ModernBERT's rotary angles are float32 whatever the model is.)
  if not name.startswith("modernbert"):
    expected = expected_of(peer.double()(**peers.inputs_of(peer, batch), output_hidden_states=True))
  sum(torch.sin(x).sum() for x in expected.values()).backward()
  gradients = to_theirs(gradient, found)
  # Some gradients are 0 in exact arithmetic (of the keys' bias, which softmax does not see): what is left is rounding.
  largest = max(float(np.abs(x).max()) for x in gradients.values())
  for key, parameter in peer.named_parameters():
    if key in gradients:
      theirs_gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
      assert_close(f"gradient of {key}", gradients[key], theirs_gradient, least=largest / 100)
  assert {key for key, _ in peer.named_parameters()} <= set(gradients) | set(family_of(config).heads[network].tied)


def test_both_streams_of_xlnet_and_its_memory(tmp_path: Path) -> None:
  import torch

  peer = peers.make("xlnet", "LMHeadModel")
  model = read(peer, tmp_path)
  config, params = model.config, model.params
  batch = peers.random_batch(peer.config)
  draw = np.random.default_rng(5)
  rows, length = batch["token_ids"].shape
  perm_mask = draw.random((rows, length, length)) < 0.4
  targets = np.stack([draw.permutation(length)[:4] for _ in range(rows)])
  mapping = np.eye(length, dtype=np.float32)[targets]
  memory = draw.normal(size=(3, rows, 5, 24)).astype(np.float32)
  inputs = peers.inputs_of(peer, batch) | {
    "attention_mask": torch.from_numpy(batch["attention_mask"].astype(np.float32)),
    "perm_mask": torch.from_numpy(perm_mask.astype(np.float32)),
    "target_mapping": torch.from_numpy(mapping),
    "mems": [torch.from_numpy(layer.swapaxes(0, 1).copy()) for layer in memory],
    "use_mems": True,
  }
  with torch.no_grad():
    theirs = peer(**inputs)
  module = build(model.network, config, record=True)
  seen_so_far: Any = {"hidden_tokens": perm_mask, "target_mapping": mapping, "memory": jnp.asarray(memory)}
  ours: Any = module.apply({"params": params}, Inputs.of(batch).replace(**seen_so_far))
  assert_close("logits", ours["mlm_scores"].logits(), theirs.logits)
  new = xlnet.remember(ours["hidden_states"], jnp.asarray(memory), config)
  seen = np.concatenate([np.ones((rows, 5), bool), batch["attention_mask"]], axis=1)
  for layer, (mine, other) in enumerate(zip(new, theirs.mems, strict=True)):
    assert_close(f"memory {layer}", mine[seen], other.numpy().swapaxes(0, 1)[seen])


def test_the_loss_of_xlnets_permutations(tmp_path: Path) -> None:
  """Theirs is given the masks and targets that `test_permutation` derives by hand from a batch of ours."""
  import torch

  peer = peers.make("xlnet", "LMHeadModel")
  model = read(peer, tmp_path)
  settings = PermutationConfig(tokens_per_target=2.5, window=6)
  rows = random_rows(test_permutation.ROWS, test_permutation.LENGTH)
  fewer = np.where(rows.token_ids > MASK, MASK + 1 + rows.token_ids % 49, rows.token_ids)  # it knows 61 tokens
  batch = prepared(dataclasses.replace(rows, token_ids=fewer.astype(np.int32)), settings=settings)
  padded, source, hidden = test_permutation.by_hand(batch)
  mapping = (source[:, None] == batch["mlm_positions"][..., None]) * batch["mlm_weights"][..., None]
  labels = np.where(batch["mlm_weights"] > 0, batch["mlm_labels"], -100)
  with torch.no_grad():
    theirs = peer(
      **peers.inputs_of(peer, padded) | {"attention_mask": torch.from_numpy(padded["attention_mask"]).float()},
      perm_mask=torch.from_numpy(hidden).float(),
      target_mapping=torch.from_numpy(mapping),
      labels=torch.from_numpy(labels.astype(np.int64)),
    )
  objective = objective_of(Config(model.config, objective=settings, runtime=test_permutation.QUICK))
  total, count = test_permutation.loss(objective, model.params, batch)
  assert_close("loss", total / count, theirs.loss)


def test_spans_of_xlnet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
  import torch

  peer = peers.make("xlnet", "ForQuestionAnswering")
  model = read(peer, tmp_path)
  config, params = model.config, model.params
  batch = peers.random_batch(peer.config)
  with torch.no_grad():
    theirs = peer(**peers.inputs_of(peer, batch))
  assert_opens_there(model, peer, tmp_path, caplog)
  module = build(model.network, config)
  starts = theirs.start_top_index.numpy().astype(np.int32)
  ours: Any = module.apply({"params": params}, Inputs.of(batch), starts=starts)
  probabilities = jax.nn.softmax(ours["start_logits"], axis=-1)
  assert_close("starts", np.take_along_axis(probabilities, starts, axis=1), theirs.start_top_log_probs)
  # Theirs lists ends by rank, then start.
  best = np.sort(np.asarray(jax.nn.softmax(ours["end_logits"], axis=-1)), axis=-1)[..., ::-1][..., :5]
  assert_close("ends", best.swapaxes(1, 2).reshape(len(best), -1), theirs.end_top_log_probs)
  assert_close("answers", ours["no_answer_logits"], theirs.cls_logits)
