"""Kills a small sweep at random moments, and flips random bits of its files, many times over.

    python -m tests.soak --kills=100 --flips=200 --workdir=W --seed=0

No part of the tests, as it takes about an hour. It ends with status 1 where a killed sweep ends otherwise than one that
nothing disturbed, or where a flipped bit changes a result and nobody is told.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from absl import app, flags, logging

import bert_jax
from bert_jax import preemption, sweep
from bert_jax.analysis.report import write_report
from bert_jax.interop.params import fingerprint
from tests import tiny

FLAGS = flags.FLAGS
flags.DEFINE_integer("kills", 100, "signals to send; half of them SIGKILL, the others SIGTERM")
flags.DEFINE_integer("flips", 200, "bits to flip")
flags.DEFINE_string("workdir", None, "where all of it happens; must not exist", required=True)
flags.DEFINE_integer("seed", 0, "of the moments and the bits")

# Two arms, of segment pairs and their sentence objective as BERT has them, packed, and a task to fine-tune for.
SETTINGS = {
  "data.packing": 4,
  "train.steps": 24,
  "runtime.save_every_steps": 2,
  "evaluation.every_steps": 4,
  "transfer.tasks": "parity",
  "transfer.epochs": 1,
}
# Of the command: done, saved and stopped, killed, or told to stop before it listened.
ENDS = (0, preemption.EXIT_PREEMPTED, -signal.SIGKILL, -signal.SIGTERM)
# What says when, how long and by which process: never the same twice.
TIMES = ("times.csv", "times.json", "report.md", "report.html", ".lock")


def end_state(workdir: Path) -> dict[str, str]:
  """All that a sweep leaves and that is to be the same each time, by file: a hash, or the lines that count."""
  state = {}
  for path in sorted(workdir.rglob("*")):
    name = str(path.relative_to(workdir))
    if not path.is_file() or name.endswith(TIMES) or "tensorboard" in name or path.name.startswith(".claim"):
      continue
    if path.name == "metrics.jsonl":
      state[name] = "\n".join(line for line in path.read_text().splitlines() if '"eval"' in line)
    elif "checkpoints" in path.parts:
      if path.match("about/metadata"):
        state[name] = str(json.loads(path.read_text())["checksums"])  # of each array
    else:
      state[name] = hashlib.sha256(path.read_bytes()).hexdigest()
  return state


def different(one: dict[str, str], other: dict[str, str]) -> list[str]:
  return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


# ---- kills ----


def start(source: str, workdir: Path, cache: Path, said: Path) -> subprocess.Popen[str]:
  given = [f"--{name}={value}" for name, value in SETTINGS.items()]
  with said.open("a") as file:
    return subprocess.Popen(
      tiny.command(source, workdir, *given), cwd=tiny.ROOT, env=tiny.environment(cache), text=True, stderr=file
    )


def kill(source: str, folder: Path, draw: random.Random) -> list[str]:
  """Sends all signals; what went wrong."""
  cache, said = folder / "compiled", folder / "stderr.txt"
  for name in ("first", "undisturbed"):  # the first compiles, so that the moments are of a sweep that does not
    began = time.monotonic()
    if start(source, folder / name, cache, said).wait():
      return [f"the sweep that nothing disturbed failed; see {said}"]
    lasted = time.monotonic() - began
  wanted, wrong = end_state(folder / "undisturbed"), []
  if noise := different(end_state(folder / "first"), wanted):
    return [f"two sweeps that nothing disturbed differ in {noise}"]
  sent, sweeps = 0, 0
  while sent < FLAGS.kills:
    sweeps += 1
    workdir, status, here = folder / f"killed-{sweeps}", 1, 0
    while status:
      process = start(source, workdir, cache, said)
      if sent < FLAGS.kills:
        number = signal.SIGTERM if draw.random() < 0.5 else signal.SIGKILL
        try:
          status = process.wait(draw.uniform(0, 0.8 * lasted))
        except subprocess.TimeoutExpired:
          process.send_signal(number)
          status, sent, here = process.wait(), sent + 1, here + 1
        if status not in ENDS:
          return [*wrong, f"after {sent} signals the command ended with {status}; see {said}"]
      elif status := process.wait():
        return [*wrong, f"after the last signal the command ended with {status}; see {said}"]
    if changed := different(end_state(workdir), wanted):
      wrong.append(f"sweep {sweeps}, with {here} signals: other {changed}")
    else:
      shutil.rmtree(workdir)
    ends = f"otherwise: {changed}" if changed else "the same"
    logging.info("%d of %d signals sent; sweep %d took %d, and ends %s", sent, FLAGS.kills, sweeps, here, ends)
  print(f"{sent} signals at random moments of {sweeps} sweeps: {sweeps - len(wrong)} end as if undisturbed")
  return wrong


# ---- flips ----


def results_of(workdir: Path) -> dict[str, str]:
  """What a person takes from a finished sweep: its table, its report, and each arm's weights and tokenizer."""
  found = {name: (workdir / name).read_text() for name in ("results.csv", "results.json")}
  for arm in tiny.EXPERIMENT.arms:
    model = bert_jax.load(workdir / "runs" / arm.name / "seed-0")
    assert model.tokenizer is not None
    found[f"weights of {arm.name}"] = fingerprint(model.params)
    found[f"tokenizer of {arm.name}"] = model.tokenizer.hash
  return found


