"""ALBERT: sentence order or next sentence, how wide the embeddings, how many layers of their own?

    python experiments/albert.py                                  # demo: the question asked of pairs
    python experiments/albert.py --arms=sop,unshared,embeddings_as_wide --seeds=0,1,2
    python experiments/albert.py --scale=night

All arms mask n-grams in segment pairs, as ALBERT does, but for the demo and the night. In their short rows most segment
pairs would be a single sentence, which ALBERT's code gives a second one of another text, so that little of the question
would be about order: they have pairs of sentences. And they mask single tokens, as the evaluation does: where a word of
several pieces is always hidden whole, a small model is at a single hidden piece no better than without context.

Sharing attention or the feed-forward part alone, as two rows of the paper's table 4 do, is not here: a layer is shared
whole.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size
from bert_jax.settings import Assignments

SHORT_ROWS: Assignments = {"data.format": "sentence_pair", "data.masking.unit": "token"}

EXPERIMENT = Experiment(
  name="albert",
  question="Sentence order or next sentence, how wide the embeddings, how many layers of their own?",
  recipe="albert_base",
  arms=(
    Arm(name="sop", change="ALBERT: are two segments of one text in order?", assignments={}),
    Arm(
      name="nsp",
      parent="sop",
      change="BERT's question in its place: is the second segment of another text?",
      assignments={"data.pairs": "random", "objective.sentence": "nsp"},
      expects="worse (ALBERT, table 5: average 80.1 to 79.2; sentence order 86.5 to 52.0 %)",
      direction=-1,
    ),
    Arm(
      name="none",
      parent="sop",
      change="pairs in order, and nothing asked of them",
      assignments={"data.random_next_prob": 0.0, "objective.sentence": "none"},
      expects="worse (ALBERT, table 5: average 80.1 to 79.0)",
      direction=-1,
    ),
    Arm(
      name="embeddings_half_as_wide",
      parent="sop",
      change="embeddings of half the width",
      assignments={"model.embedding_size": lambda c: max(1, c.model.embedding_size // 2)},
      expects="worse (ALBERT, table 3, shared layers, 128 to 64: average 80.1 to 79.0)",
      direction=-1,
    ),
    Arm(
      name="embeddings_as_wide",
      parent="sop",
      change="embeddings as wide as the hidden states",
      assignments={"model.embedding_size": lambda c: c.model.hidden_size},
      expects="about equal (ALBERT, table 3, shared layers, 128 to 768: average 80.1 to 79.8)",
    ),
    Arm(
      name="unshared",
      parent="sop",
      change="every layer with parameters of its own",
      assignments={"model.num_groups": lambda c: c.model.num_layers},
      expects="better, at seven times the parameters (ALBERT, table 4, E = 128: average 80.1 to 81.6)",
      direction=1,
    ),
  ),
  sizes={
    "smoke": Size(scales.SMOKE, seeds=(0,), note=scales.SMOKE_NOTE),
    "demo": Size(
      # After 4,000 steps all arms were within half a nat of the line of no context.
      {**scales.DEMO_SHORT, **SHORT_ROWS, "train.steps": 8000},
      seeds=(0, 1),
      note=scales.DEMO_NOTE,
      runs=("sop", "nsp", "none", "unshared"),
    ),
    "night": Size({**scales.NIGHT, **SHORT_ROWS}, seeds=(0, 1, 2), note=scales.NIGHT_NOTE),
    "paper": Size(scales.PAPER, seeds=(0, 1, 2), note=scales.PAPER_NOTE),
  },
)

if __name__ == "__main__":
  main(EXPERIMENT)
