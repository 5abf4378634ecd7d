"""What a run computes, counted from its settings; standard library only."""

import dataclasses

from bert_jax import settings
from bert_jax.architectures import EncoderConfig, narrower
from bert_jax.config import Config, num_prediction_slots, phases
from bert_jax.objective_configs import MaskedTokensConfig, ReplacedTokensConfig

# Of the architectures counted here: the weights of a feed-forward part, in units of hidden_size × intermediate_size.
_INNER = {
  "bert": 2.0,
  "roberta": 2.0,
  "distilbert": 2.0,
  "albert": 2.0,
  "electra": 2.0,
  "modernbert": 3.0,  # the gate is one more layer
  "mosaic-bert": 3.0,
  "crammed-bert": 1.5,  # intermediate_size is that of the gate and of what it gates together
}


def multiplications(config: Config) -> int:
  """Multiply-adds of all matrix products of a run, forward and backward; of masked tokens and of replaced ones.

  A step takes three times its forward pass: each product has two of its size in the backward one (Kaplan et al. 2020,
  section 2.1). Counted are the layers, attention in full rows, padding too, and the heads; left out are lookups, norms
  and what stands beside masked tokens.

  Raises:
    ValueError: the architecture or the objective is not among those counted here.
  """
  model, objective = config.model, config.objective
  counted = isinstance(objective, MaskedTokensConfig | ReplacedTokensConfig) and model.kind in _INNER
  if not counted or (isinstance(objective, ReplacedTokensConfig) and objective.generator_from):
    raise ValueError(
      "costs are counted for masked and for replaced tokens, but for a generator of another run, with"
      f" {', '.join(_INNER)}; got {objective.kind} with {model.kind}"
    )
  vocabulary = model.vocab_size or config.data.tokenizer.vocab_size
  total, ends = 0, [*(phase.first_step for phase in phases(config)[1:]), config.train.steps]
  for phase, end in zip(phases(config), ends, strict=True):
    length = phase.max_seq_len
    predictions = num_prediction_slots(dataclasses.replace(config.data, max_seq_len=length))
    drawing = 0
    if isinstance(objective, ReplacedTokensConfig):
      generator = narrower(model, objective.generator_size, objective.generator_layers)
      a_row = length * _encoder(generator, length) + predictions * _scores(generator, vocabulary)
      a_row += length * (_encoder(model, length) + model.hidden_size**2 + model.hidden_size)
      drawing = predictions * _embedding_size(model) * vocabulary  # scores once more, without a gradient
      if objective.predicts == "tokens":
        a_row += length * _scores(model, vocabulary)
    else:
      a_row = length * _encoder(model, length) + predictions * _scores(model, vocabulary)
    total += (end - phase.first_step) * phase.batch_size * (3 * a_row + drawing)
  return total


def for_as_much(changes: settings.Assignments) -> settings.Assignments:
  """The changes, and as many steps as cost what the parent's do; warm-up and evaluations keep their share of them."""

  def scaled(steps: int, c: Config) -> int:
    return max(1, round(steps * multiplications(c) / multiplications(settings.assign(c, changes)))) if steps else 0

  return {
    **changes,
    "train.steps": lambda c: scaled(c.train.steps, c),
    "optim.warmup_steps": lambda c: scaled(c.optim.warmup_steps, c),
    "evaluation.every_steps": lambda c: scaled(c.evaluation.every_steps, c),
  }


def _embedding_size(model: EncoderConfig) -> int:
  return getattr(model, "embedding_size", None) or model.hidden_size


def _encoder(model: EncoderConfig, length: int) -> int:
  """Of a token in a row of this length."""
  width, embedding = model.hidden_size, _embedding_size(model)
  layer = 4 * width**2 + 2 * length * width + round(_INNER[model.kind] * width * model.intermediate_size)
  return model.num_layers * layer + (0 if embedding == width else embedding * width)


def _scores(model: EncoderConfig, vocabulary: int) -> int:
  """Of a prediction: the head's layer, and the product with the word table."""
  embedding = _embedding_size(model)
  return (0 if model.kind == "crammed-bert" else model.hidden_size * embedding) + embedding * vocabulary
