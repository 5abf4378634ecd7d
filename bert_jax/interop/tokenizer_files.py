"""A tokenizer of ours as files that `AutoTokenizer` opens."""

import json
import tempfile
from typing import Any

import tokenizers as hf
from etils import epath
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_jax.data.tokenizer_kinds import SentencePiece, Tokenizer


def write(tokenizer: Tokenizer, folder: epath.Path, max_tokens: int | None, segments: bool, separators: int) -> None:
  """Writes tokenizer.json, tokenizer_config.json, and the kind's own file (vocab.txt or spiece.model).

  tokenizer_config.json asks for PreTrainedTokenizerFast, which takes tokenizer.json as it is; classes of one
  architecture would put rules of their own in its place.

  Args:
    max_tokens: of a text; None where there is no limit.
    segments: whether the model tells the second text of a pair by its segment.
    separators: between the texts of a pair.
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
  """A SentencePiece model as rules of the tokenizers library."""
  assert isinstance(tokenizer, SentencePiece)
  from sentencepiece import sentencepiece_model_pb2

  proto: Any = sentencepiece_model_pb2
  model = proto.ModelProto.FromString(tokenizer.model)
  # `1990,` is cut before its comma (see `SentencePiece`): such pieces are kept for their ids, and never chosen.
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
