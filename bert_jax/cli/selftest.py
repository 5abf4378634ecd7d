"""Shows on your own devices what has to hold wherever a model is trained, in a few minutes.

A small network is trained on text that is made for it: a step repeated, its gradient in microbatches and over meshes of
all devices, fused attention, bfloat16; a run that is stopped and goes on; flipped bits of a checkpoint. What it prints
is short enough to be pasted into a report of a bug. The status is 1 where something does not hold.
"""

import argparse

HELP = "what has to hold, tried on your own devices"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("--platform", choices=("cpu", "gpu", "tpu"), help="what must be there; what JAX finds otherwise")


def run(given: argparse.Namespace) -> int:
  import time

  from absl import logging

  from bert_jax import provenance
  from bert_jax.planning import selftest
  from bert_jax.training import platform

  began, checks = time.monotonic(), []
  platform.select_platform(given.platform)
  logging.set_verbosity(logging.ERROR)  # of its small runs nobody wants to know
  versions = provenance.versions()
  print(" ".join(f"{name} {versions[name]}" for name in versions))
  for check in selftest.run():
    checks.append(check)
    mark = {True: "ok", False: "FAIL", None: "–"}[check.holds]
    print(f"{mark:<5} {check.what}: {check.said}", flush=True)
  print(selftest.report(checks, began))
  return 1 if any(check.holds is False for check in checks) else 0
