"""The corpus of generated text."""

from tests.training.conftest import corpus, source  # noqa: F401
