"""The published recipes as data. Each number cites paper and table, or the authors' code.

A recipe is a whole `Config`; an experiment starts from one and changes what it names. Published settings
want published corpora and accelerators; `experiments/` scales them down and says how.
"""

import dataclasses
import difflib

from bert_jax.config import (
  Config,
  DataConfig,
  MaskingConfig,
  ModelConfig,
  OptimConfig,
  TokenizerConfig,
  TrainConfig,
  TransferConfig,
)

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


def bert_model(size: str) -> ModelConfig:
  """BERT's shape at one of `BERT_SIZES`.

  Raises:
    ValueError: a size that was not published.
  """
  if size not in BERT_SIZES:
    raise ValueError(f"there is no BERT size {size!r}; there are {', '.join(BERT_SIZES)}")
  num_layers, hidden_size = BERT_SIZES[size]
  return ModelConfig(
    num_layers=num_layers,
    hidden_size=hidden_size,
    num_heads=hidden_size // 64,
    intermediate_size=4 * hidden_size,
  )


def roberta_model(size: str) -> ModelConfig:
  """RoBERTa's shape, base or large: BERT's, without segments and pooler (fairseq, roberta/model.py)."""
  return dataclasses.replace(
    bert_model(size),
    position_offset=2,  # fairseq numbers positions from padding_idx + 1 = 2: 514 rows for 512 positions
    type_vocab_size=1,
    layer_norm_eps=1e-5,  # fairseq, modules/layer_norm.py
    initializer="normal",  # fairseq, init_bert_params: untruncated
    pooler=False,
  )


# ---- BERT -----------------------------------------------------------------------------------------------------


def bert(size: str) -> Config:
  """BERT as released: WordPiece, segment pairs with NSP, static masks (Devlin et al. 2018, A.2).

  The paper trains nine tenths of the steps at length 128 and the last tenth at 512. This is all of them at 128: a run
  keeps its length, and none starts from another's checkpoint.
  """
  return Config(
    model=bert_model(size),
    data=DataConfig(
      format="segment_pair",
      max_seq_len=128,
      short_seq_prob=0.1,  # create_pretraining_data.py, short_seq_prob
      random_next_prob=0.5,  # Devlin et al. 2018, section 3.1, task 2
      segmentations=10,  # create_pretraining_data.py, dupe_factor: each pass cuts and masks anew
      tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=30522, lowercase=True),
      masking=MaskingConfig(
        policy="static",
        duplicates=10,  # dupe_factor; RoBERTa, section 4.1, names the same 10
        rate=0.15,  # Devlin et al. 2018, section 3.1, task 1, as the 80/10/10 below
        mask_prob=0.8,
        random_prob=0.1,
      ),
    ),
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
    train=TrainConfig(steps=1_000_000, batch_size=256, sentence_objective="nsp"),
    transfer=TransferConfig(peak_lr=5e-5, batch_size=16, epochs=4),  # Devlin et al. 2018, A.3: the grid's ends
  )


# ---- RoBERTa ----------------------------------------------------------------------------------------------------


def roberta(size: str) -> Config:
  """RoBERTa: byte-level BPE, full sentences, dynamic masks, no NSP (Liu et al. 2019, sections 4 and 5).

  Optimizer and length are those of fairseq's released pretraining config (base, batch 2048, 125k steps).
  The final models took 8k sequences for 500k steps.
  """
  return Config(
    model=roberta_model(size),
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
    train=TrainConfig(steps=125_000, batch_size=2048, sentence_objective="none"),
    transfer=TransferConfig(peak_lr=2e-5, batch_size=16, epochs=10, warmup_fraction=0.06),  # section 5.1, GLUE
  )


RECIPES = {f"bert_{size}": bert(size) for size in BERT_SIZES} | {
  f"roberta_{size}": roberta(size) for size in ("base", "large")
}


def recipe(name: str) -> Config:
  """The recipe of a name such as `bert_base`.

  Raises:
    ValueError: an unknown name, with those that exist.
  """
  if name not in RECIPES:
    near = difflib.get_close_matches(name, RECIPES, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"there is no recipe {name!r}{meant}; there are {', '.join(RECIPES)}")
  return RECIPES[name]
