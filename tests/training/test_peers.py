"""Processes that train as one say who does not come, and none outlives another by long."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bert_jax.training import peers
from bert_jax.training.peers import meet
from tests import tiny


def free_port() -> int:
  with socket.socket() as free:
    free.bind(("localhost", 0))
    return free.getsockname()[1]


def all_meet(port: int, number: int, indices: list[int], about: dict[int, Any], seconds: float) -> dict[int, str]:
  """What each of these processes is told, here a thread each; nothing where they have met."""
  told: dict[int, str] = {}

  def one(place: int) -> None:
    try:
      meet(f"localhost:{port}", number, indices[place], about.get(place, {"rate": 0.15}), seconds).leave("done")
    except ValueError as error:
      told[place] = str(error)

  threads = [threading.Thread(target=one, args=(place,)) for place in range(len(indices))]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  return told


def test_who_does_not_come_is_named_to_all_that_have() -> None:
  told = all_meet(free_port(), 4, [0, 2], {}, 1.0)
  host = socket.gethostname()
  for said in (told[0], told[1]):
    assert f"processes 1, 3 of 4 did not come within 1 s; there are 0 on {host}, 2 on {host}" in said


def test_who_came_first_waits_as_long_as_process_0(monkeypatch: pytest.MonkeyPatch) -> None:
  """Which starts when half of the other's time is over, and alone knows who is absent."""
  monkeypatch.setattr(peers, "_ANSWER_SECONDS", 0.4)
  port = free_port()
  late = threading.Timer(1.0, lambda: told.update(all_meet(port, 3, [0], {}, 2.0)))
  told: dict[int, str] = {}
  late.start()
  (said,) = all_meet(port, 3, [1], {}, 2.0).values()
  late.join()
  assert said == told[0]
  assert "process 2 of 3 did not come within 2 s" in said


def test_without_process_0_the_others_say_where_they_looked() -> None:
  port = free_port()
  (said,) = all_meet(port, 2, [1], {}, 1.0).values()
  assert f"process 0 was not reached at --coordinator=localhost:{port} within 1 s" in said


@pytest.mark.parametrize(
  ("indices", "about", "at_least", "message"),
  [
    ([0, 1, 1], {}, 3, "two processes were started with --process_index=1"),
    (
      [0, 1, 2],
      {2: {"rate": 0.4}},
      2,  # process 1 may come when it is over
      "process 2 on .* was started with something else: rate is 0.4 there and 0.15 in process 0",
    ),
  ],
)
def test_what_does_not_belong_together_is_told_to_all_that_have_come(
  indices: list[int], about: dict[int, Any], at_least: int, message: str
) -> None:
  told = all_meet(free_port(), 3, indices, about, 1.5)
  assert sum(bool(re.search(message, said)) for said in told.values()) >= at_least


def test_something_else_that_knocks_is_let_in_by_nobody() -> None:
  port, stop = free_port(), threading.Event()

  def knock() -> None:
    while not stop.is_set():
      with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1.0) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")

  thread = threading.Thread(target=knock)
  thread.start()
  try:
    assert all_meet(port, 2, [0, 1], {}, 20.0) == {}
  finally:
    stop.set()
    thread.join()


@pytest.mark.parametrize("coordinator", ["localhost", "localhost:", ":1", "localhost:x"])
def test_an_address_without_a_port_is_refused(coordinator: str) -> None:
  with pytest.raises(ValueError, match=r"must be HOST:PORT"):
    meet(coordinator, 2, 0, {}, 1.0)


def test_a_silent_machine_is_asked_for_a_sign() -> None:
  with socket.socket() as connection:
    peers._keep(connection)
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if hasattr(socket, "TCP_KEEPIDLE"):
      names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
      idle, between, times = (connection.getsockopt(socket.IPPROTO_TCP, name) for name in names)
      assert idle + between * times <= peers.SILENCE_SECONDS


# ---- how they end, in processes of their own ----

PROGRAM = """
import sys, time
from bert_jax.training.peers import meet

met = meet(f"localhost:{sys.argv[1]}", 3, int(sys.argv[2]), {}, 60.0)
print("met", flush=True)
for line in sys.stdin:
  met.leave(*line.split())
  sys.exit(0)
"""


@pytest.fixture
def three() -> Iterator[list[subprocess.Popen[str]]]:
  port, pipe = free_port(), subprocess.PIPE
  running = [
    subprocess.Popen(
      [sys.executable, "-c", PROGRAM, str(port), str(index)],
      cwd=tiny.ROOT,
      stdin=pipe,
      stdout=pipe,
      stderr=pipe,
      text=True,
    )
    for index in range(3)
  ]
  try:
    for process in running:
      assert process.stdout is not None
      assert process.stdout.readline() == "met\n"
    yield running
  finally:
    for process in running:
      process.kill()
      process.communicate()


def wait(process: subprocess.Popen[str]) -> tuple[int, str]:
  began = time.monotonic()
  status = process.wait(timeout=30)
  assert time.monotonic() - began < 20  # at once; nothing here is waited for that takes longer, but a busy machine
  assert process.stderr is not None
  return status, process.stderr.read()


@pytest.mark.parametrize("dies", [0, 1])
def test_one_that_dies_ends_the_others_in_words(three: list[subprocess.Popen[str]], dies: int) -> None:
  three[dies].send_signal(signal.SIGKILL)
  for process in three[:dies] + three[dies + 1 :]:
    status, said = wait(process)
    assert status == peers.EXIT_WITHOUT_OTHERS
    assert f"process {dies} on {socket.gethostname()} has died" in said
    assert "the same command goes on from the last checkpoint" in said


def test_one_that_fails_tells_why_and_waits_for_nobody(three: list[subprocess.Popen[str]]) -> None:
  fails = 2  # what process 0 passes on
  assert three[fails].stdin is not None
  three[fails].communicate("failed no-luck\n", timeout=30)
  assert three[fails].returncode == 1
  for process in three[:fails] + three[fails + 1 :]:
    status, said = wait(process)
    assert (status, f"process {fails} on {socket.gethostname()} failed: no-luck" in said) == (75, True)


def test_one_that_is_done_leaves_the_others_in_peace(three: list[subprocess.Popen[str]]) -> None:
  for number, process in [(1, three[1]), (0, three[0]), (2, three[2])]:
    assert process.poll() is None, number
    assert process.stdin is not None
    _, said = process.communicate("done\n", timeout=30)
    assert (process.returncode, said) == (0, "")
