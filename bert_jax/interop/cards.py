"""The card of an exported model: where the model comes from, its licence where that is known, how to use it."""

import re

from bert_jax import provenance
from bert_jax.inference.model import Model
from bert_jax.objective_configs import ClassificationConfig

CARD = "README.md"
_HEADS = {
  "masked_lm": "fill-mask",
  "pretraining": "fill-mask",
  "sequence_classification": "text-classification",
  "token_classification": "token-classification",
  "question_answering": "question-answering",
  "multiple_choice": "multiple-choice",
  "encoder": "feature-extraction",
  "pooled_encoder": "feature-extraction",
}


def write(model: Model, class_name: str) -> str:
  """The text of README.md; class_name: of the network, at Hugging Face."""
  known = licence(model)
  front = ["library_name: transformers", f"license: {known}" if known else ""]
  if model.network in _HEADS:
    front.append(f"pipeline_tag: {_HEADS[model.network]}")
  versions = ", ".join(f"{name} {version}" for name, version in provenance.versions().items() if name != "python")
  parts = [
    "\n".join(["---", *filter(None, front), "---"]),
    f"# {class_name}",
    f"{model.describe()}.",
    _origin(model),
    f"Licence: {known}, as the card that it came with says."
    if known
    else "Licence: not known here; ask whoever gave you the weights, or the texts that they were trained on.",
    f"```python\nfrom transformers import {_imports(model, class_name)}\n\nmodel = {class_name}.from_pretrained(FOLDER)"
    + ("\ntokenizer = AutoTokenizer.from_pretrained(FOLDER)" if _has_tokenizer(model) else "")
    + "\n```",
    "Or `bert_jax.load(FOLDER)`. Not evaluated for any use: `receipt.json` says how near these files are to the model"
    " that they were written from, and no more.",
    f"Written with {versions}.",
  ]
  return "\n\n".join(parts) + "\n"


def _origin(model: Model) -> str:
  return " ".join(filter(None, [_pretrained(model), model.finetuned and f"Then fine-tuned on {model.finetuned}."]))


def _pretrained(model: Model) -> str:
  if model.run is not None and isinstance(model.run.objective, ClassificationConfig):
    return f"Fine-tuned with bert_jax: step {model.step} of {model.run.train.steps} of a classifier's training."
  if model.run is not None:
    data, optim, train = model.run.data, model.run.optim, model.run.train
    begin = "random weights" if train.start_from is None else "the weights of another model (`train.start_from`)"
    return (
      f"Pretrained with bert_jax, from {begin}: step {model.step} of {train.steps}, {train.batch_size} sequences"
      f" of up to {data.max_seq_len} tokens a step, of `{data.source.partition(':')[0]}` texts in the format"
      f" {data.format}; {optim.name}, peak_lr {optim.peak_lr:g}, seed {train.seed}. The run's config.json has every"
      " setting."
    )
  name = model.source.get("_name_or_path")
  named = f" It calls itself `{name}`." if isinstance(name, str) and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) else ""
  return f"Imported from {model.origin or 'a Hugging Face folder'} with bert_jax, and written again as float32.{named}"


def licence(model: Model) -> str | None:
  """The licence that the front of a model's own card states; None where it states none."""
  card = model.files.get(CARD, b"").decode(errors="replace")
  front = re.match(r"---\r?\n(.*?)\r?\n---", card, re.DOTALL)
  found = front and re.search(r"^license:[ \t]*[\"']?([\w.+-]+)[\"']?[ \t]*\r?$", front[1], re.MULTILINE)
  return found[1] if found else None


def _has_tokenizer(model: Model) -> bool:
  return model.tokenizer is not None or any("vocab" in name or name == "tokenizer.json" for name in model.files)


def _imports(model: Model, class_name: str) -> str:
  return ", ".join(["AutoTokenizer"] * _has_tokenizer(model) + [class_name])
