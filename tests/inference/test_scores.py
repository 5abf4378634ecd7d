"""What an imported head says of texts and pairs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax.inference.model import Model
from bert_jax.interop import writing
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs
from tests.interop import small

TEXTS = ["Paris is the capital.", ("The cat sat.", "On the mat, 2019."), "Snow", ("the sea", "is cold.")]


def model_of(network: str, name: str = "bert", kind: str = "wordpiece") -> Model:
  return small.make(name, network, small.tokenizer_of(kind))


def test_a_classifier_answers_a_row_a_text() -> None:
  model = model_of("sequence_classification")
  found = model.logits(TEXTS, batch_size=3)
  assert found.shape == (4, 5)
  for text, row in zip(TEXTS, found, strict=True):
    alone = model.logits(text)
    assert alone.shape == (5,)
    np.testing.assert_allclose(row, alone, rtol=1e-5, atol=1e-5)  # float32, padded otherwise
  assert not np.allclose(model.logits(("the sea", "is cold.")), model.logits(("is cold.", "the sea")))
  assert model.logits([]).shape == (0, 5)
  encoding = model.encode("Snow")
  module = networks.build("sequence_classification", model.config, 5)
  seen = np.ones((1, len(encoding.token_ids)), bool)
  direct: Any = module.apply(
    {"params": model.params}, Inputs(encoding.token_ids[None], encoding.segment_ids[None], seen)
  )
  np.testing.assert_allclose(found[2], direct["logits"][0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  ("network", "shape"), [("token_classification", (5,)), ("question_answering", (2,)), ("replaced_tokens", ())]
)
def test_heads_of_tokens_answer_a_row_a_token(network: str, shape: tuple[int, ...]) -> None:
  model = model_of(network, "electra")
  found = model.logits(TEXTS)
  assert [x.shape for x in found[::2]] == [(len(model.encode(text).tokens), *shape) for text in TEXTS[::2]]
  np.testing.assert_allclose(found[1], model.logits(TEXTS[1]), rtol=1e-5, atol=1e-5)


def test_answers_to_choose_from() -> None:
  model = model_of("multiple_choice")
  questions = [[("the cat", "sat"), ("the cat", "is the sea"), "Paris"], ["a", "b", "c"]]
  found = model.logits(questions)
  assert found.shape == (2, 3)
  np.testing.assert_allclose(found[1], model.logits(questions[1:])[0], rtol=1e-5, atol=1e-5)
  with pytest.raises(ValueError, match="all are of one length"):
    model.logits([["a", "b"], ["a"]])


def test_what_is_asked_wrongly() -> None:
  model = model_of("sequence_classification")
  with pytest.raises(ValueError, match=r"has 5[0-9] tokens, and the model has 40 positions"):
    model.logits(["a", "the " * 50])
  with pytest.raises(ValueError, match="text 1 must be a str, or a tuple of two"):
    model.logits(["a", ["b", "c"]])
  with pytest.raises(ValueError, match="has the head masked_lm, and logits come from sequence_classification"):
    model_of("masked_lm").logits("a")


@pytest.mark.parity
@pytest.mark.parametrize(("name", "kind"), [("bert", "wordpiece"), ("roberta", "bpe"), ("distilbert", "wordpiece")])
@pytest.mark.parametrize("network", ["sequence_classification", "token_classification"])
def test_pairs_are_read_as_transformers_reads_them(name: str, kind: str, network: str, tmp_path: Path) -> None:
  import torch
  import transformers

  made = small.make(name, network, small.tokenizer_of(kind))
  writing.write_files(made, epath.Path(tmp_path / "hf"))
  kinds = {"sequence_classification": "SequenceClassification", "token_classification": "TokenClassification"}
  peer: Any = getattr(transformers, f"AutoModelFor{kinds[network]}").from_pretrained(tmp_path / "hf").eval()
  tokenizer: Any = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
  model = bert_jax.load(tmp_path / "hf")
  for text, found in zip(TEXTS, model.logits(TEXTS), strict=True):
    inputs = tokenizer(*([text] if isinstance(text, str) else text), return_tensors="pt")
    if name in ("distilbert", "roberta"):
      inputs.pop("token_type_ids", None)
    with torch.no_grad():
      wanted = peer(**inputs).logits[0].numpy()
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())  # float32 in another order
