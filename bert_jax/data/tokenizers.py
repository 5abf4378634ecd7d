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
from bert_jax.data import basic_tokenizer, foreign_tokenizers
from bert_jax.data.sentence_piece import SentencePiece
from bert_jax.data.sentences import split_sentences
from bert_jax.data.tokenizer_kinds import ROLES, SPECIAL_TOKENS, FromJson, Tokenizer, WordPiece
from bert_jax.data.tokenizer_settings import Stated

__all__ = ["Tokenizer", "load", "train"]

# ---- load ------------------------------------------------------------------------------------------------


def load(
  path: epath.PathLike,
  config: TokenizerConfig | None,
  default_lowercase: bool | None = None,
  model_type: str | None = None,
) -> Tokenizer:
  """The tokenizer that a file or folder holds.

  Args:
    path: a vocab.txt, a tokenizer.json, a vocab.json with its merges.txt, a SentencePiece .model, or a folder that
      holds one. A tokenizer_config.json beside it may state the casing (`do_lower_case`, `strip_accents`), an
      added_tokens.json tokens that a SentencePiece model lacks.
    config: what the settings expect; its `lowercase` is the casing of a file that does not state its own.
    default_lowercase: that casing where there is no config.
    model_type: of the config.json that it came with, where that is known: whose rules a SentencePiece model needs.

  Raises:
    ValueError: there is no such file, it is damaged, it lacks special tokens, or it is not what the config says.
  """
  file = _find(epath.Path(path))
  stated = Stated(file.parent)
  stated.check(file)
  try:
    tokenizer = _read(file, stated, config.lowercase if config else default_lowercase, model_type)
    stated.check_tokens(tokenizer)
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


def _read(file: epath.Path, stated: Stated, default_lowercase: bool | None, model_type: str | None) -> Tokenizer:
  origin = str(file)
  if file.name == "sentencepiece.bpe.model":
    if model_type not in (None, "xlm-roberta") or (model_type is None and stated.rules != "xlm-roberta"):
      raise ValueError(
        f"{file} is read as XLM-RoBERTa's, and nothing says that it is (model_type is {model_type}); other models'"
        f" ids differ. {_TO_JSON}"
      )
    return SentencePiece(foreign.read_bytes(file.parent, file.name), False, origin, stated.added, "xlm-roberta")
  if file.suffix == ".model":
    rules = "deberta" if file.name == "spm.model" else stated.rules
    lowercase, accents = _lowercase(file, stated, default_lowercase), stated.values.get("keep_accents")
    return SentencePiece(foreign.read_bytes(file.parent, file.name), lowercase, origin, stated.added, rules, accents)
  if file.suffix == ".txt":
    return _vocab_txt(file, stated, default_lowercase)
  if file.suffix != ".json":
    raise ValueError(f"data.tokenizer.path={file} must end in .txt (a vocab.txt), .json (a tokenizer.json) or .model")
  if file.name == "vocab.json":
    return _byte_level(file, stated)
  text, content = foreign_tokenizers.tokenizer_json(file)
  if content["model"]["type"] == "WordPiece":
    return _wordpiece(content, stated, origin)
  return FromJson(_prefixed(text, content, stated), origin)


_TO_JSON = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers writes a tokenizer.json"


def _lowercase(file: epath.Path, stated: Stated, default: bool | None) -> bool:
  if "do_lower_case" in stated.values:
    return bool(stated.values["do_lower_case"])
  if default is None:
    raise ValueError(f"{file} does not say whether it is cased; put a tokenizer_config.json with do_lower_case by it")
  return default


