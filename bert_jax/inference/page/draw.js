"use strict";
// Draws what views.py and the app's API give. Text is only ever set as text, so nothing in it is read as HTML.
// Each function takes (element to draw into, data, options) and replaces what the element held.
const Draw = (() => {
  const SIDES = [["both", "from the whole context"], ["left", "from the left alone"], ["right", "from the right alone"]];
  const SVG = "http://www.w3.org/2000/svg";

  /** An HTML element: make("li", {class: "x", onclick: f}, child or text, …). */
  function make(name, attributes, ...children) {
    return fill(document.createElement(name), attributes, children);
  }

  function draw(name, attributes, ...children) {
    return fill(document.createElementNS(SVG, name), attributes, children);
  }

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.filter(child => child !== null));
    return element;
  }

  const percent = share => (100 * share).toFixed(share > 0 && share < 0.001 ? 2 : 1) + " %";

  /** How strong a colour shows a share: small ones would hardly be seen if it were their own size. */
  const strength = share => Math.min(1, share) ** 0.6;

  function bar(share) {
    const element = make("span", {class: "draw-bar", "aria-hidden": "true"});
    element.style.width = Math.max(0.5, 100 * share) + "%";
    return element;
  }

  /** A list of [text, share, is it the true one]. */
  function bars(rows) {
    return make("ol", {class: "draw-bars"}, ...rows.map(([text, share, isTrue]) =>
      make("li", {}, bar(share), make("span", {class: isTrue ? "draw-true" : null}, text),
        make("span", {class: "draw-percent"}, percent(share)))));
  }

  const ofToken = token =>
    `draw-segment-${token.segment}` + (token.word === null ? " draw-special" : "");

  /** The row that the model reads, and its numbers. */
  function tokens(root, data) {
    const row = make("ul", {class: "draw-tokens", "aria-label": "the tokens in their order"}, ...data.tokens.map(token =>
      make("li", {class: "draw-token " + ofToken(token)}, token.token)));
    const head = make("tr", {}, ...["position", "token", "token id", "segment", "word"].map((name, i) =>
      make("th", {scope: "col", class: i === 1 || i === 4 ? null : "draw-number"}, name)));
    const body = data.tokens.map(token => make("tr", {},
      make("td", {class: "draw-number"}, String(token.position)),
      make("td", {}, make("span", {class: "draw-token " + ofToken(token)}, token.token)),
      make("td", {class: "draw-number"}, String(token.id)),
      make("td", {class: "draw-number"}, String(token.segment)),
      make("td", {}, token.word === null ? "(special)" : data.words[token.word])));
    const note = data.has_segments ? null
      : make("p", {class: "draw-note"}, "This architecture does not read segments: all of them are 0.");
    root.replaceChildren(row, ...(note ? [note] : []),
      make("div", {class: "draw-scroll", tabindex: "0", role: "region", "aria-label": "table of tokens"},
        make("table", {class: "draw-table"}, make("thead", {}, head), make("tbody", {}, ...body))));
  }

  /**
   * Words to mask, and what is expected in their places.
   * options.toggle(number): asks for new data with that word masked or not; without it every word was masked by itself
   * before, and a click shows what was expected of it.
   */
  function masks(root, data, options) {
    const revealed = new Set();
    let shown = data.masked.length ? data.masked[0].word : null;
    const isMasked = number => options.toggle ? data.masked.some(word => word.word === number) : number === shown;

    function click(number) {
      if (options.toggle) options.toggle(number);
      else { shown = number; revealed.clear(); render(number); }
    }

    function render(focus) {
      const words = data.words.map((text, number) => make("button", {
        type: "button", class: "draw-word", "aria-pressed": String(isMasked(number)), "data-word": number,
        "aria-label": isMasked(number) ? `${revealed.has(number) ? text : "a masked word"}, masked` : text,
        onclick: () => click(number),
      }, isMasked(number) && !revealed.has(number) ? "[MASK]" : text));
      const chosen = data.masked.filter(word => isMasked(word.word));
      root.replaceChildren(
        make("div", {class: "draw-tokens", role: "group", "aria-label": "words, click one to mask it"}, ...words),
        make("p", {class: "draw-note"}, chosen.length ? "Click a word to mask it"
          + (options.toggle ? ", and a masked one to show it again." : " in place of this one.")
          : "Click a word to mask it."),
        make("div", {"aria-live": "polite"}, ...chosen.map(word => card(word))));
      if (focus !== undefined) root.querySelector(`[data-word="${focus}"]`).focus();
    }

    function card(word) {
      const open = revealed.has(word.word);
      const known = word.pieces[0].token !== null;
      const reveal = known ? make("button", {
        type: "button", class: "draw-button",
        onclick: () => {
          if (open) revealed.delete(word.word); else revealed.add(word.word);
          render();
          root.querySelector(`[data-reveal="${word.word}"]`).focus();
        }, "data-reveal": word.word,
      }, open ? "Hide the word" : "Reveal the word") : null;
      const title = open ? word.text : "[MASK]";
      return make("section", {class: "draw-piece"},
        make("h3", {}, word.pieces.length > 1 ? `${title}, ${word.pieces.length} tokens` : title), reveal,
        ...word.pieces.map((piece, number) => make("div", {class: "draw-sides"},
          ...SIDES.map(([side, name]) => column(piece, number, word.pieces.length, side, name, open)))));
    }

    function column(piece, number, all, side, name, open) {
      const found = piece.expected[side];
      const rows = found.guesses.map(guess =>
        [guess.token, guess.probability, open && piece.token !== null && guess.token === piece.token]);
      const truth = open && piece.token !== null ? make("p", {class: "draw-note"},
        make("span", {class: "draw-true"}, piece.token), ` has ${percent(found.true_probability)}, `
        + `place ${found.true_rank.toLocaleString("en")}`) : null;
      return make("div", {"data-side": side}, make("h4", {}, (all > 1 ? `token ${number + 1}, ` : "") + name), bars(rows), truth);
    }

    render();
  }

  /** What each head of each layer looks at. */
  function attention(root, data) {
    const count = data.tokens.length;
    const bytes = Uint8Array.from(atob(data.weights), character => character.charCodeAt(0));
    const chosen = {layer: data.layers - 1, head: 0, how: "lines", token: null};
    const at = (layer, head) => bytes.subarray((layer * data.heads + head) * count * count);

    /** [from][to] flat, in shares; head -1: the mean of the layer's heads. */
    function weights() {
      const found = new Float32Array(count * count);
      const heads = chosen.head < 0 ? [...Array(data.heads).keys()] : [chosen.head];
      for (const head of heads) {
        const values = at(chosen.layer, head);
        for (let i = 0; i < found.length; i++) found[i] += values[i] / 255 / heads.length;
      }
      return found;
    }

    function select(label, options, value, change) {
      const element = make("select", {onchange: event => change(event.target.value)},
        ...options.map(([key, text]) => make("option", {value: key}, text)));
      element.value = value;
      controls.append(make("label", {}, label, element));
      return element;
    }

    const numbers = (size, first) => [...Array(size).keys()].map(i => [i, `${first} ${i + 1}`]);
    const grid = make("div", {class: "draw-heads", "aria-hidden": "true"});
    grid.style.gridTemplateColumns = `repeat(${data.heads}, 28px)`;
    const picture = make("div", {class: "draw-attention"});
    const words = make("p", {class: "draw-note", "aria-live": "polite"});
    const controls = make("div", {class: "draw-controls"});
    const ofLayer = select("layer", numbers(data.layers, "layer"), chosen.layer, value => choose(Number(value), chosen.head));
    const ofHead = select("head", [[-1, "mean of all"], ...numbers(data.heads, "head")], chosen.head,
      value => choose(chosen.layer, Number(value)));
    select("drawn as", [["lines", "lines"], ["matrix", "a matrix"]], chosen.how, value => { chosen.how = value; drawPicture(); });

    function thumbnails() {
      for (let layer = 0; layer < data.layers; layer++) {
        for (let head = 0; head < data.heads; head++) {
          const canvas = make("canvas", {width: count, height: count, title: `layer ${layer + 1}, head ${head + 1}`,
            onclick: () => choose(layer, head)});
          const context = canvas.getContext("2d");
          const image = context.createImageData(count, count);
          const values = at(layer, head);
          for (let i = 0; i < count * count; i++) {
            image.data.set([60, 130, 210, Math.min(255, 40 + values[i] * 2)], 4 * i);
            if (values[i] < 8) image.data[4 * i + 3] = values[i] * 4;
          }
          context.putImageData(image, 0, 0);
          grid.append(canvas);
        }
      }
    }

    let values, strokes, seen, labels;  // of the picture: shares, [line, from, share], labels on the right, on the left

    /** Shows what one token looks at. The picture stays: what is under the pointer must not be made anew. */
    function look(token) {
      if (chosen.token === token) return;
      chosen.token = token;
      labels.forEach((text, i) => text.classList.toggle("draw-chosen", i === token));
      for (const [line, from, share] of strokes) {
        line.setAttribute("stroke-opacity", token === null ? 0.8 * strength(share) : from === token ? strength(share) : 0);
      }
      seen.forEach((text, i) => text.setAttribute("opacity",
        token === null || chosen.how === "matrix" ? 1 : 0.35 + 0.65 * Math.min(1, 3 * values[token * count + i])));
      if (token === null) {
        words.textContent = "Each token on the left looks at those on the right (in the matrix: at those on top); the"
          + " stronger the colour, the more. Point at a token, or move to it with the Tab key.";
        return;
      }
      const best = [...values.subarray(token * count, (token + 1) * count)].map((share, i) => [share, i])
        .sort((a, b) => b[0] - a[0]).slice(0, 4);
      words.textContent = `${data.tokens[token].token} (position ${token}) looks at `
        + best.map(([share, i]) => `${data.tokens[i].token} (${i}) ${percent(share)}`).join(", ") + ".";
    }

    const label = (i, attributes) => draw("text",
      {class: data.tokens[i].word === null ? "draw-special" : null, ...attributes}, data.tokens[i].token);

    /** A label that shows what its token looks at, by mouse, touch and keyboard. */
    const from = (i, attributes) => label(i, {...attributes, tabindex: "0", role: "button", "data-token": i,
      class: "draw-from" + (data.tokens[i].word === null ? " draw-special" : ""),
      "aria-label": `${data.tokens[i].token}: what it looks at`,
      onmouseenter: () => look(i), onclick: () => look(i), onfocus: () => look(i)});

    function lines() {
      const step = 22, width = 460, left = 170, right = 300;
      for (let i = 0; i < count; i++) {
        for (let j = 0; j < count; j++) {
          const share = values[i * count + j];
          if (share < 0.02) continue;
          strokes.push([draw("line", {x1: left + 6, x2: right - 6, y1: step * i + 14, y2: step * j + 14}), i, share]);
        }
        labels.push(from(i, {x: left, y: step * i + 18, "text-anchor": "end"}));
        seen.push(label(i, {x: right, y: step * i + 18}));
      }
      return draw("svg", {width, height: step * count + 8, viewBox: `0 0 ${width} ${step * count + 8}`,
        "aria-label": "lines from each token to those that it looks at"},
        ...strokes.map(([line]) => line), ...labels, ...seen);
    }

    function matrix() {
      const cell = count > 40 ? 14 : 20, left = 130, top = 110;
      const cells = [draw("rect", {class: "draw-frame", x: left, y: top, width: cell * count, height: cell * count})];
      for (let i = 0; i < count; i++) {
        for (let j = 0; j < count; j++) {
          const share = values[i * count + j];
          if (share < 0.01) continue;
          cells.push(draw("rect", {class: "draw-cell", x: left + cell * j, y: top + cell * i, width: cell, height: cell,
            "fill-opacity": strength(share)}, draw("title", {}, `${data.tokens[i].token} → ${data.tokens[j].token}: ${percent(share)}`)));
        }
        labels.push(from(i, {x: left - 6, y: top + cell * i + cell / 2 + 4, "text-anchor": "end"}));
        const x = left + cell * i + cell / 2 + 4;
        seen.push(label(i, {x, y: top - 6, transform: `rotate(-60 ${x} ${top - 6})`}));
      }
      const size = [left + cell * count + 90, top + cell * count + 8];
      return draw("svg", {width: size[0], height: size[1], viewBox: `0 0 ${size[0]} ${size[1]}`,
        "aria-label": "a row for each token, a column for each that it looks at"}, ...cells, ...labels, ...seen);
    }

    function drawPicture() {
      const token = chosen.token;
      [values, strokes, seen, labels] = [weights(), [], [], []];
      picture.replaceChildren(chosen.how === "lines" ? lines() : matrix());
      chosen.token = undefined;  // so that it is shown in the new picture
      look(token);
    }

    function choose(layer, head) {
      Object.assign(chosen, {layer, head});
      ofLayer.value = layer;
      ofHead.value = head;
      [...grid.children].forEach((canvas, i) => canvas.classList.toggle("draw-chosen",
        Math.floor(i / data.heads) === chosen.layer && (chosen.head < 0 || i % data.heads === chosen.head)));
      drawPicture();
    }

    thumbnails();
    root.replaceChildren(controls, words, picture,
      make("p", {class: "draw-note"}, "All heads: a row for each layer, the first on top. Click one to choose it."), grid);
    choose(chosen.layer, chosen.head);
  }

  return {make, bars, bar, percent, tokens, masks, attention};
})();
