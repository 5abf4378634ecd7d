"use strict";
// The page: forms that ask the API, and drawings of what it answers. draw.js draws what notebooks show too.
const PART = 64;  // texts of a file in one request
const KINDS = ["masks", "attention", "tokens", "predict", "similarity", "file"];
const NEEDS = {masks: "masks", attention: "attention", tokens: "tokens", predict: "predict", similarity: "similarity", file: "predict"};
const token = new URLSearchParams(location.hash.slice(1)).get("token");
const message = document.getElementById("message");
const {make} = Draw;
let models = [];

async function ask(path, body) {
  const headers = token ? {Authorization: `Bearer ${token}`} : {};
  const options = body === undefined ? {headers}
    : {method: "POST", headers: {...headers, "Content-Type": "application/json"}, body: JSON.stringify(body)};
  for (let tries = 0; ; tries++) {
    let response;
    try {
      response = await fetch(path, options);
    } catch {
      throw new Error("the server does not answer; is it still running?");
    }
    if (response.status === 429 && tries < 20) {  // others are before us
      await new Promise(done => setTimeout(done, 250 * (1 + tries)));
      continue;
    }
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }
}

function say(text, isError) {
  message.textContent = text;
  message.className = isError ? "error" : "";
}

// ---- models and tabs ----

const chosenModels = kind => {
  const boxes = [...document.querySelectorAll("#models input")];
  return models.filter((model, i) => model.answers.includes(NEEDS[kind]) && (boxes.length < 2 || boxes[i].checked));
};

function listModels() {
  const list = document.getElementById("models");
  list.append(...models.map(model => make("label", {},
    make("input", {type: "checkbox", checked: "", value: model.name, onchange: showTabs}), make("span", {}, model.name),
    make("small", {}, model.about))));
  list.hidden = false;
  list.querySelectorAll("input").forEach(box => { box.hidden = models.length < 2; });
}

function showTabs() {
  for (const kind of KINDS) document.getElementById(`tab-${kind}`).hidden = chosenModels(kind).length === 0;
  const open = document.querySelector('[role="tab"][aria-selected="true"]');
  if (!open || open.hidden) {
    const first = KINDS.find(kind => !document.getElementById(`tab-${kind}`).hidden);
    if (first) openTab(first);
  }
  const asksQuestions = chosenModels("predict").some(model => model.reads === "question");
  document.getElementById("predict-first").textContent = asksQuestions ? "Question" : "Text";
  document.getElementById("predict-second").textContent = asksQuestions ? "Passage that answers it"
    : "Second text, if it is a pair";
}

function openTab(kind) {
  for (const other of KINDS) {
    const tab = document.getElementById(`tab-${other}`);
    tab.setAttribute("aria-selected", String(other === kind));
    tab.tabIndex = other === kind ? 0 : -1;
    document.getElementById(`panel-${other}`).hidden = other !== kind;
  }
  say("");
}

document.getElementById("tabs").addEventListener("click", event => {
  if (event.target.role === "tab" || event.target.getAttribute("role") === "tab") openTab(event.target.id.slice(4));
});
document.getElementById("tabs").addEventListener("keydown", event => {
  const shown = KINDS.filter(kind => !document.getElementById(`tab-${kind}`).hidden);
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (!step) return;
  const at = shown.findIndex(kind => event.target.id === `tab-${kind}`);
  const next = shown[(at + step + shown.length) % shown.length];
  openTab(next);
  document.getElementById(`tab-${next}`).focus();
});

// ---- one place for each chosen model's result ----

async function forEachModel(kind, panel, work) {
  const chosen = chosenModels(kind);
  const places = chosen.map(model => make("div", {class: "result"}));
  panel.querySelector(".results").replaceChildren(...chosen.map((model, i) => {
    const box = make("section", {class: "result"}, models.length > 1 ? make("h2", {}, model.name) : null, places[i]);
    return box;
  }));
  say("working; the first text of a new length takes some seconds");
  const failed = [];
  await Promise.all(chosen.map(async (model, i) => {
    try {
      await work(model, places[i]);
    } catch (error) {
      failed.push(error);
      places[i].replaceChildren(make("p", {class: "error", role: "alert"}, error.message));
    }
  }));
  say(failed.length ? "" : "done");
}

