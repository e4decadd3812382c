"use strict";
// What a run was asked beyond its map: a table each, with what it says.

const studies = (() => {
  // Relative luminance, as WCAG defines it.
  const luminance = (colour) => {
    const [r, g, b] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };

  const table = (caption, head, rows) => {
    const made = element("table", {}, element("caption", {}, caption));
    made.append(element("thead", {}, element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name)))), element("tbody", {}, ...rows));
    return element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, made);
  };

  const isNumber = (value) => /^[–+\-\d]/.test(value);

  const plain = ({ title, columns, rows }) => {
    const lines = rows.map(([first, ...rest]) => element("tr", {}, element("th", { scope: "row" }, first),
      ...rest.map((value) => element("td", isNumber(value) ? {} : { class: "words" }, value))));
    return table(title, columns, lines);
  };

  // Rows train, columns test; the colour is max(AUC, 1 - AUC), the text the AUC itself.
  const matrix = ({ names, folded, texts }, scale) => {
    const cell = (value, text) => {
      const node = element("td", { class: "shaded" }, text);
      if (value === null) return node;
      const colour = scale[Math.min(scale.length - 1, Math.max(0, Math.round((value - 0.5) * 2 * (scale.length - 1))))];
      node.style.background = colour;
      node.style.color = luminance(colour) > 0.18 ? "#000000" : "#ffffff";
      return node;
    };
    const rows = names.map((name, i) => element("tr", {}, element("th", { scope: "row" }, name), ...names.map((_, j) => cell(folded[i][j], texts[i][j]))));
    return table("AUC with its interval: rows train, columns test; the darker, the further from 0.5", ["trained on", ...names], rows);
  };

  const one = (study, scale) => {
    const node = element("section", {}, element("h3", {}, study.title));
    node.append(element("ul", {}, ...study.words.map((line) => element("li", {}, line))));
    if (study.matrix) node.append(matrix(study.matrix, scale));
    node.append(element("details", {}, element("summary", {}, `${study.title}: all numbers`), plain(study)));
    return node;
  };

  const show = (run, scale) => {
    document.getElementById("studies-section").hidden = !run.studies.length;
    document.getElementById("studies").replaceChildren(...run.studies.map((study) => one(study, scale)));
  };

  return { show };
})();
