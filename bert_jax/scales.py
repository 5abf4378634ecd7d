"""How far the published recipes are scaled down, and why; shared by the experiments.

Each scale is a set of assignments over a recipe. `paper` takes the recipe as it is.
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

NIGHT: Assignments = dict(DEMO) | {
  "train.steps": 10_000,
}

PAPER: Assignments = {
  "data.source": "tfds:wiki40b/en",
  "evaluation.every_steps": 10_000,
  "runtime.compute_dtype": "bfloat16",
  "runtime.scan_layers": True,
}
