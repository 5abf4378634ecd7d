"""Tokenizers, loaded from the files that people have or trained on a corpus."""

import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import sentencepiece
import tokenizers as hf
from absl import logging
from etils import epath
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from bert_jax import foreign
from bert_jax.config import TokenizerConfig
from bert_jax.data import bert_text, foreign_tokenizers
from bert_jax.data.sentences import split_sentences
from bert_jax.data.tokenizer_kinds import SPECIAL_TOKENS, FromJson, SentencePiece, Tokenizer, WordPiece

__all__ = ["Tokenizer", "load", "train"]

# ---- load ------------------------------------------------------------------------------------------------


def load(path: epath.PathLike, config: TokenizerConfig | None, default_lowercase: bool | None = None) -> Tokenizer:
  """The tokenizer that a file or folder holds.

  Args:
    path: a vocab.txt, a tokenizer.json, a vocab.json with its merges.txt, a SentencePiece .model, or a folder that
      holds one. A tokenizer_config.json beside it may state the casing (`do_lower_case`, `strip_accents`), an
      added_tokens.json tokens that a SentencePiece model lacks.
    config: what the settings expect; its `lowercase` is the casing of a file that does not state its own.
    default_lowercase: that casing where there is no config.

  Raises:
    ValueError: there is no such file, it is damaged, it lacks special tokens, or it is not what the config says.
  """
  file = _find(epath.Path(path))
  casing = foreign_tokenizers.settings(file.parent)
  try:
    tokenizer = _read(file, casing, config.lowercase if config else default_lowercase)
  except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
    raise ValueError(f"{file} is damaged, or not the file its name says: {error!r}") from error
  for name in ("kind", "lowercase") if config else ():
    wanted, has = getattr(config, name), getattr(tokenizer, name)
    if wanted != has:
      raise ValueError(
        f"data.tokenizer.{name}={wanted}, but {file} has {name}={has}; "
        f"set data.tokenizer.{name}={has}, or give another data.tokenizer.path"
      )
  return tokenizer


def _find(path: epath.Path) -> epath.Path:
  if foreign.is_regular(path):
    return path
  if not path.is_dir():
    raise ValueError(f"data.tokenizer.path={path} is neither a file nor a folder")
  models_here = sorted(file for file in path.iterdir() if file.name.endswith(".model"))
  if len(models_here) > 1:
    raise ValueError(f"data.tokenizer.path={path} holds several .model files ({models_here}); name one of them")
  for file in [path / "tokenizer.json", *models_here, path / "vocab.txt", path / "vocab.json"]:
    if foreign.is_regular(file):
      return file
  raise ValueError(f"data.tokenizer.path={path} holds no vocab.txt, tokenizer.json, vocab.json or .model")


def _read(file: epath.Path, casing: dict[str, Any], default_lowercase: bool | None) -> Tokenizer:
  origin = str(file)

  def lowercase() -> bool:
    if "do_lower_case" in casing:
      return bool(casing["do_lower_case"])
    if default_lowercase is None:
      raise ValueError(f"{file} does not say whether it is cased; put a tokenizer_config.json with do_lower_case by it")
    return default_lowercase

  if file.suffix == ".model":
    return SentencePiece(foreign.read_bytes(file.parent, file.name), lowercase(), origin, _added(file))
  if file.suffix == ".txt":
    tokens = foreign.read_text(file.parent, file.name).removesuffix("\n").split("\n")
    tokens = [token.removesuffix("\r") for token in tokens]
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
      token, times = Counter(tokens).most_common(1)[0]
      raise ValueError(f"{file} lists {token!r} {times} times; each token must have one line")
    cased = not lowercase()
    accents = casing["strip_accents"] if casing.get("strip_accents") is not None else not cased
    return WordPiece(vocab, not cased, accents, origin=origin)
  if file.suffix != ".json":
    raise ValueError(f"data.tokenizer.path={file} must end in .txt (a vocab.txt), .json (a tokenizer.json) or .model")
  if file.name == "vocab.json":
    return _byte_level(file, casing)
  text, content = foreign_tokenizers.tokenizer_json(file)
  if content["model"]["type"] != "WordPiece":
    return FromJson(text, origin)
  rules = content["normalizer"] or {}
  if rules.get("type") != "BertNormalizer" or not (rules["clean_text"] and rules["handle_chinese_chars"]):
    raise ValueError(f"{file} holds WordPiece with rules other than BERT's ({rules}); give its vocab.txt instead")
  accents = rules["lowercase"] if rules["strip_accents"] is None else rules["strip_accents"]
  vocab = content["model"]["vocab"] | {token["content"]: token["id"] for token in content["added_tokens"]}
  return WordPiece(vocab, rules["lowercase"], accents, content["model"]["max_input_chars_per_word"], origin)


