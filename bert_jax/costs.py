"""What a training step computes, counted from settings; standard library only.

T tokens of a row, D hidden size, F inner size, E embedding size, V vocabulary.
"""

import dataclasses

from bert_jax.config import Config, num_prediction_slots, phases

# Of the architectures counted here: the inner layers' weights, in units of D × F as the setting gives F.
_INNER = {
  "bert": 2.0,
  "roberta": 2.0,
  "distilbert": 2.0,
  "albert": 2.0,
  "electra": 2.0,
  "modernbert": 3.0,  # the gate is a second layer of F
  "mosaic-bert": 3.0,
  "crammed-bert": 1.5,  # F is both the gate and what it gates
}


def multiplications(config: Config) -> int:
  """Multiply-adds of all matrix products of a run with masked tokens, forward and backward.

  A step takes three times its forward pass: each product has two of its size in the backward one (Kaplan et al. 2020,
  section 2.1). Counted are the layers, attention in full rows, padding too, and the head over the predicted tokens;
  left out are lookups, norms and what stands beside masked tokens.

  Raises:
    ValueError: the vocabulary is not set, or the architecture or the objective is not among those counted here.
  """
  model = config.model
  if model.kind not in _INNER or config.objective.kind != "masked_tokens":
    raise ValueError(
      f"costs are counted for masked tokens with {', '.join(_INNER)}; got {config.objective.kind} with {model.kind}"
    )
  vocabulary = model.vocab_size or config.data.tokenizer.vocab_size
  width: int = model.hidden_size
  embedding: int = getattr(model, "embedding_size", None) or width
  total, ends = 0, [*(phase.first_step for phase in phases(config)[1:]), config.train.steps]
  for phase, end in zip(phases(config), ends, strict=True):
    length = phase.max_seq_len
    a_token = 4 * width**2 + 2 * length * width + round(_INNER[model.kind] * width * model.intermediate_size)
    a_token *= model.num_layers
    if embedding != width:
      a_token += embedding * width
    slots = num_prediction_slots(dataclasses.replace(config.data, max_seq_len=length))
    transform = 0 if model.kind == "crammed-bert" else width * embedding
    a_row = length * a_token + slots * (transform + embedding * vocabulary)
    total += 3 * (end - phase.first_step) * phase.batch_size * a_row
  return total
