"""Pretrains once, by any recipe, on any text.

    python experiments/pretrain.py --recipe=bert_base --scale=smoke --data.source='text:FOLDER/*.txt' --workdir=W
    python experiments/pretrain.py --scale=hour     # the best that is known for an hour of two CPU cores
    python experiments/pretrain.py --recipe=roberta_base --scale=demo
    python experiments/pretrain.py --recipe=bert_base --scale=paper --platform=tpu --data.source=tfds:wiki40b/en

Afterwards `bert_jax.load("W").fill_mask("Paris is the [MASK] of France.")` asks the result.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size

EXPERIMENT = Experiment(
  name="pretrain",
  question="One pretraining run",
  arms=(Arm(name="pretrain", change="the recipe as it is, at this scale", assignments={}),),
  sizes={
    "smoke": Size({**scales.SMOKE, **scales.in_proportion(32, 16)}, seeds=(0,), note=scales.SMOKE_NOTE),
    "demo": Size(scales.DEMO, seeds=(0,), note=scales.DEMO_NOTE),
    "hour": Size(scales.HOUR, seeds=(0,), note=scales.HOUR_NOTE),
    "night": Size(scales.NIGHT, seeds=(0,), note=scales.NIGHT_NOTE),
    "paper": Size(scales.ACCELERATED, seeds=(0,), note="The recipe as published."),
  },
)

if __name__ == "__main__":
  main(EXPERIMENT)
