"""How processes that train as one meet before JAX connects them, and how each learns that another has ended.

JAX alone ends a process with a stack trace of C++ when another does not come or dies, minutes later, and names neither.
So they meet here first, over TCP, at the address that JAX is given next: process 0 listens, the others come to it, each
with its number and with what it was started with. The connections stay until the end. What is sent is one JSON object a
line. When a process dies, its machine closes the connection at once; a machine that falls silent is found by TCP's own
probes, within `SILENCE_SECONDS`.
"""

import atexit
import contextlib
import dataclasses
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

from absl import logging

EXIT_WITHOUT_OTHERS = 75  # as after a signal: the same command goes on
SILENCE_SECONDS = 30
_PROBES = 3  # without an answer, until a machine counts as lost
_ANSWER_SECONDS = 10.0  # of process 0, which hears those that have come one after the other
_SAY_SECONDS = 15  # between two lines about who is waited for
# How long a process goes on when another has left: with an error, which it may be about to find too; after a signal,
# which has reached it too or will, with a checkpoint to be written. One that is done leaves the others in peace.
_GRACE_SECONDS = {"failed": 5.0, "stopped": 60.0}
_IN_PEACE = ("done", "with another")  # the latter's reason is known to all
_NOTICE_SECONDS = 1.0  # JAX may raise an error about a process that has died before it is known here that it has

Connection = tuple[socket.socket, IO[str]]


@dataclasses.dataclass(frozen=True)
class Processes:
  """Those that train as one, as the command line says.

  Attributes:
    coordinator: HOST:PORT of process 0; `auto` on a cluster that JAX knows (a TPU pod, Slurm, Open MPI); None: alone.
    number: how many there are; None with `auto`.
    index: which one this is, from 0; None with `auto`.
    handshake_seconds: until the others have to have come.
  """

  coordinator: str | None = None
  number: int | None = None
  index: int | None = None
  handshake_seconds: float = 300


class Peers:
  """The other processes, once they have met; see `meet`."""

  def __init__(self, index: int, connections: Mapping[int, Connection], hosts: Mapping[int, str]):
    """Listens to each of them, in a thread of its own.

    Args:
      index: this process's number.
      connections: by the number of the process at the other end.
      hosts: the names of all machines, by the number of the process.
    """
    self._index, self._connections, self._hosts = index, dict(connections), dict(hosts)
    self._left = False
    self._lock = threading.Lock()  # of what is sent
    for number in self._connections:
      threading.Thread(target=self._listen, args=(number,), name=f"process {number}", daemon=True).start()

  def leave(self, how: str, reason: str = "") -> None:
    """Says that this process will end: "done", "stopped" by a signal, or "failed" for a reason."""
    if how == "failed":
      time.sleep(_NOTICE_SECONDS)
    self._left = True
    self._send({"left": how, "number": self._index, "reason": reason})
    if how == "failed":
      # Otherwise JAX waits at the exit until the others have come to theirs, which wait for this process. This is the
      # last to be registered, and so the first to run.
      atexit.register(_end_now, 1)

  def _send(self, message: dict[str, Any], but: int | None = None) -> None:
    with self._lock:
      for number, (connection, _) in self._connections.items():
        if number != but:
          with contextlib.suppress(OSError):
            connection.sendall(_line(message))

  def _listen(self, number: int) -> None:
    """Follows what comes from one process until the connection ends; process 0 passes it on to the others."""
    has_left = False
    with contextlib.suppress(OSError, ValueError):
      for line in self._connections[number][1]:
        message = json.loads(line)
        has_left = has_left or message["number"] == number
        if self._index == 0:
          self._send(message, but=number)
        if message["left"] not in _IN_PEACE:
          self._end(message["number"], message["left"], message["reason"])
    if not has_left:
      if self._index == 0:
        self._send({"left": "gone", "number": number, "reason": ""}, but=number)
      self._end(number, "gone", "")

  def _end(self, number: int, how: str, reason: str) -> None:
    """Ends this process because another has, unless it ends by itself first."""
    deadline = time.monotonic() + _GRACE_SECONDS.get(how, 0.0)
    while not self._left and time.monotonic() < deadline:
      time.sleep(0.05)
    if self._left:
      return
    who = f"process {number} on {self._hosts.get(number, 'its machine')}"
    said = {
      "gone": f"{who} has died, or its machine or network has",
      "stopped": f"{who} was stopped",
      "failed": f"{who} failed: {reason}",
    }[how]
    self._send({"left": "with another", "number": self._index, "reason": ""})
    print(f"{said}; this process ends too, and the same command goes on from the last checkpoint", file=sys.stderr)
    _end_now(EXIT_WITHOUT_OTHERS)


def meet(coordinator: str, number: int, index: int, about: Mapping[str, Any], seconds: float) -> Peers:
  """Waits until all processes have come.

  Args:
    coordinator: HOST:PORT of process 0, which listens there, on all of its addresses.
    number: of processes.
    index: this one's.
    about: what the process was started with, by name, as JSON has it; it has to be the same in all of them.
    seconds: to wait at most.

  Raises:
    ValueError: who has not come, or came with something else; on all that have come.
  """
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdigit():
    raise ValueError(f"--coordinator={coordinator} must be HOST:PORT")
  me = {"index": index, "number": number, "host": socket.gethostname(), "about": about}
  if index == 0:
    return _receive(int(port), me, seconds)
  return _come((host.strip("[]"), int(port)), me, seconds)


