"""What the JSON files beside a vocabulary say of it, in transformers' words: followed, or refused by name.

tokenizer_config.json, special_tokens_map.json and added_tokens.json.
"""

from typing import Any

from etils import epath

from bert_jax import foreign
from bert_jax.data import foreign_tokenizers
from bert_jax.data.foreign_tokenizers import MOST_TOKENS
from bert_jax.data.sentence_piece import Rules
from bert_jax.data.tokenizer_kinds import ROLES, Tokenizer

_WAY_OUT = (
  "where transformers can open it, AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) may write a"
  " tokenizer.json that bert_jax reads"
)
# Classes whose rules are in a tokenizer.json, if there is one, whatever the rest says.
_GENERIC = ("PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend")
# Classes whose vocabulary files alone we read; "Fast" taken off.
_READ = (
  *("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "RobertaTokenizer", "DebertaTokenizer"),
  *("AlbertTokenizer", "XLNetTokenizer", "DebertaV2Tokenizer", "XLMRobertaTokenizer"),
)
_RULES: dict[str, Rules] = {
  "AlbertTokenizer": "albert",
  "XLNetTokenizer": "xlnet",
  "DebertaV2Tokenizer": "deberta",
  "XLMRobertaTokenizer": "xlm-roberta",
}
# Settings that change how text is cut, with the values that we follow; others are refused.
_FOLLOWED: dict[str, tuple[Any, ...]] = {
  "word_tokenizer_type": (None, "basic"),
  "subword_tokenizer_type": (None, "wordpiece"),
  "do_word_tokenize": (None, True),
  "do_subword_tokenize": (None, True),
  "do_basic_tokenize": (None, True),
  "never_split": (None, []),
  "split_by_punct": (None, False),
  "remove_space": (None, True),
  "normalization": (None, False),
}


class Stated:
  """What the files beside a tokenizer say.

  Attributes:
    values: of tokenizer_config.json.
    name: of its tokenizer_class, "Fast" taken off; None where it says none.
    added: tokens with their ids, of both files that list them.
    any_case: those of them that are looked for after the text is lower-cased.
  """

  def __init__(self, folder: epath.Path):
    """Raises ValueError: a file is damaged."""
    self.folder = folder
    self.values = foreign_tokenizers.settings(folder)
    name = self.values.get("tokenizer_class")
    self.name = name.removesuffix("Fast") if isinstance(name, str) else None
    self.generic = name in _GENERIC
    self.added: dict[str, int] = {}
    decoder = self.values.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
      raise ValueError(
        f"{folder / 'tokenizer_config.json'} has added_tokens_decoder={foreign.shown(decoder)}, no object"
      )
    listed = [(_content(token), token_id) for token_id, token in decoder.items()]
    beside = folder / "added_tokens.json"
    if foreign.is_file(folder, beside.name):
      listed += [(token, i) for token, i in foreign_tokenizers.vocabulary(beside).items() if i != -1]
    for token, token_id in listed:
      if not isinstance(token, str) or not token or not str(token_id).isdecimal() or int(token_id) >= MOST_TOKENS:
        raise ValueError(f"{folder}: the added token {token!r:.80} has the id {token_id!r:.20}, which is none")
      if self.added.setdefault(token, int(token_id)) != int(token_id):
        raise ValueError(
          f"{folder}: the added token {token!r} has the ids {self.added[token]} and {token_id}; take the wrong one out"
        )
    exact = {_content(token) for token in decoder.values() if not (isinstance(token, dict) and token.get("normalized"))}
    if len(set(self.added.values())) < len(self.added):
      raise ValueError(f"{folder}: two added tokens have one id: {self.added}; each needs its own")
    self.any_case = set(self.added) - exact

  @property
  def rules(self) -> Rules | None:
    """Of a SentencePiece model."""
    return _RULES.get(self.name or "")

  def check(self, file: epath.Path) -> None:
    """Raises ValueError: a setting that we do not follow, or rules of a class that the vocabulary alone lacks."""
    origin = self.folder / "tokenizer_config.json"
    for key, followed in _FOLLOWED.items():
      value = self.values.get(key)
      if file.name != "tokenizer.json" and value not in followed:
        raise ValueError(f"{origin} says {key}={value!r}, which bert_jax does not follow; {_WAY_OUT}")
    unread = self.name is not None and not self.generic and self.name not in _READ
    if unread and (file.name != "tokenizer.json" or self.name == "BertJapaneseTokenizer"):
      raise ValueError(f"{origin} asks for {self.name}, whose rules bert_jax does not have; {_WAY_OUT}")

  def check_tokens(self, tokenizer: Tokenizer) -> None:
    """Raises ValueError: the files name other parts of an input, or tokens that the tokenizer does not have."""
    known = {token: i for i, token in enumerate(tokenizer.tokens(range(tokenizer.vocab_size)))}
    for token, token_id in self.added.items():
      if known.get(token) != token_id:
        has = f"has it as {known[token]}" if token in known else "lacks it"
        raise ValueError(
          f"{self.folder}: the files list the added token {token!r} with the id {token_id}, and the tokenizer {has};"
          f" {_WAY_OUT}"
        )
    for origin in ("special_tokens_map.json", "tokenizer_config.json"):
      values = _object(self.folder, origin)
      for role in ("pad", "unk", "cls", "sep", "mask"):
        token = _content(values.get(f"{role}_token"))
        (found,) = tokenizer.tokens([getattr(tokenizer, f"{role}_id")])
        if token is not None and token != found:
          raise ValueError(
            f"{self.folder / origin} says {role}_token={token!r}, and bert_jax would take {found!r} for it; it knows"
            f" {', '.join(sorted(ROLES))}, and the first of a kind that a vocabulary has. {_WAY_OUT}"
          )


def _content(token: Any) -> Any:
  """A token's text, where it stands with its settings."""
  return token.get("content") if isinstance(token, dict) else token


def _object(folder: epath.Path, name: str) -> dict[str, Any]:
  """The JSON object in a file; empty if there is no file. Raises ValueError if it is no object."""
  return foreign.read_object(folder, name) if foreign.is_file(folder, name) else {}
