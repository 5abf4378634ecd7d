"""BERT, and what keeps its layers: RoBERTa, SpanBERT, ALBERT, DistilBERT; ELECTRA."""

import dataclasses
from typing import Any

from bert_jax.architectures import (
  AlbertConfig,
  BertConfig,
  DistilBertConfig,
  ElectraConfig,
  RobertaConfig,
)
from bert_jax.config import (
  Config,
  DataConfig,
  MaskingConfig,
  OptimConfig,
  TokenizerConfig,
  TrainConfig,
  TransferConfig,
)
from bert_jax.objective_configs import (
  DistillationConfig,
  MaskedTokensConfig,
  ReplacedTokensConfig,
)
from bert_jax.published import sized

# ---- sizes: layers, hidden size; heads are hidden_size / 64 and the inner width is 4 × hidden_size ---------
# tiny to medium: google-research/bert README, release of 2020-03-11 (Turc et al. 2019, table 1);
# base and large: Devlin et al. 2018, section 3.
BERT_SIZES = {
  "tiny": (2, 128),
  "mini": (4, 256),
  "small": (4, 512),
  "medium": (8, 512),
  "base": (12, 768),
  "large": (24, 1024),
}


def bert(size: str) -> Config:
  """BERT as released: WordPiece, segment pairs with NSP, static masks (Devlin et al. 2018, A.2).

  Nine tenths of the steps are at length 128 and the last tenth at 512, with as many sequences a step (A.2; README).
  Ablations have 128 throughout: see `scales.ONE_LENGTH`.
  """
  return Config(
    model=sized(BertConfig, *BERT_SIZES[size]),
    data=DataConfig(
      format="segment_pair",
      max_seq_len=512,
      short_seq_prob=0.1,  # create_pretraining_data.py, short_seq_prob
      random_next_prob=0.5,  # Devlin et al. 2018, section 3.1, task 2
      segmentations=10,  # create_pretraining_data.py, dupe_factor: each pass cuts and masks again
      tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=30522, lowercase=True),
      masking=MaskingConfig(
        policy="static",
        duplicates=10,  # dupe_factor; RoBERTa, section 4.1, names the same 10
        rate=0.15,  # Devlin et al. 2018, section 3.1, task 1, as the 80/10/10 below
        mask_prob=0.8,
        random_prob=0.1,
      ),
    ),
    objective=MaskedTokensConfig(sentence="nsp"),
    optim=OptimConfig(
      name="google_adamw",
      peak_lr=1e-4,  # Devlin et al. 2018, A.2, as the next six
      warmup_steps=10_000,
      schedule="bert_linear",
      beta1=0.9,
      beta2=0.999,
      weight_decay=0.01,
      eps=1e-6,  # optimization.py
      clip_norm=1.0,  # optimization.py, clip_by_global_norm
    ),
    train=TrainConfig(steps=1_000_000, batch_size=256, phases="0.9*128,0.1*512"),
    transfer=TransferConfig(peak_lr=5e-5, batch_size=16, epochs=4),  # Devlin et al. 2018, A.3: the grid's ends
  )


def roberta(size: str) -> Config:
  """RoBERTa: byte-level BPE, full sentences, dynamic masks, no NSP (Liu et al. 2019, sections 4 and 5).

  Optimizer and length are those of fairseq's released pretraining config (base, batch 2048, 125k steps).
  The final models took 8k sequences for 500k steps.
  """
  return Config(
    model=sized(RobertaConfig, *BERT_SIZES[size]),
    data=DataConfig(
      format="full_sentences",  # Liu et al. 2019, section 4.2
      # Its data had one sentence a line, an empty line between documents, and fairseq ends every line with </s>
      # (M. Ott, fairseq issue 1023 and pull request 965).
      sentence_separators=True,
      max_seq_len=512,  # section 3.1: full-length sequences only
      short_seq_prob=0.0,  # section 3.1: no short sequences injected
      random_next_prob=0.0,
      tokenizer=TokenizerConfig(kind="bpe", vocab_size=50265, lowercase=False),
      masking=MaskingConfig(policy="dynamic", rate=0.15, rounding="stochastic"),  # mask_tokens_dataset.py
    ),
    objective=MaskedTokensConfig(),
    optim=OptimConfig(
      name="fairseq_adam",
      peak_lr=5e-4,  # fairseq, roberta config "base", as all below
      warmup_steps=10_000,
      schedule="linear",
      beta1=0.9,
      beta2=0.98,
      eps=1e-6,
      weight_decay=0.01,
      decay_parameters="all",
      clip_norm=0.0,
    ),
    train=TrainConfig(steps=125_000, batch_size=2048),
    transfer=TransferConfig(peak_lr=2e-5, batch_size=16, epochs=10, warmup_fraction=0.06),  # section 5.1, GLUE
  )


def spanbert(size: str) -> Config:
  """SpanBERT: spans masked, and predicted from their sides too, in single segments (Joshi et al. 2019, section 3).

  The command of the authors' repository has the optimizer and the 2.4 million steps. Left out: random tokens are drawn
  uniformly and not as often as they stand in the text.
  """
  base = bert(size)
  return dataclasses.replace(
    base,
    data=dataclasses.replace(
      base.data,
      format="doc_sentences",  # section 3.3: single segments of up to 512 tokens
      short_seq_prob=0.0,
      random_next_prob=0.0,
      segmentations=1,
      tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=28996, lowercase=False),  # BERT's cased
      masking=MaskingConfig(policy="dynamic", unit="span", max_words=10, rate=0.15),  # sections 3.1 and 4.2
    ),
    objective=MaskedTokensConfig(boundary=True),
    optim=dataclasses.replace(base.optim, name="adamw", eps=1e-8, schedule="linear"),
    train=TrainConfig(steps=2_400_000, batch_size=256),
    transfer=TransferConfig(peak_lr=2e-5, batch_size=32, epochs=10),  # the repository's GLUE command
  )


