"""How far the published recipes are scaled down, and why; shared by the experiments.

Each scale is a set of assignments over a recipe, with a note for the report: what it can and cannot show. A setting
that the recipe's architecture lacks is left out.
"""

from bert_jax.config import Config, phases
from bert_jax.settings import Assignments

# Experiments have one length and one batch size throughout, so that what an arm changes is all that changes: of BERT's
# two lengths that of its first nine tenths.
ONE_LENGTH: Assignments = {
  "data.max_seq_len": lambda c: phases(c)[0].max_seq_len,
  "train.phases": None,
}


def in_proportion(length: int, batch_size: int) -> Assignments:
  """A recipe's phases at a smaller size, with these as the largest."""

  def smaller(c: Config) -> str | None:
    if c.train.phases is None:
      return None
    parts = [part.partition("*") for part in c.train.phases.split(",")]
    sizes = [
      (
        max(8, phase.max_seq_len * length // c.data.max_seq_len),
        max(1, phase.batch_size * batch_size // c.train.batch_size),
      )
      for phase in phases(c)
    ]
    first, last = parts[0], parts[-1]
    if len(parts) > 2:  # at least a step each: a ramp's first and last part stand for it
      return f"0.5*{sizes[0][0]}x{sizes[0][1]},0.5*{sizes[-1][0]}x{sizes[-1][1]}"
    return ",".join(f"{part[0]}*{size[0]}x{size[1]}" for part, size in zip((first, last), sizes, strict=True))

  return {"train.phases": smaller, "data.max_seq_len": length, "train.batch_size": batch_size}


SMOKE: Assignments = {
  **ONE_LENGTH,
  # Seconds a run: everything happens once, nothing is learned.
  "model.num_layers": 2,
  "model.hidden_size": 32,
  "model.num_heads": 2,
  "model.intermediate_size": 64,
  "model.max_positions": 64,
  # Of some architectures.
  "model.embedding_size": 16,
  "model.max_distance": 64,
  "model.position_buckets": 16,
  "model.local_window": 8,
  "model.global_every": 2,
  "model.pooler_size": 32,
  "data.max_seq_len": 32,
  "data.preceding_tokens": lambda c: c.data.preceding_tokens and 24,  # of the objective that has a memory
  "objective.window": 16,
  "data.segmentations": 2,
  "data.tokenizer.vocab_size": 512,
  "data.tokenizer.train_characters": 300_000,
  "data.masking.duplicates": 2,
  "optim.peak_lr": 1e-3,
  "optim.warmup_steps": lambda c: c.optim.warmup_steps and 2,  # of a schedule that has a warm-up
  "optim.decay_steps": lambda c: c.optim.decay_steps and 4,  # of the schedule that has them
  "train.steps": 16,
  "train.batch_size": 16,
  "evaluation.every_steps": 8,
  "evaluation.batch_size": 64,
  "evaluation.max_examples": 128,
  "transfer.tasks": "",
  "runtime.log_every_steps": 8,
  "runtime.save_every_steps": 8,
}

SMOKE_NOTE = "Nothing. It shows that every part runs: the models see a few thousand tokens and learn no language."

DEMO: Assignments = {
  **ONE_LENGTH,
  # BERT-tiny's layers and width (Turc et al. 2019, table 1), found by trial; docs/demo.md has the trials. What decides
  # is how soon a run leaves the plateau on which it knows how frequent tokens are and nothing of their context: sooner
  # with short rows that begin with a sentence, a small vocabulary and a bias-corrected Adam.
  "model.num_layers": 2,
  "model.hidden_size": 128,
  "model.num_heads": 2,
  "model.intermediate_size": 512,
  "model.max_positions": 32,
  # Of some architectures, in proportion; not tuned.
  "model.embedding_size": 64,
  "model.max_distance": 32,
  "model.position_buckets": 16,
  "model.local_window": 16,
  "model.global_every": 2,
  "model.pooler_size": 128,
  # 1,024 leaves the plateau sooner, but its pieces are so short that what is learned adds little to what random weights
  # reach on tasks (docs/demo.md).
  "data.tokenizer.vocab_size": 2048,
  # BERT's 0.02 suits a width of 768; 0.02 × √(768 / 128) = 0.05 keeps the scale of a layer's sums.
  "model.initializer_range": 0.05,
  # A few passes over a small text with a small model do not overfit enough to need dropout, which slows learning.
  "model.hidden_dropout": 0.0,
  "model.attention_dropout": 0.0,
  "data.max_seq_len": 32,
  # Of permutations, in proportion; not tuned.
  "data.preceding_tokens": lambda c: c.data.preceding_tokens and 24,
  "objective.window": 16,
  # With pairs that lose tokens at both ends a run did not leave the plateau within 3 million tokens, nor with full
  # sentences that were cut so. See docs/demo.md.
  "data.pair_truncation": "end",
  "data.short_seq_prob": 0.0,
  "data.segmentations": 1,
  "data.masking.duplicates": 1,
  # 1,200 of the 10,033 topics and 260 of the 2,225 news articles to test on.
  "data.eval_fraction": 0.12,
  "optim.name": "fairseq_adam",
  "optim.beta2": 0.98,
  # With 3e-3 the plateau was never left.
  "optim.peak_lr": 1.5e-3,
  "optim.warmup_steps": lambda c: c.optim.warmup_steps and 96,
  "optim.decay_steps": lambda c: c.optim.decay_steps and 600,
  "train.steps": 6000,
  "train.batch_size": 32,
  # With 4,096 held-out rows every 400 steps it took a fifth of a run's time.
  "evaluation.every_steps": 500,
  "evaluation.max_examples": 2048,
  "transfer.tasks": "wiki_topics,bbc_classes",
  "transfer.max_seq_len": 32,
  # Of fine-tuning. BERT's 2 to 4 passes over so few texts are 10 to 44 steps, in which this network learns nothing.
  "transfer.epochs": 10,
  "transfer.peak_lr": 1e-3,
  "transfer.pooling": "mean",
}

# For arms that leave the plateau sooner than BERT's: six runs in less than 20 minutes on two cores.
DEMO_SHORT: Assignments = {**DEMO, "train.steps": 4000}

# Of an arm that packs full sentences, against pairs. At these lengths a fifth of its rows is padding, where pairs fill
# theirs: five steps for four see as many tokens.
EQUAL_TOKENS: Assignments = {
  "train.steps": lambda c: c.train.steps * 5 // 4,
  "optim.warmup_steps": lambda c: c.optim.warmup_steps * 5 // 4,
  "evaluation.every_steps": lambda c: c.evaluation.every_steps * 5 // 4,
}

DEMO_NOTE = (
  "The models have two layers and see three to six million tokens of short rows, so they are past the beginning of what"
  " BERT learns: words from their neighbours, and some of what a text is about. Differences of optimization and of data"
  " show at this size; those that the papers found after 100,000 times the work may be absent or point the other way."
)

# An hour of two CPU cores: what experiments/budget.py found best, and so of text, masks and updates too. A recipe that
# lacks a setting keeps its own. Tried for an hour on one core each, on rows of 64: these two layers of 128 saw 19.9
# million tokens and reached 2.87 nats at [MASK]; four of 192 (peak_lr 2e-3) saw 5.8 million and reached 3.11.
HOUR: Assignments = {
  **DEMO,
  "model.max_positions": 64,
  "data.format": "full_sentences",
  "data.max_seq_len": 64,
  "data.preceding_tokens": lambda c: c.data.preceding_tokens and 48,
  "data.masking.policy": "dynamic",
  "data.masking.rate": lambda c: c.data.masking.rate if c.objective.kind == "permutation" else 0.4,
  "objective.sentence": "none",
  "objective.window": 32,
  "optim.name": "muon",
  "optim.schedule": "linear",
  "optim.decay_steps": None,
  "optim.peak_lr": 3e-3,
  "optim.warmup_steps": lambda c: c.optim.warmup_steps and 200,
  # 24,000 steps × 32 sequences × 48 tokens of text = 37 million, at 12k tokens a second on both cores.
  "train.steps": 24_000,
  "evaluation.every_steps": 2_000,
  "transfer.max_seq_len": 64,
}

HOUR_NOTE = (
  "A small model that has seen tens of millions of tokens: words from their neighbours, and some of what a text is"
  " about. One run tells nothing of its spread."
)

NIGHT: Assignments = {
  **DEMO,
  # Between BERT-tiny and BERT-mini (Turc et al. 2019, table 1), by what a night on two cores allows. These values
  # follow the demo's by rule and were not tuned.
  "model.num_layers": 4,
  "model.hidden_size": 192,
  "model.num_heads": 3,
  "model.intermediate_size": 768,
  "model.max_positions": 64,
  "model.pooler_size": 192,
  "model.initializer_range": 0.04,
  "model.hidden_dropout": 0.1,
  "model.attention_dropout": 0.1,
  "data.tokenizer.vocab_size": 2048,
  "data.max_seq_len": 64,
  "data.preceding_tokens": lambda c: c.data.preceding_tokens and 48,
  "objective.window": 32,
  "data.segmentations": 4,
  "data.masking.duplicates": 4,
  "optim.peak_lr": 1e-3,
  "optim.warmup_steps": lambda c: c.optim.warmup_steps and 320,
  "optim.decay_steps": lambda c: c.optim.decay_steps and 600,
  # 6,000 steps × 32 sequences × 64 tokens = 12.3 million places. At 4.5k tokens a second on a core that is 45 minutes a
  # run, and about 9 hours for 18 runs on two cores; 7 minutes of it were run.
  "train.steps": 6000,
  "evaluation.every_steps": 500,
  "transfer.max_seq_len": 64,
  "transfer.peak_lr": 5e-4,
}

NIGHT_NOTE = (
  "Small models that see at least 12 million tokens each, with three seeds: optimization, masks and repetition of text"
  " can show; what needs long training, big models or much text cannot."
)

# As accelerators compute fastest, and compile quickest; on CPUs the opposite holds.
ACCELERATED: Assignments = {"runtime.compute_dtype": "bfloat16", "runtime.scan_layers": True}

PAPER: Assignments = {
  **ONE_LENGTH,
  **ACCELERATED,
  "data.source": "tfds:wiki40b/en",
  "evaluation.every_steps": 10_000,
}
PAPER_NOTE = (
  "The published setting, but for the text: BookCorpus, a part of BERT's and RoBERTa's, is not public. RoBERTa reports"
  " medians of five seeds."
)
