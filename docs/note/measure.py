"""The data behind the note, from scratch: runs the experiments that it speaks of, and writes three CSV files.

    python docs/note/measure.py WORKDIR

On two CPU cores that takes about two and a half hours. What WORKDIR holds already is not run again, so the command can
be stopped and given once more. `--scale=smoke --out=DIR` tries it in a few minutes, and measures nothing.
"""

import argparse
import csv
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import learning

HERE = Path(__file__).parent
EXPERIMENTS = HERE.parents[1] / "experiments"
SWEEPS = {  # experiment → its flags beside the scale
  "bert_vs_roberta": [],
  "masking": [],
  "nsp": [],
  "batch_size": ["--arms=batch_x1,batch_x2,batch_x4,batch_x8"],
  "data_size": [],
}
CHECKPOINTS = ["--runtime.save_every_steps=250", "--runtime.keep_latest=40"]
LABELS = {"demo": ["--labels=2,4,8,16,32"], "smoke": []}
TASKS = ("wiki_topics", "bbc_classes")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("workdir", type=Path)
  parser.add_argument("--scale", choices=LABELS, default="demo")
  parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="where the CSV files go (default: here)")
  given = parser.parse_args()
  given.out.mkdir(parents=True, exist_ok=True)
  checkpoints = CHECKPOINTS if given.scale == "demo" else []
  transfer = experiment("transfer", given.workdir, given.scale, [*checkpoints, *LABELS[given.scale]])
  shutil.copyfile(transfer / "curves.csv", given.out / "transfer.csv")
  rows = [row for arm in ("roberta", "bert") for row in learning.measure(transfer / "runs" / arm / "seed-0", arm)]
  write(given.out / "learning.csv", rows)
  sweeps = {name: experiment(name, given.workdir, given.scale, flags) for name, flags in SWEEPS.items()}
  write(given.out / "arms.csv", arms({name: folder / "results.csv" for name, folder in sweeps.items()}))


def experiment(name: str, workdir: Path, scale: str, flags: list[str]) -> Path:
  """Runs it to its end and returns its work directory."""
  folder = workdir / name
  subprocess.run(
    [sys.executable, EXPERIMENTS / f"{name}.py", f"--scale={scale}", f"--workdir={folder}", *flags], check=True
  )
  return folder


def arms(results: Mapping[str, Path]) -> list[dict[str, Any]]:
  """Of each run: nats at [MASK] below what is reached without context, and points above random weights by task.

  Args:
    results: experiment → its results.csv.
  """
  found = []
  for name, path in results.items():
    with path.open(newline="") as file:
      for row in csv.DictReader(file):
        learned = float(row["context_free_mask_loss"]) - float(row["mask_loss"])
        gains = {
          task: f"{100 * (float(row[f'{task}.pretrained']) - float(row[f'{task}.random'])):.2f}"
          for task in TASKS
          if row.get(f"{task}.pretrained")
        }
        found.append({"experiment": name, "arm": row["arm"], "seed": row["seed"], "learned": f"{learned:.4f}"} | gains)
  return found


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
  rows = list(rows)
  names = list(dict.fromkeys(name for row in rows for name in row))
  with path.open("w", newline="") as file:
    table = csv.DictWriter(file, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)


if __name__ == "__main__":
  main()
