"""DeBERTa, its second version and its third."""

import dataclasses

from bert_jax.architectures import (
  DebertaConfig,
  DebertaV2Config,
)
from bert_jax.config import (
  Config,
  MaskingConfig,
  OptimConfig,
  TokenizerConfig,
  TrainConfig,
  TransferConfig,
)
from bert_jax.objective_configs import (
  MaskedTokensConfig,
  ReplacedTokensConfig,
)
from bert_jax.published import sized
from bert_jax.recipes.bert import BERT_SIZES, roberta


def deberta(size: str) -> Config:
  """DeBERTa: disentangled attention and the enhanced mask decoder on masked tokens (He et al. 2020, appendix A).

  Its code takes one n-gram of each window of six times as many tokens; these are ALBERT's, of the same lengths. Hugging
  Face's class has no such decoder: `bert_jax.load(WORKDIR, head="encoder")` is what goes there.
  """
  base, large = roberta("base"), size == "large"
  return dataclasses.replace(
    base,
    model=sized(DebertaConfig, *BERT_SIZES[size]),
    data=dataclasses.replace(
      base.data,
      sentence_separators=False,
      masking=MaskingConfig(policy="dynamic", unit="ngram", max_words=3, rate=0.15),
    ),
    objective=MaskedTokensConfig(enhanced_decoder=True),
    optim=OptimConfig(
      name="adamw",
      peak_lr=2e-4,
      warmup_steps=10_000,
      schedule="linear",
      beta2=0.999,
      weight_decay=0.01,
      clip_norm=1.0,
    ),
    train=TrainConfig(steps=1_000_000, batch_size=2048),
    transfer=TransferConfig(peak_lr=1e-5 if large else 3e-5, batch_size=32, epochs=3),  # table 9
  )


def deberta_v2_xlarge() -> Config:
  """Version 2, XL: SentencePiece, distances in buckets, a convolution (DeBERTa README; deberta-v2-xlarge's config).

  Optimizer and length are those of the first paper's model of 1.5 billion parameters (He et al. 2020, appendix A). Left
  out is what `deberta` leaves out.
  """
  base = deberta("base")
  return dataclasses.replace(
    base,
    model=sized(DebertaV2Config, 24, 1536, convolution_size=3, convolution_activation="gelu"),
    data=dataclasses.replace(base.data, tokenizer=TokenizerConfig(kind="unigram", vocab_size=128_000, lowercase=False)),
    optim=dataclasses.replace(base.optim, peak_lr=1.5e-4),
    transfer=dataclasses.replace(base.transfer, peak_lr=1e-5),
  )


def deberta_v3(size: str) -> Config:
  """DeBERTaV3: replaced tokens with disentangled embeddings (He et al. 2021; DeBERTa README and experiments).

  The optimizer's numbers are the paper's, quoted from a summary of it. Both losses are minimized in one step where its
  code alternates: with disentangled embeddings neither moves what the other does. The gradient's norm is clipped over
  both.
  """
  layers, hidden, rate = {
    # Layers and widths of the released models; the rates of base and large are the paper's, and the others base's.
    "xsmall": (12, 384, 6e-4),
    "small": (6, 768, 6e-4),
    "base": (12, 768, 6e-4),
    "large": (24, 1024, 3e-4),
  }[size]
  base = deberta("base")
  return dataclasses.replace(
    base,
    model=sized(DebertaV2Config, layers, hidden),
    data=dataclasses.replace(
      base.data,
      tokenizer=TokenizerConfig(kind="unigram", vocab_size=128_000, lowercase=False),
      # Always [MASK], single tokens: the generator's settings in the repository.
      masking=MaskingConfig(policy="dynamic", rate=0.15, mask_prob=1.0, random_prob=0.0),
    ),
    objective=ReplacedTokensConfig(
      sharing="disentangled",
      generator_size=1.0,
      generator_layers=0.5,  # half the layers at full width
      weight=50.0,  # the paper's; the code's default is 10
      enhanced_decoder=True,
    ),
    optim=dataclasses.replace(base.optim, peak_lr=rate, beta2=0.98),
    train=TrainConfig(steps=500_000, batch_size=8192),
    # The repository's MNLI scripts
    transfer=TransferConfig(
      peak_lr={"xsmall": 4.5e-5, "small": 4.5e-5, "base": 1.5e-5, "large": 7e-6}[size], batch_size=64, epochs=3
    ),
  )
