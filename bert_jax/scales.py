"""How far the published recipes are scaled down, and why; shared by the experiments.

Each scale is a set of assignments over a recipe, with a note for the report: what it can and cannot show.
"""

from bert_jax.settings import Assignments

SMOKE: Assignments = {
  # Seconds a run: everything happens once, nothing is learned.
  "model.num_layers": 2,
  "model.hidden_size": 32,
  "model.num_heads": 2,
  "model.intermediate_size": 64,
  "model.max_positions": 64,
  "data.max_seq_len": 32,
  "data.segmentations": 2,
  "data.tokenizer.vocab_size": 512,
  "data.tokenizer.train_characters": 300_000,
  "data.masking.max_predictions": None,
  "data.masking.duplicates": 2,
  "optim.peak_lr": 1e-3,
  "optim.warmup_steps": 4,
  "train.steps": 32,
  "train.batch_size": 16,
  "evaluation.every_steps": 16,
  "evaluation.batch_size": 64,
  "evaluation.max_examples": 128,
  "transfer.tasks": "",
  "runtime.log_every_steps": 8,
  "runtime.save_every_steps": 8,
}

SMOKE_NOTE = "Nothing. It shows that every part runs: the models see a few thousand tokens and learn no language."

DEMO: Assignments = {
  # BERT-tiny's layers and width (Turc et al. 2019, table 1), over a small vocabulary and short sequences.
  "model.num_layers": 2,
  "model.hidden_size": 128,
  "model.num_heads": 2,
  "model.intermediate_size": 512,
  "model.max_positions": 128,
  "data.max_seq_len": 64,
  "data.segmentations": 2,
  "data.tokenizer.vocab_size": 2048,
  "data.masking.max_predictions": None,
  "data.masking.duplicates": 2,
  "optim.peak_lr": 2e-3,
  "optim.warmup_steps": 100,
  "train.steps": 2000,
  "train.batch_size": 32,
  "evaluation.every_steps": 250,
  "evaluation.max_examples": 1024,
  "transfer.tasks": "wiki_topics,bbc_classes",
}

DEMO_NOTE = (
  "The models have two layers and see a few million tokens of 1.6 million words, so they are at the beginning of what"
  " BERT learns: words from their neighbours, hardly sentences. Differences of optimisation show at this size; those"
  " that the papers found after 100,000 times the work may be absent or point the other way. Two seeds allow a verdict"
  " only on differences that are large against their spread."
)

NIGHT: Assignments = dict(DEMO) | {
  "train.steps": 10_000,
}

NIGHT_NOTE = (
  "Small models on the demo's text, with at least 20 million tokens an arm and three seeds: optimisation, masks and"
  " repetition of text can show; what needs long training, big models or much text cannot."
)

PAPER: Assignments = {
  "data.source": "tfds:wiki40b/en",
  "evaluation.every_steps": 10_000,
  "runtime.compute_dtype": "bfloat16",
  "runtime.scan_layers": True,
}
PAPER_NOTE = (
  "The published setting, on Wikipedia alone: BookCorpus is not public. RoBERTa reports medians of five seeds."
)
