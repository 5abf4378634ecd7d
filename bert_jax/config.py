"""Every setting of a run, as frozen dataclasses, and the rules between them; standard library only.

A setting stands once, here, with its unit, its meaning and its source. `model`, `data`, `optim` and
`train` may change a result; `evaluation` and `transfer` decide how a trained model is measured;
`runtime` may change speed and comfort only. `flags.py` makes one command-line flag of every leaf, and
`recipes.py` holds the published values.
"""

import dataclasses
from typing import Any, Literal


def setting(default: Any, help: str) -> Any:
  """A dataclass field with its line of documentation, which is also the help of its flag."""
  return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
  """What all encoders of the family have. Defaults are BERT-base's (Devlin et al. 2018, section 3)."""

  vocab_size: int | None = setting(None, "token ids known; none: as many as the tokenizer has")
  num_layers: int = setting(12, "transformer blocks")
  hidden_size: int = setting(768, "width of the hidden states")
  num_heads: int = setting(12, "attention heads; must divide hidden_size")
  intermediate_size: int = setting(3072, "inner width of the feed-forward part; 4 x hidden_size in BERT")
  activation: Literal["gelu", "gelu_tanh", "relu"] = setting(
    "gelu", "gelu is exact (erf), gelu_tanh its approximation; google-research/bert had erf until 2019-02-07"
  )
  layer_norm_eps: float = setting(1e-12, "added to the variance; 1e-12 in BERT, 1e-5 in RoBERTa")
  hidden_dropout: float = setting(0.1, "after the embeddings and after each sub-layer")
  attention_dropout: float = setting(0.1, "on the attention probabilities; fused attention needs 0")
  head_dropout: float | None = setting(None, "before a task's linear layer; none: as hidden_dropout")
  initializer: Literal["truncated_normal", "normal"] = setting(
    "truncated_normal", "truncated at two standard deviations in BERT, plain normal in RoBERTa"
  )
  initializer_range: float = setting(0.02, "standard deviation of kernels and embeddings")


@dataclasses.dataclass(frozen=True)
class ModelConfig(EncoderConfig):
  """BERT's and RoBERTa's encoder. `architectures.py` has the others of the family."""

  max_positions: int = setting(512, "longest sequence, in tokens, special tokens counted")
  position_offset: int = setting(0, "unused rows before position 0 of the table; 2 in RoBERTa (pad id 1, plus 1)")
  type_vocab_size: int = setting(2, "segment ids known; 2 in BERT, 1 in RoBERTa")
  pooler: bool = setting(True, "tanh layer over the first token; NSP needs it, RoBERTa pretrains without")


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
  """Which tokenizer, and how one is trained where none is given."""

  kind: Literal["wordpiece", "bpe", "unigram"] = setting(
    "wordpiece", "WordPiece as BERT, byte-level BPE as RoBERTa, SentencePiece Unigram as ALBERT"
  )
  path: str | None = setting(
    None, "a vocab.txt, tokenizer.json, .model or a folder that holds one; none: train on the corpus"
  )
  vocab_size: int = setting(30522, "size to train to; of no effect with a path")
  lowercase: bool = setting(True, "lower-case and strip accents, as the uncased BERT; none of both where false")
  train_characters: int = setting(100_000_000, "text to train the tokenizer on, in characters, from the front")


