"""The data behind the note, from scratch: runs the experiments that it speaks of, and writes three CSV files.

    python docs/note/measure.py WORKDIR

On two CPU cores that takes about three hours. What WORKDIR holds already is not run again, so the command can be
stopped and given once more. all-MiniLM-L6-v2 is fetched from the Hugging Face hub, unless `--minilm=FOLDER` has it.
`--scale=smoke --out=DIR` tries it all in a few minutes, and measures nothing.
"""

import argparse
import csv
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
# RoBERTa's arm of transfer.py, for 30,000 steps in place of 8,000.
LONGER_STEPS = ["--train.steps=30000", "--evaluation.every_steps=3000", "--runtime.save_every_steps=1000"]
LONGER = {
  "demo": ["--arms=share_1", "--seeds=0", "--transfer.tasks=", "--runtime.keep_latest=40", *LONGER_STEPS],
  "smoke": ["--arms=share_1", "--seeds=0"],
}
CHECKPOINTS = {"demo": ["--runtime.save_every_steps=250", "--runtime.keep_latest=40"], "smoke": []}
TASKS = ("wiki_topics", "bbc_classes")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("workdir", type=Path)
  parser.add_argument("--scale", choices=LONGER, default="demo")
  parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="where the CSV files go (default: here)")
  parser.add_argument("--minilm", default="sentence-transformers/all-MiniLM-L6-v2", metavar="MODEL")
  given = parser.parse_args()
  given.out.mkdir(parents=True, exist_ok=True)
  transfer = experiment("transfer", given.workdir, given.scale, CHECKPOINTS[given.scale])
  flags = ["--nofinetune", f"--models=minilm={given.minilm}"]
  minilm = experiment("transfer", given.workdir, given.scale, flags, "minilm")
  write(given.out / "transfer.csv", accuracies(transfer / "curves.csv", minilm / "curves.csv"))
  longer = experiment("data_size", given.workdir, given.scale, LONGER[given.scale], "longer")
  runs = {arm: transfer / "runs" / arm / "seed-0" for arm in ("roberta", "bert")}
  runs["longer"] = longer / "runs" / "share_1" / "seed-0"
  write(given.out / "learning.csv", learning.measure(runs))
  sweeps = {name: experiment(name, given.workdir, given.scale, flags) for name, flags in SWEEPS.items()}
  write(given.out / "arms.csv", arms({name: folder / "results.csv" for name, folder in sweeps.items()}))


def accuracies(ours: Path, minilm: Path) -> list[dict[str, Any]]:
  """The rows of two curves.csv; of MiniLM's, what the other does not have."""
  rows, names = read(ours), {"not pretrained": "minilm's size, not pretrained", "minilm": "minilm"}
  for row in read(minilm):
    name, _, how = row["way"].partition(", ")
    if name in names:
      rows.append(row | {"way": f"{names[name]}, {how}"})
  return rows


def experiment(name: str, workdir: Path, scale: str, flags: list[str], folder_name: str | None = None) -> Path:
  """Runs it to its end and returns its work directory."""
  folder = workdir / (folder_name or name)
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
    for row in read(path):
      if not row["mask_loss"]:
        continue  # it failed, or never saw [MASK]; its report says so
      learned = float(row["context_free_mask_loss"]) - float(row["mask_loss"])
      gains = {
        task: f"{100 * (float(row[f'{task}.pretrained']) - float(row[f'{task}.random'])):.2f}"
        for task in TASKS
        if row.get(f"{task}.pretrained")
      }
      found.append({"experiment": name, "arm": row["arm"], "seed": row["seed"], "learned": f"{learned:.4f}"} | gains)
  return found


def read(path: Path) -> list[dict[str, Any]]:
  with path.open(newline="") as file:
    return list(csv.DictReader(file))


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
  rows = list(rows)
  names = list(dict.fromkeys(name for row in rows for name in row))
  with path.open("w", newline="") as file:
    table = csv.DictWriter(file, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)


if __name__ == "__main__":
  main()
