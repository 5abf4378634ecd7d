"""The prefetching thread: order, how far ahead, exceptions, shutdown."""

import threading

import numpy as np
import pytest

from bert_jax.data.batches import Batch, prefetch


def step_batch(step: int) -> Batch:
  return {"step": np.array(step)}


def prefetch_threads() -> list[threading.Thread]:
  return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("depth", [1, 3, 50])
def test_batches_come_in_order(depth: int):
  assert [int(batch["step"]) for batch in prefetch(step_batch, 5, 16, depth)] == list(range(5, 16))
  assert not prefetch_threads()
  assert list(prefetch(step_batch, 5, 5, depth)) == []


def test_works_ahead_but_not_further():
  made: list[int] = []
  asked = threading.Semaphore(0)

  def make(step: int) -> Batch:
    made.append(step)
    asked.release()
    return step_batch(step)

  iterator = prefetch(make, 0, 100, 3)
  assert made == []
  next(iterator)
  for _ in range(4):
    assert asked.acquire(timeout=10)
  assert not asked.acquire(timeout=0.05)
  assert made == [0, 1, 2, 3]
  iterator.close()
  assert not prefetch_threads()
  assert made == [0, 1, 2, 3]


def test_exceptions_pass_at_their_step():
  def make(step: int) -> Batch:
    if step == 4:
      raise OSError("shard 7 cannot be read")
    return step_batch(step)

  iterator = prefetch(make, 2, 9, 3)
  assert [int(next(iterator)["step"]) for _ in range(2)] == [2, 3]
  with pytest.raises(OSError, match="shard 7"):
    next(iterator)
  assert not prefetch_threads()


def test_stops_when_its_consumer_does():
  iterator = prefetch(step_batch, 0, 1000, 4)
  next(iterator)
  assert prefetch_threads()
  iterator.close()
  assert not prefetch_threads()
