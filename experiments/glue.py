"""GLUE's tasks from any checkpoint, beside what they have to beat and beside published rows.

    python experiments/glue.py --model=MODEL --data=GLUE
    python experiments/glue.py --model=MODEL --data=GLUE --tasks=cola,rte --recipe=bert      # a search over 5 seeds
    python experiments/glue.py --model=MODEL --data=GLUE --way=frozen                        # minutes on a CPU

GLUE is the folder of GLUE's archive (CoLA/train.tsv and so on). MODEL is anything that bert_jax.load opens: a run, an
imported folder, a Hugging Face folder or a name on the hub. Each task leaves a bundle in the work directory, and
glue.md has the table; the command goes on where it was stopped. Expect, of a BERT-base on one GPU, minutes for CoLA,
MRPC, RTE, STS-B and WNLI, and an hour or more for the others; with one seed and two CPU cores, a small encoder of six
layers takes about an hour for CoLA, MRPC and RTE together.
"""

from bert_jax.command_line import FLAGS, flags, study


def run() -> int:
  from bert_jax.transfer import glue_table

  return glue_table.run(
    model=FLAGS.model,
    data=FLAGS.data,
    names=FLAGS.tasks,
    workdir=FLAGS.workdir,
    way=FLAGS.way,
    recipe=FLAGS.recipe,
    seeds=tuple(int(seed) for seed in FLAGS.seeds or ()),
    pooling=FLAGS.pooling,
    peak_lr=FLAGS.peak_lr,
    epochs=FLAGS.epochs,
    most=FLAGS.max_train_examples,
    max_tokens=FLAGS.max_tokens,
  )


if __name__ == "__main__":
  flags.DEFINE_string("model", None, "a run, an imported folder, a Hugging Face folder, or a name on the hub")
  flags.DEFINE_string("data", None, "folder of GLUE's archive, with a folder for each task")
  flags.DEFINE_string("tasks", "CoLA,SST-2,MRPC,STS-B,QQP,MNLI,QNLI,RTE,WNLI", "which of the nine")
  flags.DEFINE_string("workdir", "runs/glue", "folder for the bundles and the table")
  flags.DEFINE_enum("way", "full", ["full", "frozen"], "all parameters, or a layer over frozen features")
  flags.DEFINE_string("recipe", None, "a published grid to search, see bert_jax/transfer/grids.py; none: one setting")
  flags.DEFINE_list("seeds", None, "such as 0,1,2; five where a grid is searched, else one")
  flags.DEFINE_enum("pooling", None, ["cls", "mean"], "what a classifier reads of a text (cls)")
  flags.DEFINE_float("peak_lr", None, "learning rate (5e-5), in place of those of a grid")
  flags.DEFINE_integer("epochs", None, "passes over the examples (3), in place of those of a grid")
  flags.DEFINE_integer("max_train_examples", None, "train on the first so many of each task; none: on all")
  flags.DEFINE_integer(
    "max_tokens",
    None,
    "of a text or a pair, special ones counted (Devlin et al. 2018: 128; the model's positions where these are fewer)",
  )
  study(run, required=("model", "data"))
