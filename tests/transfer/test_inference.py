"""Opening runs, and filling masks."""

import dataclasses
import itertools
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bert_jax
from bert_jax.config import Config, TokenizerConfig
from bert_jax.data import tokenizers
from bert_jax.training import sharding
from bert_jax.training.checkpoints import CheckpointError, Checkpoints
from bert_jax.training.step import TrainState, init_params, init_state
from bert_jax.transfer import inference
from tests.transfer.conftest import SENTENCES, STEPS, save


@pytest.fixture(scope="module")
def model(config: Config, tokenizer: tokenizers.Tokenizer, trained: TrainState) -> inference.Model:
  params = jax.device_put(jax.device_get(trained.params), jax.devices()[0])
  return inference.Model(config, tokenizer, params, STEPS)


def same(one: object, other: object) -> bool:
  return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y)), one, other)))


# ---- opening ----


def test_a_workdir_a_run_and_a_checkpoint_open_alike_on_one_device(
  workdir: Path, config: Config, trained: TrainState
) -> None:
  run = workdir / "runs" / "bert" / "seed-0"
  assert len(jax.tree.leaves(trained.params)[0].sharding.device_set) == 4
  for path in (workdir, str(run), run / "checkpoints", run / "checkpoints" / str(STEPS)):
    opened = bert_jax.load(path)
    assert opened.step == STEPS, "the best, not the latest"
    assert opened.config == config
    assert same(opened.params, trained.params)
    assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(opened.params))
  filled = opened.fill_mask("Paris is the [MASK] of France.")
  assert filled[0].token == "capital"


def test_the_folder_alone_is_enough(workdir: Path, tmp_path: Path) -> None:
  moved = tmp_path / "elsewhere" / str(STEPS)
  shutil.copytree(workdir / "runs" / "bert" / "seed-0" / "checkpoints" / str(STEPS), moved)
  shutil.rmtree(workdir)
  assert bert_jax.load(moved).fill_mask("the cat [MASK] on the mat.")[0].token == "sat"


def test_a_step_can_be_asked_for(workdir: Path) -> None:
  later = bert_jax.load(workdir, step=STEPS + 7)
  assert later.step == STEPS + 7
  assert not any(leaf.any() for leaf in jax.tree.leaves(later.params))
  with pytest.raises(ValueError, match=rf"has no checkpoint of step 3; it has \[{STEPS}, {STEPS + 7}\]"):
    bert_jax.load(workdir, step=3)
  with pytest.raises(ValueError, match=rf"is the checkpoint of step {STEPS}, and step=3 was asked for"):
    bert_jax.load(workdir / "runs" / "bert" / "seed-0" / "checkpoints" / str(STEPS), step=3)


