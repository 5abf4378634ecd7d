"""Masking: static or dynamic, 80/10/10 or [MASK] alone, how much, tokens or whole words?

    python experiments/masking.py                                  # demo: four of the arms
    python experiments/masking.py --arms=repeated,static --seeds=0,1,2,3,4
    python experiments/masking.py --scale=night

Every arm differs from its parent in its masks alone, but for `repeated`, which has less text: weights, data order and
evaluation (always 15 %, 80/10/10, frozen) are shared. Only single segments and no NSP, so that nothing else is learned
beside. Static masks differ from dynamic ones from the second pass over the text on, so they are compared on a sixteenth
of it, which the demo's steps pass over seventeen times; `bert_vs_roberta.py` compares them on half.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size

RATES = (20, 30, 40, 60, 80)
MASK_ALONE = {"data.masking.mask_prob": 1.0, "data.masking.random_prob": 0.0}
# Wettig et al. 2022, as measured by their repository: MNLI at 15, 20, 30, 40, 60, 80 % with [MASK] alone.
WETTIG_MNLI = {15: 84.2, 20: 84.1, 30: 84.2, 40: 84.5, 60: 83.2, 80: 80.8}


def rate_arm(percent: int) -> Arm:
  """An arm that masks `percent` of the tokens, all as [MASK], against 15 %."""
  change = WETTIG_MNLI[percent] - WETTIG_MNLI[15]
  return Arm(
    name=f"rate_{percent}",
    parent="mask_only",
    change=f"{percent} % of the tokens masked",
    assignments={"data.masking.rate": percent / 100},
    expects=f"MNLI {WETTIG_MNLI[15]} to {WETTIG_MNLI[percent]} (Wettig et al., RoBERTa-large, 128 tokens)",
    direction=0 if abs(change) < 0.3 else 1 if change > 0 else -1,
  )


EXPERIMENT = Experiment(
  name="masking",
  question="Which tokens to mask, how many, how often to draw them again, and what to show in their place?",
  arms=(
    Arm(
      name="dynamic",
      change="a new mask in every epoch",
      assignments={
        "data.masking.policy": "dynamic",
        "data.format": "doc_sentences",
        "data.short_seq_prob": 0.0,
        "data.segmentations": 1,
        "objective.sentence": "none",
      },
    ),
    Arm(
      name="repeated",
      parent="dynamic",
      change="a sixteenth of the text, passed over sixteen times as often",
      assignments={"data.train_fraction": 1 / 16},
    ),
    Arm(
      name="static",
      parent="repeated",
      change="a few masks for each example, drawn once",
      assignments={"data.masking.policy": "static"},
      expects="comparable or slightly worse (RoBERTa, table 1: SQuAD 2.0 F1 78.7 to 78.3, MNLI-m 84.0 to 84.3)",
    ),
    Arm(
      name="mask_only",
      parent="dynamic",
      change="predicted tokens always shown as [MASK]",
      assignments=MASK_ALONE,
      expects="no worse when fine-tuned (BERT, table 8: MNLI 84.2 to 84.3; Wettig et al.: 83.7 to 84.2)",
    ),
    Arm(
      name="mask_or_random",
      parent="dynamic",
      change="80 % [MASK], 20 % random, none kept",
      assignments={"data.masking.mask_prob": 0.8, "data.masking.random_prob": 0.2},
      expects="about equal (BERT, table 8: MNLI 84.2 to 84.1)",
    ),
    Arm(
      name="random_only",
      parent="dynamic",
      change="predicted tokens always shown as a random token",
      assignments={"data.masking.mask_prob": 0.0, "data.masking.random_prob": 1.0},
      expects="worse (BERT, table 8: MNLI 84.2 to 83.6)",
      direction=-1,
    ),
    Arm(
      name="whole_word",
      parent="dynamic",
      change="all pieces of a word masked or none",
      assignments={"data.masking.unit": "whole_word"},
      expects="better when fine-tuned, BERT-large (google-research/bert README: SQuAD 1.1 F1 91.0 to 92.8)",
      direction=1,
    ),
    *(rate_arm(percent) for percent in RATES),
  ),
  sizes={
    "smoke": Size(scales.SMOKE, seeds=(0,), note=scales.SMOKE_NOTE),
    "demo": Size(
      scales.DEMO_SHORT,
      seeds=(0, 1),
      note=scales.DEMO_NOTE,
      runs=("dynamic", "mask_only", "whole_word", "rate_40"),
    ),
    "night": Size(scales.NIGHT, seeds=(0, 1, 2), note=scales.NIGHT_NOTE),
    "paper": Size(scales.PAPER, seeds=(0, 1, 2), note=scales.PAPER_NOTE),
  },
)

if __name__ == "__main__":
  main(EXPERIMENT)
