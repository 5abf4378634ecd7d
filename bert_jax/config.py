"""Every setting of a run, as frozen dataclasses; standard library only. Rules between settings are in `validation.py`.

A setting stands once, with its unit, its meaning, its bounds and its source: here, a model's in `architectures.py`, and
an objective's in `objective_configs.py`.

`model`, `data`, `objective`, `optim` and `train` may change a result; `evaluation` and `transfer` decide how a trained
model is measured; `runtime` may change speed and comfort only. `flags.py` makes one command-line flag of every setting,
and `recipes/` holds the published values.

`decides` says what is made again where a setting differs:
  store       the tokenized corpus on disk
  examples    how documents are cut into examples
  order       which examples are trained on, and in which order
  evaluation  the held-out examples that all arms are compared on
  networks    which networks an objective trains, and with which weights they start
"""

import dataclasses
from typing import Literal

from bert_jax.architectures import Architecture, BertConfig
from bert_jax.objective_configs import MaskedTokensConfig, Objective
from bert_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
  """Which tokenizer, and how one is trained where none is given."""

  kind: Literal["wordpiece", "bpe", "unigram"] = setting(
    "wordpiece",
    "WordPiece as BERT, byte-level BPE as RoBERTa, SentencePiece Unigram as ALBERT",
    decides="store evaluation",
  )
  path: str | None = setting(
    None,
    "a vocab.txt, tokenizer.json, .model or a folder that holds one; none: train on the corpus",
    decides="store evaluation",
  )
  vocab_size: int = setting(
    30522, "size to train to; of no effect with a path", at_least=1, at_most=1 << 22, decides="store evaluation"
  )
  lowercase: bool = setting(
    True,
    "lower-case and strip accents, as the uncased BERT; none of both where false",
    decides="store evaluation",
  )
  train_characters: int = setting(
    100_000_000,
    "text to train the tokenizer on, in characters, from the front",
    at_least=1,
    decides="store evaluation",
  )


