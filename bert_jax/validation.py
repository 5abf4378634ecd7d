"""The rules between the settings of a config: what can be known to be wrong before there is data or a device.

A bound of one setting stands beside it, in `config.py`; a rule of one architecture, in `architectures.py`.
"""

import dataclasses
from typing import Any

from bert_jax import architectures
from bert_jax.architectures import DebertaV2Config, EncoderConfig
from bert_jax.config import (
  PAIR_FORMATS,
  Config,
  MaskingConfig,
  num_copies,
  phases,
)
from bert_jax.objective_configs import (
  DistillationConfig,
  MaskedTokensConfig,
  PermutationConfig,
  ReplacedTokensConfig,
)
from bert_jax.settings import check_bounds, lookup

_CUDNN_HEAD_SIZE = 256  # JAX, fused_attention_stablehlo.py; before Hopper 128, of which cuDNN itself complains
MAX_PLACES = 1 << 28  # of one batch: 64 times the tokens of RoBERTa's largest (8,192 × 512)


def validate(config: Config) -> Config:
  """`config`, once every rule that can be known without data or devices holds.

  Raises:
    ValueError: naming the setting, its value, the rule and the way out.
  """
  check_bounds(config)
  architectures.check(config.model)
  model, data, optim, train, runtime = config.model, config.data, config.optim, config.train, config.runtime
  masking, pairs = data.masking, data.format in PAIR_FORMATS

  def require(holds: bool, path: str, rule: str, way_out: str = "") -> None:
    if not holds:
      value: Any = lookup(config, path)
      raise ValueError(f"{path.removesuffix('.kind')}={value} {rule}" + (f"; {way_out}" if way_out else ""))

  parts = phases(config)
  if train.phases is not None:
    for path, sizes in (
      ("data.max_seq_len", [phase.max_seq_len for phase in parts]),
      ("train.batch_size", [phase.batch_size for phase in parts]),
    ):
      rule = f"must be the largest of train.phases={train.phases}"
      require(lookup(config, path) == max(sizes), path, rule, f"set it to {max(sizes)}, or train.phases=none")
      require(min(sizes) >= (8 if path == "data.max_seq_len" else 1), "train.phases", f"has a {path} of {min(sizes)}")
  for path, length, of in (
    ("train.batch_size", data.max_seq_len, "data.max_seq_len"),
    ("train.batch_size", data.preceding_tokens, "data.preceding_tokens"),
    ("evaluation.batch_size", data.max_seq_len, "data.max_seq_len"),
    ("transfer.batch_size", config.transfer.max_seq_len, "transfer.max_seq_len"),
  ):
    places = lookup(config, path) * length
    rule = f"times {of}={length} are {places:,} tokens a batch, and {MAX_PLACES:,} are the most"
    require(places <= MAX_PLACES, path, rule, f"try {MAX_PLACES // max(length, 1):,} or fewer")

  require(
    config.transfer.finetuned_draws <= config.transfer.draws,
    "transfer.finetuned_draws",
    f"is more than transfer.draws={config.transfer.draws}",
    "lower the one or raise the other",
  )
  most = model.longest_input
  require(
    most is None or data.max_seq_len <= most,
    "data.max_seq_len",
    f"is more than model.max_positions={most}",
    "shorten the one or raise the other",
  )
  require(
    masking.mask_prob + masking.random_prob <= 1 + 1e-9,
    "data.masking.random_prob",
    f"and data.masking.mask_prob={masking.mask_prob} add up to more than 1",
  )
  copies = num_copies(masking)
  require(
    masking.prediction_rate is None
    or masking.prediction_rate <= masking.rate
    or abs(masking.prediction_rate / masking.rate - copies) < 1e-6,
    "data.masking.prediction_rate",
    f"must be at most data.masking.rate={masking.rate}, or a multiple of it",
    f"try {masking.rate * copies:g}",
  )
  require(
    copies == 1 or masking.unit == "token",
    "data.masking.prediction_rate",
    f"is above data.masking.rate={masking.rate}, which takes masks of single tokens",
    "set data.masking.unit=token",
  )
  for phase in parts:
    require(
      phase.batch_size % copies == 0,
      "train.batch_size" if train.phases is None else "train.phases",
      f"is to be divided into the {copies} copies of each example that data.masking.prediction_rate asks for",
      f"try batches of {phase.batch_size // copies * copies or copies}",
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
  falls_at_the_end = optim.schedule == "warmup_stable_decay"
  require(
    optim.decay_steps is None or falls_at_the_end,
    "optim.decay_steps",
    f"is of the schedule warmup_stable_decay alone, and optim.schedule={optim.schedule}",
    "leave it out",
  )
  require(
    optim.decay_steps is not None or not falls_at_the_end,
    "optim.schedule",
    "has to know over how many steps it falls",
    f"try optim.decay_steps={max(1, train.steps // 10)}",
  )
  require(
    (optim.decay_steps or 0) <= train.steps - optim.warmup_steps,
    "optim.decay_steps",
    f"is more than what warm-up leaves of train.steps={train.steps}",
    f"try {max(1, (train.steps - optim.warmup_steps) // 10)}",
  )
  require(
    optim.final_share == 0 or optim.schedule not in ("inverse_sqrt", "budget_triangle"),
    "optim.final_share",
    f"is not for optim.schedule={optim.schedule}, which has an end of its own",
    "leave it out",
  )
  count = runtime.accumulation_steps
  for phase in parts:
    fewer = phase.batch_size // count * count
    require(
      phase.batch_size % count == 0,
      "train.batch_size" if train.phases is None else "train.phases",
      f"must be divisible by runtime.accumulation_steps={count}",
      f"try {f'{fewer} or ' if fewer else ''}{fewer + count}",
    )
  require(
    not (pairs and data.sentence_separators),
    "data.sentence_separators",
    f"is of full_sentences and doc_sentences, and data.format={data.format}",
    "set it to false",
  )
  require(
    not pairs or model.num_segments >= 2,
    "data.format",
    f"has pairs, and model={model.kind} tells {model.num_segments} segments apart",
    "set data.format=full_sentences" + ("" if model.num_segments == 0 else ", or model.type_vocab_size=2"),
  )
  _check_objective(config, require)
  check_layer_rates(config)
  _check_attention(config, require)
  return config


def _check_attention(config: Config, require: Any) -> None:
  """Which device a kernel needs is checked where the devices are known, see `Layout.check_attention`."""
  model, runtime, path = config.model, config.runtime, "runtime.attention"
  require(
    runtime.attention == "explicit" or model.attention_dropout == 0,
    path,
    f"has no dropout, and model.attention_dropout={model.attention_dropout}",
    "set model.attention_dropout=0 or runtime.attention=explicit",
  )
  require(
    runtime.attention not in ("cudnn", "splash") or not model.scores_by_place,
    path,
    f"adds nothing to the products of queries and keys, and model={model.kind} does so by the places of tokens",
    "set runtime.attention=fused",
  )
  if runtime.attention == "cudnn":
    require(
      runtime.compute_dtype == "bfloat16",
      path,
      f"is of short numbers, and runtime.compute_dtype={runtime.compute_dtype}",
      "set runtime.compute_dtype=bfloat16 or runtime.attention=fused",
    )
    size = model.hidden_size // model.num_heads
    require(
      size % 8 == 0 and size <= _CUDNN_HEAD_SIZE,
      path,
      f"has heads whose size is a multiple of 8 and at most {_CUDNN_HEAD_SIZE}, and model.hidden_size by"
      f" model.num_heads is {size}",
      "set runtime.attention=fused",
    )


def check_layer_rates(config: Config) -> None:
  """Refuses learning rates by layer where layers have no parameters of their own.

  Raises:
    ValueError: naming the setting.
  """
  optim = config.optim
  name = "layer_decay" if optim.layer_decay != 1 else "top_layers" if optim.top_layers is not None else None
  if name is None:
    return
  if config.model.kind == "albert" or config.objective.kind == "replaced_tokens":
    why = "its layers share parameters" if config.model.kind == "albert" else "it trains two encoders at once"
    raise ValueError(f"optim.{name}={getattr(optim, name)} is not for this run: {why}; leave it out")
  if optim.top_layers is not None and optim.top_layers > config.model.num_layers:
    raise ValueError(
      f"optim.top_layers={optim.top_layers} is more than the model's {config.model.num_layers} layers; leave it out to"
      " train everything"
    )


def why_not_packed(config: Config) -> str:
  """What of a run does not let examples share a row; empty where they may."""
  model, objective = config.model, config.objective
  if isinstance(model, DebertaV2Config) and isinstance(objective, ReplacedTokensConfig):
    return f"objective={objective.kind} with model={model.kind}, whose head reads the first token of a row"
  return why_reads_no_packed(model)


def why_reads_no_packed(model: EncoderConfig) -> str:
  """What of a network does not let it read rows of several examples; empty where it may."""
  if model.cls_last:
    return f"model={model.kind}, which puts [CLS] at the end of a row"
  if isinstance(model, DebertaV2Config) and model.convolution_size:
    return f"model.convolution_size={model.convolution_size}, which reaches into the next example"
  return ""


def _check_objective(config: Config, require: Any) -> None:
  objective, data, model = config.objective, config.data, config.model
  fits = {
    "replaced_tokens": model.kind in ("electra", "deberta-v2"),
    "distillation": model.kind != "xlnet",
    "permutation": model.kind == "xlnet",
  }
  require(
    fits.get(objective.kind, True),
    "objective.kind",
    f"does not fit model={model.kind}",
    "masked tokens fit every architecture, distillation all but XLNet, replaced tokens ELECTRA and DeBERTa's second and"
    " third versions, and permutations XLNet alone",
  )
  if isinstance(objective, ReplacedTokensConfig):
    _check_replaced(objective, model, require)
  if isinstance(objective, DistillationConfig):
    require(
      objective.teacher is not None,
      "objective.teacher",
      "has to name a model that fills masks",
      "give the folder of a run or of a model",
    )
  if isinstance(objective, MaskedTokensConfig | ReplacedTokensConfig):
    require(
      not objective.enhanced_decoder or model.kind in ("deberta", "deberta-v2"),
      "objective.enhanced_decoder",
      f"is DeBERTa's, and model={model.kind} has none",
      "set it to false",
    )
  if isinstance(objective, MaskedTokensConfig):
    require(
      not (objective.boundary and objective.sentence != "none"),
      "objective.boundary",
      f"is for single segments, and objective.sentence={objective.sentence}",
      "set objective.sentence=none",
    )
    require(
      not (objective.boundary and model.cls_last),
      "objective.boundary",
      f"is not for model={model.kind}",
      "set it to false",
    )
  if isinstance(objective, MaskedTokensConfig) and objective.sentence != "none":
    require(
      data.format in PAIR_FORMATS,
      "objective.sentence",
      f"needs pairs, and data.format={data.format} has none",
      "set objective.sentence=none or data.format=segment_pair",
    )
    wanted = {"nsp": "random", "sop": "swapped"}[objective.sentence]
    require(
      data.pairs == wanted,
      "objective.sentence",
      f"asks another question than data.pairs={data.pairs} answers",
      f"set data.pairs={wanted}",
    )
    require(
      model.has_sentence_head,
      "objective.sentence",
      f"needs the head of a pair of texts, and model={model.kind} has none",
      "set objective.sentence=none, or take a recipe of BERT or ALBERT",
    )
  why = why_not_packed(config)
  require(data.packing == 1 or not why, "data.packing", f"is not for {why}", "set it to 1")
  if isinstance(objective, PermutationConfig):
    _check_permutation(config, require)
  else:
    require(
      data.preceding_tokens == 0,
      "data.preceding_tokens",
      f"is the memory of permutations alone, and the run has objective={objective.kind}",
      "leave it out",
    )


def _check_replaced(objective: ReplacedTokensConfig, model: EncoderConfig, require: Any) -> None:
  require(
    objective.sharing == "none" or objective.generator_size == 1 or model.kind == "electra",
    "objective.generator_size",
    f"must be 1 for objective.sharing={objective.sharing} with model={model.kind}, whose embeddings have its width",
    "set objective.sharing=none, or the size to 1",
  )
  require(
    objective.generator_from is None or objective.sharing == "none",
    "objective.sharing",
    "is of two networks that are trained together, and objective.generator_from is given",
    "set objective.sharing=none",
  )
  require(
    objective.generator_from is None or not objective.enhanced_decoder,
    "objective.enhanced_decoder",
    "is as the generator has it that objective.generator_from names",
    "set it to false",
  )


def _check_permutation(config: Config, require: Any) -> None:
  data, model = config.data, config.model
  for field in dataclasses.fields(MaskingConfig):
    name = field.name
    require(
      name in ("policy", "duplicates") or getattr(data.masking, name) == field.default,
      f"data.masking.{name}",
      "is of masks, and objective=permutation shows all tokens; what it predicts, the settings of objective say",
      "leave it out",
    )
  if data.preceding_tokens == 0:
    return
  require(
    data.format not in PAIR_FORMATS or data.pairs == "random",
    "data.pairs",
    f"puts what follows before it, so that data.preceding_tokens={data.preceding_tokens} would show what is predicted",
    "set data.pairs=random or data.preceding_tokens=0",
  )
  for name in ("memory_length", "reuse_length"):
    most = lookup(model, name)
    require(
      most is None or most >= data.preceding_tokens,
      "data.preceding_tokens",
      f"is more than model.{name}={most} keeps",
      "lower the one or raise the other",
    )