@dataclasses.dataclass(frozen=True)
class MaskingConfig:
  """Which tokens are predicted, and what the model sees in their place (BERT 3.1, RoBERTa 4.1)."""

  policy: Literal["static", "dynamic"] = setting(
    "static", "dynamic draws a new mask in every epoch; static has `duplicates` masks and goes round them"
  )
  duplicates: int = setting(10, "static only: masks of one example; dupe_factor of google-research/bert")
  unit: Literal["token", "whole_word"] = setting("token", "whole_word masks all pieces of a word or none")
  rate: float = setting(0.15, "share of a sequence's tokens, special tokens counted, that is predicted")
  rounding: Literal["nearest", "stochastic"] = setting(
    "nearest", "of rate x length: nearest (half to even) as BERT, stochastic as fairseq"
  )
  mask_prob: float = setting(0.8, "share of predicted tokens shown as [MASK]")
  random_prob: float = setting(0.1, "share of predicted tokens shown as a random token; what is left stays as it is")
  max_predictions: int | None = setting(None, "prediction slots of a sequence; none: rate x max_seq_len, rounded up")


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Text, tokenizer, examples, masks."""

  source: str = setting("demo", "demo, text:GLOB, jsonl:GLOB or tfds:NAME (a folder stands for its files)")
  text_documents: Literal["file", "blank_line"] = setting(
    "file", "text: one document a file, or documents parted by blank lines"
  )
  jsonl_field: str = setting("text", "jsonl and tfds: the field that holds the text")
  language: str = setting("en", "of the text, as a code such as de: by its rules sentences are told apart")
  store: str | None = setting(None, "folder of the tokenised corpus; none: WORKDIR/data")
  eval_fraction: float = setting(0.05, "share of documents held out, by a hash of their text; near duplicates together")
  train_fraction: float = setting(
    1.0, "share of the other documents to train on; a smaller one is a subset of a larger"
  )
  format: Literal["segment_pair", "sentence_pair", "full_sentences", "doc_sentences"] = setting(
    "segment_pair", "how examples are cut: BERT's pairs, or one of RoBERTa's (its Table 2)"
  )
  sentence_separators: bool = setting(
    False, "full_sentences, doc_sentences: [SEP] after every sentence and once more between documents, as fairseq has"
  )
  max_seq_len: int = setting(128, "tokens of an example, special tokens counted")
  short_seq_prob: float = setting(0.1, "segment_pair: chance that a document aims at shorter examples")
  random_next_prob: float = setting(0.5, "pairs: chance that the second segment comes from another document")
  segmentations: int = setting(10, "different cuttings of the corpus into examples, one an epoch, then round again")
  tokenizer: TokenizerConfig = dataclasses.field(default_factory=TokenizerConfig)
  masking: MaskingConfig = dataclasses.field(default_factory=MaskingConfig)


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """Optimizer and schedule. Defaults are BERT's (google-research/bert, optimization.py)."""

  name: Literal["google_adamw", "fairseq_adam"] = setting(
    "google_adamw", "google_adamw has no bias correction; fairseq_adam has, and adds eps before it"
  )
  peak_lr: float = setting(1e-4, "learning rate at the end of warm-up")
  warmup_steps: int = setting(10_000, "steps of linear warm-up from 0")
  schedule: Literal["bert_linear", "linear"] = setting(
    "bert_linear",
    "bert_linear decays from step 0 (a small drop after warm-up), linear from the end of warm-up",
  )
  beta1: float = setting(0.9, "decay of the first moment")
  beta2: float = setting(0.999, "decay of the second moment; 0.98 in RoBERTa")
  eps: float = setting(1e-6, "added to the root of the second moment")
  weight_decay: float = setting(0.01, "decoupled, times the learning rate")
  decay_parameters: Literal["matrices", "all"] = setting(
    "matrices", "matrices leaves out biases and LayerNorm (BERT), all leaves out nothing (fairseq)"
  )
  clip_norm: float = setting(1.0, "global gradient norm to clip at; 0: no clipping (RoBERTa)")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How long, how wide, towards what."""

  seed: int = setting(0, "of initial weights, data order, masks and dropout; the evaluation masks do not depend on it")
  steps: int = setting(1_000_000, "optimizer steps")
  batch_size: int = setting(256, "sequences an optimizer step, over all devices and microbatches")
  sentence_objective: Literal["none", "nsp"] = setting(
    "nsp", "loss beside masked tokens; nsp: next sentence prediction"
  )
  max_nonfinite_steps: int = setting(10, "updates with a non-finite gradient, in a row, before the run stops")


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """How a model is measured while it trains; always on held-out documents, 15 %, frozen masks."""

  every_steps: int = setting(1000, "steps between evaluations; there is always one at the end")
  batch_size: int = setting(256, "sequences a batch")
  # With all 3,755 of the demo, a difference between arms has a standard error of 0.001 to 0.005 nats from their choice.
  max_examples: int = setting(32_768, "held-out examples used, at most; fewer make every difference less certain")


@dataclasses.dataclass(frozen=True)
class TransferConfig:
  """Fine-tuning for classification with few labels, after pretraining."""

  tasks: str = setting("", "comma-separated; the demo has wiki_topics and bbc_classes; empty: none")
  labels_per_class: int = setting(16, "labelled training texts of each class")
  max_seq_len: int = setting(128, "tokens of a text, special tokens counted; never above the model's positions")
  batch_size: int = setting(16, "texts a step (Devlin et al. 2018, A.3: 16 or 32)")
  pooling: Literal["cls", "mean"] = setting(
    "cls", "what the classifier sees: BERT's pooler over the first token, or the mean over the text's tokens"
  )
  epochs: int = setting(10, "passes over the labelled texts")
  peak_lr: float = setting(5e-5, "learning rate after warm-up (Devlin et al. 2018, A.3: 2e-5 to 5e-5)")
  warmup_fraction: float = setting(0.1, "of all steps")
  max_test_texts: int = setting(1000, "held-out texts to test on, at most")


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
  """Speed and comfort. Nothing here changes a result, rounding of a lower compute_dtype aside."""

  compute_dtype: Literal["float32", "bfloat16"] = setting("float32", "of matrix products; parameters stay float32")
  num_devices: int | None = setting(None, "devices of the mesh's data axis; none: all there are")
  attention: Literal["explicit", "fused"] = setting(
    "explicit", "fused is jax.nn.dot_product_attention, without dropout"
  )
  scan_layers: bool = setting(
    False, "one compiled block in a loop (quick to compile) or unrolled (quick to run on CPU)"
  )
  accumulation_steps: int = setting(1, "microbatches a step: less memory, the same gradient, dropout and all")
  remat: bool = setting(False, "recompute activations in the backward pass: less memory, about a third more work")
  prefetch_batches: int = setting(4, "batches made ahead by a thread")
  num_workers: int | None = setting(None, "processes that tokenise; none: one a core")
  log_every_steps: int = setting(50, "steps between lines of metrics.jsonl")
  save_every_steps: int = setting(0, "steps between checkpoints; 0: by time alone")
  save_every_minutes: float = setting(10.0, "minutes between checkpoints; 0: by steps alone")
  keep_latest: int = setting(2, "checkpoints kept beside the best one")


@dataclasses.dataclass(frozen=True)
class Config:
  """A whole run."""

  model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
  data: DataConfig = dataclasses.field(default_factory=DataConfig)
  optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
  train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
  evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
  transfer: TransferConfig = dataclasses.field(default_factory=TransferConfig)
  runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)


# ---- rules ---------------------------------------------------------------------------------------------


def lookup(config: Any, path: str) -> Any:
  """The value at a dotted path."""
  for name in path.split("."):
    config = getattr(config, name)
  return config


# No setting asks for more than this: far above what was ever published, and far below what ends in an abort of the
# compiler, a frozen machine or a number that wraps round.
LIMITS = {
  "model.num_layers": 1_000,
  "model.hidden_size": 1 << 16,
  "model.intermediate_size": 1 << 18,
  "model.max_positions": 1 << 17,
  "model.position_offset": 1 << 17,
  "model.type_vocab_size": 1 << 10,
  "model.vocab_size": 1 << 22,
  "data.tokenizer.vocab_size": 1 << 22,
  "data.segmentations": 1_000_000,
  "data.masking.duplicates": 1_000_000,
  "train.steps": 100_000_000,
  "train.max_nonfinite_steps": 1 << 30,
  "train.batch_size": 1 << 24,
  "evaluation.batch_size": 1 << 24,
  "evaluation.max_examples": 1 << 30,
  "transfer.max_seq_len": 1 << 17,
  "transfer.batch_size": 1 << 20,
  "transfer.labels_per_class": 1 << 20,
  "transfer.epochs": 10_000,
  "transfer.max_test_texts": 1 << 24,
  "runtime.prefetch_batches": 1_000,
  "runtime.num_workers": 1_024,
  "runtime.num_devices": 1 << 20,
  "runtime.keep_latest": 10_000,
}
MAX_PLACES = 1 << 28  # of one batch: 64 times the tokens of RoBERTa's largest (8,192 × 512)


def validate(config: Config) -> Config:
  """`config`, once every rule that can be known without data or devices holds.

  Raises:
    ValueError: naming the setting, its value, the rule and the way out.
  """
  model, data, optim, train = config.model, config.data, config.optim, config.train
  masking = data.masking

  def require(holds: bool, path: str, rule: str, way_out: str = "") -> None:
    if not holds:
      raise ValueError(f"{path}={lookup(config, path)} {rule}" + (f"; {way_out}" if way_out else ""))

  for path in (
    "model.num_layers",
    "model.hidden_size",
    "model.num_heads",
    "model.intermediate_size",
    "model.max_positions",
    "model.type_vocab_size",
    "data.segmentations",
    "data.masking.duplicates",
    "train.steps",
    "train.batch_size",
    "runtime.accumulation_steps",
    "train.max_nonfinite_steps",
    "evaluation.every_steps",
    "evaluation.batch_size",
    "evaluation.max_examples",
    "transfer.labels_per_class",
    "transfer.batch_size",
    "transfer.epochs",
    "transfer.max_test_texts",
    "runtime.prefetch_batches",
    "runtime.log_every_steps",
    "runtime.keep_latest",
    "data.tokenizer.vocab_size",
    "data.tokenizer.train_characters",
  ):
    require(lookup(config, path) >= 1, path, "must be at least 1")
  for path in (
    "model.position_offset",
    "optim.warmup_steps",
    "optim.clip_norm",
    "optim.weight_decay",
    "runtime.save_every_steps",
    "runtime.save_every_minutes",
  ):
    require(0 <= lookup(config, path) < float("inf"), path, "must not be negative, and must be finite")
  for path in (
    "model.layer_norm_eps",
    "model.initializer_range",
    "optim.peak_lr",
    "optim.eps",
    "transfer.peak_lr",
  ):
    require(0 < lookup(config, path) < float("inf"), path, "must be above 0 and finite")
  for path in (
    "model.hidden_dropout",
    "model.attention_dropout",
    "optim.beta1",
    "optim.beta2",
    "data.eval_fraction",
  ):
    require(0 <= lookup(config, path) < 1, path, "must be at least 0 and below 1")
  for path in (
    "data.short_seq_prob",
    "data.random_next_prob",
    "data.masking.mask_prob",
    "data.masking.random_prob",
    "transfer.warmup_fraction",
  ):
    require(0 <= lookup(config, path) <= 1, path, "must lie between 0 and 1")
  for path in ("data.train_fraction", "data.masking.rate"):
    require(0 < lookup(config, path) <= 1, path, "must be above 0 and at most 1")
  for path in (
    "model.vocab_size",
    "data.masking.max_predictions",
    "runtime.num_devices",
    "runtime.num_workers",
  ):
    require(lookup(config, path) is None or lookup(config, path) >= 1, path, "must be at least 1, or none")

  for path, limit in LIMITS.items():
    require((lookup(config, path) or 0) <= limit, path, f"must be at most {limit:,}")
  for path, length, of in (
    ("train.batch_size", data.max_seq_len, "data.max_seq_len"),
    ("evaluation.batch_size", data.max_seq_len, "data.max_seq_len"),
    ("transfer.batch_size", config.transfer.max_seq_len, "transfer.max_seq_len"),
  ):
    places = lookup(config, path) * length
    rule = f"times {of}={length} are {places:,} tokens a batch, and {MAX_PLACES:,} are the most"
    require(places <= MAX_PLACES, path, rule, f"try {MAX_PLACES // max(length, 1):,} or fewer")

  require(
    model.head_dropout is None or 0 <= model.head_dropout < 1,
    "model.head_dropout",
    "must be at least 0 and below 1, or none",
  )
  require(0 <= train.seed < 2**32, "train.seed", "must be at least 0 and below 2^32")
  require(
    config.transfer.max_seq_len >= 3, "transfer.max_seq_len", "must be at least 3, to hold one token and its marks"
  )
  below = model.hidden_size // model.num_heads * model.num_heads
  require(
    model.hidden_size % model.num_heads == 0,
    "model.hidden_size",
    f"must be divisible by model.num_heads={model.num_heads}",
    f"try {below or model.num_heads}",
  )
  require(
    data.max_seq_len <= model.max_positions,
    "data.max_seq_len",
    f"is more than model.max_positions={model.max_positions}",
    "shorten the one or raise the other",
  )
  require(data.max_seq_len >= 8, "data.max_seq_len", "must be at least 8, to hold two segments and their marks")
  require(
    masking.mask_prob + masking.random_prob <= 1 + 1e-9,
    "data.masking.random_prob",
    f"and data.masking.mask_prob={masking.mask_prob} add up to more than 1",
  )
  require(
    (masking.max_predictions or 1) <= data.max_seq_len,
    "data.masking.max_predictions",
    f"is more than data.max_seq_len={data.max_seq_len}",
  )
  require(
    optim.warmup_steps < train.steps,
    "optim.warmup_steps",
    f"must be below train.steps={train.steps}",
    f"try {train.steps // 10}",
  )
  count = config.runtime.accumulation_steps
  fewer = train.batch_size // count * count
  require(
    train.batch_size % count == 0,
    "train.batch_size",
    f"must be divisible by runtime.accumulation_steps={count}",
    f"try {f'{fewer} or ' if fewer else ''}{fewer + count}",
  )
  pairs = data.format in ("segment_pair", "sentence_pair")
  require(
    pairs or train.sentence_objective == "none",
    "train.sentence_objective",
    f"needs pairs, and data.format={data.format} has none",
    "set train.sentence_objective=none or data.format=segment_pair",
  )
  require(
    not (pairs and data.sentence_separators),
    "data.sentence_separators",
    f"is of full_sentences and doc_sentences, and data.format={data.format}",
    "set it to false",
  )
  require(
    not pairs or model.type_vocab_size >= 2,
    "model.type_vocab_size",
    f"must be 2 for the pairs of data.format={data.format}",
  )
  require(
    model.pooler or train.sentence_objective == "none",
    "model.pooler",
    f"is what train.sentence_objective={train.sentence_objective} reads; set it to true",
  )
  require(
    config.runtime.attention == "explicit" or model.attention_dropout == 0,
    "runtime.attention",
    f"has no dropout, and model.attention_dropout={model.attention_dropout}",
    "set model.attention_dropout=0 or runtime.attention=explicit",
  )
  return config


def num_prediction_slots(data: DataConfig) -> int:
  """Prediction slots of one sequence: `max_predictions`, or what `rate` asks of a full sequence."""
  if data.masking.max_predictions is not None:
    return data.masking.max_predictions
  wanted = data.masking.rate * data.max_seq_len
  return min(data.max_seq_len, max(1, -int(-wanted // 1)))