def _vocab_txt(file: epath.Path, stated: Stated, default_lowercase: bool | None) -> Tokenizer:
  tokens = foreign.read_text(file.parent, file.name).removesuffix("\n").split("\n")
  tokens = [token.removesuffix("\r") for token in tokens]
  vocab = {token: token_id for token_id, token in enumerate(tokens)}
  if len(vocab) != len(tokens):
    token, times = Counter(tokens).most_common(1)[0]
    raise ValueError(f"{file} lists {token!r} {times} times; each token must have one line")
  lowercase = _lowercase(file, stated, default_lowercase)
  capitals = [t for t in tokens if t != t.lower() and not re.fullmatch(r"\[\w+\]|<\w+>", t)] if lowercase else []
  if len(capitals) > max(10, len(tokens) // 100):
    about = f"{len(capitals)} of the {len(tokens)} tokens in {file} have capitals ({', '.join(capitals[:3])}, …)"
    if "do_lower_case" not in stated.values:
      raise ValueError(
        f"{about}, and nothing says whether text is lower-cased; put a tokenizer_config.json with"
        ' {"do_lower_case": false} beside it, or true if it was'
      )
    logging.warning("%s, and tokenizer_config.json asks for lower case: they are never read", about)
  accents = stated.values.get("strip_accents")
  added = {token: token_id for token, token_id in stated.added.items() if token not in ROLES}
  cjk = stated.values.get("tokenize_chinese_chars", True)
  return WordPiece(
    vocab, lowercase, lowercase if accents is None else accents, 200, str(file), added, stated.any_case, cjk
  )


def _wordpiece(content: dict[str, Any], stated: Stated, origin: str) -> Tokenizer:
  """A tokenizer.json of BERT's; tokenizer_config.json takes precedence where they disagree, as in BertTokenizer."""
  rules = content["normalizer"] or {}
  if rules.get("type") != "BertNormalizer" or not rules["clean_text"]:
    raise ValueError(f"{origin} holds WordPiece with rules other than BERT's ({rules}); give its vocab.txt instead")
  names = {"lowercase": "do_lower_case", "strip_accents": "strip_accents"}
  names["handle_chinese_chars"] = "tokenize_chinese_chars"
  for ours, theirs in names.items():
    value = None if stated.generic else stated.values.get(theirs)
    if value is not None and value != rules[ours]:
      if rules[ours] is not None:
        logging.warning(
          "%s has %s=%s; tokenizer_config.json's %s=%s takes precedence", origin, ours, rules[ours], theirs, value
        )
      rules[ours] = value
  accents = rules["lowercase"] if rules["strip_accents"] is None else rules["strip_accents"]
  pieces: dict[str, int] = content["model"]["vocab"]
  added = [t for t in content["added_tokens"] if t["content"] not in ROLES]
  added = [t for t in added if not t["special"] or t["content"] not in pieces]
  for token in added:
    if token.get("single_word"):
      raise ValueError(
        f"{origin}: the added token {token['content']!r} is found between words only (single_word), which bert_jax does"
        " not follow; make it a token of the model's vocab"
      )
  return WordPiece(
    pieces | {token["content"]: token["id"] for token in content["added_tokens"]},
    rules["lowercase"],
    accents,
    content["model"].get("max_input_chars_per_word", 100),
    origin,
    {token["content"]: token["id"] for token in added},
    [token["content"] for token in added if token.get("normalized")],
    rules["handle_chinese_chars"],
  )


def _prefixed(text: str, content: dict[str, Any], stated: Stated) -> str:
  """A byte-level tokenizer.json with the space before a text that tokenizer_config.json asks for, as in RoBERTa's."""
  wanted, rules = stated.values.get("add_prefix_space"), content["pre_tokenizer"] or {}
  if stated.generic or wanted is None or rules.get("type") != "ByteLevel" or rules.get("add_prefix_space") == wanted:
    return text
  return json.dumps(content | {"pre_tokenizer": rules | {"add_prefix_space": wanted}}, ensure_ascii=False)


def _byte_level(vocab: epath.Path, stated: Stated) -> Tokenizer:
  """RoBERTa's two files, a vocab.json and a merges.txt."""
  merges = vocab.parent / "merges.txt"
  if not foreign.is_file(vocab.parent, merges.name):
    raise ValueError(f"{vocab} needs {merges} beside it")
  tokens, pairs = foreign_tokenizers.vocabulary(vocab), foreign_tokenizers.merges(merges)
  with foreign_tokenizers.guarded(str(merges)):
    whole = hf.Tokenizer(models.BPE(tokens, pairs))  # pyright: ignore[reportArgumentType]
  whole.pre_tokenizer = pre_tokenizers.ByteLevel(  # pyright: ignore[reportAttributeAccessIssue]
    add_prefix_space=bool(stated.values.get("add_prefix_space", False))
  )
  whole.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
  whole.add_special_tokens([token for token in SPECIAL_TOKENS["bpe"] if token in tokens])
  whole.add_tokens([token for token, _ in sorted(stated.added.items(), key=lambda item: item[1]) if token not in ROLES])
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
    counts.update(basic_tokenizer.split_words(sentence, config.lowercase, config.lowercase).split())
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
    sentences = (basic_tokenizer.without_marks(sentence, "NFKD").lower() for sentence in sentences)
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
