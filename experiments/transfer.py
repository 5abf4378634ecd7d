"""At how many labels does pretraining pay? BERT's and RoBERTa's recipe, fine-tuned and frozen, beside no pretraining.

    python experiments/transfer.py                                   # demo: pretrains both, then the curves
    python experiments/transfer.py --scale=smoke
    python experiments/transfer.py --transfer.tasks=my.csv           # your labelled texts: columns text and label
    python experiments/transfer.py --models=bert=RUN,mine=FOLDER     # any checkpoints, pretrained elsewhere
    python experiments/transfer.py --models=mine=FOLDER --nofinetune # frozen only: minutes for a model of 22 million

Each network is fine-tuned on a few labelled texts of each class, for several draws of them; curves.md and curves.png in
the work directory have what comes of it, beside TF-IDF, the same networks frozen, their word vectors alone, and random
weights. Expect the pretrained networks to lead where labels are few, and the others to come closer as there are more.
"""

import dataclasses

from bert_jax import scales, settings
from bert_jax.command_line import FLAGS, flags, main
from bert_jax.experiment import Arm, Experiment, Plan, Size

# Twice the steps of the other experiments: there are two arms only, side by side.
DEMO = {**scales.DEMO, "train.steps": 8000, "evaluation.every_steps": 800}

EXPERIMENT = Experiment(
  name="transfer",
  question="At how many labels does pretraining pay?",
  arms=(
    Arm(name="bert", change="BERT's recipe: segment pairs with NSP, static masks", assignments={}),
    Arm(
      name="roberta",
      parent="bert",
      change="RoBERTa's: full sentences, dynamic masks, no NSP; the same number of steps",
      assignments={
        "data.masking.policy": "dynamic",
        "objective.sentence": "none",
        "data.format": "full_sentences",
        "data.short_seq_prob": 0.0,
      },
      expects="better (Liu et al. 2019, table 2)",
      direction=1,
    ),
  ),
  sizes={
    "smoke": Size(scales.SMOKE, seeds=(0,), note=scales.SMOKE_NOTE),
    "demo": Size(DEMO, seeds=(0,), note=scales.DEMO_NOTE),
    "night": Size(scales.NIGHT, seeds=(0,), note=scales.NIGHT_NOTE),
    "paper": Size(scales.PAPER, seeds=(0,), note=scales.PAPER_NOTE),
  },
)
LABELS = {"smoke": (2,), "demo": (2, 4, 8, 16, 32), "night": (2, 8, 32, 128), "paper": (8, 32, 128, 512)}
DRAWS = {"smoke": 1, "demo": 5, "night": 5, "paper": 5}


def run(plan: Plan) -> int:
  """Pretrains the arms, unless other models are given; then measures and draws the curves."""
  tasks = [name.strip() for name in (plan.base.transfer.tasks or "wiki_topics,bbc_classes").split(",")]
  labels = tuple(int(count) for count in FLAGS.labels or ()) or LABELS[plan.scale]
  draws = FLAGS.draws or DRAWS[plan.scale]
  pretraining = dataclasses.replace(
    plan,
    base=settings.assign(plan.base, {"transfer.tasks": ""}),
    configs={name: settings.assign(config, {"transfer.tasks": ""}) for name, config in plan.configs.items()},
  )
  import bert_jax
  from bert_jax import sweep
  from bert_jax.analysis import curves as drawn
  from bert_jax.training.layout import make_layout
  from bert_jax.transfer import curves

  if FLAGS.models:
    named = dict(pair.split("=", 1) if "=" in pair else (pair, pair) for pair in FLAGS.models)
  else:
    if status := sweep.run(pretraining):
      return status
    named = {arm.name: f"{plan.workdir}/runs/{arm.name}/seed-{plan.seeds[0]}" for arm in plan.arms}
  models = {name: bert_jax.load(path) for name, path in named.items()}
  layout = make_layout(plan.base.runtime.mesh)
  folder, tuning = f"{plan.workdir}/curves", FLAGS.finetune
  points = curves.measure(models, plan.base, tasks, labels, draws, layout, folder, tuning)
  note = plan.experiment.sizes[plan.scale].note
  learned = [line for path in named.values() if (line := drawn.learned(path))]
  print(drawn.write(points, plan.workdir, "\n\n".join([note, *learned])))
  print(f"The figure is {plan.workdir}/curves.png")
  return 0


if __name__ == "__main__":
  flags.DEFINE_list("models", None, "NAME=MODEL,…, in place of pretraining the two arms")
  flags.DEFINE_list("labels", None, "of each class, such as 2,8,32; as the scale says where not given")
  flags.DEFINE_bool("finetune", True, "fine-tune the networks too; most of the time goes into that")
  flags.DEFINE_integer("draws", None, "of labelled texts; as the scale says where not given")
  main(EXPERIMENT, run)
