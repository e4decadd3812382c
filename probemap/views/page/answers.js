"use strict";
// The list of answers and one answer opened.  Texts become text nodes, never markup.

const element = (name, attributes = {}, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};

const answers = (() => {
  const PAGE = 50;
  const SURE = 0.8;

  // Probabilities of one run, 16 bits each: of answer k in the cell [i, j]; null where the position is missing.
  const chancesOf = (run, missing) => {
    const bytes = Uint8Array.from(atob(run.answers.chances), (character) => character.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const [rows, columns] = [run.layers.length, run.positions.length];
    return (k, i, j) => {
      const step = view.getUint16(2 * ((k * rows + i) * columns + j), true);
      return step === missing ? null : step / (missing - 1);
    };
  };

  const tint = (node, chance) => {
    if (chance === null) return;
    const share = Math.round(Math.abs(chance - 0.5) * 80);
    node.style.background = `color-mix(in srgb, var(--${chance >= 0.5 ? "right" : "wrong"}) ${share}%, var(--paper))`;
  };

  // A token with the names of its positions below it, each with its own probe's probability; the tint is that of the
  // chosen position if the token has it.
  const token = (run, k, [layer, chosen], chance, [word, columns, part]) => {
    if (!columns.length) return element("span", { class: part === 2 ? "exact" : part ? "" : "plain", dir: "auto" }, word);
    const shown = element("span", { class: part === 2 ? "word exact" : "word", dir: "auto" }, word);
    tint(shown, chance(k, layer, columns.includes(chosen) ? chosen : columns[0]));
    const node = element("span", { class: "token" }, shown);
    for (const column of columns) {
      const value = chance(k, layer, column);
      node.append(element("span", { class: "name" }, `${run.positions[column]} ${value === null ? "–" : value.toFixed(2)}`));
    }
    return node;
  };

  const leaf = (run, row, k, cell, chance) => {
    const before = row.pieces.filter((piece) => piece[2] === 0);
    const said = row.pieces.filter((piece) => piece[2] !== 0);
    const node = element("div", { class: "leaf" });
    const line = (name, text) => node.append(element("p", {}, element("b", {}, `${name} `), element("bdi", { dir: "auto" }, text)));
    if (row.context) line("Context", row.context);
    line("Question", row.question);
    if (row.choices.length) line("Choices", row.choices.join("; "));
    line("Accepted", row.accepted.join("; ") + (row.more ? `; and ${row.more} more` : ""));
    line("Verdict", `${row.correct ? "right" : "wrong"}${row.reason ? `: ${row.reason}` : ""}${row.place ? ` (${row.place})` : ""}`);
    const box = element("div", { class: "said" });
    for (const piece of before) box.append(token(run, k, cell, chance, piece), element("span", { class: "plain" }, " … "));
    for (const piece of said) box.append(token(run, k, cell, chance, piece));
    node.append(box);
    node.append(element("p", { class: "plain" }, `Below each probed token: its positions, and the probability of “right” that the probe of layer ${run.layers[cell[0]]} ` +
      "gives there, out of fold. Tinted towards right or wrong. The exact answer is underlined."));
    return node;
  };

  // What the model said, without the probed tokens of its prompt.
  const textOf = (row) => row.pieces.filter((piece) => piece[2]).map((piece) => piece[0]).join("");

  const chosen = (run, chance, [i, j], filter, search, order) => {
    const wanted = search.toLowerCase();
    const keeps = (row, p) => {
      if (filter === "right") return row.correct;
      if (filter === "wrong") return !row.correct;
      if (filter === "trusted") return !row.correct && p >= SURE;
      if (filter === "doubted") return row.correct && p <= 1 - SURE;
      if (filter === "mistakes") return row.correct ? p <= 1 - SURE : p >= SURE;
      return true;
    };
    return run.answers.rows
      .map((row, k) => ({ row, k, p: chance(k, i, j) }))
      .filter(({ row, p }) => p !== null && keeps(row, p) && (!wanted || `${row.id} ${row.question} ${textOf(row)}`.toLowerCase().includes(wanted)))
      .sort((a, b) => (order === "up" ? a.p - b.p : b.p - a.p) || a.k - b.k);
  };

  const item = (run, chance, cell, { row, k, p }) => {
    const said = textOf(row).trim();
    const button = element("button", { type: "button", "aria-expanded": "false" },
      element("span", {}, p.toFixed(2)), element("span", { class: row.correct ? "right" : "wrong" }, row.correct ? "right" : "wrong"),
      element("span", { class: "line" }, element("bdi", { dir: "auto" }, row.question), " → ", element("bdi", { dir: "auto" }, said || "(nothing)")));
    const node = element("li", {}, button);
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!open));
      if (open) node.lastChild.remove();
      else node.append(leaf(run, row, k, cell, chance));
    });
    return node;
  };

  // Fills the list; `count` is how many are shown.
  const show = (run, chance, cell, filter, search, order, count) => {
    const found = chosen(run, chance, cell, filter, search, order);
    document.getElementById("answers").replaceChildren(...found.slice(0, count).map((one) => item(run, chance, cell, one)));
    document.getElementById("answers-count").textContent = found.length > count ? `${count} of ${found.length} answers` : `${found.length} answers`;
    document.getElementById("more").hidden = found.length <= count;
  };

  return { PAGE, chancesOf, show };
})();
