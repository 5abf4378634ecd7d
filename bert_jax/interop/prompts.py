"""What sentence-transformers' files say of a text before it comes to the tokenizer: words before it, and casing."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from bert_jax import foreign

_FILE = "config_sentence_transformers.json"


class Prompts(NamedTuple):
  """Named prompts.

  Attributes:
    by_name: name → the words, which go right before a text.
    default: the name of those that are used where none is asked for.
    pooled: whether their tokens are pooled with the text's.
    lowercase: whether both are lower-cased before they come to the tokenizer.
  """

  by_name: dict[str, str]
  default: str | None = None
  pooled: bool = True
  lowercase: bool = False

  def words(self, name: str | None) -> str:
    """The words of a name; of None, the default's; of "", none.

    Raises:
      ValueError: there is no such prompt.
    """
    name = self.default if name is None else name
    if not name:
      return ""
    if name not in self.by_name:
      known = ", ".join(map(repr, self.by_name)) or "none"
      raise ValueError(f"prompt={name!r} is no prompt of the model, which has {known}; write the words into the texts")
    return self.by_name[name]


def read(files: Mapping[str, bytes], origin: str) -> Prompts:
  """Those that a model's files (name → content) state; none where they do not.

  Raises:
    ValueError: they are damaged, or the default is none of them.
  """
  pooled = True
  for name, content in files.items():
    if name.endswith("/config.json"):
      values = foreign.parse_json(content.decode(), f"{origin}/{name}")
      pooled &= not isinstance(values, dict) or values.get("include_prompt") is not False
  stated, of_module = _object(files, _FILE, origin), _object(files, "sentence_bert_config.json", origin)
  prompts, default = stated.get("prompts") or {}, stated.get("default_prompt_name")
  if not isinstance(prompts, dict) or not all(words is None or isinstance(words, str) for words in prompts.values()):
    raise ValueError(f"{origin}/{_FILE} says prompts={foreign.shown(prompts)}; it must be an object of texts")
  by_name = {name: words or "" for name, words in prompts.items()}
  if default is not None and default not in by_name:
    known = ", ".join(map(repr, by_name)) or "none"
    raise ValueError(f"{origin}/{_FILE} says default_prompt_name={default!r}, and has the prompts {known}")
  return Prompts(by_name, default, pooled, of_module.get("do_lower_case") is True)


def _object(files: Mapping[str, bytes], name: str, origin: str) -> dict[str, Any]:
  values = foreign.parse_json(files[name].decode(), f"{origin}/{name}") if name in files else {}
  if not isinstance(values, dict):
    raise ValueError(f"{origin}/{name} is damaged: it holds no object, but {foreign.shown(values)}")
  return values
