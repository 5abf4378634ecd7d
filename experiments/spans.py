"""SpanBERT: tokens, whole words or spans; and does it help to predict a span from its sides?

    python experiments/spans.py                                   # demo
    python experiments/spans.py --scale=night

All arms read single segments. The evaluation masks single tokens, 15 %, for every arm: `token` alone trains on such
masks, so the loss at [MASK] favours it, and what the paper reports of is tasks.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size

EXPERIMENT = Experiment(
  name="spans",
  question="Tokens, whole words or spans; and does it help to predict a span from its sides?",
  recipe="spanbert_base",
  arms=(
    Arm(
      name="token",
      change="single tokens masked",
      assignments={"data.masking.unit": "token", "objective.boundary": False},
    ),
    Arm(
      name="whole_word",
      parent="token",
      change="whole words masked",
      assignments={"data.masking.unit": "whole_word"},
      expects="about equal (SpanBERT, table 6: SQuAD 2.0 83.8 to 84.3, MNLI-m 86.7 to 86.3)",
    ),
    Arm(
      name="span",
      parent="token",
      change="spans of whole words masked, 3.8 on average",
      assignments={"data.masking.unit": "span"},
      expects="better (SpanBERT, table 6: SQuAD 2.0 83.8 to 85.4, MNLI-m 86.7 to 87.0)",
      direction=1,
    ),
    Arm(
      name="boundary",
      parent="span",
      change="each token of a span predicted from the tokens beside the span too",
      assignments={"objective.boundary": True},
      expects="better (SpanBERT, table 7: SQuAD 2.0 86.7 to 86.8, coreference 76.3 to 79.0, MNLI-m 87.3 to 87.6)",
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
