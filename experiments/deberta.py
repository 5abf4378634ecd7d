"""DeBERTa: which part of the disentangled attention, and of its decoder, does what?

    python experiments/deberta.py                                 # demo
    python experiments/deberta.py --scale=night

Arms as in the paper's table 4. Without both parts of the attention no position is read at all but the decoder's.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size

NO_DECODER = {"objective.enhanced_decoder": False}
NO_C2P, NO_P2C = {"model.content_to_position": False}, {"model.position_to_content": False}

EXPERIMENT = Experiment(
  name="deberta",
  question="Which part of the disentangled attention, and of its decoder, does what?",
  recipe="deberta_base",
  arms=(
    Arm(
      name="deberta",
      change="content to position, position to content, and the enhanced mask decoder",
      assignments={"data.masking.unit": "token"},
    ),
    Arm(
      name="no_decoder",
      parent="deberta",
      change="without the enhanced mask decoder",
      assignments=NO_DECODER,
      expects="worse (DeBERTa, table 4: MNLI-m 86.3 to 86.1, SQuAD 2.0 F1 82.5 to 81.3)",
      direction=-1,
    ),
    Arm(
      name="no_content_to_position",
      parent="deberta",
      change="without content to position",
      assignments=NO_C2P,
      expects="worse (DeBERTa, table 4: MNLI-m 86.3 to 85.9, SQuAD 2.0 F1 82.5 to 81.3)",
      direction=-1,
    ),
    Arm(
      name="no_position_to_content",
      parent="deberta",
      change="without position to content",
      assignments=NO_P2C,
      expects="worse (DeBERTa, table 4: MNLI-m 86.3 to 86.0, SQuAD 2.0 F1 82.5 to 80.8)",
      direction=-1,
    ),
    Arm(
      name="no_decoder_no_content_to_position",
      parent="deberta",
      change="without both of these",
      assignments={**NO_DECODER, **NO_C2P},
      expects="worse (DeBERTa, table 4: MNLI-m 86.3 to 85.8, SQuAD 2.0 F1 82.5 to 80.3)",
      direction=-1,
    ),
    Arm(
      name="no_decoder_no_position_to_content",
      parent="deberta",
      change="without both of these",
      assignments={**NO_DECODER, **NO_P2C},
      expects="worse (DeBERTa, table 4: MNLI-m 86.3 to 85.8, SQuAD 2.0 F1 82.5 to 80.2)",
      direction=-1,
    ),
  ),
  sizes={
    "smoke": Size(scales.SMOKE, seeds=(0,), note=scales.SMOKE_NOTE),
    "demo": Size(
      scales.DEMO_SHORT,
      seeds=(0, 1),
      note=scales.DEMO_NOTE,
      runs=("deberta", "no_decoder", "no_content_to_position", "no_position_to_content"),
    ),
    "night": Size(scales.NIGHT, seeds=(0, 1, 2), note=scales.NIGHT_NOTE),
    "paper": Size(scales.PAPER, seeds=(0, 1, 2), note=scales.PAPER_NOTE),
  },
)

if __name__ == "__main__":
  main(EXPERIMENT)
