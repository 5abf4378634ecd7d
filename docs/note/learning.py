"""What an encoder learns over training: at held-out [MASK] places, by the class of the word that stood there.

    python docs/note/learning.py RUN > docs/note/learning.csv

RUN is the folder of a run of which checkpoints were kept, here

    python experiments/bert_vs_roberta.py --arms=full_sentences --seeds=0 --runtime.save_every_steps=250 \\
      --runtime.keep_latest=40 --workdir=W

so W/runs/full_sentences/seed-0. The masks are those of every evaluation (15 %, 80/10/10, frozen); only places that show
[MASK] count. Beside each step stands, as step -1, the best predictor without context.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

import bert_jax
from bert_jax.data.batches import EvalBatches
from bert_jax.data.corpus import open_corpus
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference import masks
from bert_jax.inference.masks import Masked
from bert_jax.objectives import context_free

EXAMPLES = 2048  # as many as the run itself evaluates
CLASSES = ("function words", "content words", "rest of a word", "numbers", "punctuation")


def class_of(token: str) -> str:
  """One of `CLASSES`; a content word may be the first piece of a longer one."""
  if token.startswith("##"):
    return "rest of a word"
  if not any(character.isalnum() for character in token):
    return "punctuation"
  if token[0].isdigit():
    return "numbers"
  return "function words" if token in ENGLISH_STOP_WORDS else "content words"


def places(run: Path, tokenizer: Tokenizer) -> tuple[list[Masked], np.ndarray, np.ndarray, np.ndarray]:
  """Rows with masks, and of each [MASK]: the label, and without context the nats and whether it is right."""
  model = bert_jax.load(run)
  assert model.run is not None
  corpus = open_corpus(next((run.parents[2] / "data").glob("*/")))
  assert corpus.tokenizer.hash == tokenizer.hash
  predictor = context_free.predictor(corpus, model.run.data.eval_fraction)
  rows, labels, nats, right = [], [], [], []
  for batch in EvalBatches(corpus, model.run.data, 64, EXAMPLES, True):
    losses, guessed = predictor.predict(np.full_like(batch["mlm_labels"], tokenizer.mask_id), batch["mlm_labels"])
    for i in range(len(batch["token_ids"])):
      asked = batch["mask_weights"][i] > 0
      if asked.any():
        length = int(batch["attention_mask"][i].sum())
        rows.append(Masked(batch["token_ids"][i][:length], batch["mlm_positions"][i][asked]))
        labels.append(batch["mlm_labels"][i][asked])
        nats.append(losses[i][asked])
        right.append(guessed[i][asked])
  return rows, np.concatenate(labels), np.concatenate(nats), np.concatenate(right)


def main(run: Path) -> None:
  model = bert_jax.load(run)
  assert model.run is not None
  tokenizer = model.require_tokenizer()
  rows, labels, nats, right = places(run, tokenizer)
  classes = np.array([class_of(token) for token in tokenizer.tokens(labels)])
  out = csv.writer(sys.stdout, lineterminator="\n")
  out.writerow(["step", "class", "places", "right", "nats"])

  def write(step: int, losses: np.ndarray, hits: np.ndarray) -> None:
    for name in CLASSES:
      of = classes == name
      out.writerow([step, name, int(of.sum()), f"{hits[of].mean():.4f}", f"{losses[of].mean():.4f}"])

  write(-1, nats, right)
  for step in sorted(int(folder.name) for folder in (run / "checkpoints").iterdir() if folder.name.isdigit()):
    found = np.concatenate(masks.probabilities(bert_jax.load(run, step), rows))
    write(step, -np.log(found[np.arange(len(labels)), labels]), found.argmax(axis=1) == labels)
    print(f"step {step}", file=sys.stderr)


if __name__ == "__main__":
  main(Path(sys.argv[1]))
