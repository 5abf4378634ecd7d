"""README.md beside an exported model, and what its config.json says of its weights."""

import dataclasses
import json
import re
from pathlib import Path

import ml_dtypes
import pytest
import safetensors.numpy

from bert_jax.config import Config
from bert_jax.interop import reading, writing
from tests.interop import small


def silent(_: str) -> None:
  pass


def card_of(folder: Path) -> str:
  return (folder / "README.md").read_text()


def test_a_run_says_how_it_was_trained(tmp_path: Path) -> None:
  model = dataclasses.replace(small.make("bert", tokenizer=small.tokenizer_of()), run=Config(), step=700)
  receipt = writing.write(model, tmp_path / "hf", silent)
  text = card_of(tmp_path / "hf")
  assert text.startswith("---\nlibrary_name: transformers\npipeline_tag: fill-mask\n---\n")
  assert "step 700 of 1000000, 256 sequences of up to 128 tokens a step" in text
  assert "Licence: not known here" in text
  assert "from transformers import AutoTokenizer, BertForPreTraining\n" in text
  assert re.search(r"Written with bert_jax \S+, jax ", text)
  assert "README.md" in receipt["sha256"]
  assert str(tmp_path) not in text


def test_a_licence_stays_with_the_weights(tmp_path: Path) -> None:
  writing.write(small.make("bert", "token_classification"), tmp_path / "hf", silent)
  (tmp_path / "hf" / "README.md").write_text("---\nlanguage: en\nlicense: cc-by-4.0\n---\n# A tagger\nlicense: mine\n")
  small.edit_config(tmp_path / "hf", _name_or_path="someone/a-tagger")
  writing.write(reading.read(tmp_path / "hf", say=silent), tmp_path / "back", silent)
  text = card_of(tmp_path / "back")
  assert "license: cc-by-4.0\n" in text.split("---")[1]
  assert "Licence: cc-by-4.0, as the card that it came with says." in text
  assert "It calls itself `someone/a-tagger`." in text
  assert "import BertForTokenClassification\n" in text  # there is no tokenizer
  again = reading.read(tmp_path / "back", say=silent)
  writing.write(again, tmp_path / "third", silent)
  assert "license: cc-by-4.0\n" in card_of(tmp_path / "third")


@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
def test_config_json_says_what_the_file_holds(key: str, tmp_path: Path) -> None:
  writing.write(small.make("bert"), tmp_path / "hf", silent)
  file = tmp_path / "hf" / "model.safetensors"
  arrays = {name: array.astype(ml_dtypes.bfloat16) for name, array in safetensors.numpy.load_file(file).items()}
  safetensors.numpy.save_file(arrays, file, metadata={"format": "pt"})
  small.edit_config(tmp_path / "hf", **({"torch_dtype": None} | {key: "bfloat16"}))
  writing.write(reading.read(tmp_path / "hf", say=silent), tmp_path / "back", silent)
  written = json.loads((tmp_path / "back" / "config.json").read_text())
  assert {k: v for k, v in written.items() if "dtype" in k} == {key: "float32"}
  written_arrays = safetensors.numpy.load_file(tmp_path / "back" / "model.safetensors")
  assert {str(array.dtype) for array in written_arrays.values()} == {"float32"}
