"""The settings and the tokenizer of the tiny network in tests/inference."""

from tests.inference.conftest import config, tokenizer

__all__ = ["config", "tokenizer"]
