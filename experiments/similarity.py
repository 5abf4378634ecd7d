"""How alike are two sentences? One encoder as a bi-encoder, before and after training, and as a cross-encoder.

    python experiments/similarity.py --model=MODEL --data=GLUE                # STS-B of GLUE's archive
    python experiments/similarity.py --model=MODEL --data=GLUE --epochs=1

A bi-encoder makes a vector of each sentence by itself, so that a million of them can be searched; a cross-encoder
reads both together, and has to for every pair (Reimers and Gurevych 2019). Expect the two to be close, an encoder that
was never trained for sentences far behind both before training (its cosines are nearly all alike), and word overlap
further up than one likes. Each trained model leaves a bundle in the work directory; similarity.md has the table.
"""

from bert_jax.command_line import FLAGS, flags, study


def run() -> int:
  from bert_jax.transfer import similarity_table

  return similarity_table.run(FLAGS.model, FLAGS.data, FLAGS.workdir, FLAGS.epochs, FLAGS.peak_lr, FLAGS.pooling)


if __name__ == "__main__":
  flags.DEFINE_string("model", None, "a run, an imported folder, a Hugging Face folder, or a name on the hub")
  flags.DEFINE_string("data", None, "folder of GLUE's archive, with STS-B in it")
  flags.DEFINE_string("workdir", "runs/similarity", "folder for the bundles and the table")
  flags.DEFINE_integer(
    "epochs", 4, "passes over the pairs (Reimers and Gurevych 2019: 1; sentence-transformers' STS-B: 4)"
  )
  flags.DEFINE_float("peak_lr", 2e-5, "learning rate (Reimers and Gurevych 2019, 3)")
  flags.DEFINE_enum("pooling", "mean", ["cls", "mean"], "a sentence's vector")
  study(run, required=("model", "data"))
