"""The page in a real browser: what it shows, by mouse and by keyboard, and that nothing in a text is run.

Needs Playwright and Chromium (Debian's package does), which the tests' extra does not bring: a browser is no package.
"""

import csv
import io
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from bert_jax.inference.model import Model
from tests.app.conftest import CLASSES, Served

sync_api = pytest.importorskip("playwright.sync_api", reason="no browser: needs Playwright")
_CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
  pytest.mark.browser,
  pytest.mark.skipif(_CHROMIUM is None, reason="no browser: needs Chromium"),
  # Playwright's loop ends with the process
  pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
TEXT = "the cat sat on the mat."


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
  with sync_api.sync_playwright() as playwright:
    opened = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
    yield opened
    opened.close()


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
  """The page of an app with four models; whatever the browser complains about fails the test."""
  context = browser.new_context()
  opened = context.new_page()
  complaints: list[str] = []
  opened.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
  opened.on("pageerror", lambda error: complaints.append(str(error)))
  opened.on("dialog", lambda dialog: complaints.append("a dialog") or dialog.dismiss())
  opened.goto(served.address)
  opened.wait_for_selector("#models label")
  yield opened
  context.close()
  assert [line for line in complaints if "422" not in line] == []


def only(page: Any, *names: str) -> None:
  """Leaves some of the models chosen."""
  for box in page.locator("#models input").all():
    box.set_checked(box.get_attribute("value") in names)


def submit(page: Any, kind: str, **fields: str) -> Any:
  """Fills in a tab's form and asks; returns its panel."""
  page.click(f"#tab-{kind}")
  panel = page.locator(f"#panel-{kind}")
  for name, value in fields.items():
    panel.locator(f"[name={name}]").fill(value)
  panel.locator("form button").click()
  return panel


def test_words_are_masked_guessed_and_revealed(page: Any, models: dict[str, Model]) -> None:
  panel = submit(page, "masks", text=TEXT)
  words = panel.locator(".draw-word")
  words.nth(1).filter(has_text="cat").click()
  sides = panel.locator("[data-side]")
  sides.first.wait_for()
  assert [side.get_attribute("data-side") for side in sides.all()] == ["both", "left", "right"]
  titles = panel.locator("[data-side] h4").all_inner_texts()
  assert titles == ["from the whole context", "from the left alone", "from the right alone"]
  expected = models["masks"].fill_masks("the [MASK] sat on the mat.", 5)[0]
  shown = panel.locator("[data-side=both] li span:nth-child(2)").all_inner_texts()
  assert shown == [candidate.token for candidate in expected]
  assert panel.locator("[data-side=both] .draw-percent").first.inner_text() == f"{100 * expected[0].probability:.1f} %"
  assert "cat" not in words.nth(1).inner_text(), "the word is hidden until it is asked for"
  assert words.nth(1).get_attribute("aria-pressed") == "true"
  panel.get_by_role("button", name="Reveal the word").click()
  assert words.nth(1).inner_text() == "cat"
  assert "cat has" in panel.locator("[data-side=both]").inner_text()
  words.nth(5).click()
  panel.locator(".draw-piece").nth(1).wait_for()
  words.nth(1).click()
  panel.locator(".draw-piece").nth(1).wait_for(state="detached")
  assert words.nth(1).inner_text() == "cat"


def test_the_page_works_by_keyboard(page: Any) -> None:
  only(page, "masks")
  page.focus("#tab-masks")
  page.keyboard.press("ArrowRight")
  assert page.locator("#tab-attention").get_attribute("aria-selected") == "true"
  assert page.evaluate("document.activeElement.id") == "tab-attention"
  page.keyboard.press("ArrowLeft")
  page.locator("#panel-masks [name=text]").fill(TEXT)
  page.keyboard.press("Enter")
  word = page.locator("#panel-masks .draw-word").nth(2)
  word.filter(has_text="sat").wait_for()
  word.focus()
  page.keyboard.press("Enter")
  page.locator("#panel-masks .draw-piece").wait_for()
  assert page.evaluate("document.activeElement.dataset.word") == "2", "the focus stays where it was"
  unlabelled = page.evaluate(
    "[...document.querySelectorAll('button, input, textarea, select')].filter(e => !e.innerText && !e.labels?.length"
    " && !e.getAttribute('aria-label')).length"
  )
  assert unlabelled == 0