def albert(layers: int, hidden: int, **more: Any) -> Config:
  """ALBERT: shared layers, n-grams masked, sentence order (Lan et al. 2019; google-research/albert)."""
  base = bert("base")
  return dataclasses.replace(
    base,
    model=sized(AlbertConfig, layers, hidden, **more),
    data=DataConfig(
      format="segment_pair",
      pairs="swapped",  # create_pretraining_data.py, random_next_sentence=False
      random_next_prob=0.5,
      max_seq_len=512,  # as all of this, create_pretraining_data.py
      short_seq_prob=0.1,
      segmentations=40,  # dupe_factor
      tokenizer=TokenizerConfig(kind="unigram", vocab_size=30000, lowercase=True),
      # The script predicts 20 tokens of 512 at most; the paper, section 4.1, names BERT's rate, which this is.
      masking=MaskingConfig(policy="static", duplicates=40, unit="ngram", max_words=3, rate=0.15),
    ),
    objective=MaskedTokensConfig(sentence="sop"),
    # Section 4.1; run_pretraining.py has the warm-up.
    optim=dataclasses.replace(base.optim, name="lamb", peak_lr=1.76e-3, warmup_steps=3125),
    train=TrainConfig(steps=125_000, batch_size=4096),
    transfer=TransferConfig(peak_lr=1e-5, batch_size=32, epochs=10, warmup_fraction=0.06),  # table 14, SST-2
  )


def distilbert() -> Config:
  """DistilBERT: BERT's answers and states, and half its layers (Sanh et al. 2019, section 3; distillation/train.py).

  The teacher is given with `objective.teacher`: BERT-base, from wherever it is. Left out: masks that prefer rare words.
  """
  base = roberta("base")
  return dataclasses.replace(
    base,
    model=sized(DistilBertConfig, 6, 768),
    data=dataclasses.replace(
      base.data,
      sentence_separators=False,
      tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=30522, lowercase=True),
    ),
    objective=DistillationConfig(
      temperature=2.0,  # distillation/README, as the next three
      distillation_weight=5.0,
      mlm_weight=2.0,
      cosine_weight=1.0,
    ),
    optim=OptimConfig(
      name="adamw",  # torch.optim.AdamW, as all of this distillation/train.py
      peak_lr=5e-4,
      warmup_steps=235,  # 5 %
      schedule="linear",
      beta2=0.98,
      weight_decay=0.0,
      clip_norm=5.0,
    ),
    # Section 3: batches of up to 4,000, three epochs. BERT's million steps of 256 sequences are 40 epochs (Devlin et
    # al. 2018, A.2), so three are 19.2 million sequences.
    train=TrainConfig(steps=4_700, batch_size=4096),
    transfer=bert("base").transfer,
  )


def electra(size: str) -> Config:
  """ELECTRA: a generator and a discriminator, trained together (Clark et al. 2020; configure_pretraining.py).

  Left out: its way of drawing masks, with replacement, and of cutting pairs (build_pretraining_dataset.py); these are
  BERT's, without random pairs.
  """
  layers, hidden, embedding, generator, rate, batch, steps, length, mask_rate = {
    # configure_pretraining.py, but for the generator of base (Clark et al. 2020, appendix A) and its steps, which are
    # quoted from memory. Large masks a quarter.
    "small": (12, 256, 128, 1 / 4, 5e-4, 128, 1_000_000, 128, 0.15),
    "base": (12, 768, 768, 1 / 3, 2e-4, 256, 766_000, 512, 0.15),
    "large": (24, 1024, 1024, 1 / 4, 2e-4, 2048, 400_000, 512, 0.25),
  }[size]
  return Config(
    model=sized(ElectraConfig, layers, hidden, embedding_size=embedding),
    data=DataConfig(
      format="segment_pair",
      max_seq_len=length,
      short_seq_prob=0.05,  # build_pretraining_dataset.py
      random_next_prob=0.0,  # no next sentence prediction
      segmentations=1,
      tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=30522, lowercase=True),
      # pretrain_helpers.py: 85 % [MASK], the others as they are
      masking=MaskingConfig(policy="dynamic", rate=mask_rate, mask_prob=0.85, random_prob=0.0),
    ),
    objective=ReplacedTokensConfig(
      generator_size=generator,
      generator_layers=1.0,
      weight=50.0,  # configure_pretraining.py, disc_weight
      temperature=1.0,
    ),
    optim=OptimConfig(
      name="google_adamw",
      peak_lr=rate,
      warmup_steps=10_000,
      schedule="product_linear",  # model/optimization.py: the decay times the ramp
      weight_decay=0.01,
      clip_norm=1.0,
    ),
    train=TrainConfig(steps=steps, batch_size=batch),
    transfer=TransferConfig(peak_lr=1e-4, batch_size=32, epochs=3),  # configure_finetuning.py; large: 5e-5
  )
