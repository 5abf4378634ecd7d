"""DistilBERT: what does a student with half the layers keep of its teacher, and what does it owe to it?

    python experiments/distillation.py                            # demo: with and without a teacher
    python experiments/distillation.py --arms=teacher,student,no_cosine,random_start --seeds=0,1
    python experiments/distillation.py --scale=night

Each student learns from the teacher of its own seed, once that is trained. All see the same text in the same order, and
the students take as many steps as the teacher. `python benchmarks/inference.py WORKDIR/runs/teacher/seed-0
WORKDIR/runs/student/seed-0` says how much quicker the student is.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size

EXPERIMENT = Experiment(
  name="distillation",
  question="What does a student with half the layers keep of its teacher, and what does it owe to it?",
  arms=(
    Arm(
      name="teacher",
      change="BERT on masked tokens in single segments, with new masks in every pass",
      assignments={
        "data.format": "doc_sentences",
        "data.short_seq_prob": 0.0,
        "data.segmentations": 1,
        "data.masking.policy": "dynamic",
        "objective.sentence": "none",
      },
    ),
    Arm(
      name="student",
      parent="teacher",
      change="half the layers, started with the teacher's, on its answers and states beside the masked tokens",
      assignments={
        "model.kind": "distilbert",
        "model.num_layers": lambda c: c.model.num_layers // 2,
        "objective.kind": "distillation",
        "objective.teacher": "arm:teacher",
      },
      expects="97 % of the teacher's score (DistilBERT, table 1: GLUE 79.5 to 77.0)",
      direction=-1,
    ),
    Arm(
      name="scratch",
      parent="student",
      change="the same network without a teacher, from random weights",
      assignments={"objective.kind": "masked_tokens"},
      expects="worse (the paper has the parts one by one: see the arms below)",
      direction=-1,
    ),
    Arm(
      name="random_start",
      parent="student",
      change="from random weights",
      assignments={"objective.initialize": "random"},
      expects="worse (DistilBERT, table 4: -3.69 points)",
      direction=-1,
    ),
    Arm(
      name="no_answers",
      parent="student",
      change="without the teacher's answers",
      assignments={"objective.distillation_weight": 0.0},
      expects="worse (DistilBERT, table 4: -2.96)",
      direction=-1,
    ),
    Arm(
      name="no_cosine",
      parent="student",
      change="without the teacher's states",
      assignments={"objective.cosine_weight": 0.0},
      expects="worse (DistilBERT, table 4: -1.46)",
      direction=-1,
    ),
    Arm(
      name="no_masked_tokens",
      parent="student",
      change="without the loss of the masked tokens",
      assignments={"objective.mlm_weight": 0.0},
      expects="about equal (DistilBERT, table 4: -0.31)",
    ),
  ),
  sizes={
    "smoke": Size(scales.SMOKE, seeds=(0,), note=scales.SMOKE_NOTE),
    "demo": Size(scales.DEMO_SHORT, seeds=(0, 1), note=scales.DEMO_NOTE, runs=("teacher", "student", "scratch")),
    "night": Size(scales.NIGHT, seeds=(0, 1, 2), note=scales.NIGHT_NOTE),
    "paper": Size(scales.PAPER, seeds=(0, 1, 2), note=scales.PAPER_NOTE),
  },
)

if __name__ == "__main__":
  main(EXPERIMENT)