const value = (form, name) => form.elements[name].value;
const pairOf = form => value(form, "pair").trim() ? {pair: value(form, "pair")} : {};

// ---- kinds ----

async function masks(form, panel) {
  const text = value(form, "text");
  await forEachModel("masks", panel, async (model, place) => {
    let words = [];
    const load = async () => Draw.masks(place, await ask("api/masks", {model: model.name, text, words}), {toggle});
    async function toggle(number) {
      const before = words;
      words = words.includes(number) ? words.filter(other => other !== number) : [...words, number];
      try {
        await load();
        place.querySelector(`[data-word="${number}"]`).focus();
        say("done");
      } catch (error) {
        words = before;
        say(error.message, true);
      }
    }
    const data = await ask("api/masks", {model: model.name, text, words});
    words = data.tokens.length ? data.words.flatMap((word, i) => word === "[MASK]" ? [i] : []).slice(0, 16) : [];
    await load();
  });
}

async function attention(form, panel) {
  await forEachModel("attention", panel, async (model, place) =>
    Draw.attention(place, await ask("api/attention", {model: model.name, text: value(form, "text"), ...pairOf(form)})));
}

async function tokens(form, panel) {
  await forEachModel("tokens", panel, async (model, place) =>
    Draw.tokens(place, await ask("api/tokens", {model: model.name, text: value(form, "text"), ...pairOf(form)})));
}

async function predict(form, panel) {
  const text = value(form, "text"), pair = value(form, "pair");
  await forEachModel("predict", panel, async (model, place) => {
    if (model.reads === "question" && !pair.trim()) throw new Error("give a passage too, which may hold the answer");
    const {predictions} = await ask("api/predict", {model: model.name, texts: [pair.trim() ? [text, pair] : text]});
    place.replaceChildren(...prediction(predictions[0], text, pair));
  });
}

/** A prediction, drawn; what it is can be seen by its fields (see predictions.py). */
function prediction(found, text, passage) {
  if ("tags" in found) return [marked(text, found.spans.map(span => [span.start, span.stop, span.label, span.probability]))];
  if ("answer" in found) {
    const answer = found.answer ? `${found.answer} (${Draw.percent(found.probability)})` : "the passage does not say";
    const span = found.answer ? [[found.start, found.stop, "", found.probability]] : [];
    return [make("p", {}, make("strong", {}, answer)), marked(passage, span)];
  }
  if (found.probabilities && ("label" in found || "labels" in found)) {
    const rows = Object.entries(found.probabilities).sort((a, b) => b[1] - a[1]);
    const labels = "label" in found ? [found.label] : found.labels;
    const shown = rows.slice(0, 12).map(([name, share]) => [name, share, labels.includes(name)]);
    const rest = rows.length > 12 ? [make("p", {class: "draw-note"}, `and ${rows.length - 12} less likely ones`)] : [];
    return [make("p", {}, make("strong", {}, labels.length ? labels.join(", ") : "none of the labels")), Draw.bars(shown), ...rest];
  }
  return [make("p", {}, make("strong", {}, String(found.value ?? JSON.stringify(found))))];
}

/** Text with spans marked. Spans count whole characters, as Python does, and JavaScript's strings do not. */
function marked(text, spans) {
  const characters = [...text], parts = [];
  let at = 0;
  for (const [start, stop, label, share] of [...spans].sort((a, b) => a[0] - b[0])) {
    if (start < at) continue;
    parts.push(characters.slice(at, start).join(""),
      make("mark", {title: Draw.percent(share)}, characters.slice(start, stop).join(""), label ? make("small", {}, label) : null));
    at = stop;
  }
  parts.push(characters.slice(at).join(""));
  return make("p", {class: "marked"}, ...parts);
}

