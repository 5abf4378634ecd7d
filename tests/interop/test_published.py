"""Folders in the form in which known models are published, beside what transformers makes of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from etils import epath

from bert_jax.inference.model import Model
from bert_jax.interop import reading, writing
from bert_jax.interop.params import fingerprint
from bert_jax.models.inputs import Inputs
from bert_jax.models.networks import build
from tests.interop import peers, small

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5  # of the largest element: float32 sums in another order
BERT = {key: value for key, value in peers.COMMON.items() if key not in ("num_labels", "attn_implementation")}
ROBERTA = BERT | {"max_position_embeddings": 42, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5}
TAGS = dict(enumerate(("O", "B-MISC", "I-MISC", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")))


def publish(folder: Path, model: Any, **values: Any) -> None:
  """Saves a model as its weights were published; `values` for config.json, None takes a key out."""
  model.save_pretrained(folder)
  content = json.loads((folder / "config.json").read_text()) | values
  kept = {key: value for key, value in content.items() if value is not None}
  (folder / "config.json").write_text(json.dumps(kept))


def stirred(model: Any, seed: int = 0) -> Any:
  """The model with every parameter moved off its initial value."""
  import torch

  torch.manual_seed(seed)
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(0.1 * torch.randn_like(parameter))
  return model.eval()


def assert_equal(model: Model, peer: Any, names: dict[str, str]) -> None:
  """Outputs of ours → theirs, over a padded batch."""
  import torch

  batch = peers.random_batch(peer.config)
  with torch.no_grad():
    theirs = peer(**peers.inputs_of(peer, batch))
  network = build(model.network, model.config, model.num_classes)
  ours: Any = network.apply({"params": model.params}, Inputs.of(batch))
  seen = batch["attention_mask"]
  for mine, other in names.items():
    found = np.asarray(ours[mine].logits() if mine == "mlm_scores" else ours[mine])
    wanted = theirs[other].numpy()
    assert found.shape == wanted.shape
    if found.shape[:2] == seen.shape:
      found, wanted = found[seen], wanted[seen]
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def test_a_tagger_with_the_pooler_of_its_pretraining(tmp_path: Path) -> None:
  """dslim/bert-base-NER: saved when every class had a pooler; a config.json of transformers 2."""
  import transformers
  from transformers.models.bert.modeling_bert import BertPooler

  labels: dict[str, Any] = {"id2label": TAGS, "label2id": {tag: i for i, tag in TAGS.items()}}
  config = transformers.BertConfig(**BERT, **labels)
  peer: Any = transformers.BertForTokenClassification(config)
  peer.bert.pooler = BertPooler(config)
  publish(tmp_path / "hf", stirred(peer), _num_labels=9, output_past=True, transformers_version=None, dtype=None)
  assert "bert.pooler.dense.weight" in safetensors.numpy.load_file(tmp_path / "hf" / "model.safetensors")
  said: list[str] = []
  model = reading.read(tmp_path / "hf", say=said.append)
  assert (model.network, model.num_classes) == ("token_classification", 9)
  assert "bert.pooler.dense.weight" in said[0]
  assert_equal(
    model, transformers.BertForTokenClassification.from_pretrained(tmp_path / "hf").eval(), {"logits": "logits"}
  )
  writing.write(model, tmp_path / "back", lambda _: None)
  again = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "back").eval()
  assert again.config.id2label == TAGS
  assert_equal(model, again, {"logits": "logits"})


@pytest.mark.parametrize(("kind", "stem"), [("xlm-roberta", "XLMRoberta"), ("camembert", "Camembert")])
def test_other_names_of_roberta(kind: str, stem: str, tmp_path: Path) -> None:
  """xlm-roberta-base and camembert-base: masked tokens, and a pooler that their class does not use."""
  import transformers
  from transformers.models.roberta.modeling_roberta import RobertaPooler

  peer: Any = getattr(transformers, stem + "ForMaskedLM")(getattr(transformers, stem + "Config")(**ROBERTA))
  peer.roberta.pooler = RobertaPooler(peer.config)
  publish(tmp_path / "hf", stirred(peer))
  model = reading.read(tmp_path / "hf", say=lambda _: None)
  assert model.network == "masked_lm"
  assert_equal(model, peer, {"mlm_scores": "logits"})
  writing.write(model, tmp_path / "back", lambda _: None)
  again, loading = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "back", output_loading_info=True)
  assert type(again).__name__ == stem + "ForMaskedLM"
  assert not any(loading.values()), loading
  assert_equal(model, again.eval(), {"mlm_scores": "logits"})


@pytest.mark.parametrize(
  ("stem", "suffix", "values", "network"),
  [
    ("Roberta", "ForMaskedLM", {}, "masked_lm"),  # distilroberta-base
    ("Albert", "ForMaskedLM", {"architectures": None}, "masked_lm"),  # albert-base-v2, and none named
    ("Roberta", "ForSequenceClassification", {}, "sequence_classification"),  # roberta-large-mnli
    ("Bert", "ForQuestionAnswering", {}, "question_answering"),  # bert-large-uncased-whole-word-masking-finetuned-squad
    ("Bert", "Model", {"architectures": ["TFBertModel"]}, "pooled_encoder"),
    ("Bert", "Model", {"architectures": []}, "pooled_encoder"),
  ],
)
def test_a_pooler_beside_and_odd_architectures(
  stem: str, suffix: str, values: dict[str, Any], network: str, tmp_path: Path
) -> None:
  import importlib

  import transformers

  sizes = {"Bert": BERT, "Roberta": ROBERTA, "Albert": BERT | {"embedding_size": 13}}[stem]
  peer: Any = getattr(transformers, stem + suffix)(getattr(transformers, stem + "Config")(**sizes))
  if suffix != "Model":
    inner = getattr(peer, stem.lower())
    if stem == "Albert":
      import torch

      inner.pooler = torch.nn.Linear(24, 24)
    else:
      source = importlib.import_module(f"transformers.models.{stem.lower()}.modeling_{stem.lower()}")
      inner.pooler = getattr(source, stem + "Pooler")(peer.config)
  publish(tmp_path / "hf", stirred(peer), **values)
  model = reading.read(tmp_path / "hf", say=lambda _: None)
  assert model.network == network
  named: dict[str, dict[str, str]] = {
    "masked_lm": {"mlm_scores": "logits"},
    "pooled_encoder": {"hidden": "last_hidden_state", "pooled": "pooler_output"},
    "question_answering": {"start_logits": "start_logits", "end_logits": "end_logits"},
  }
  assert_equal(model, type(peer).from_pretrained(tmp_path / "hf").eval(), named.get(network, {"logits": "logits"}))
  encoder: Any = transformers.AutoModel.from_pretrained(tmp_path / "hf").eval()
  assert_equal(reading.read(tmp_path / "hf", "encoder", lambda _: None), encoder, {"hidden": "last_hidden_state"})


@pytest.mark.parametrize("suffix", ["ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"])
def test_modernberts_heads_have_an_activation_of_their_own(suffix: str, tmp_path: Path) -> None:
  import transformers

  values: dict[str, Any] = BERT | {"pad_token_id": 0, "hidden_activation": "relu", "classifier_activation": "tanh"}
  peer: Any = getattr(transformers, "ModernBert" + suffix)(transformers.ModernBertConfig(**values))
  stirred(peer).save_pretrained(tmp_path / "hf")
  model = reading.read(tmp_path / "hf", say=lambda _: None)
  names = {"mlm_scores" if suffix == "ForMaskedLM" else "logits": "logits"}
  assert_equal(model, peer, names)
  writing.write(model, tmp_path / "back", lambda _: None)
  assert_equal(model, type(peer).from_pretrained(tmp_path / "back").eval(), names)


@pytest.mark.parametrize("stem", ["Deberta", "DebertaV2"])
def test_debertas_masked_tokens_without_legacy(stem: str, tmp_path: Path) -> None:
  import transformers

  values: dict[str, Any] = BERT | peers.DEBERTA | {"legacy": False}
  peer: Any = getattr(transformers, stem + "ForMaskedLM")(getattr(transformers, stem + "Config")(**values))
  stirred(peer).save_pretrained(tmp_path / "hf")
  said: list[str] = []
  model = reading.read(tmp_path / "hf", say=said.append)
  assert model.network == "masked_lm"
  assert [text for text in said if "tokenizer" not in text] == []
  assert_equal(model, peer, {"mlm_scores": "logits"})
  writing.write(model, tmp_path / "back", lambda _: None)
  again, loading = type(peer).from_pretrained(tmp_path / "back", output_loading_info=True)
  assert not any(loading.values()), loading
  assert_equal(model, again.eval(), {"mlm_scores": "logits"})


@pytest.mark.parametrize("parts", [1, 2])
def test_the_line_for_pickles_keeps_all_that_is_in_the_folder(parts: int, tmp_path: Path) -> None:
  import torch

  model = small.make("bert", "token_classification", small.tokenizer_of())
  folder = tmp_path / "it's $here"
  writing.write_files(model, epath.Path(folder))
  (folder / "modules.json").write_text('[{"path": "", "type": "sentence_transformers.models.Transformer"}]')
  arrays = safetensors.numpy.load_file(folder / "model.safetensors")
  (folder / "model.safetensors").unlink()
  torch.save({"a": 1}, folder / "optimizer.pt")
  for part in range(parts):
    some = {name: torch.from_numpy(arrays[name]) for name in sorted(arrays)[part::parts]}
    torch.save(some, folder / ("pytorch_model.bin" if parts == 1 else f"pytorch_model-{part + 1:05}-of-00002.bin"))
  before = {path.name: path.read_bytes() for path in folder.iterdir()}
  with pytest.raises(ValueError, match="holds its weights as a pickle") as error:
    reading.read(folder, say=lambda _: None)
  line = str(error.value).splitlines()[-1]
  subprocess.run(line.replace("python", sys.executable, 1), shell=True, check=True, cwd=tmp_path)
  assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "model.safetensors"} == before
  read = reading.read(folder, say=lambda _: None)
  assert (read.network, read.tokenizer is not None, "modules.json" in read.files) == (
    "token_classification",
    True,
    True,
  )
  assert fingerprint(read.params) == fingerprint(model.params)
