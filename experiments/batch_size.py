"""Batch size at an equal number of sequences (RoBERTa, section 4.3 and table 3).

    python experiments/batch_size.py                               # demo
    python experiments/batch_size.py --optim.peak_lr=5e-4          # what all arms scale their rate from
    python experiments/batch_size.py --scale=paper --platform=tpu  # 256, 2K and 8K sequences, as published

Steps shrink as the batch grows, and the learning rate grows with its square root, which keeps Adam's noise in step.
"""

from typing import Literal

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size


def times(factor: int, expects: str, direction: Literal[0, 1]) -> Arm:
  """An arm with `factor` times the batch of the first and as many steps fewer."""
  return Arm(
    name=f"batch_x{factor}",
    parent="batch_x1",
    change=f"{factor} times the batch, {factor} times fewer steps and warm-up, rate × √{factor}",
    assignments={
      "train.batch_size": lambda c: factor * c.train.batch_size,
      "train.steps": lambda c: max(4, c.train.steps // factor),
      "optim.warmup_steps": lambda c: c.optim.warmup_steps // factor,  # as many sequences
      "optim.peak_lr": lambda c: c.optim.peak_lr * factor**0.5,
      "evaluation.every_steps": lambda c: max(1, c.evaluation.every_steps // factor),
    },
    expects=expects,
    direction=direction,
  )


EXPERIMENT = Experiment(
  name="batch_size",
  question="Does a bigger batch help, at an equal number of sequences?",
  arms=(
    Arm(
      name="batch_x1",
      change="RoBERTa's setting of the comparison: full sentences, dynamic masks, no NSP",
      assignments={
        "data.format": "full_sentences",
        "data.short_seq_prob": 0.0,
        "data.masking.policy": "dynamic",
        "objective.sentence": "none",
      },
    ),
    times(2, "", 0),
    times(4, "", 0),
    times(8, "better (RoBERTa, table 3: 256 to 2K, perplexity 3.99 to 3.68, MNLI-m 84.7 to 85.2)", 1),
    times(32, "better, less so (RoBERTa, table 3: 256 to 8K, perplexity 3.99 to 3.77, MNLI-m 84.7 to 84.6)", 1),
  ),
  sizes={
    "smoke": Size(scales.SMOKE, seeds=(0,), note=scales.SMOKE_NOTE),
    "demo": Size(
      scales.DEMO_SHORT,
      seeds=(0, 1),
      note=scales.DEMO_NOTE,
      runs=("batch_x1", "batch_x2", "batch_x4"),  # batch_x8 is on the plateau for as long
    ),
    "night": Size(scales.NIGHT, seeds=(0, 1, 2), note=scales.NIGHT_NOTE),
    "paper": Size(
      scales.PAPER,
      seeds=(0, 1, 2),
      note=scales.PAPER_NOTE,
      arms={  # RoBERTa, table 3: rates found by search, not by a rule
        "batch_x8": {"train.steps": 125_000, "optim.peak_lr": 7e-4},
        "batch_x32": {"train.steps": 31_000, "optim.peak_lr": 1e-3},
      },
    ),
  },
)

if __name__ == "__main__":
  main(EXPERIMENT)