@dataclasses.dataclass(frozen=True)
class MaskingConfig:
  """Which tokens are predicted, and what the model sees in their place (BERT 3.1, RoBERTa 4.1)."""

  policy: Literal["static", "dynamic"] = setting(
    "static", "dynamic draws a new mask in every epoch; static has `duplicates` masks and goes round them"
  )
  duplicates: int = setting(
    10, "static only: masks of one example; dupe_factor of google-research/bert", at_least=1, at_most=1_000_000
  )
  unit: Literal["token", "whole_word", "ngram", "span"] = setting(
    "token",
    "whole_word masks all pieces of a word or none; ngram runs of such words, shorter ones more often (ALBERT); span"
    " runs of geometric length, all of a run as [MASK] or none (SpanBERT)",
  )
  max_words: int = setting(
    3, "ngram and span: words of a run, at most; 3 in ALBERT and DeBERTa, 10 in SpanBERT", at_least=1, at_most=100
  )
  rate: float = setting(
    0.15,
    "share of a sequence's tokens, special tokens counted, that is hidden and predicted",
    above=0,
    at_most=1,
  )
  prediction_rate: float | None = setting(
    None,
    "share that is predicted, where that is another than is hidden (Wettig et al. 2022, section 5): a smaller one, or a"
    " multiple, for which a batch has each example as many times, with masks that do not meet",
    above=0,
    at_most=1,
    decides="order",
  )
  rounding: Literal["nearest", "stochastic"] = setting(
    "nearest", "of rate x length: nearest (half to even) as BERT, stochastic as fairseq"
  )
  mask_prob: float = setting(0.8, "share of predicted tokens shown as [MASK]", at_least=0, at_most=1)
  random_prob: float = setting(
    0.1,
    "share of predicted tokens shown as a random token; what is left stays as it is",
    at_least=0,
    at_most=1,
  )
  max_predictions: int | None = setting(
    None, "prediction slots of a sequence; none: rate x max_seq_len, rounded up", at_least=1
  )


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Text, tokenizer, examples, masks."""

  source: str = setting(
    "demo",
    "demo, text:GLOB, jsonl:GLOB or tfds:NAME (a folder stands for its files)",
    decides="store evaluation",
  )
  text_documents: Literal["file", "blank_line"] = setting(
    "file", "text: one document a file, or documents separated by blank lines", decides="store evaluation"
  )
  jsonl_field: str = setting("text", "jsonl and tfds: the field that holds the text", decides="store evaluation")
  language: str = setting(
    "en",
    "of the text, as a code such as de: by its rules sentences are told apart",
    decides="store evaluation",
  )
  store: str | None = setting(None, "folder of the tokenized corpus; none: WORKDIR/data")
  eval_fraction: float = setting(
    0.05,
    "share of documents held out, by a hash of their text; near duplicates together",
    at_least=0,
    below=1,
    decides="store evaluation",
  )
  train_fraction: float = setting(
    1.0,
    "share of the other documents to train on; a smaller one is a subset of a larger",
    above=0,
    at_most=1,
    decides="order",
  )
  format: Literal["segment_pair", "sentence_pair", "full_sentences", "doc_sentences"] = setting(
    "segment_pair", "how examples are cut: BERT's pairs, or one of RoBERTa's (its Table 2)", decides="examples"
  )
  pairs: Literal["random", "swapped"] = setting(
    "random",
    "pairs out of order: random has a segment of another document (NSP), swapped the same two in turn (SOP)",
    decides="examples",
  )
  pair_truncation: Literal["both_ends", "end"] = setting(
    "both_ends",
    "where a segment of a pair that is too long loses tokens: at either end, by a coin for each, as BERT's; or at its"
    " end, so that every segment begins with a sentence",
    decides="examples",
  )
  sentence_separators: bool = setting(
    False,
    "full_sentences, doc_sentences: [SEP] after every sentence and once more between documents, as fairseq has",
    decides="store examples evaluation",
  )
  max_seq_len: int = setting(
    128, "tokens of an example, special tokens counted", at_least=8, decides="examples evaluation"
  )
  short_seq_prob: float = setting(
    0.1,
    "segment_pair: chance that a document aims at shorter examples",
    at_least=0,
    at_most=1,
    decides="examples",
  )
  random_next_prob: float = setting(
    0.5,
    "pairs: chance that the second segment comes from another document, or with swapped that the two are swapped",
    at_least=0,
    at_most=1,
    decides="examples",
  )
  segmentations: int = setting(
    10,
    "different cuttings of the corpus into examples, one an epoch, then round again",
    at_least=1,
    at_most=1_000_000,
    decides="order",
  )
  packing: int = setting(
    1,
    "examples that may share a row, where they are short enough; each reads itself alone, and the losses are those of"
    " one example a row",
    at_least=1,
    at_most=1024,
  )
  preceding_tokens: int = setting(
    0,
    "permutation: tokens of the document before an example, for the model's memory; 0: no memory (mem_len of XLNet's"
    " train.py)",
    at_least=0,
    at_most=1 << 17,
  )
  tokenizer: TokenizerConfig = dataclasses.field(default_factory=TokenizerConfig)
  masking: MaskingConfig = dataclasses.field(default_factory=MaskingConfig)


OptimizerName = Literal["google_adamw", "fairseq_adam", "adamw", "stable_adamw", "lamb", "muon"]
Schedule = Literal[
  "bert_linear", "linear", "product_linear", "cosine", "inverse_sqrt", "warmup_stable_decay", "budget_triangle"
]


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """Optimizer and schedule. Defaults are BERT's (google-research/bert, optimization.py)."""

  name: OptimizerName = setting(
    "google_adamw",
    "google_adamw has no bias correction; fairseq_adam has, and adds eps before it; adamw adds eps after it;"
    " stable_adamw clips each matrix's update (ModernBERT); lamb scales it to the matrix's size (ALBERT); muon makes"
    " those of the layers' matrices orthogonal, with adamw for the rest",
  )
  peak_lr: float = setting(1e-4, "learning rate at the end of warm-up", above=0)
  warmup_steps: int = setting(10_000, "steps of linear warm-up from 0", at_least=0)
  schedule: Schedule = setting(
    "bert_linear",
    "bert_linear decays from step 0 (a small drop after warm-up), linear from the end of warm-up, product_linear is"
    " both at once: ELECTRA's decay from step 0 times the ramp; cosine; inverse_sqrt (Vaswani et al. 2017);"
    " warmup_stable_decay stays at the peak until the last decay_steps (ModernBERT); budget_triangle rises from a"
    " quarter of the peak to it at three quarters of the steps (cramming)",
  )
  decay_steps: int | None = setting(
    None, "of warmup_stable_decay: the last steps, in which the rate falls by 1 - sqrt; none with others", at_least=1
  )
  final_share: float = setting(
    0.0, "of the peak, that the linear schedules, cosine and warmup_stable_decay end at", at_least=0, at_most=1
  )
  beta1: float = setting(0.9, "decay of the first moment", at_least=0, below=1)
  beta2: float = setting(0.999, "decay of the second moment; 0.98 in RoBERTa", at_least=0, below=1)
  eps: float = setting(1e-6, "added to the root of the second moment", above=0)
  weight_decay: float = setting(0.01, "decoupled, times the learning rate", at_least=0)
  decay_parameters: Literal["matrices", "all"] = setting(
    "matrices", "matrices leaves out biases and LayerNorm (BERT), all leaves out nothing (fairseq)"
  )
  clip_norm: float = setting(1.0, "global gradient norm to clip at; 0: no clipping (RoBERTa)", at_least=0)
  layer_decay: float = setting(
    1.0,
    "what the learning rate is multiplied by from each layer to the one below it (Clark et al. 2020, table 7: 0.8)",
    above=0,
    at_most=1,
  )
  top_layers: int | None = setting(
    None, "how many layers, from the top, are trained beside the head; none: all, and the embeddings", at_least=0
  )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How long, how wide, from where."""

  seed: int = setting(
    0,
    "of initial weights, data order, masks and dropout; the evaluation masks do not depend on it",
    at_least=0,
    below=1 << 32,
    decides="order",
  )
  steps: int = setting(1_000_000, "optimizer steps", at_least=1, at_most=100_000_000)
  batch_size: int = setting(
    256, "sequences an optimizer step, over all devices and microbatches", at_least=1, at_most=1 << 24
  )
  phases: str | None = setting(
    None,
    "lengths and batches that a run goes through: SHARE*TOKENS or SHARE*TOKENSxSEQUENCES, separated by commas, as"
    " BERT's 0.9*128,0.1*512; the shares are of the steps. The longest is data.max_seq_len, the largest batch"
    " train.batch_size; none: these throughout",
    decides="order",
  )
  start_from: str | None = setting(
    None,
    "initialize the weights from a run, an imported folder or a Hugging Face folder; none: at random",
  )
  max_nonfinite_steps: int = setting(
    10,
    "updates with a non-finite gradient, in a row, before the run stops",
    at_least=1,
    at_most=1 << 30,
  )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """How a model is measured while it trains; always on held-out documents, 15 %, frozen masks."""

  every_steps: int = setting(1000, "steps between evaluations; there is always one at the end", at_least=1)
  batch_size: int = setting(256, "sequences a batch", at_least=1, at_most=1 << 24)
  # With all 3,755 of the demo, a difference between arms has a standard error of 0.001 to 0.005 nats from their choice.
  max_examples: int = setting(
    32_768,
    "held-out examples used, at most; fewer make every difference less certain",
    at_least=1,
    at_most=1 << 30,
    decides="evaluation",
  )


@dataclasses.dataclass(frozen=True)
class TransferConfig:
  """Classification with few labels, after pretraining: frozen features over many draws, fine-tuning over some."""

  tasks: str = setting("", "comma-separated; the demo has wiki_topics and bbc_classes; empty: none")
  labels_per_class: int = setting(16, "labelled training texts of each class", at_least=1, at_most=1 << 20)
  draws: int = setting(
    20, "of labelled texts, each with a linear model over frozen features", at_least=1, at_most=10_000
  )
  finetuned_draws: int = setting(0, "of these, the first ones that the whole encoder is fine-tuned on too", at_least=0)
  max_seq_len: int = setting(
    128,
    "tokens of a text, special tokens counted; never above the model's positions",
    at_least=3,  # one token and its marks
    at_most=1 << 17,
  )
  batch_size: int = setting(16, "texts a step (Devlin et al. 2018, A.3: 16 or 32)", at_least=1, at_most=1 << 20)
  pooling: Literal["cls", "mean"] = setting(
    "cls", "what the classifier sees: BERT's pooler over the first token, or the mean over the text's tokens"
  )
  epochs: int = setting(10, "passes over the labelled texts", at_least=1, at_most=10_000)
  peak_lr: float = setting(5e-5, "learning rate after warm-up (Devlin et al. 2018, A.3: 2e-5 to 5e-5)", above=0)
  warmup_fraction: float = setting(0.1, "of all steps", at_least=0, at_most=1)
  weight_decay: float = setting(0.01, "decoupled, times the learning rate; RoBERTa's is 0.1", at_least=0)
  beta2: float = setting(0.999, "decay of the second moment; RoBERTa's is 0.98", at_least=0, below=1)
  clip_norm: float = setting(1.0, "global gradient norm to clip at; 0: no clipping, RoBERTa's", at_least=0)
  layer_decay: float = setting(1.0, "see optim.layer_decay", above=0, at_most=1)
  top_layers: int | None = setting(None, "see optim.top_layers", at_least=0)
  max_test_texts: int = setting(1000, "held-out texts to test on, at most", at_least=1, at_most=1 << 24)


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
  """Speed and comfort. Nothing here changes a result, rounding of a lower compute_dtype aside."""

  compute_dtype: Literal["float32", "bfloat16"] = setting("float32", "of matrix products; parameters stay float32")
  mesh: str = setting(
    "data",
    "axes of the device mesh with their sizes, as data:2,fsdp:2,tensor:2; one without a size gets all devices left",
  )
  attention: Literal["explicit", "fused", "cudnn", "splash"] = setting(
    "explicit",
    "what computes it: explicit alone has dropout; fused is XLA's, on every device; cudnn the kernel of NVIDIA's GPUs;"
    " splash that of TPUs",
  )
  scan_layers: bool = setting(
    False, "one compiled block in a loop (quick to compile) or unrolled (quick to run on CPU)"
  )
  accumulation_steps: int = setting(
    1, "microbatches a step: less memory, the same gradient, dropout and all", at_least=1
  )
  remat: Literal["none", "dots", "full"] = setting(
    "none",
    "what of a layer is computed again in the backward pass, for less memory: dots all but the products with weights;"
    " full all of it, a third more work",
  )
  prefetch_batches: int = setting(4, "batches made ahead by a thread", at_least=1, at_most=1_000)
  num_workers: int | None = setting(None, "processes that tokenize; none: one a core", at_least=1, at_most=1_024)
  store_cache: str = setting("~/.cache/bert_jax/stores", "folder of a local disk for copies of stores of a bucket")
  store_cache_gib: float = setting(
    0.0, "GiB that these copies may take; those that no run reads make room, the oldest first; 0: no bound", at_least=0
  )
  log_every_steps: int = setting(50, "steps between lines of metrics.jsonl", at_least=1)
  save_every_steps: int = setting(0, "steps between checkpoints; 0: by time alone", at_least=0)
  save_every_minutes: float = setting(10.0, "minutes between checkpoints; 0: by steps alone", at_least=0)
  keep_latest: int = setting(2, "checkpoints kept beside the best one", at_least=1, at_most=10_000)
  profile_steps: int = setting(
    0,
    "steps that JAX's profiler records, from the eleventh of the command on, into the run's folder profile",
    at_least=0,
  )


@dataclasses.dataclass(frozen=True)
class Config:
  """A whole run."""

  model: Architecture = dataclasses.field(default_factory=BertConfig)
  data: DataConfig = dataclasses.field(default_factory=DataConfig)
  objective: Objective = dataclasses.field(default_factory=lambda: MaskedTokensConfig(sentence="nsp"))
  optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
  train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
  evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
  transfer: TransferConfig = dataclasses.field(default_factory=TransferConfig)
  runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)


# Those that name a run or a folder with a model, or as arm:NAME another arm of the same experiment.
MODEL_SETTINGS = ("train.start_from", "objective.generator_from", "objective.teacher")
PAIR_FORMATS = ("segment_pair", "sentence_pair")


@dataclasses.dataclass(frozen=True)
class Phase:
  """A part of a run with one length and one batch size.

  Attributes:
    first_step: the step that it begins with, from 0.
    max_seq_len: tokens of an example, special tokens counted.
    batch_size: sequences a step.
  """

  first_step: int
  max_seq_len: int
  batch_size: int


def phases(config: Config) -> tuple[Phase, ...]:
  """The phases of a run, in order.

  Raises:
    ValueError: `train.phases` has another form, or shares that are not 1 together or leave a phase without a step.
  """
  train, data = config.train, config.data
  if train.phases is None:
    return (Phase(0, data.max_seq_len, train.batch_size),)
  found, before = [], 0.0
  for part in train.phases.split(","):
    share, _, sizes = part.strip().partition("*")
    length, _, batch = sizes.partition("x")
    try:
      phase = Phase(round(before * train.steps), int(length), int(batch) if batch else train.batch_size)
      before += float(share)
    except ValueError as error:
      raise ValueError(
        f"train.phases={train.phases} must be like 0.9*128,0.1*512 or 1*128x256. Got {part!r}"
      ) from error
    if round(before * train.steps) <= phase.first_step:
      raise ValueError(f"train.phases={train.phases} leaves {part!r} without one of train.steps={train.steps}")
    found.append(phase)
  if abs(before - 1) > 1e-6:
    raise ValueError(f"train.phases={train.phases} has shares of {before:g} together, which must be 1")
  return tuple(found)


def num_copies(masking: MaskingConfig) -> int:
  """How often a batch has each of its examples, with other masks."""
  return max(1, round((masking.prediction_rate or masking.rate) / masking.rate))


def row_rate(masking: MaskingConfig) -> float:
  """Share of a row's tokens that is predicted."""
  return min(masking.rate, masking.prediction_rate or masking.rate)


def num_prediction_slots(data: DataConfig) -> int:
  """Prediction slots of one sequence: `max_predictions`, or what the rates ask of a full sequence."""
  if data.masking.max_predictions is not None:
    return data.masking.max_predictions
  wanted = row_rate(data.masking) * data.max_seq_len
  return min(data.max_seq_len, max(1, -int(-wanted // 1)))
