"""How much text, at an equal number of steps (RoBERTa, section 5 and table 4)?

    python experiments/data_size.py                                # demo
    python experiments/data_size.py --data.source='text:FOLDER'    # on your own text

A smaller share is a subset of a larger one, and is repeated more often. Held-out documents are the same for all.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size

EXPERIMENT = Experiment(
  name="data_size",
  question="Does more text help, at an equal number of steps?",
  arms=(
    Arm(
      name="share_1_16",
      change="a sixteenth of the text; full sentences, dynamic masks, no NSP",
      assignments={
        "data.train_fraction": 1 / 16,
        "data.format": "full_sentences",
        "data.short_seq_prob": 0.0,
        "data.masking.policy": "dynamic",
        "objective.sentence": "none",
      },
    ),
    Arm(
      name="share_1_4",
      parent="share_1_16",
      change="a quarter of the text",
      assignments={"data.train_fraction": 1 / 4},
      expects="better: the direction of the step from a quarter to all",
      direction=1,
    ),
    Arm(
      name="share_1",
      parent="share_1_4",
      change="all of the text",
      assignments={"data.train_fraction": 1.0},
      expects="better (RoBERTa, table 4, ten times the text: SQuAD 2.0 F1 87.3 to 87.7, MNLI-m 89.0 to 89.3)",
      direction=1,
    ),
  ),
  sizes={
    "smoke": Size(scales.SMOKE, seeds=(0,), note=scales.SMOKE_NOTE),
    "demo": Size(scales.DEMO_SHORT, seeds=(0, 1), note=scales.DEMO_NOTE),
    "night": Size(scales.NIGHT, seeds=(0, 1, 2), note=scales.NIGHT_NOTE),
    "paper": Size(scales.PAPER, seeds=(0, 1, 2), note=scales.PAPER_NOTE),
  },
)

if __name__ == "__main__":
  main(EXPERIMENT)