def test_attention_is_drawn_of_the_head_that_is_chosen(page: Any, models: dict[str, Model]) -> None:
  only(page, "masks")
  panel = submit(page, "attention", text="the cat sat", pair="on the mat.")
  panel.locator("svg").wait_for()
  found = models["masks"].attentions("the cat sat", "on the mat.")
  panel.get_by_label("layer").select_option("1")
  panel.get_by_label("head").select_option("2")
  panel.locator("[data-token='2']").hover()
  row = found.probabilities[1, 2, 2]
  said = panel.locator("p.draw-note").first
  most = int(row.argmax())
  assert said.inner_text().startswith(f"{found.tokens[2]} (position 2) looks at {found.tokens[most]} ({most}) ")
  share = float(said.inner_text().split(f"({most}) ")[1].split(" %")[0])
  assert share == pytest.approx(100 * row[most], abs=0.25), "a byte holds steps of 0.4 points"
  assert panel.locator("canvas").count() == found.probabilities.shape[0] * found.probabilities.shape[1]
  panel.get_by_label("drawn as").select_option("matrix")
  assert panel.locator("rect.draw-cell").count() > 20
  panel.locator("canvas").nth(0).click()
  assert panel.get_by_label("layer").input_value() == "0"


def test_a_pair_is_drawn_as_the_model_sees_it(page: Any, models: dict[str, Model]) -> None:
  only(page, "masks")
  panel = submit(page, "tokens", text="the cat", pair="on the mat.")
  panel.locator("table").wait_for()
  shown = panel.locator("ul .draw-token").all_inner_texts()
  assert shown == models["masks"].show_tokens("the cat", "on the mat.").reading.tokens
  rows = [row.inner_text().split("\t") for row in panel.locator("tbody tr").all()]
  assert [row[3].strip() for row in rows] == ["0"] * 4 + ["1"] * (len(rows) - 4)
  assert [row[0].strip() for row in rows] == [str(place) for place in range(len(rows))]


def test_predictions_of_each_kind(page: Any, models: dict[str, Model]) -> None:
  only(page, "classes")
  panel = submit(page, "predict", text=TEXT, pair="")
  panel.locator(".draw-bars").wait_for()
  expected = models["classes"].predict(TEXT)
  assert panel.locator("strong").inner_text() == expected.label
  assert set(panel.locator(".draw-bars li span:nth-child(2)").all_inner_texts()) == set(CLASSES), "names are text"
  only(page, "tags")
  for text in (TEXT, f"\U0001f431 {TEXT}"):  # two characters to JavaScript, one to Python
    panel = submit(page, "predict", text=text, pair="")
    panel.locator(".marked").filter(has_text=text[0]).wait_for()
    spans = models["tags"].predict(text).spans
    assert spans
    assert [shown.split("\n")[0] for shown in panel.locator("mark").all_inner_texts()] == [
      f"{span.text}{span.label}" for span in spans
    ]
  only(page, "answers")
  panel = submit(page, "predict", text="where?", pair=TEXT)
  panel.locator(".marked").wait_for()
  answer = models["answers"].predict(("where?", TEXT))
  assert panel.locator("mark").all_inner_texts() == ([answer.text] if answer.text else [])
  panel = submit(page, "predict", text="where?", pair="")
  panel.get_by_text("give a passage too").wait_for()


def test_sentences_are_compared(page: Any, models: dict[str, Model]) -> None:
  only(page, "masks")
  texts = [TEXT, "snow is white", "a ship sails"]
  panel = submit(page, "similarity", texts="\n".join(texts))
  panel.locator("table").wait_for()
  vectors = models["masks"].embed(texts, normalize=True)
  shown = [[float(text) for text in row.locator("td").all_inner_texts()] for row in panel.locator("tbody tr").all()]
  for row, wanted in zip(shown, (vectors @ vectors.T).tolist(), strict=True):
    assert row == pytest.approx(wanted, abs=0.0051)  # two digits


