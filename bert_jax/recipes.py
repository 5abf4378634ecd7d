"""The published recipes as data. Each number cites paper and table, or the authors' code.

A recipe is a whole `Config`; an experiment starts from one and changes what it names. Published settings
want published corpora and accelerators; `experiments/` scales them down and says how. What a recipe leaves out of its
paper's, for lack of a part here, its docstring says.
"""

import dataclasses
import difflib
from typing import Any

from bert_jax.architectures import (
  AlbertConfig,
  BertConfig,
  CrammedBertConfig,
  DebertaConfig,
  DebertaV2Config,
  DistilBertConfig,
  ElectraConfig,
  ModernBertConfig,
  MosaicBertConfig,
  RobertaConfig,
  XlnetConfig,
)
from bert_jax.config import (
  Config,
  DataConfig,
  DistillationConfig,
  MaskedTokensConfig,
  MaskingConfig,
  OptimConfig,
  PermutationConfig,
  ReplacedTokensConfig,
  TokenizerConfig,
  TrainConfig,
  TransferConfig,
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

# ---- BERT -----------------------------------------------------------------------------------------------------


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


# ---- RoBERTa ----------------------------------------------------------------------------------------------------


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


# ---- SpanBERT -----------------------------------------------------------------------------------------------------


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


# ---- ALBERT -------------------------------------------------------------------------------------------------------


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


# ---- ELECTRA ------------------------------------------------------------------------------------------------------


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


# ---- XLNet --------------------------------------------------------------------------------------------------------


def xlnet(size: str) -> Config:
  """XLNet: tokens predicted in random orders, with a memory (Yang et al. 2019; zihangdai/xlnet, train.py).

  Base is the model of the paper's ablation, on Wikipedia and BooksCorpus (section 3.4). Its batch and steps are those
  of XLNet-large on the same text, as Liu et al. 2019 quote them (table 4); its rate, which the paper does not give, and
  its warm-up are BERT's. Large is the one trained on everything (section 3.1).

  Left out: rows read backwards in half of each batch (bi_data), end-of-paragraph and end-of-document marks, and memory
  that goes on from step to step (see `bert_jax.objectives.permutation`). The authors draw 20 sets of targets in advance
  (README, num_passes) and an order in each pass; here both are new in each pass.
  """
  large = size == "large"
  return Config(
    model=sized(XlnetConfig, *BERT_SIZES[size], activation="gelu_tanh"),  # modeling.py, gelu
    data=DataConfig(
      format="segment_pair",
      max_seq_len=512,
      short_seq_prob=0.0,  # section 3.1: always the full length
      random_next_prob=0.5,  # data_utils.py; not predicted
      segmentations=20,  # README, num_passes
      preceding_tokens=384,  # section 3.1
      tokenizer=TokenizerConfig(kind="unigram", vocab_size=32000, lowercase=False),
      masking=MaskingConfig(policy="dynamic"),
    ),
    objective=PermutationConfig(
      tokens_per_target=6.0,  # section 3.1, K; README, mask_alpha / mask_beta
      longest_span=5,  # section 2.3; data_utils.py, max_gram
      window=256,  # README, perm_size
    ),
    optim=OptimConfig(
      name="google_adamw",  # model_utils.py, AdamWeightDecayOptimizer
      peak_lr=4e-4 if large else 1e-4,
      warmup_steps=40_000 if large else 10_000,
      schedule="linear",
      final_share=0.001,  # train.py, min_lr_ratio
      weight_decay=0.01,
      eps=1e-6,
      clip_norm=1.0,  # train.py, clip
    ),
    train=TrainConfig(steps=500_000, batch_size=8192) if large else TrainConfig(steps=1_000_000, batch_size=256),
    transfer=TransferConfig(peak_lr=2e-5, batch_size=128, epochs=3),  # table 8, MNLI: 10,000 steps
  )


# ---- DistilBERT, DeBERTa, ModernBERT --------------------------------------------------------------------------------


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


def modernbert(
  layers: int, hidden: int, intermediate: int, peak_lr: float, batch: int, ramp: tuple[int, float]
) -> Config:
  """ModernBERT's first phase, at 1,024 tokens (Warner et al. 2024, section 2 and appendix A).

  Left out: packing, and initialization by depth. The rate falls over the last 50 billion tokens, as it does at the end
  of the paper's third phase.

  Args:
    ramp: sequences at first, and billions of tokens over which they grow to the whole batch; in five equal steps here.
  """
  base = roberta("base")
  length, tokens, warmup_tokens, decay_tokens = 1024, 1.719e12, 3e9, 50e9
  sizes = [ramp[0] + (batch - ramp[0]) * i // 5 for i in range(5)]
  steps = [ramp[1] * 1e9 / 5 / (length * size) for size in sizes]
  steps.append((tokens - ramp[1] * 1e9) / (length * batch))
  parts = [f"{count / sum(steps):.8f}*{length}x{size}" for count, size in zip(steps, [*sizes, batch], strict=True)]
  return dataclasses.replace(
    base,
    model=sized(
      ModernBertConfig, layers, hidden, intermediate_size=intermediate, attention_dropout=0.1, max_positions=8192
    ),
    data=dataclasses.replace(
      base.data,
      sentence_separators=False,
      max_seq_len=length,
      tokenizer=TokenizerConfig(kind="bpe", vocab_size=50368, lowercase=False),
      masking=MaskingConfig(policy="dynamic", rate=0.3),  # 80/10/10 of 30 %: the authors' code, sequence_packer.py
    ),
    optim=OptimConfig(
      name="stable_adamw",
      peak_lr=peak_lr,
      warmup_steps=round(warmup_tokens / (ramp[0] * length)),
      schedule="warmup_stable_decay",
      decay_steps=round(decay_tokens / (batch * length)),
      beta2=0.98,
      weight_decay=1e-5,
      clip_norm=0.0,  # its own clipping is in that one's place
    ),
    train=TrainConfig(steps=round(sum(steps)), batch_size=batch, phases=",".join(parts)),
    transfer=TransferConfig(peak_lr=8e-5, batch_size=64, epochs=2),  # table 6, SST-2
  )


# ---- for little compute: cramming, MosaicBERT ---------------------------------------------------------------------


def crammed_bert() -> Config:
  """The crammed BERT: as much as a GPU learns in a day (Geiping and Goldstein 2023; cramming, arch crammed-bert).

  The settings are those of its repository, train/bert-o4.yaml, which count time where these count steps. Left out: the
  batch's ramp, which ends after 60 % of the day, the filter and the order of its texts (its rows have no [CLS]), and
  the encoder's dropout of 0.1 in fine-tuning.
  """
  batch = 8192
  return Config(
    model=sized(CrammedBertConfig, 16, 768),
    data=DataConfig(
      format="full_sentences",  # rows are filled, with a [SEP] between texts (data/the-pile.yaml)
      max_seq_len=128,  # as the vocabulary, data/the-pile.yaml
      short_seq_prob=0.0,
      random_next_prob=0.0,
      segmentations=1,
      tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=32768, lowercase=True),
      masking=MaskingConfig(policy="dynamic", rate=0.25),  # 80/10/10: use_80_20_rule
    ),
    objective=MaskedTokensConfig(),
    optim=OptimConfig(
      name="adamw",  # train/optim/adam.yaml, as the next three
      beta2=0.98,
      eps=1e-12,
      weight_decay=0.01,
      peak_lr=1e-3,
      warmup_steps=0,
      schedule="budget_triangle",
      clip_norm=0.5,
    ),
    # No run's steps are published. 85 million sequences are prepared for the one pass of a day, which is to be slightly
    # more than it sees (data/the-pile.yaml, max_seq_in_tokenized_dataset): 85e6 / 8192 = 10,376 steps at most.
    train=TrainConfig(steps=round(85e6 / batch), batch_size=batch),
    # eval/GLUE_sane.yaml, one setting for all tasks, with half a cosine; weight decay and beta2: eval/optim/adam.yaml
    transfer=TransferConfig(peak_lr=4e-5, batch_size=16, epochs=5, weight_decay=0.0, beta2=0.98, clip_norm=0.0),
  )


def mosaic_bert_base() -> Config:
  """MosaicBERT-Base (Portes et al. 2023; mosaicml/examples, benchmarks/bert, mosaic-bert-base-uncased.yaml).

  It trains on C4: --data.source=tfds:c4/en. Left out: of a text only the first 128 tokens are read there, and each is
  masked by a coin of its own. Its vocabulary has six unused rows for speed, which `VocabularyScores` adds by itself.
  """
  base = crammed_bert()
  batch, steps, peak_lr = 4096, 70_000, 5e-4  # 286.72 million sequences / 4096
  return dataclasses.replace(
    base,
    model=sized(MosaicBertConfig, 12, 768),
    data=dataclasses.replace(
      base.data,
      format="doc_sentences",  # a text's end ends the row, which is padded
      tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=30522, lowercase=True),  # bert-base-uncased's
      masking=MaskingConfig(policy="dynamic", rate=0.3),  # 80/10/10: text_data.py, DataCollatorForLanguageModeling
    ),
    optim=OptimConfig(
      name="adamw",
      peak_lr=peak_lr,
      warmup_steps=round(0.06 * steps),
      schedule="linear",
      final_share=0.02,
      beta2=0.98,
      eps=1e-6,
      # Composer's DecoupledAdamW multiplies its 1e-5 by rate / peak in place of the rate. That is the rate times
      # 1e-5 / peak = 0.02, at every step.
      weight_decay=1e-5 / peak_lr,
      decay_parameters="all",
      clip_norm=0.0,
    ),
    train=TrainConfig(steps=steps, batch_size=batch),
    # src/glue/finetuning_jobs.py, SST-2; its decay of 3e-6 as above, 3e-6 / 3e-5
    transfer=TransferConfig(
      peak_lr=3e-5, batch_size=16, epochs=3, warmup_fraction=0.06, weight_decay=0.1, beta2=0.98, clip_norm=0.0
    ),
  )


