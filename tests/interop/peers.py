"""Hugging Face models of odd sizes with random weights, one for each class that has a network here."""

import warnings
from typing import Any

import numpy as np

# Sizes all differ, so that a swapped axis cannot pass; lengths exercise buckets and windows.
COMMON = {
  "hidden_size": 24,
  "num_hidden_layers": 3,
  "num_attention_heads": 4,
  "intermediate_size": 37,
  "vocab_size": 61,
  "max_position_embeddings": 40,
  "hidden_dropout_prob": 0.0,
  "attention_probs_dropout_prob": 0.0,
  "initializer_range": 0.2,
  "num_labels": 5,
  "attn_implementation": "eager",
}
TASKS = ("ForSequenceClassification", "ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering")
DEBERTA = {
  "relative_attention": True,
  "pos_att_type": ["c2p", "p2c"],
  "position_biased_input": False,
  "type_vocab_size": 0,
  "layer_norm_eps": 1e-7,
  "max_relative_positions": -1,
  "pooler_hidden_size": 24,
}
# name: (model_type, settings over COMMON, classes)
PEERS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
  "bert": ("Bert", {}, ("Model", "ForPreTraining", "ForMaskedLM", "ForNextSentencePrediction", *TASKS)),
  "bert_tanh": ("Bert", {"hidden_act": "gelu_new"}, ("ForPreTraining",)),
  "roberta": (
    "Roberta",
    {"max_position_embeddings": 42, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5},
    ("Model", "ForMaskedLM", *TASKS),
  ),
  "distilbert": (
    "DistilBert",
    {
      "dim": 24,
      "n_layers": 3,
      "n_heads": 4,
      "hidden_dim": 37,
      "dropout": 0.0,
      "attention_dropout": 0.0,
      "qa_dropout": 0.0,
      "seq_classif_dropout": 0.0,
    },
    ("Model", "ForMaskedLM", *TASKS),
  ),
  "albert": (
    "Albert",
    {"embedding_size": 13, "num_hidden_groups": 2, "inner_group_num": 2, "num_hidden_layers": 5},
    ("Model", "ForPreTraining", "ForMaskedLM", *TASKS),
  ),
  "electra": ("Electra", {"embedding_size": 13}, ("Model", "ForPreTraining", "ForMaskedLM", *TASKS)),
  "electra_same_size": ("Electra", {"embedding_size": 24}, ("ForPreTraining",)),
  "xlnet": (
    "XLNet",
    {"d_model": 24, "n_layer": 3, "n_head": 4, "d_inner": 37, "dropout": 0.0, "summary_last_dropout": 0.0},
    ("Model", "LMHeadModel", *TASKS[:3], "ForQuestionAnsweringSimple"),  # ForQuestionAnswering has a test of its own
  ),
  "deberta": ("Deberta", DEBERTA, ("Model", "ForMaskedLM", *TASKS[:2], "ForQuestionAnswering")),
  "deberta_short_table": ("Deberta", DEBERTA | {"max_relative_positions": 5}, ("Model",)),
  "deberta_positions": (
    "Deberta",
    DEBERTA | {"position_biased_input": True, "type_vocab_size": 3, "pos_att_type": ["p2c"]},
    ("Model",),
  ),
  "deberta_v2": (
    "DebertaV2",
    DEBERTA
    | {"conv_kernel_size": 3, "conv_act": "gelu", "position_buckets": 6, "norm_rel_ebd": "layer_norm"}
    | {"share_att_key": False, "max_position_embeddings": 33},
    ("Model", "ForMaskedLM"),
  ),
  "deberta_v3": (
    "DebertaV2",
    DEBERTA | {"position_buckets": 6, "norm_rel_ebd": "layer_norm", "share_att_key": True},
    ("Model", "ForMaskedLM", *TASKS),
  ),
  "modernbert": (
    "ModernBert",
    {
      "num_hidden_layers": 5,
      "layer_types": ["full_attention", *["sliding_attention"] * 2, "full_attention", "sliding_attention"],
      "local_attention": 6,
      "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 160_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
      },
      "pad_token_id": 0,
    },
    ("Model", "ForMaskedLM", *TASKS),
  ),
  "modernbert_mean": ("ModernBert", {"classifier_pooling": "mean", "pad_token_id": 0}, ("ForSequenceClassification",)),
}
CASES = [(name, suffix) for name, (_, _, suffixes) in PEERS.items() for suffix in suffixes]


def make(name: str, suffix: str, seed: int = 0) -> Any:
  """The model, whose every parameter is moved off its initial value."""
  import torch
  import transformers

  stem, settings, _ = PEERS[name]
  settings = COMMON | settings
  if suffix.startswith(("ForQuestionAnswering", "ForPreTraining")):
    settings["num_labels"] = 2  # theirs demands it
  if stem == "XLNet":
    settings = {key: value for key, value in settings.items() if key != "max_position_embeddings"}  # it has no limit
  config = getattr(transformers, stem + "Config")(**settings)
  torch.manual_seed(seed)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    model = getattr(transformers, stem + suffix)(config)
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(0.1 * torch.randn_like(parameter))
  return model.eval()


def random_batch(config: Any, rows: int = 7, length: int = 19, choices: int | None = None) -> dict[str, np.ndarray]:
  """A padded batch in our names; rows have from 3 to `length` tokens, padded on the left for XLNet."""
  draw = np.random.default_rng(3)
  shape = (rows, length) if choices is None else (rows, choices, length)
  lengths = draw.integers(3, length + 1, shape[:-1])
  lengths.reshape(-1)[:2] = 3, length
  places = np.arange(length)
  mask = places < lengths[..., None]
  if config.model_type == "xlnet":
    mask = mask[..., ::-1].copy()
  segments = (places >= length // 2).astype(np.int32) * np.ones(shape, np.int32)
  token_ids = draw.integers(6, 61, shape, dtype=np.int32)
  pad = config.pad_token_id or 0
  return {
    "token_ids": np.where(mask, token_ids, pad).astype(np.int32),
    "segment_ids": segments * (getattr(config, "type_vocab_size", 2) >= 2 or config.model_type == "xlnet"),
    "attention_mask": mask,
  }


def inputs_of(model: Any, batch: dict[str, np.ndarray]) -> dict[str, Any]:
  """The batch as the model takes it."""
  import torch

  names = {"input_ids": "token_ids", "attention_mask": "attention_mask"}
  if model.config.model_type not in ("distilbert", "modernbert"):
    names["token_type_ids"] = "segment_ids"
  return {theirs: torch.from_numpy(batch[ours].astype(np.int64)) for theirs, ours in names.items()}
