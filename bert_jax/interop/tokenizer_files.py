"""The files of a tokenizer beside a model: read from any folder, and written so that `AutoTokenizer` opens them."""

import json
import tempfile
from typing import Any

import tokenizers as hf
from etils import epath
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_jax import foreign
from bert_jax.architectures import EncoderConfig
from bert_jax.data import tokenizers
from bert_jax.data.sentence_piece import SentencePiece
from bert_jax.data.tokenizer_kinds import Tokenizer
from bert_jax.inference.model import Model
from bert_jax.interop.families import FAMILIES

TOKENIZER_FILES = (
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.txt",
  "vocab.json",
  "merges.txt",
  "spiece.model",
  "spm.model",
  "sentencepiece.bpe.model",
)


class UnreadableTokenizer(ValueError):
  """The tokenizer cannot be read; the weights of its model still can."""


def read(folder: epath.Path, config: EncoderConfig, model_type: str | None = None) -> Tokenizer | None:
  """The tokenizer of a folder; None where there is none.

  Args:
    config: of the model that the tokenizer belongs to.
    model_type: that the folder's config.json states.

  Raises:
    UnreadableTokenizer: it is damaged, or of a kind whose rules we do not have.
    ValueError: it has more tokens than the model.
  """
  if not any(
    foreign.is_file(folder, name) for name in TOKENIZER_FILES if "config" not in name and "special" not in name
  ):
    return None
  try:
    lowercases = config.kind in FAMILIES and FAMILIES[config.kind].lowercases
    tokenizer = tokenizers.load(folder, None, lowercases, model_type)
  except ValueError as error:
    raise UnreadableTokenizer(str(error)) from error
  known = config.vocab_size
  if known is not None and tokenizer.vocab_size > known:
    raise ValueError(
      f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, and the model's vocab_size is {known}: it is not"
      " this model's; put the model's own there"
    )
  return tokenizer


def files_of(model: Model) -> dict[str, bytes]:
  """Name → content of what belongs beside a model's weights: the files that it came with, or its own tokenizer's."""
  if model.files or model.tokenizer is None:
    return model.files
  config = model.config
  segments = config.type_vocab_size > 1
  with tempfile.TemporaryDirectory() as scratch:
    folder = epath.Path(scratch)
    write(model.tokenizer, folder, config.longest_input, segments, config.separators_between)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write(tokenizer: Tokenizer, folder: epath.Path, max_tokens: int | None, segments: bool, separators: int) -> None:
  """Writes tokenizer.json, tokenizer_config.json and the file of its kind (vocab.txt or spiece.model).

  tokenizer_config.json asks for PreTrainedTokenizerFast, which takes tokenizer.json as it is; the classes of an
  architecture would replace parts of it by rules of their own.

  Args:
    max_tokens: of a text; None for no limit.
    segments: whether the model marks the second text of a pair by its segment ids.
    separators: number of separators between the texts of a pair.
  """
  with tempfile.TemporaryDirectory() as scratch:
    tokenizer.save(scratch)
    files = {path.name: path.read_bytes() for path in epath.Path(scratch).iterdir()}
  for name, content in files.items():
    (folder / name).write_bytes(content)
  whole = hf.Tokenizer.from_str(files["tokenizer.json"].decode()) if "tokenizer.json" in files else _unigram(tokenizer)
  cls, sep, mask, pad, unk = tokenizer.tokens(
    [tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.pad_id, tokenizer.unk_id]
  )
  second = ":1" if segments else ""
  pair = f"{cls} $A{f' {sep}' * separators} $B{second} {sep}{second}"
  whole.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
    single=f"{cls} $A {sep}", pair=pair, special_tokens=[(cls, tokenizer.cls_id), (sep, tokenizer.sep_id)]
  )
  whole.add_special_tokens([hf.AddedToken(mask, lstrip=tokenizer.kind != "wordpiece", special=True)])
  (folder / "tokenizer.json").write_text(whole.to_str(pretty=True))
  stated: dict[str, Any] = json.loads(files.get("tokenizer_config.json", b"{}"))
  stated |= {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "cls_token": cls,
    "sep_token": sep,
    "mask_token": mask,
    "pad_token": pad,
    "unk_token": unk,
    "clean_up_tokenization_spaces": False,
    "model_input_names": ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"],
  }
  if max_tokens is not None:
    stated["model_max_length"] = max_tokens
  (folder / "tokenizer_config.json").write_text(json.dumps(stated, indent=2) + "\n")


def _unigram(tokenizer: Tokenizer) -> hf.Tokenizer:
  """A SentencePiece model in the form of the tokenizers library."""
  assert isinstance(tokenizer, SentencePiece)
  from sentencepiece import sentencepiece_model_pb2

  proto: Any = sentencepiece_model_pb2
  model = proto.ModelProto.FromString(tokenizer.model)
  # `1990,` is split before its comma (see `SentencePiece`): such pieces keep their ids and are never chosen.
  score = {int(tokenizer.own_ids[i]): -1e6 if i in tokenizer.recut else p.score for i, p in enumerate(model.pieces)}
  named = enumerate(tokenizer.tokens(range(tokenizer.vocab_size)))
  pieces = [(token, score.get(i, 0.0)) for i, token in named if i in score or i < max(score)]
  whole = hf.Tokenizer(models.Unigram(pieces, unk_id=tokenizer.unk_id, byte_fallback=False))
  steps: list[Any] = []
  if tokenizer.rules == "xlnet":
    steps += [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
  if not tokenizer.keep_accents:
    steps += [normalizers.NFKD(), normalizers.StripAccents()]
  if tokenizer.lowercase:
    steps.append(normalizers.Lowercase())
  if model.normalizer_spec.precompiled_charsmap:
    steps.append(normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap))
  steps.append(normalizers.Replace(hf.Regex(" {2,}"), " "))
  steps.append(normalizers.Strip())
  whole.normalizer = normalizers.Sequence(steps)  # pyright: ignore[reportAttributeAccessIssue]
  whole.pre_tokenizer = pre_tokenizers.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
  whole.decoder = decoders.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
  behind = sorted({*tokenizer.special_ids.tolist(), *tokenizer.added.values()})
  for token_id, token in zip(behind, tokenizer.tokens(behind), strict=True):
    whole.add_tokens([hf.AddedToken(token, normalized=False, special=token_id in tokenizer.special_ids)])
    if whole.token_to_id(token) != token_id:
      raise ValueError(
        f"the added token {token!r} has the id {token_id}, and ids before it stand for no token; it"
        " cannot be written as a tokenizer.json"
      )
  return whole