async function similarity(form, panel) {
  const texts = value(form, "texts").split("\n").filter(line => line.trim());
  await forEachModel("similarity", panel, async (model, place) => {
    const {matrix} = await ask("api/similarity", {model: model.name, texts});
    const cell = share => {
      const element = make("td", {}, Draw.bar(Math.max(0, share)), make("span", {}, share.toFixed(2)));
      element.firstChild.style.opacity = 0.35;
      return element;
    };
    place.replaceChildren(make("div", {class: "wide", tabindex: "0", role: "region", "aria-label": "matrix of cosines"},
      make("table", {class: "draw-table matrix"},
        make("thead", {}, make("tr", {}, make("td", {}), ...texts.map((_, i) => make("th", {scope: "col"}, String(i + 1))))),
        make("tbody", {}, ...matrix.map((row, i) =>
          make("tr", {}, make("th", {scope: "row"}, `${i + 1}  ${texts[i]}`), ...row.map(cell)))))));
  });
}

async function file(form, panel) {
  const chosen = form.elements.file.files[0];
  let pasted = value(form, "texts");
  if (chosen) {
    try {
      pasted = new TextDecoder("utf-8", {fatal: true}).decode(await chosen.arrayBuffer());
    } catch {
      throw new Error(`${chosen.name} is not UTF-8; convert it, say with iconv`);
    }
  }
  const lines = pasted.split(/\r?\n/).filter(line => line.trim());
  if (!lines.length) throw new Error("paste texts, one a line, or choose a file of them");
  await forEachModel("file", panel, async (model, place) => {
    const rows = [];
    for (let first = 0; first < lines.length; first += PART) {
      const texts = lines.slice(first, first + PART).map(line => line.includes("\t") ? line.split("\t").slice(0, 2) : line);
      try {
        rows.push(...(await ask("api/predict", {model: model.name, texts})).predictions);
      } catch (error) {
        throw new Error(`lines ${first + 1} to ${first + texts.length}: ${error.message}`);
      }
      say(`${rows.length} of ${lines.length} texts`);
    }
    const records = rows.map((row, i) => ({text: lines[i], ...flat(row)}));
    const columns = [...new Set(records.flatMap(record => Object.keys(record)))];
    const table = [columns, ...records.map(record => columns.map(column => record[column] ?? ""))];
    const href = URL.createObjectURL(new Blob([table.map(csvLine).join("")], {type: "text/csv"}));
    place.replaceChildren(
      make("p", {}, make("a", {class: "download", href, download: "predictions.csv"}, `Download ${rows.length} predictions as CSV`)),
      make("div", {class: "wide", tabindex: "0", role: "region", "aria-label": "table of predictions"},
        make("table", {class: "draw-table"},
          make("thead", {}, make("tr", {}, ...columns.map(name => make("th", {scope: "col"}, name)))),
          make("tbody", {}, ...table.slice(1, 201).map(cells => make("tr", {}, ...cells.map(cell => make("td", {}, String(cell)))))))),
      ...(rows.length > 200 ? [make("p", {class: "draw-note"}, "The first 200 are shown; the CSV has all.")] : []));
  });
}

/** A prediction as columns; spans and lists as JSON has them. */
function flat(found) {
  const {probabilities, ...rest} = found;
  for (const [name, content] of Object.entries(rest)) {
    if (content !== null && typeof content === "object") rest[name] = JSON.stringify(content);
  }
  if (probabilities && !Array.isArray(probabilities)) {
    for (const [name, share] of Object.entries(probabilities)) rest[`probability of ${name}`] = share;
  }
  return rest;
}

/** A field that a spreadsheet would take for a formula gets a quote before it, as OWASP advises. */
function csvLine(cells) {
  return cells.map(cell => {
    let text = String(cell);
    if (typeof cell === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }).join(",") + "\r\n";
}

const WORK = {masks, attention, tokens, predict, similarity, file};
for (const form of document.forms) {
  form.addEventListener("submit", async event => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await WORK[form.dataset.kind](form, form.closest("section"));
    } catch (error) {
      say(error.message, true);
    } finally {
      button.disabled = false;
    }
  });
}

(async () => {
  try {
    models = (await ask("api/models")).models;
    listModels();
    showTabs();
    // The first thing that a visitor sees: words to click on.
    if (chosenModels("masks").length) document.querySelector('form[data-kind="masks"]').requestSubmit();
  } catch (error) {
    say(error.message, true);
  }
})();
