"""ELECTRA: does it pay to learn from every token, and which tokens were replaced, rather than the masked ones alone?

    python experiments/electra.py                                 # demo: ELECTRA, masked tokens, and 15 %
    python experiments/electra.py --arms=mlm,generator,electra,two_stage
    python experiments/electra.py --scale=night

What arms are compared by here is what their encoders are good for on tasks: the loss at [MASK] is a small generator's
where there is one, and the report does not compare it with a whole model's. All arms do as many multiplications as
`mlm` (`bert_jax/costs.py`), so those with two networks take fewer steps; the two stages have half the steps each.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.costs import for_as_much
from bert_jax.experiment import Arm, Experiment, Size

EXPERIMENT = Experiment(
  name="electra",
  question="Does it pay to learn which tokens were replaced, from every token?",
  recipe="electra_small",
  arms=(
    Arm(
      name="mlm",
      change="masked tokens, by the same network on the same text",
      assignments={"objective.kind": "masked_tokens", "data.masking.mask_prob": 0.8, "data.masking.random_prob": 0.1},
    ),
    Arm(
      name="electra",
      parent="mlm",
      change="ELECTRA: tell which tokens a small generator replaced",
      assignments=for_as_much(
        {
          "objective.kind": "replaced_tokens",
          # A quarter, and in narrow models up to a half: ELECTRA-small's is 64 wide (configure_pretraining.py).
          "objective.generator_size": lambda c: max(0.25, min(0.5, 64 / c.model.hidden_size)),
          "data.masking.mask_prob": 0.85,
          "data.masking.random_prob": 0.0,
        }
      ),
      expects="better (ELECTRA, table 5: GLUE 82.2 to 85.0)",
      direction=1,
    ),
    Arm(
      name="electra_15",
      parent="electra",
      change="the discriminator's loss over the masked tokens alone",
      assignments={"objective.loss_over": "masked"},
      expects="worse (ELECTRA, table 5: 85.0 to 82.4)",
      direction=-1,
    ),
    Arm(
      name="all_tokens",
      parent="electra",
      change="of every token, which one stood there, with a gate that copies what is shown",
      assignments=for_as_much({"objective.predicts": "tokens", "objective.weight": 1.0}),
      expects="worse (ELECTRA, table 5, all-tokens MLM: 85.0 to 84.3)",
      direction=-1,
    ),
    Arm(
      name="unshared",
      parent="electra",
      change="embeddings of their own for generator and discriminator",
      assignments={"objective.sharing": "none"},
      expects="worse (ELECTRA, section 3.2: 84.4 to 83.6, networks of one size; quoted from memory)",
      direction=-1,
    ),
    Arm(
      name="generator_as_wide",
      parent="electra",
      change="a generator as wide as the discriminator",
      assignments=for_as_much({"objective.generator_size": 1.0}),
      expects="worse: best are generators of a quarter to a half (ELECTRA, section 3.2 and figure 3)",
      direction=-1,
    ),
    Arm(
      name="generator",
      parent="mlm",
      change="half of the steps: the first of two stages",
      assignments={"train.steps": lambda c: c.train.steps // 2},
    ),
    Arm(
      name="two_stage",
      parent="electra",
      change="the discriminator starts as the generator of `generator`, which it trains on and which stays as it is",
      assignments={
        "train.steps": lambda c: c.train.steps // 2,
        "train.start_from": "arm:generator",
        "objective.generator_from": "arm:generator",
        "objective.sharing": "none",
      },
      expects="worse than both at once, and better than masked tokens (ELECTRA, section 3.2 and figure 3)",
      direction=-1,
    ),
  ),
  sizes={
    "smoke": Size(scales.SMOKE, seeds=(0,), note=scales.SMOKE_NOTE),
    "demo": Size(
      {
        **scales.DEMO_SHORT,
        # After 4,000 steps of pairs behind embeddings of half the width, masked tokens had not left the plateau; in
        # single segments behind whole ones they left it within 2,000.
        "data.format": "doc_sentences",
        "model.embedding_size": 128,
      },
      seeds=(0, 1),
      note=scales.DEMO_NOTE,
      runs=("mlm", "electra", "electra_15"),
    ),
    "night": Size(scales.NIGHT, seeds=(0, 1, 2), note=scales.NIGHT_NOTE),
    "paper": Size(scales.PAPER, seeds=(0, 1, 2), note=scales.PAPER_NOTE),
  },
)

if __name__ == "__main__":
  main(EXPERIMENT)
