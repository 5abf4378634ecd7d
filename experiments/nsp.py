"""Input formats, with and without next sentence prediction (RoBERTa, section 4.2 and table 2).

    python experiments/nsp.py                                      # demo
    python experiments/nsp.py --arms=segment_pair,segment_pair_nsp --seeds=0,1,2,3,4
    python experiments/nsp.py --scale=night

RoBERTa compares two formats with NSP and two without. Here NSP is a change of its own, so that format and objective can
be told apart. Sentence pairs and single documents fill a sequence less: read "tokens" beside each loss.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size

WITH_NSP = {"objective.sentence": "nsp"}
# A pair of sentences fills well under half of a sequence; twice the batch keeps the tokens of a step about equal, which
# is what RoBERTa does.
TWICE_THE_BATCH = {"train.batch_size": lambda c: 2 * c.train.batch_size}

EXPERIMENT = Experiment(
  name="nsp",
  question="Which input format, and does next sentence prediction help?",
  arms=(
    Arm(
      name="segment_pair",
      change="two segments of several sentences each, no NSP",
      assignments={"data.format": "segment_pair", "objective.sentence": "none", "data.masking.policy": "dynamic"},
    ),
    Arm(
      name="segment_pair_nsp",
      parent="segment_pair",
      change="with next sentence prediction: BERT's own",
      assignments=WITH_NSP,
      expects="helps (BERT, table 5: MNLI-m 83.9 to 84.4); hurts or is of no use (RoBERTa, section 4.2)",
    ),
    Arm(
      name="sentence_pair",
      parent="segment_pair",
      change="two single sentences, no NSP, twice the batch",
      assignments={"data.format": "sentence_pair", **TWICE_THE_BATCH},
      expects="worse (RoBERTa, table 2, both with NSP: MNLI-m 84.0 to 82.9)",
      direction=-1,
    ),
    Arm(
      name="sentence_pair_nsp",
      parent="sentence_pair",
      change="with next sentence prediction",
      assignments=WITH_NSP,
    ),
    Arm(
      name="full_sentences",
      parent="segment_pair",
      change="full sentences packed to the whole length, across documents",
      assignments={"data.format": "full_sentences", "data.short_seq_prob": 0.0},
      expects="better than pairs with NSP (RoBERTa, table 2: MNLI-m 84.0 to 84.7)",
      direction=1,
    ),
    Arm(
      name="doc_sentences",
      parent="full_sentences",
      change="the same, never across documents",
      assignments={"data.format": "doc_sentences"},
      expects="slightly better (RoBERTa, table 2: SQuAD 2.0 F1 79.1 to 79.7, MNLI-m 84.7 both)",
      direction=1,
    ),
  ),
  sizes={
    "smoke": Size(scales.SMOKE, seeds=(0,), note=scales.SMOKE_NOTE),
    "demo": Size(
      scales.DEMO_SHORT,
      seeds=(0, 1),
      note=scales.DEMO_NOTE,
      arms={
        "sentence_pair": {"train.batch_size": lambda c: c.train.batch_size},  # two sentences fill rows of 32
        "full_sentences": scales.EQUAL_TOKENS,
      },
      runs=("segment_pair", "segment_pair_nsp", "full_sentences"),
    ),
    "night": Size(scales.NIGHT, seeds=(0, 1, 2), note=scales.NIGHT_NOTE),
    "paper": Size(scales.PAPER, seeds=(0, 1, 2), note=scales.PAPER_NOTE),
  },
)

if __name__ == "__main__":
  main(EXPERIMENT)
