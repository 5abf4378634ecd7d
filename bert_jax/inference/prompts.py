"""What the files of sentence-transformers ask for before a text is tokenized: words in front of it, and lower case."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bert_jax import foreign

_FILE = "config_sentence_transformers.json"


class Prompts(NamedTuple):
  """Named prompts.

  Attributes:
    by_name: name → the words that go right before a text.
    default: the name of the prompt that is used where none is asked for.
    pooled: whether the tokens of the prompt are pooled with those of the text.
    lowercase: whether prompt and text are lower-cased before they are tokenized.
  """

  by_name: dict[str, str]
  default: str | None = None
  pooled: bool = True
  lowercase: bool = False

  def words(self, name: str | None) -> str:
    """The words of the prompt `name`; of the default one for None; none for "".

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

  def before(self, texts: Sequence[str], name: str | None) -> list[str]:
    """Texts as they are tokenized: after the words of a prompt, and in lower case where the model has it so."""
    words = self.words(name)
    found = [words + text for text in texts]
    return [text.lower() for text in found] if self.lowercase else found


def read(files: Mapping[str, bytes], origin: str) -> Prompts:
  """The prompts that a model's files (name → content) state; none where they state none.

  Raises:
    ValueError: the files are damaged, or the default is not among the prompts.
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
