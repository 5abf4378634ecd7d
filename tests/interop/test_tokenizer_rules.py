"""Whose rules a text is read by: the same folders opened by transformers and here, and what we write of them."""

from pathlib import Path
from typing import Any

import pytest
from etils import epath

from bert_jax.data import tokenizers
from bert_jax.interop import tokenizer_files
from tests.data.test_tokenizer_settings import LINES, VOCAB, deberta, sentencepiece_model, write, xlnet

XLNET = {"spiece.model": xlnet(), "tokenizer_config.json": {"do_lower_case": False}}
XLM_ROBERTA = {
  "sentencepiece.bpe.model": sentencepiece_model(unk_id=0, bos_id=1, eos_id=2, pad_id=-1),
  "tokenizer_config.json": {"tokenizer_class": "XLMRobertaTokenizer"},
}
DEBERTA = {"spm.model": deberta("unigram"), "tokenizer_config.json": {"do_lower_case": False}}
ADDED = {"[E1]": len(VOCAB), "NewWord": len(VOCAB) + 1}
BERT = {
  "vocab.txt": "\n".join(VOCAB),
  "tokenizer_config.json": {"do_lower_case": True, "tokenize_chinese_chars": False},
  "added_tokens.json": ADDED,
}
PLAIN = ["the cat sat in 1990, they said", "cafe in 2,000, and 0, 1,"]
FOLDERS = {
  # Both drop NFKD's marks; transformers' own those without a combining class too (as in हिन्दी), XLNet's code does not.
  "XLNetTokenizer": (XLNET, [LINES[0], LINES[2], "Café ``so'' naïve", *PLAIN]),
  "XLMRobertaTokenizer": (XLM_ROBERTA, [*LINES, *PLAIN]),
  "DebertaV2Tokenizer": (DEBERTA, PLAIN),
  "BertTokenizer": (BERT, ["The cat[E1] cats newWord 中国 [e1]", "[E1]", "cat."]),
}


@pytest.mark.parity
@pytest.mark.parametrize("name", FOLDERS)
def test_transformers_reads_the_same_ids(name: str, tmp_path: Path) -> None:
  import transformers

  files, lines = FOLDERS[name]
  write(tmp_path, files)
  theirs: Any = getattr(transformers, name).from_pretrained(tmp_path)
  ours = tokenizers.load(tmp_path, None, model_type="xlm-roberta" if name.startswith("XLM") else None)
  assert [theirs(line, add_special_tokens=False)["input_ids"] for line in lines] == [
    ids.tolist() for ids, _ in ours.encode(lines)
  ]
  assert theirs.mask_token_id == ours.mask_id


@pytest.mark.parametrize("name", FOLDERS)
def test_what_we_write_of_it_reads_the_same(name: str, tmp_path: Path) -> None:
  files, lines = FOLDERS[name]
  first = tokenizers.load(write(tmp_path / "one", files), None)
  (tmp_path / "two").mkdir()
  tokenizer_files.write(first, epath.Path(tmp_path / "two"), None, True, 1)
  second = tokenizers.load(tmp_path / "two", None)
  for line, (ids, _), (again, _) in zip(lines, first.encode(lines), second.encode(lines), strict=True):
    assert again.tolist() == ids.tolist(), line
  assert (second.mask_id, second.cls_id, second.vocab_size) == (first.mask_id, first.cls_id, first.vocab_size)
