"""Newer layers for less compute: ModernBERT, the crammed BERT, MosaicBERT."""

import dataclasses

from bert_jax.architectures import (
  CrammedBertConfig,
  ModernBertConfig,
  MosaicBertConfig,
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
  MaskedTokensConfig,
)
from bert_jax.published import sized
from bert_jax.recipes.bert import roberta


def modernbert(
  layers: int, hidden: int, intermediate: int, peak_lr: float, batch: int, ramp: tuple[int, float]
) -> Config:
  """ModernBERT's first phase, at 1,024 tokens (Warner et al. 2024, section 2 and appendix A).

  Left out: initialization by depth. Packing, which changes no loss, is `data.packing`. The rate falls over the last 50
  billion tokens, as it does at the end of the paper's third phase.

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