def used(source: str, workdir: Path) -> dict[str, str]:
  """The same command once more, and then its results."""
  status = sweep.run(tiny.plan(source, workdir, assignments=SETTINGS))
  assert not status, status
  write_report(workdir)
  return results_of(workdir)


def forget(workdir: Path, path: Path) -> None:
  """Removes what was made of the damaged file, so that it is read once more."""
  in_run = path.relative_to(workdir).parts[:3]
  for arm in tiny.EXPERIMENT.arms:
    run = workdir / "runs" / arm.name / "seed-0"
    if in_run[0] == "data":
      shutil.rmtree(run)
    elif in_run == run.relative_to(workdir).parts:
      for name in ("result.json", "pretrained.json"):
        (run / name).unlink(missing_ok=True)


def flip(source: str, folder: Path, draw: random.Random) -> list[str]:
  """Flips all bits, one at a time; what went wrong."""
  sound, workdir = folder / "sound", folder / "damaged"
  assert not sweep.run(tiny.plan(source, sound, assignments=SETTINGS))
  wanted = used(source, sound)
  files = [path for path in sorted(sound.rglob("*")) if path.is_file() and path.stat().st_size]
  sizes = [path.stat().st_size for path in files]
  wrong, counts = [], Counter[str]()
  for number in range(FLAGS.flips):
    # Half of them anywhere in a file, whatever its size; the others anywhere on the disk.
    (file,) = draw.choices(files) if number % 2 else draw.choices(files, sizes)
    bit = draw.randrange(8 * file.stat().st_size)
    answers = []
    for again in (False, True):  # of what is there; and with what was made of the file to be made once more
      shutil.rmtree(workdir, ignore_errors=True)
      shutil.copytree(sound, workdir)
      path = workdir / file.relative_to(sound)
      content = bytearray(path.read_bytes())
      content[bit // 8] ^= 1 << bit % 8
      path.write_bytes(content)
      if again:
        forget(workdir, path)
      try:
        found = used(source, workdir)
      except ValueError as error:  # ours, in words
        answers.append("found")
        said = str(error)
        named = any(part in said for part in (path.name, *path.relative_to(workdir).parts[2:]))
        if not named:
          wrong.append(f"bit {bit} of {file.relative_to(sound)}: the error names no file: {said:.300}")
      except BaseException as error:
        answers.append("crashed")
        wrong.append(f"bit {bit} of {file.relative_to(sound)}: {error!r:.500}")
      else:
        changed = different(found, wanted)
        answers.append("SILENT" if changed else "harmless")
        if changed:
          wrong.append(f"bit {bit} of {file.relative_to(sound)}, {'made again' if again else 'as it is'}: {changed}")
    counts[" and ".join(dict.fromkeys(answers))] += 1
    logging.info("%d of %d: bit %d of %s: %s", number + 1, FLAGS.flips, bit, file.relative_to(sound), answers)
  print(f"{FLAGS.flips} flipped bits: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
  return wrong


def main(_: list[str]) -> None:
  logging.use_python_logging(quiet=False)
  logging.set_verbosity(logging.INFO)
  folder = Path(FLAGS.workdir).absolute()
  folder.mkdir(parents=True)
  source = tiny.write_text(folder / "text")
  draw, wrong = random.Random(FLAGS.seed), []
  if FLAGS.kills:
    wrong += kill(source, folder, draw)
  if FLAGS.flips:
    tiny.label_texts()
    logging.set_verbosity(logging.WARNING)
    wrong += flip(source, folder, draw)
  for line in wrong:
    print("WRONG:", line)
  print("Nothing was lost, and nothing changed silently." if not wrong else f"{len(wrong)} faults")
  sys.exit(bool(wrong))


if __name__ == "__main__":
  os.environ.setdefault("JAX_PLATFORMS", "cpu")
  app.run(main)
