"""Generated text and its corpus, made once."""

from pathlib import Path

import pytest

from bert_jax.data.store import Corpus
from bert_jax.training.pretraining import prepare_corpus
from tests import tiny


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
  return tiny.write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="session")
def corpus(source: str, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
  workdir: Path = tmp_path_factory.mktemp("corpus")
  return prepare_corpus(tiny.config(source), workdir)
