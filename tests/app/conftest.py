"""The app on a real port of loopback, over small networks with random weights."""

import dataclasses
import socket
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("starlette", reason="needs the extra app")
uvicorn = pytest.importorskip("uvicorn", reason="needs the extra app")

from bert_jax.app import server  # noqa: E402
from bert_jax.app.limits import Limits  # noqa: E402
from bert_jax.inference.model import Model  # noqa: E402
from tests.interop import small  # noqa: E402

CLASSES = ("snow", "sea", "cat", "<b>bold</b>", "=1+1")


@pytest.fixture(scope="session")
def models() -> dict[str, Model]:
  """One that fills masks, a classifier, a tagger, one that answers questions."""
  tokenizer = small.tokenizer_of()
  tags = ("O", "B-SEA", "I-SEA", "B-CAT", "I-CAT")
  return {
    "masks": small.make("bert", "masked_lm", tokenizer),
    "classes": dataclasses.replace(
      small.make("bert", "sequence_classification", tokenizer), num_classes=5, class_names=CLASSES
    ),
    "tags": dataclasses.replace(small.make("bert", "token_classification", tokenizer), num_classes=5, class_names=tags),
    "answers": small.make("bert", "question_answering", tokenizer),
  }


@dataclasses.dataclass(frozen=True)
class Served:
  host: str
  port: int

  @property
  def address(self) -> str:
    return f"http://{self.host}:{self.port}"


def serving(models: dict[str, Model], limits: Limits, **options: float) -> Iterator[Served]:
  bound = socket.socket()
  bound.bind(("127.0.0.1", 0))
  running = uvicorn.Server(uvicorn.Config(server.build(models, limits, **options), log_level="error"))  # type: ignore[arg-type]
  thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]}, daemon=True)
  thread.start()
  deadline = time.monotonic() + 30
  while not running.started and time.monotonic() < deadline:
    time.sleep(0.01)
  try:
    yield Served(*bound.getsockname())
  finally:
    running.should_exit = True
    thread.join(timeout=30)
    bound.close()


@pytest.fixture(scope="session")
def served(models: dict[str, Model]) -> Iterator[Served]:
  """With a short time for bodies to arrive."""
  yield from serving(models, Limits(body_seconds=1.0))


@pytest.fixture
def with_token(models: dict[str, Model]) -> Iterator[Served]:
  yield from serving(models, Limits(token="secret", any_host=True))
