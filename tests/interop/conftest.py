"""The tiny network of tests/inference, saved from four devices."""

from tests.inference.conftest import config, saved, tokenizer, trained, workdir

__all__ = ["config", "saved", "tokenizer", "trained", "workdir"]