def _added(model: epath.Path) -> dict[str, int]:
  """Tokens beside a SentencePiece model: of added_tokens.json; DeBERTa's mask behind its spm.model."""
  path = model.parent / "added_tokens.json"
  if foreign.is_file(model.parent, path.name):
    return foreign_tokenizers.vocabulary(path)
  return {"[MASK]": -1} if model.name == "spm.model" else {}


def _byte_level(vocab: epath.Path, casing: dict[str, Any]) -> Tokenizer:
  """RoBERTa's two files, a vocab.json and a merges.txt."""
  merges = vocab.parent / "merges.txt"
  if not foreign.is_file(vocab.parent, merges.name):
    raise ValueError(f"{vocab} needs {merges} beside it")
  tokens, pairs = foreign_tokenizers.vocabulary(vocab), foreign_tokenizers.merges(merges)
  with foreign_tokenizers.guarded(str(merges)):
    whole = hf.Tokenizer(models.BPE(tokens, pairs))  # pyright: ignore[reportArgumentType]
  whole.pre_tokenizer = pre_tokenizers.ByteLevel(  # pyright: ignore[reportAttributeAccessIssue]
    add_prefix_space=bool(casing.get("add_prefix_space", False))
  )
  whole.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
  whole.add_special_tokens([token for token in SPECIAL_TOKENS["bpe"] if token in tokens])
  return FromJson(whole.to_str(), str(vocab))


# ---- train -----------------------------------------------------------------------------------------------


def train(texts: Iterable[str], config: TokenizerConfig, language: str = "en") -> Tokenizer:
  """A tokenizer of at most `config.vocab_size` tokens, learnt from the first `train_characters` of the texts.

  Special tokens come first. Equal text gives an equal tokenizer, whatever the machine. A text too small for
  the size gives a smaller vocabulary and a warning.

  Raises:
    ValueError: no text, or a size too small for the special tokens and the characters.
  """
  sentences = _first_characters(texts, config.train_characters, language)
  trainer = {"wordpiece": _train_wordpiece, "bpe": _train_bpe, "unigram": _train_unigram}[config.kind]
  tokenizer = trainer(sentences, config)
  assert tokenizer.vocab_size <= config.vocab_size, (tokenizer.vocab_size, config.vocab_size)
  if tokenizer.vocab_size < config.vocab_size:
    logging.warning(
      "the text is too small for data.tokenizer.vocab_size=%d; the tokenizer has %d tokens",
      config.vocab_size,
      tokenizer.vocab_size,
    )
  return tokenizer


def _first_characters(texts: Iterable[str], limit: int, language: str) -> Iterator[str]:
  """The sentences of the texts until `limit` characters have come; the text that reaches the limit is cut there."""
  left = limit
  for text in texts:
    yield from split_sentences(text[:left], language)
    left -= len(text)
    if left <= 0:
      return


def _too_small(config: TokenizerConfig, least: int, why: str) -> ValueError:
  return ValueError(f"data.tokenizer.vocab_size={config.vocab_size} is too small: {why}; set it to at least {least}")