def test_a_file_of_texts_becomes_a_table_to_download(page: Any, models: dict[str, Model]) -> None:
  only(page, "classes")
  texts = [f"the cat {'sat ' * (i % 5)}on the mat {i}" for i in range(150)] + ['=1+1 "quoted", with a comma']
  page.click("#tab-file")
  panel = page.locator("#panel-file")
  content = ("\n".join(texts) + "\n").encode()
  panel.locator("[name=file]").set_input_files({"name": "t.txt", "mimeType": "text/plain", "buffer": content})
  panel.locator("form button").click()
  link = panel.get_by_text("Download 151 predictions as CSV")
  link.wait_for(timeout=60_000)
  with page.expect_download() as waiting:
    link.click()
  with open(waiting.value.path(), encoding="utf-8", newline="") as file:
    rows = list(csv.DictReader(io.StringIO(file.read())))
  assert [row["text"] for row in rows] == [*texts[:-1], "'" + texts[-1]], "no formula"
  expected = [found.label for found in models["classes"].predict(texts)]
  assert [row["label"].removeprefix("'") for row in rows] == expected
  assert all(float(row[f"probability of {CLASSES[0]}"]) >= 0 for row in rows)
  panel.locator("[name=file]").set_input_files({"name": "t.txt", "mimeType": "text/plain", "buffer": b"\xff\xfe"})
  panel.locator("form button").click()
  page.get_by_text("t.txt is not UTF-8").wait_for()


def test_nothing_in_a_text_is_run(page: Any) -> None:
  hostile = '<img src=x onerror="alert(1)"><script>alert(2)</script> the cat'
  for kind in ("tokens", "masks", "attention"):
    only(page, "masks")
    panel = submit(page, kind, text=hostile)
    panel.get_by_text("positions end at").or_(panel.locator(".draw-token, .draw-word, svg")).first.wait_for()
  only(page, "tags", "classes")
  submit(page, "predict", text=hostile, pair="").locator(".result .error, mark, .draw-bars").first.wait_for()
  assert page.locator("main img, main script").count() == 0


@pytest.mark.parametrize("width", [320, 390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_the_dark(width: int, scheme: str, browser: Any, served: Served) -> None:
  context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
  page = context.new_page()
  page.goto(served.address)
  page.wait_for_selector("#models label")
  only(page, "masks")
  for kind in ("masks", "attention", "tokens"):
    submit(page, kind, text=TEXT).locator(".draw-word, svg, table").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page itself does not scroll sideways"
  colours = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
  light = [sum(int(part) for part in colour[4:-1].split(",")) / 3 for colour in colours]
  assert (light[0] > 200 and light[1] < 60) if scheme == "dark" else (light[0] < 60 and light[1] > 200)
  context.close()


def test_a_notebooks_view_is_drawn(browser: Any, models: dict[str, Model], tmp_path: Any) -> None:
  """As saved to a file, which holds what a notebook's frame does."""
  context = browser.new_context()
  page = context.new_page()
  complaints: list[str] = []
  page.on("pageerror", lambda error: complaints.append(str(error)))
  model = models["masks"]
  model.show_masks(TEXT).save(tmp_path / "masks.html")
  page.goto(f"file://{tmp_path / 'masks.html'}")
  page.locator(".draw-word").nth(5).click()
  assert page.locator(".draw-word[aria-pressed=true]").count() == 1
  page.get_by_role("button", name="Reveal the word").click()
  assert "mat has" in page.locator("[data-side=left]").inner_text()
  for view, wanted in ((model.show_attention(TEXT), "svg"), (model.show_tokens(TEXT), "table")):
    view.save(tmp_path / "view.html")
    page.goto(f"file://{tmp_path / 'view.html'}")
    page.locator(wanted).wait_for()
  assert complaints == []
  context.close()