def _receive(port: int, me: dict[str, Any], seconds: float) -> Peers:
  """Process 0's side of `meet`."""
  number, deadline = me["number"], time.monotonic() + seconds
  came: dict[int, Connection] = {}
  told: list[socket.socket] = []  # how it ended, two of one number included
  hosts, wrong = {0: me["host"]}, ""
  with _listening(port) as server:
    say = time.monotonic() + _SAY_SECONDS
    while len(came) < number - 1 and not wrong and time.monotonic() < deadline:
      if time.monotonic() > say:
        logging.info("waiting for %s of %d", _numbers(set(range(1, number)) - set(came)), number)
        say += _SAY_SECONDS
      with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # whatever else may knock at a port
        connection, _ = server.accept()
        connection.settimeout(5.0)
        reader = connection.makefile()
        said = json.loads(reader.readline())
        connection.sendall(_line({"seconds": max(0.0, deadline - time.monotonic())}))
        who, where = said["index"], said["host"]
        wrong = _difference(said, me, came)
        told.append(connection)
        came[who], hosts[who] = (connection, reader), where
  if not wrong and len(came) < number - 1:
    absent = _numbers(set(range(1, number)) - set(came))
    there = ", ".join(f"{i} on {host}" for i, host in sorted(hosts.items()))
    wrong = (
      f"{absent} of {number} did not come within {seconds:g} s; there are {there}. Start all of them with one command,"
      " each with an index of its own, and see that their machines reach --coordinator"
    )
  for connection in told:
    with contextlib.suppress(OSError):
      connection.sendall(_line({"wrong": wrong, "hosts": hosts}))
      _keep(connection)
  if wrong:
    raise ValueError(wrong)
  return Peers(0, came, hosts)


def _come(address: tuple[str, int], me: dict[str, Any], seconds: float) -> Peers:
  """The side of the others: until process 0 is reached they wait by their own time, and from then on by its."""
  deadline, why, what = time.monotonic() + seconds, "nothing answers there", "was not reached"
  while time.monotonic() < deadline:
    try:
      connection = socket.create_connection(address, timeout=_ANSWER_SECONDS)
      connection.sendall(_line(me))
      reader = connection.makefile()
      left = json.loads(reader.readline())["seconds"]
      what = "was reached, and ended before all had come,"
      connection.settimeout(left + _ANSWER_SECONDS)
      answer = json.loads(reader.readline())
      if answer["wrong"]:
        raise ValueError(answer["wrong"])
      _keep(connection)
      return Peers(me["index"], {0: (connection, reader)}, {int(i): host for i, host in answer["hosts"].items()})
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
      why = f"{error}" or why
      time.sleep(0.2)
  raise ValueError(
    f"process 0 {what} at --coordinator={address[0]}:{address[1]} within {seconds:g} s ({why}); start it with the same"
    " command and --process_index=0, and see that this machine reaches it"
  )


def _difference(said: Mapping[str, Any], me: Mapping[str, Any], came: Mapping[int, Any]) -> str:
  """What is wrong about a process that has come; nothing, as a rule."""
  who = f"process {said['index']} on {said['host']}"
  if said["number"] != me["number"]:
    return f"{who} was started with --num_processes={said['number']}, and process 0 with {me['number']}"
  if said["index"] in came:
    return f"two processes were started with --process_index={said['index']}, one of them on {said['host']}"
  there, here = said["about"], json.loads(json.dumps(me["about"]))
  differ = [name for name in {**here, **there} if there.get(name) != here.get(name)]
  if differ:
    listed = "; ".join(f"{name} is {there.get(name)} there and {here.get(name)} in process 0" for name in differ[:3])
    return f"{who} was started with something else: {listed}; give all the same command"
  return ""


def _listening(port: int) -> socket.socket:
  """Of both kinds of addresses where the machine has both."""
  both = socket.has_dualstack_ipv6()
  family = socket.AF_INET6 if both else socket.AF_INET
  server = socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=1024)
  server.settimeout(0.5)
  return server


def _keep(connection: socket.socket) -> None:
  """From now on it may be silent for as long as the machine at its other end lives."""
  connection.settimeout(None)
  connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
  beat = SILENCE_SECONDS // (_PROBES + 1)
  for name, value in {"TCP_KEEPIDLE": beat, "TCP_KEEPINTVL": beat, "TCP_KEEPCNT": _PROBES}.items():
    if hasattr(socket, name):  # Linux has all of them
      connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _line(message: Mapping[str, Any]) -> bytes:
  return json.dumps(message).encode() + b"\n"


def _numbers(numbers: set[int]) -> str:
  return f"process{'es' if len(numbers) > 1 else ''} {', '.join(map(str, sorted(numbers)))}"


def _end_now(status: int) -> None:
  """Without JAX's farewell, which waits for the other processes."""
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError, AttributeError):
      stream.flush()
  os._exit(status)
