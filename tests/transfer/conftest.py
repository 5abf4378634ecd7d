"""Models to start from: the tiny network in tests/inference, and a small imported BERT."""

from pathlib import Path

import pytest

from bert_jax import console
from tests.inference.conftest import config, tokenizer
from tests.interop import small

__all__ = ["config", "tokenizer"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """An imported folder of a small BERT."""
  pytest.importorskip("sklearn", reason="needs the extra demo")
  folder = tmp_path_factory.mktemp("model") / "M"
  small.make("bert", tokenizer=small.tokenizer_of()).save(folder)
  return folder


@pytest.fixture
def logging_stays(monkeypatch: pytest.MonkeyPatch) -> None:
  """Verbs that are called here leave the loggers as they are."""
  monkeypatch.setattr(console, "log_own_lines_only", lambda: None)