RECIPES: dict[str, Config] = {
  **{f"bert_{size}": bert(size) for size in BERT_SIZES},
  **{f"roberta_{size}": roberta(size) for size in ("base", "large")},
  **{f"spanbert_{size}": spanbert(size) for size in ("base", "large")},
  # Lan et al. 2019, table 1
  "albert_base": albert(12, 768),
  "albert_large": albert(24, 1024),
  "albert_xlarge": albert(24, 2048, num_heads=16),
  "albert_xxlarge": albert(12, 4096),
  **{f"electra_{size}": electra(size) for size in ("small", "base", "large")},
  "xlnet_base": xlnet("base"),
  "xlnet_large": xlnet("large"),
  "distilbert_base": distilbert(),
  "deberta_base": deberta("base"),
  "deberta_large": deberta("large"),
  "deberta_v2_xlarge": deberta_v2_xlarge(),
  **{f"deberta_v3_{size}": deberta_v3(size) for size in ("xsmall", "small", "base", "large")},
  # Warner et al. 2024, table 4, and appendix A, table 3
  "modernbert_base": modernbert(22, 768, 1152, 8e-4, 4608, (768, 50)),
  "modernbert_large": modernbert(28, 1024, 2624, 5e-4, 4928, (448, 10)),
  "crammed_bert": crammed_bert(),
  "mosaic_bert_base": mosaic_bert_base(),
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
