"""Sweep folders as an experiment leaves them, with made-up numbers that are a function of (arm, seed)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from etils import epath

from bert_jax import records, results
from bert_jax.results import (
  Answer,
  Baselines,
  ByDocument,
  Draws,
  Facts,
  FewLabels,
  Fingerprints,
  Gate,
  Gates,
  PlannedArm,
  PlannedSweep,
  Pretrained,
  RunResult,
  TaskResult,
  Times,
)

LINE = 6.73  # what is reached at [MASK] without context
DOCUMENTS = 40
ARMS = ("bert", "dynamic", "no_nsp", "full_sentences", "big_batch", "more_data")


def write_sweep(
  folder: Path,
  arms: Sequence[str] = ARMS,
  seeds: Sequence[int] = (0, 1, 2),
  effects: Sequence[float] = (0.0, -0.004, 0.012, -0.085, -0.05, -0.12),
  directions: Sequence[int] = (0, 0, 1, 1, 1, 1),
  noise: float = 0.02,
  tasks: Sequence[str] = ("bbc_classes", "wiki_topics"),
  assignments: Mapping[str, dict[str, Any]] | None = None,
) -> Path:
  """A whole sweep: `effects[i]` is added to the loss from arm i on; `noise` is a run's own deviation."""
  plan = PlannedSweep(
    experiment="bert_vs_roberta",
    question="What does each step from BERT's recipe to RoBERTa's do?",
    scale="demo",
    scale_note="A laptop's half hour: two layers, a few million tokens. It shows the early part of training only.",
    seeds=tuple(seeds),
    answers=(Answer("nsp", "NSP", "Next sentence prediction, on held-out pairs"),),
    arms=tuple(
      PlannedArm(
        name=arm,
        parent=arms[i - 1] if i else None,
        change=f"the change that {arm} names, in words.",
        expects=f"what was found for {arm} (Liu et al. 2019, Table {i})." if i else "",
        direction=directions[i],
        assignments=(assignments or {}).get(arm, _assignments(i, arm)),
      )
      for i, arm in enumerate(arms)
    ),
    hardware="2 CPU cores (x86-64)",
    versions={"bert_jax": "0.1.0", "jax": "0.10.2"},
    git_commit=None,
    config={"model": {"num_layers": 2, "vocab_size": None}, "optim": {"peak_lr": 1e-3}},
  )
  folder.mkdir(parents=True, exist_ok=True)
  results.write(epath.Path(folder) / "sweep.json", plan)
  gate = Gate("initialization", tuple(arms), seeds[0], True, "the shared parameters are equal, bit for bit")
  results.write(epath.Path(folder) / "gates.json", Gates((gate,)))
  for i, arm in enumerate(arms):
    for seed in seeds:
      generator = np.random.default_rng([i, seed, 77])
      common = 0.03 * float(np.random.default_rng(seed).normal())  # what the seed does to every arm
      loss = 5.95 + sum(effects[: i + 1]) + common + noise * float(generator.normal())
      write_run(folder, arm, seed, loss, tasks=tasks, nsp=0.61 if i < 2 else None, tokens=2_300_000 * (1 + (i == 5)))
  return folder


def _assignments(i: int, arm: str) -> dict[str, Any]:
  of_arm = {"full_sentences": {"data.format": arm}, "big_batch": {"data.masking.unit": "whole_word"}}
  return of_arm.get(arm, {"data.masking.policy": "dynamic"} if i else {})


