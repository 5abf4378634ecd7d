"""One thread, a bounded queue, and batches of what waits together."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs the extra app")

from bert_jax.app.batching import Batcher, Full


class Slow:
  """Doubles numbers, once it is let go; a negative number is an error."""

  def __init__(self) -> None:
    self.go = threading.Event()
    self.batches: list[tuple[Any, list[int]]] = []

  def __call__(self, key: Any, asked: Sequence[int]) -> list[int]:
    assert self.go.wait(20)
    self.batches.append((key, list(asked)))
    if any(number < 0 for number in asked):
      raise ValueError("negative")
    return [2 * number for number in asked]


async def started(batcher: Batcher, asked: Sequence[tuple[str, int, int]]) -> list["asyncio.Task[Any]"]:
  """Asks, and returns when all wait or are computed."""
  tasks = [asyncio.create_task(batcher.ask(*one)) for one in asked]
  for _ in range(3):
    await asyncio.sleep(0.01)
  return tasks


def test_what_waits_together_is_answered_together() -> None:
  async def check() -> None:
    slow = Slow()
    batcher = Batcher(slow, most_waiting=20, most_weight=6)
    tasks = await started(batcher, [("a", 1, 1)])
    tasks += await started(batcher, [("a", 2, 3), ("b", 3, 1), ("a", 4, 2), ("a", 5, 2), ("b", 6, 99), ("a", 7, 1)])
    slow.go.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10, 12, 14], "each has its own answer"
    # 1 was alone when it came. 2, 4 and 7 weigh 6, and 5 does not fit beside them; 6 weighs more than a batch may.
    assert slow.batches == [("a", [1]), ("a", [2, 4, 7]), ("b", [3]), ("a", [5]), ("b", [6])]
    await batcher.close()

  asyncio.run(check())


def test_one_wrong_request_spoils_no_other() -> None:
  async def check() -> None:
    slow = Slow()
    batcher = Batcher(slow, most_waiting=20, most_weight=9)
    tasks = await started(batcher, [("a", 1, 1)])
    tasks += await started(batcher, [("a", 2, 1), ("a", -3, 1), ("a", 4, 1)])
    slow.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [found[0], found[1], found[3]] == [2, 4, 8]
    assert isinstance(found[2], ValueError)
    await batcher.close()

  asyncio.run(check())


def test_the_queue_is_bounded_and_forgets_who_has_gone() -> None:
  async def check() -> None:
    slow = Slow()
    batcher = Batcher(slow, most_waiting=2, most_weight=9)
    tasks = await started(batcher, [("a", 1, 1)])
    tasks += await started(batcher, [("a", 2, 1), ("b", 3, 1)])
    with pytest.raises(Full):
      await batcher.ask("a", 4)
    tasks[1].cancel()
    await asyncio.sleep(0.01)
    later = (await started(batcher, [("a", 5, 1)]))[0]
    slow.go.set()
    assert await tasks[0] == 2
    assert await tasks[2] == 6
    assert await later == 10
    assert sorted(number for _, batch in slow.batches for number in batch) == [1, 3, 5], "nothing for who has gone"
    await batcher.close()

  asyncio.run(check())