def _train_wordpiece(sentences: Iterator[str], config: TokenizerConfig) -> Tokenizer:
  special = SPECIAL_TOKENS["wordpiece"]
  least = 64
  if config.vocab_size < least:
    raise _too_small(config, least, "WordPiece needs its special tokens and an alphabet")
  counts: Counter[str] = Counter()
  for sentence in sentences:
    counts.update(bert_text.split_words(sentence, config.lowercase, config.lowercase).split())
  _require_text(counts)
  characters: Counter[str] = Counter()
  for word, count in counts.items():
    for character in word:
      characters[character] += count
  # A rare character costs two tokens (with and without ##): at most 1000 of them, as Hugging Face's trainer has for
  # BERT, and at most a quarter of the vocabulary, unless that is less than an alphabet.
  most = min(1000, max(config.vocab_size // 8, 64), (config.vocab_size - len(special)) // 2)
  by_count = sorted(characters, key=lambda character: (-characters[character], character))
  alphabet = sorted(by_count[:most])
  # The library numbers the alphabet in a random order, and settles ties by these numbers; so they are given to it.
  known, rest = set(alphabet), {c for word in counts for c in word[1:]}
  first = {word[0] for word in counts}
  numbered = [c for c in alphabet if c in first] + ["##" + c for c in alphabet if c in rest & known]
  trainer = trainers.WordPieceTrainer(
    vocab_size=config.vocab_size,
    min_frequency=2,
    special_tokens=[*special, *numbered],
    initial_alphabet=alphabet,
    limit_alphabet=len(alphabet),
    continuing_subword_prefix="##",
    show_progress=False,
  )
  model = hf.Tokenizer(models.WordPiece(unk_token="[UNK]"))
  model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
  model.train_from_iterator(_repeated(counts), trainer)
  return WordPiece(model.get_vocab(), config.lowercase, config.lowercase)


def _repeated(counts: Counter[str]) -> Iterator[str]:
  """Lines with each word as often as it was counted; the library has no other way to give it counts."""
  for word, count in counts.items():
    for start in range(0, count, 1000):
      yield " ".join(itertools.repeat(word, min(1000, count - start)))


def _train_bpe(sentences: Iterator[str], config: TokenizerConfig) -> Tokenizer:
  special = list(SPECIAL_TOKENS["bpe"])
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  least = len(special) + len(alphabet)
  if config.vocab_size < least:
    raise _too_small(config, least, f"byte-level BPE has {len(special)} special tokens and 256 bytes")
  model = hf.Tokenizer(models.BPE())
  if config.lowercase:
    rules = [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    model.normalizer = normalizers.Sequence(rules)  # pyright: ignore[reportAttributeAccessIssue]
  # A space goes before every sentence, as fairseq's has between sentences, so that its first word is like the others.
  model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # pyright: ignore[reportAttributeAccessIssue]
  model.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
  trainer = trainers.BpeTrainer(
    vocab_size=config.vocab_size,
    min_frequency=2,
    special_tokens=special,
    initial_alphabet=alphabet,
    show_progress=False,
  )
  model.train_from_iterator(_require_text(sentences), trainer)
  model.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
    single="<s> $A </s>",
    pair="<s> $A </s> </s> $B </s>",
    special_tokens=[(token, special.index(token)) for token in ("<s>", "</s>")],
  )
  return FromJson(model.to_str(pretty=True))


def _train_unigram(sentences: Iterator[str], config: TokenizerConfig) -> Tokenizer:
  pad, unk, *control = SPECIAL_TOKENS["unigram"]
  if config.lowercase:
    sentences = (bert_text.without_marks(sentence, "NFKD").lower() for sentence in sentences)
  proto = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
      sentence_iterator=_require_text(sentences),
      model_writer=proto,
      model_type="unigram",
      vocab_size=config.vocab_size,
      hard_vocab_limit=False,  # a small text gives a smaller vocabulary
      pad_id=0,
      unk_id=1,
      bos_id=-1,
      eos_id=-1,
      pad_piece=pad,
      unk_piece=unk,
      control_symbols=control,
      user_defined_symbols=list('()"-.–£€'),  # pieces of their own, as in ALBERT's vocabulary
      character_coverage=0.9995,
      max_sentence_length=1_000_000,  # in bytes; longer ones would be left out
      num_threads=8,  # sums are rounded by thread, so the number is fixed, whatever the machine
      minloglevel=2,
    )
  except (RuntimeError, OSError) as error:
    least = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
    if least is None:
      raise
    why = "Unigram needs its special tokens and the text's characters"
    raise _too_small(config, int(least[1]), why) from error
  return SentencePiece(proto.getvalue(), config.lowercase)


def _require_text(things: Iterable[str]) -> Iterator[str]:
  iterator = iter(things)
  first = next(iterator, None)
  if first is None:
    raise ValueError("there is no text to train a tokenizer on; see data.source")
  return itertools.chain([first], iterator)