def write_run(
  folder: Path,
  arm: str,
  seed: int,
  loss: float,
  tasks: Sequence[str] = (),
  nsp: float | None = None,
  tokens: int = 2_300_000,
  finished: bool = True,
  status: Literal["finished", "diverged"] = "finished",
  transfer: dict[str, TaskResult] | None = None,
  **changes: float | None,
) -> Path:
  """One run that falls to `loss` at [MASK]; `changes` replaces some of its measures."""
  run = folder / "runs" / arm / f"seed-{seed}"
  run.mkdir(parents=True, exist_ok=True)
  generator = np.random.default_rng([seed, *arm.encode()])
  steps = 1200 if finished else 500
  lines = [records.line({"kind": "train", "step": 50, "tokens": 50, "predicted_tokens": 7, "mlm_loss": 9.1})]
  for step in range(0, steps + 1, 100):
    seen = tokens * step / 1200
    at = loss + (7.4 - loss) * np.exp(-5 * step / 1200) + (0.004 * generator.normal() if step < 1200 else 0)
    lines.append(records.line(evaluation(step, seen, float(at) if step < 1200 else loss)))
  (run / "metrics.jsonl").write_text("".join(lines))
  if finished:
    trivial = {
      "context_free_mask_loss": LINE,
      "context_free_mask_accuracy": 0.04,
      "context_free_mlm_loss": LINE - 0.5,
      "context_free_mlm_accuracy": 0.13,
      "context_free_own_mask_loss": LINE + 0.01,
      "nsp_majority": nsp and 0.66,
    }
    measures = {
      "mask_loss": loss,
      "mask_accuracy": 0.17,
      "mlm_loss": loss - 0.4,
      "mlm_perplexity": float(np.exp(loss - 0.4)),
      "mlm_accuracy": 0.19,
      "own_mask_loss": loss + (0.05 if arm == "full_sentences" else 0.02),
      "nsp_accuracy": nsp,
      "nsp_balanced_accuracy": nsp and nsp - 0.08,
    }

    pretrained = Pretrained(
      status=status,
      steps=1200,
      facts=Facts(1_234_567, 3.7, 900, 1_234_000, DOCUMENTS, 61_000, 300, 300, 37, 3),
      fingerprints=Fingerprints({"encoder": "e"}, "d", "h"),
      trivial=trivial,
      measures=measures | changes,
      best_loss=loss - 0.001,
      tokens=tokens,
      predicted_tokens=tokens // 7,
    )
    if transfer is None:
      transfer, few_labels = few_labels_of(generator, tasks, seed)
      results.write(epath.Path(run) / "fewlabels.json", few_labels)
    results.write(epath.Path(run) / "result.json", RunResult(arm, seed, pretrained, transfer, {}))
    count = np.random.default_rng(7).integers(20, 80, DOCUMENTS)
    nats = count * (
      loss + 0.3 * np.random.default_rng(7).normal(size=DOCUMENTS) + 0.01 * generator.normal(size=DOCUMENTS)
    )
    held_out = ByDocument(
      tuple(range(DOCUMENTS)), tuple(count.tolist()), tuple(nats.tolist()), tuple((LINE * count).tolist())
    )
    results.write(epath.Path(run) / "heldout.json", held_out)
    write_times(run, train_seconds=140.0 + seed)
  return run


DRAWS, TEXTS = 6, 200


def few_labels_of(
  generator: np.random.Generator, tasks: Sequence[str], seed: int
) -> tuple[dict[str, TaskResult], FewLabels]:
  """What a run's tasks give: texts and draws are hard or easy for all runs alike."""
  found: dict[str, TaskResult] = {}
  draws: dict[str, dict[str, Draws]] = {}
  for number, task in enumerate(tasks):
    shared = np.random.default_rng(number)
    hard = 0.2 * shared.normal(size=(1, TEXTS)) + 0.03 * shared.normal(size=(DRAWS, 1))
    ways = {"pretrained": 0.61, "random": 0.35, "tfidf": 0.58, "tfidf_cut": 0.5, "majority": 0.15}
    draws[task] = {}
    for way, share in ways.items():
      own = {"pretrained": generator, "random": np.random.default_rng([seed, 5])}.get(way, np.random.default_rng(6))
      right = own.random((DRAWS, TEXTS)) < share + 0.01 * own.normal() + hard
      draws[task][way] = Draws(tuple(right.mean(axis=1).tolist()), tuple(right.sum(axis=0).tolist()))
    means = {way: float(np.mean(draws[task][way].by_draw)) for way in ways}
    baselines = Baselines(means["random"], means["tfidf"], means["tfidf_cut"], means["majority"])
    found[task] = TaskResult(means["pretrained"], baselines, DRAWS, TEXTS, 16, 5)
  return found, FewLabels(draws)


def evaluation(step: int, tokens: float, loss: float) -> dict[str, Any]:
  """A line of metrics.jsonl."""
  return {"kind": "eval", "step": step, "tokens": tokens, "predicted_tokens": tokens // 7, "mask_loss": loss}


def write_times(run: Path, train_seconds: float) -> None:
  times = Times(
    train_seconds=train_seconds,
    eval_seconds=6.5,
    transfer_seconds=21.25,
    compile_seconds=7.75,
    tokens_per_second=15_432.1,
    data_wait_share=0.004,
  )
  results.write(epath.Path(run) / "times.json", times)
