"use strict";
// The list of answers and the details of each answer.  Texts are inserted as text nodes, never as markup.

const element = (name, attributes = {}, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};

const answers = (() => {
  const PAGE = 50;
  const CONFIDENT = 0.8;
  const [PROMPT, EXACT_ANSWER] = [0, 2]; // location codes of a piece of text; 1 is the rest of the answer

  const verdictOf = (answer) => (answer.correct ? "correct" : "incorrect");

  // Decodes the probabilities of a run, which have 16 bits each.  The result is a function of the answer k, the layer i
  // and the position j that returns the probability, or null if the position is missing.
  const decoder = (run, missing) => {
    const bytes = Uint8Array.from(atob(run.answers.probabilities), (character) => character.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const [nLayers, nPositions] = [run.layers.length, run.positions.length];
    return (k, i, j) => {
      const code = view.getUint16(2 * ((k * nLayers + i) * nPositions + j), true);
      return code === missing ? null : code / (missing - 1);
    };
  };

  const tint = (node, probability) => {
    if (probability === null) return;
    const percent = Math.round(Math.abs(probability - 0.5) * 80);
    node.style.background = `color-mix(in srgb, var(--${probability >= 0.5 ? "correct" : "incorrect"}) ${percent}%, var(--paper))`;
  };

  // A token with the names of its positions below it, each with the probability that its own probe predicts.  The tint
  // shows the probability of the selected position if it falls on the token, otherwise that of the first position.
  const token = (run, k, [layer, selected], probability, [text, columns, location]) => {
    const isExact = location === EXACT_ANSWER;
    if (!columns.length) return element("span", { class: isExact ? "exact" : location === PROMPT ? "muted" : "", dir: "auto" }, text);
    const word = element("span", { class: isExact ? "word exact" : "word", dir: "auto" }, text);
    tint(word, probability(k, layer, columns.includes(selected) ? selected : columns[0]));
    const node = element("span", { class: "token" }, word);
    for (const column of columns) {
      const value = probability(k, layer, column);
      node.append(element("span", { class: "name" }, `${run.positions[column]} ${value === null ? "–" : value.toFixed(2)}`));
    }
    return node;
  };

  const details = (run, answer, k, cell, probability) => {
    const node = element("div", { class: "details" });
    const line = (name, text) => node.append(element("p", {}, element("b", {}, `${name} `), element("bdi", { dir: "auto" }, text)));
    if (answer.context) line("Context", answer.context);
    line("Question", answer.question);
    if (answer.choices.length) line("Choices", answer.choices.join("; "));
    line("Accepted", answer.accepted.join("; ") + (answer.acceptedLeftOut ? `; and ${answer.acceptedLeftOut} more` : ""));
    line("Verdict", `${answer.verdict}${answer.noSpan ? `; ${answer.noSpan}` : ""}`);
    const box = element("div", { class: "text" });
    for (const piece of answer.pieces) {
      box.append(token(run, k, cell, probability, piece));
      if (piece[2] === PROMPT) box.append(element("span", { class: "muted" }, " … "));
    }
    node.append(box);
    node.append(element("p", { class: "muted" }, "Below each probed token are its positions, each with the out-of-fold probability " +
      "that the answer is correct, as predicted by the " +
      `probe of layer ${run.layers[cell[0]]} at that position. The tint shows this probability; the exact answer is underlined.`));
    return node;
  };

  // The text of the answer, without the probed tokens of the prompt.
  const textOf = (answer) => answer.pieces.filter((piece) => piece[2] !== PROMPT).map((piece) => piece[0]).join("");

  const select = (run, probability, [i, j], filter, search, order) => {
    const query = search.toLowerCase();
    const keeps = (answer, p) => {
      if (filter === "correct") return answer.correct;
      if (filter === "incorrect") return !answer.correct;
      if (filter === "false-positives") return !answer.correct && p >= CONFIDENT;
      if (filter === "false-negatives") return answer.correct && p <= 1 - CONFIDENT;
      if (filter === "errors") return answer.correct ? p <= 1 - CONFIDENT : p >= CONFIDENT;
      return true;
    };
    return run.answers.rows
      .map((answer, k) => ({ answer, k, p: probability(k, i, j) }))
      .filter(({ answer, p }) => p !== null && keeps(answer, p) && (!query || `${answer.id} ${answer.question} ${textOf(answer)}`.toLowerCase().includes(query)))
      .sort((a, b) => (order === "ascending" ? a.p - b.p : b.p - a.p) || a.k - b.k);
  };

  const item = (run, probability, cell, { answer, k, p }) => {
    const text = textOf(answer).trim();
    const verdict = verdictOf(answer);
    const button = element("button", { type: "button", "aria-expanded": "false" },
      element("span", {}, p.toFixed(2)), element("span", { class: verdict }, verdict),
      element("span", { class: "line" }, element("bdi", { dir: "auto" }, answer.question), " → ", element("bdi", { dir: "auto" }, text || "(empty)")));
    const node = element("li", {}, button);
    button.addEventListener("click", () => {
      const isOpen = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!isOpen));
      if (isOpen) node.lastChild.remove();
      else node.append(details(run, answer, k, cell, probability));
    });
    return node;
  };

  // Fills the list with at most `limit` answers.
  const show = (run, probability, cell, { filter, search, order, limit }) => {
    const selected = select(run, probability, cell, filter, search, order);
    document.getElementById("answers").replaceChildren(...selected.slice(0, limit).map((entry) => item(run, probability, cell, entry)));
    const count = `${selected.length} answer${selected.length === 1 ? "" : "s"}`;
    document.getElementById("answers-count").textContent = selected.length > limit ? `${limit} of ${count}` : count;
    document.getElementById("more").hidden = selected.length <= limit;
  };

  return { PAGE, decoder, show };
})();
