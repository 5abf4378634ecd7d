"""How much to hide and how much to predict: the two sides of the masking rate, apart.

    python experiments/masking_rate.py                            # demo
    python experiments/masking_rate.py --scale=night

A higher rate hides more of the context, which makes each prediction harder, and has more tokens to predict, which
teaches more a step. Here each moves alone. To predict more than is hidden, an example stands in the batch twice, with
masks that do not meet: twice the computation for each step. The evaluation is at 15 % for every arm.
`masking.py` moves both together, over more rates.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size

EXPERIMENT = Experiment(
  name="masking_rate",
  question="How much of a text to hide, and how much of it to predict?",
  recipe="roberta_base",
  arms=(
    Arm(
      name="rate_20",
      change="20 % of the tokens hidden, all as [MASK], and predicted",
      assignments={
        "data.masking.rate": 0.2,
        "data.masking.mask_prob": 1.0,
        "data.masking.random_prob": 0.0,
        "data.masking.rounding": "nearest",
      },
    ),
    Arm(
      name="rate_40",
      parent="rate_20",
      change="40 % hidden and predicted",
      assignments={"data.masking.rate": 0.4},
      expects="no worse (Wettig et al. 2022, RoBERTa-large, 128 tokens: MNLI 84.1 to 84.5, QNLI 91.3 to 91.6)",
    ),
    Arm(
      name="hide_more",
      parent="rate_20",
      change="40 % hidden, and half of them, 20 % of the tokens, predicted",
      assignments={"data.masking.rate": 0.4, "data.masking.prediction_rate": 0.2},
      expects="worse: hiding alone takes context away (Wettig et al. 2022, section 5; quoted from memory)",
      direction=-1,
    ),
    Arm(
      name="predict_more",
      parent="rate_20",
      change="20 % hidden, and in two copies of each example 40 % predicted",
      assignments={"data.masking.prediction_rate": 0.4, "train.batch_size": lambda c: 2 * c.train.batch_size},
      expects="better: more is predicted of each example (Wettig et al. 2022, section 5; quoted from memory)",
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
