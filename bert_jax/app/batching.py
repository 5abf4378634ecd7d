"""One thread computes; requests that wait for the same model and kind are answered as one batch."""

import asyncio
import collections
import concurrent.futures
import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from absl import logging


class Full(Exception):
  """As many requests wait as may."""


@dataclasses.dataclass(eq=False)
class _Waiting:
  key: Hashable
  asked: Any
  weight: int
  future: "asyncio.Future[Any]"


class Batcher:
  """A bounded queue in front of one thread.

  Whatever has come while a batch was computed, and is of the kind of the oldest request, is the next batch. So a lone
  request never waits for others, and many are answered together.

  Args:
    answer: (key, requests) → their answers. Where it raises ValueError for several requests, each is tried by itself,
      so that one that is wrong spoils no other.
    most_waiting: requests, those that are computed not counted.
    most_weight: of a batch, unless one request alone weighs more.
  """

  def __init__(self, answer: Callable[[Any, Sequence[Any]], Sequence[Any]], most_waiting: int, most_weight: int):
    self._answer, self._most_waiting, self._most_weight = answer, most_waiting, most_weight
    self._waiting: collections.deque[_Waiting] = collections.deque()
    self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="model")
    self._work: asyncio.Task[None] | None = None
    self.batches = 0

  async def ask(self, key: Hashable, asked: Any, weight: int = 1) -> Any:
    """The answer to a request; if this task is cancelled before its turn comes, nothing is computed for it.

    Args:
      key: requests of one key can be answered together.
      weight: how much there is to compute, in the unit of `most_weight`.

    Raises:
      Full: as many requests wait as may.
      Exception: whatever answering it raises.
    """
    self._drop_cancelled()
    if len(self._waiting) >= self._most_waiting:
      raise Full
    waiting = _Waiting(key, asked, weight, asyncio.get_running_loop().create_future())
    self._waiting.append(waiting)
    if self._work is None or self._work.done():
      self._work = asyncio.create_task(self._until_none_waits())
    return await waiting.future

  async def close(self) -> None:
    """Ends the thread, once it has computed what it is at."""
    if self._work is not None:
      self._work.cancel()
    self._thread.shutdown(wait=False, cancel_futures=True)

  def _drop_cancelled(self) -> None:
    self._waiting = collections.deque(one for one in self._waiting if not one.future.done())

  async def _until_none_waits(self) -> None:
    loop = asyncio.get_running_loop()
    while True:
      self._drop_cancelled()
      if not self._waiting:
        return
      batch = self._next()
      self.batches += 1
      found = await loop.run_in_executor(self._thread, self._answered, batch[0].key, [one.asked for one in batch])
      for one, answer in zip(batch, found, strict=True):
        if one.future.done():
          continue
        if isinstance(answer, Exception):
          one.future.set_exception(answer)
        else:
          one.future.set_result(answer)

  def _next(self) -> list[_Waiting]:
    """The oldest request, and those of its key that fit beside it."""
    first = self._waiting.popleft()
    batch, left, weight = [first], collections.deque(), first.weight
    for one in self._waiting:
      if one.key == first.key and weight + one.weight <= self._most_weight:
        batch.append(one)
        weight += one.weight
      else:
        left.append(one)
    self._waiting = left
    return batch

  def _answered(self, key: Any, asked: list[Any]) -> list[Any]:
    """An answer or an error for each."""
    try:
      return list(self._answer(key, asked))
    except Exception as error:
      if len(asked) == 1 or not isinstance(error, ValueError):
        if not isinstance(error, ValueError):
          logging.error("a request of %s failed: %s: %s", key, type(error).__name__, error)
        return [error] * len(asked)
      return [answer for one in asked for answer in self._answered(key, [one])]
