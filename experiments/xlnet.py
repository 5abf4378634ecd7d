"""XLNet: tokens predicted in random orders, or masked ones on the same network; spans or not; with memory or without?

    python experiments/xlnet.py                                    # demo: three of the arms
    python experiments/xlnet.py --arms=no_memory,denoising --seeds=0,1,2,3,4
    python experiments/xlnet.py --scale=night

Weights, data order and evaluation are shared by all arms, and each differs from its parent in what it names alone. Only
single segments, so that nothing is to be learned of pairs beside. Every arm is measured as a masked language model is,
at the same [MASK] places and without a memory: what `denoising` trains on, so its loss there is a home match. What the
paper claims, tasks show. `denoising` has no memory, so it is compared with the arm without; in the paper both have one.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size

EXPERIMENT = Experiment(
  name="xlnet",
  question="Does predicting tokens in random orders teach an encoder more than filling masks does?",
  recipe="xlnet_base",
  arms=(
    Arm(
      name="permutation",
      change="a sixth of the tokens predicted in a random order, in spans, with a memory",
      assignments={
        "data.format": "doc_sentences",
        "data.segmentations": 1,
      },
    ),
    Arm(
      name="one_in_7",
      parent="permutation",
      change="a seventh of the tokens predicted",
      assignments={"objective.tokens_per_target": 7.0},
      expects="about equal (XLNet, table 6, K = 6 to 7: RACE 66.66 to 66.05, SQuAD 2.0 F1 80.98 to 81.33, MNLI-m 85.63"
      " to 85.84)",
    ),
    Arm(
      name="single_tokens",
      parent="permutation",
      change="single tokens predicted, not spans",
      assignments={"objective.longest_span": 1},
      expects="slightly worse (XLNet, table 6, - span-based pred: RACE 66.66 to 65.95, SQuAD 2.0 F1 80.98 to 80.61,"
      " MNLI-m 85.63 to 85.49)",
      direction=-1,
    ),
    Arm(
      name="no_memory",
      parent="permutation",
      change="nothing seen of what stands before a row",
      assignments={"data.preceding_tokens": 0},
      expects="worse (XLNet, table 6, - memory: RACE 66.66 to 65.55, SQuAD 2.0 F1 80.98 to 80.15, MNLI-m 85.63 to"
      " 85.32)",
      direction=-1,
    ),
    Arm(
      name="denoising",
      parent="no_memory",
      change="masked tokens on the same network: 15 %, 80/10/10",
      assignments={"objective.kind": "masked_tokens"},
      expects="worse (XLNet, table 6, K = 6 to DAE + Transformer-XL, with memory: RACE 66.66 to 65.03, SQuAD 2.0 F1"
      " 80.98 to 79.56, MNLI-m 85.63 to 84.88)",
      direction=-1,
    ),
  ),
  sizes={
    "smoke": Size(scales.SMOKE, seeds=(0,), note=scales.SMOKE_NOTE),
    "demo": Size(
      scales.DEMO_SHORT,
      seeds=(0, 1),
      note=scales.DEMO_NOTE,
      runs=("permutation", "no_memory", "denoising"),
    ),
    "night": Size(scales.NIGHT, seeds=(0, 1, 2), note=scales.NIGHT_NOTE),
    "paper": Size(scales.PAPER, seeds=(0, 1, 2), note=scales.PAPER_NOTE),
  },
)

if __name__ == "__main__":
  main(EXPERIMENT)