def flip_a_bit(checkpoint: Path) -> None:
  """In the middle of the largest file of the state."""
  file = max((checkpoint / "state").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 16
  file.write_bytes(bytes(content))


def test_a_damaged_checkpoint_is_refused_and_the_one_before_named(workdir: Path) -> None:
  folder = workdir / "runs" / "bert" / "seed-0" / "checkpoints"
  flip_a_bit(folder / str(STEPS + 7))
  with pytest.raises(CheckpointError, match=rf"{STEPS + 7} is damaged .* step {STEPS} is the one before.*step=N"):
    bert_jax.load(workdir, step=STEPS + 7)
  assert bert_jax.load(workdir, step=STEPS).step == STEPS
  flip_a_bit(folder / str(STEPS))
  with pytest.raises(CheckpointError, match=rf"{STEPS} is damaged .* there is none before it"):
    bert_jax.load(workdir)


def test_without_evaluations_the_latest_whole_checkpoint_opens(
  config: Config, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
  state = init_state(config, sharding.make_mesh(1))
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    for step in (5, 9):
      save(checkpoints, config, tokenizer, dataclasses.replace(state, step=jnp.int32(step)), {})
  assert bert_jax.load(tmp_path).step == 9
  flip_a_bit(tmp_path / "checkpoints" / "9")
  assert bert_jax.load(tmp_path).step == 5
  flip_a_bit(tmp_path / "checkpoints" / "5")
  with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged"):
    bert_jax.load(tmp_path)


def test_what_cannot_be_opened_is_said(workdir: Path, tmp_path: Path) -> None:
  with pytest.raises(ValueError, match="nowhere is no folder"):
    bert_jax.load(tmp_path / "nowhere")
  (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
  with pytest.raises(ValueError, match="has no checkpoint yet"):
    bert_jax.load(tmp_path / "empty")
  (tmp_path / "other").mkdir()
  with pytest.raises(ValueError, match="other holds no run"):
    bert_jax.load(tmp_path / "other")
  run = workdir / "runs" / "bert"
  shutil.copytree(run / "seed-0" / "checkpoints" / str(STEPS), tmp_path / "best")
  with pytest.raises(ValueError, match="must be called by its step"):
    bert_jax.load(tmp_path / "best")
  shutil.copytree(run / "seed-0", run / "seed-1")
  with pytest.raises(ValueError, match=r"(?s)holds 2 runs.*bert/seed-0\n.*bert/seed-1"):
    bert_jax.load(workdir)


def test_importing_the_package_does_not_import_jax() -> None:
  code = "import sys, bert_jax; assert not {'jax', 'numpy', 'flax', 'orbax'} & set(sys.modules); bert_jax.load"
  subprocess.run([sys.executable, "-c", code], check=True)


# ---- masks ----


def test_sentences_known_by_heart_are_completed(model: inference.Model) -> None:
  for sentence in SENTENCES:
    for word in set(re.findall(r"\w+", sentence)):
      text = re.sub(rf"\b{word}\b", "[MASK]", sentence, count=1)
      best = model.fill_mask(text)[0]
      assert (best.token, best.sequence) == (word, sentence), text


def test_candidates_are_sorted_ordinary_tokens(model: inference.Model) -> None:
  everything = model.tokenizer.vocab_size - len(model.tokenizer.special_ids)
  found = model.fill_mask("the cat [MASK] on the mat.", top_k=everything)
  assert len(found) == everything
  assert len({candidate.token for candidate in found}) == everything
  assert not {candidate.token for candidate in found} & set(model.tokenizer.tokens(model.tokenizer.special_ids))
  probabilities = [candidate.probability for candidate in found]
  assert probabilities == sorted(probabilities, reverse=True)
  assert 0.9 < sum(probabilities) < 1 + 1e-5  # the special tokens have the rest; float32 sums
  assert model.fill_mask("the cat [MASK] on the mat.", top_k=3) == found[:3]


def test_several_masks_have_a_list_each(model: inference.Model) -> None:
  found = model.fill_mask("the [MASK] sat on the [MASK].", top_k=2)
  assert [[len(candidates), candidates[0].token] for candidates in found] == [[2, "cat"], [2, "mat"]]
  assert found[0][0].sequence == "the cat sat on the [MASK]."
  assert found[1][0].sequence == "the [MASK] sat on the mat."
  many = model.fill_mask("[MASK] " * 19)
  assert len(many) == 19
  assert len({candidates[0].probability for candidates in many}) > 9, "each mask has its own place"


def test_padding_does_not_count(model: inference.Model) -> None:
  """The same text in the bucket of 32 and in that of 40 tokens; sums are rounded in another order."""
  text = "snow is [MASK] and cold."
  short = model.fill_mask(text)
  monkeypatch = pytest.MonkeyPatch()
  with monkeypatch.context() as patch:
    patch.setattr(inference, "_LEAST_LENGTH", 64)
    long = model.fill_mask(text)
  assert [c.token for c in short] == [c.token for c in long]
  np.testing.assert_allclose([c.probability for c in short], [c.probability for c in long], rtol=1e-4)


def test_a_length_bucket_is_compiled_once(model: inference.Model) -> None:
  inference._score.cache_clear()
  for text in ("[MASK] is white.", "the [MASK] sat on the mat.", "[MASK] [MASK] [MASK] sails over the sea."):
    model.fill_mask(text)
  score = inference._score(model.config.model)
  assert score._cache_size() == 1
  model.fill_mask("the [MASK] " * 17)
  assert score._cache_size() == 2


def test_bad_texts_are_refused(model: inference.Model) -> None:
  with pytest.raises(ValueError, match=r"has no mask: put \[MASK\] where"):
    model.fill_mask("the cat sat on the mask.")
  with pytest.raises(ValueError, match=r"the text has 43 tokens.*model.max_positions=40"):
    model.fill_mask("the " * 40 + "[MASK]")
  model.fill_mask("the " * 37 + "[MASK]")
  for top_k in (0, model.tokenizer.vocab_size):
    with pytest.raises(ValueError, match=rf"top_k={top_k} must be at least 1 and at most the"):
      model.fill_mask("the [MASK]", top_k=top_k)


@pytest.fixture(scope="module", params=["wordpiece", "bpe", "unigram"])
def any_model(request: pytest.FixtureRequest, config: Config) -> inference.Model:
  """A model of each kind of tokenizer, with random numbers for parameters."""
  draw = random.Random(3)
  words = sorted({word + end for word in re.findall(r"\w+", " ".join(SENTENCES)) for end in ("", "s", "ing", "er")})
  texts = [" ".join(draw.choices(words, k=draw.randint(4, 9))) + "." for _ in range(2000)]
  size = {"wordpiece": 150, "bpe": 350, "unigram": 80}[request.param]
  tokenizer = tokenizers.train(texts, TokenizerConfig(kind=request.param, vocab_size=size))
  shape = dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size)
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda: init_params(shape, 0))
  params = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(leaf.dtype), shapes)
  return inference.Model(dataclasses.replace(config, model=shape), tokenizer, params, 0)


def test_text_around_a_mask_is_cut_as_in_the_whole_text(any_model: inference.Model) -> None:
  tokenizer = any_model.tokenizer
  whole = tokenizer.encode(["the cat sat on the mat."])[0][0]
  for word in ("cat", "mat"):
    single = tokenizer.encode([f"the {word}"])[0][0][1:]
    assert len(single) == 1, "the test needs a word of one token"
    parts = "the cat sat on the mat.".split(word)
    expected = np.where(whole == single[0], tokenizer.mask_id, whole)
    assert inference._masked_ids(parts, tokenizer)[1:-1].tolist() == expected.tolist()


def test_tokens_are_readable_and_both_mask_names_understood(any_model: inference.Model) -> None:
  tokenizer = any_model.tokenizer
  everything = tokenizer.vocab_size - len(tokenizer.special_ids)
  found = any_model.fill_mask("the [MASK] sat.", top_k=everything)
  assert any_model.fill_mask(f"the {tokenizer.mask_token} sat.", top_k=everything) == found
  by_token = {candidate.token: candidate.sequence for candidate in found}
  assert by_token["cat"] == "the cat sat."
  assert by_token["."] == "the . sat."
  continuing = {token: text for token, text in by_token.items() if token.startswith("##")}
  assert all(text == f"the{token[2:]} sat." for token, text in continuing.items())
  assert continuing
  assert not any(mark in token for token, mark in itertools.product(by_token, "Ġ▁"))
