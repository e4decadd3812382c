"use strict";
// Labels for the answers of an audit.  Texts are inserted as text nodes, never as markup.

(() => {
  const { key, rows } = JSON.parse(document.getElementById("content").textContent);
  const byId = (id) => document.getElementById(id);
  const LABELS = { correct: true, incorrect: false, unclear: "cannot tell" };

  // Local storage may be disabled, or hold something else under the same key.
  const stored = (() => {
    try { return JSON.parse(localStorage.getItem(key)) || {}; } catch { return {}; }
  })();
  const edits = new Map(rows.map(({ row }) => {
    const edit = Object.hasOwn(stored, row.id) ? stored[row.id] : {};
    const label = [true, false, "cannot tell"].includes(edit.correct) ? edit.correct : row.correct;
    return [row.id, { correct: label, note: typeof edit.note === "string" ? edit.note : row.note }];
  }));
  const isLabelled = ({ row }) => edits.get(row.id).correct !== null;
  let current = Math.max(0, rows.findIndex((entry) => !isLabelled(entry)));

  const save = () => {
    try {
      localStorage.setItem(key, JSON.stringify(Object.fromEntries(edits)));
      byId("message").textContent = "";
    } catch {
      byId("message").textContent = "This browser does not keep the labels. Download them before you close the page.";
    }
  };

  const element = (name, text) => {
    const node = document.createElement(name);
    node.textContent = text;
    node.dir = "auto";
    return node;
  };

  const show = () => {
    const { row, texts, answer } = rows[current];
    const edit = edits.get(row.id);
    const done = rows.filter(isLabelled).length;
    byId("number").textContent = `Answer ${current + 1} of ${rows.length}`;
    byId("texts").replaceChildren(...texts.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
    byId("answer").textContent = answer || "(empty)";
    for (const [id, label] of Object.entries(LABELS)) byId(id).setAttribute("aria-pressed", String(edit.correct === label));
    byId("note").value = edit.note;
    byId("back").disabled = current === 0;
    byId("next").disabled = current === rows.length - 1;
    byId("bar").max = rows.length;
    byId("bar").value = done;
    byId("progress").textContent = done === rows.length ? `All ${done} answers are labelled. Download the file.` : `${done} of ${rows.length} answers are labelled.`;
  };

  const go = (step) => {
    current = Math.min(Math.max(current + step, 0), rows.length - 1);
    show();
  };

  const label = (value) => {
    edits.get(rows[current].row.id).correct = value;
    save();
    go(1);
  };

  const download = () => {
    const lines = rows.map(({ row }) => `${JSON.stringify({ ...row, ...edits.get(row.id) })}\n`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
    link.download = "audit.jsonl";
    link.click();
    URL.revokeObjectURL(link.href);
  };

  for (const [id, value] of Object.entries(LABELS)) byId(id).addEventListener("click", () => label(value));
  byId("back").addEventListener("click", () => go(-1));
  byId("next").addEventListener("click", () => go(1));
  byId("download").addEventListener("click", download);
  byId("note").addEventListener("input", () => {
    edits.get(rows[current].row.id).note = byId("note").value;
    save();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target === byId("note") || event.ctrlKey || event.metaKey || event.altKey) return;
    const button = document.querySelector(`button[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
    if (!button || button.disabled) return;
    event.preventDefault();
    button.click();
  });

  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const applyTheme = () => document.documentElement.classList.toggle("dark", prefersDark.matches);
  prefersDark.addEventListener("change", applyTheme);
  applyTheme();
  show();
  document.documentElement.dataset.ready = "yes";
})();
