"""From BERT's recipe to RoBERTa's, one change a rung: what does each do to an encoder pretrained on real text?

    python experiments/bert_vs_roberta.py                      # demo: a laptop's CPU, half an hour
    python experiments/bert_vs_roberta.py --scale=smoke        # seconds a run, to see it work
    python experiments/bert_vs_roberta.py --scale=night        # a night on a CPU, or an hour on one GPU
    python experiments/bert_vs_roberta.py --scale=paper --platform=tpu

Each rung keeps what the rungs before it changed, and is compared with the one before it, seed by seed.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size

EXPERIMENT = Experiment(
  name="bert_vs_roberta",
  question="From BERT's recipe to RoBERTa's: which change helps?",
  arms=(
    Arm(
      name="bert",
      change="BERT's recipe: segment pairs with NSP, static masks, half of the text",
      assignments={"data.train_fraction": 0.5},
    ),
    Arm(
      name="dynamic_masks",
      parent="bert",
      change="a new mask in every epoch; in the first, the same as before",
      assignments={"data.masking.policy": "dynamic"},
      expects="comparable or slightly better (RoBERTa, table 1: SQuAD 2.0 F1 78.3 to 78.7, MNLI-m 84.3 to 84.0)",
      direction=0,
    ),
    Arm(
      name="no_nsp",
      parent="dynamic_masks",
      change="no next sentence prediction; the same pairs",
      assignments={"objective.sentence": "none"},
      expects="no loss (RoBERTa, section 4.2); BERT, table 5, had found one: MNLI-m 84.4 to 83.9",
      direction=0,
    ),
    Arm(
      name="full_sentences",
      parent="no_nsp",
      change="full sentences packed to the whole length, across documents, in place of pairs",
      assignments={"data.format": "full_sentences", "data.short_seq_prob": 0.0},
      expects="better (RoBERTa, table 2: MNLI-m 84.0 to 84.7, SQuAD 2.0 F1 78.7 to 79.1)",
      direction=1,
    ),
    Arm(
      name="more_data",
      parent="full_sentences",
      change="all of the text, for the same number of steps",
      assignments={"data.train_fraction": 1.0},
      expects="better (RoBERTa, table 4: 16 GB to 160 GB, SQuAD 2.0 F1 87.3 to 87.7, MNLI-m 89.0 to 89.3)",
      direction=1,
    ),
    Arm(
      name="big_batch",
      parent="more_data",
      change="four times the batch and twice the learning rate, at the same number of sequences, warm-up and all",
      assignments={
        "train.batch_size": lambda c: 4 * c.train.batch_size,
        "train.steps": lambda c: c.train.steps // 4,
        "optim.peak_lr": lambda c: 2 * c.optim.peak_lr,
        "optim.warmup_steps": lambda c: c.optim.warmup_steps // 4,  # or the rate is twice the parent's nowhere
        "evaluation.every_steps": lambda c: max(1, c.evaluation.every_steps // 4),
      },
      expects="better (RoBERTa, table 3: perplexity 3.99 at 256 to 3.68 at 2K, MNLI-m 84.7 to 85.2)",
      direction=1,
    ),
  ),
  sizes={
    "smoke": Size(scales.SMOKE, seeds=(0, 1), note=scales.SMOKE_NOTE),
    "demo": Size(
      scales.DEMO,
      seeds=(0, 1),
      note=scales.DEMO_NOTE,
      arms={"full_sentences": scales.EQUAL_TOKENS},
      runs=("bert", "dynamic_masks", "no_nsp", "full_sentences"),
    ),
    "night": Size(scales.NIGHT, seeds=(0, 1, 2), note=scales.NIGHT_NOTE, arms={"full_sentences": scales.EQUAL_TOKENS}),
    "paper": Size(
      scales.PAPER,
      seeds=(0, 1, 2),
      note=scales.PAPER_NOTE,
      arms={
        # RoBERTa, table 3: 256 sequences, 1M steps, 1e-4 → 2K sequences, 125K steps, 7e-4.
        "big_batch": {
          "train.batch_size": 2048,
          "train.steps": 125_000,
          "optim.peak_lr": 7e-4,
          "optim.warmup_steps": 1250,  # not in the paper: as many sequences as with 256
        },
      },
    ),
  },
)

if __name__ == "__main__":
  main(EXPERIMENT)
