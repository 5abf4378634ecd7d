"""The best encoder that a given amount of computation buys: of which size, with which batch, masks and updates?

    python experiments/budget.py                                  # demo: one change at a time
    python experiments/budget.py --arms=small,muon --seeds=0,1,2,3
    python experiments/budget.py --train.steps=16000              # four times the computation, for all arms
    python experiments/budget.py --scale=night

All arms do as many multiplications as the first (`bert_jax/costs.py`), and so take other numbers of steps; the warm-up
is the same share of them. Equal multiplications are not equal minutes: the report's costs say how long each arm took.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.costs import for_as_much
from bert_jax.experiment import Arm, Experiment, Size

EXPERIMENT = Experiment(
  name="budget",
  question="The best encoder that a given amount of computation buys: which size, batch, masks and updates?",
  arms=(
    Arm(
      name="small",
      change="BERT's layers, full sentences, dynamic masks, RoBERTa's Adam",
      assignments={
        "data.format": "full_sentences",
        "data.short_seq_prob": 0.0,
        "data.masking.policy": "dynamic",
        "objective.sentence": "none",
        "optim.name": "fairseq_adam",
        "optim.schedule": "linear",
        "optim.beta2": 0.98,
      },
    ),
    Arm(
      name="deeper",
      parent="small",
      change="twice the layers",
      assignments=for_as_much({"model.num_layers": lambda c: 2 * c.model.num_layers}),
      expects="about equal (Geiping and Goldstein 2023, 4.2: size decides how fast, not what is reached for the cost)",
    ),
    Arm(
      name="wider",
      parent="small",
      change="twice the width, with heads as wide as before",
      assignments=for_as_much(
        {
          "model.hidden_size": lambda c: 2 * c.model.hidden_size,
          "model.num_heads": lambda c: 2 * c.model.num_heads,
          "model.intermediate_size": lambda c: 2 * c.model.intermediate_size,
          "model.initializer_range": lambda c: c.model.initializer_range / 2**0.5,  # a layer's sums stay as large
          # Not tuned: halfway to what Yang et al. 2022, table 3, would have, a rate in proportion to 1 / width.
          "optim.peak_lr": lambda c: c.optim.peak_lr / 2**0.5,
        }
      ),
      expects="about equal (as above)",
    ),
    Arm(
      name="half_batch",
      parent="small",
      change="half the sequences a step, twice the steps",
      assignments=for_as_much({"train.batch_size": lambda c: c.train.batch_size // 2}),
      expects="better below the best batch, worse above it (Geiping and Goldstein 2023, 4.3: 1,536 for a day on a GPU)",
    ),
    Arm(
      name="mask_more",
      parent="small",
      change="two fifths of the tokens masked",
      assignments=for_as_much({"data.masking.rate": 0.4}),
      expects="no better (Geiping and Goldstein 2023, 4.3)",
    ),
    Arm(
      name="crammed",
      parent="small",
      change="the crammed BERT's layers: norms before, a gate, no biases, sinusoids",
      assignments=for_as_much({"model.kind": "crammed-bert"}),
      expects="better, by its quicker steps (Geiping and Goldstein 2023, 4.2)",
      direction=1,
    ),
    Arm(
      name="muon",
      parent="small",
      change="the updates of the layers' matrices made orthogonal, at twice the rate",
      assignments={"optim.name": "muon", "optim.peak_lr": lambda c: 2 * c.optim.peak_lr},
      expects="better: half of the work for the same loss (Liu et al. 2025, on decoders)",
      direction=1,
    ),
    Arm(
      name="together",
      parent="muon",
      change="two fifths of the tokens masked too",
      assignments=for_as_much({"data.masking.rate": 0.4}),
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
