"use strict";
// Further analyses of a run: the summary and the table of each analysis.

const studies = (() => {
  // Returns the relative luminance of a colour, as defined by WCAG.
  const luminance = (colour) => {
    const [r, g, b] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };

  const tableOf = (caption, header, rows) => {
    const table = element("table", {}, element("caption", {}, caption));
    table.append(element("thead", {}, element("tr", {}, ...header)), element("tbody", {}, ...rows));
    return element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, table);
  };

  const isNumber = (value) => /^[–+\-\d]/.test(value);

  const valueTable = ({ title, columns, rows }) => {
    const lines = rows.map(([first, ...values]) => element("tr", {}, element("th", { scope: "row" }, first),
      ...values.map((value) => element("td", isNumber(value) ? {} : { class: "words" }, value))));
    const isText = (k) => k === 0 || rows.some((row) => !isNumber(row[k]));
    const header = columns.map((name, k) => element("th", isText(k) ? { scope: "col", class: "words" } : { scope: "col" }, name));
    return tableOf(title, header, lines);
  };

  // The colour of a cell shows max(AUC, 1 - AUC), and its text shows the AUC.
  const matrixTable = ({ names, folded, texts }, scale) => {
    const cell = (value, text) => {
      const node = element("td", { class: "shaded" }, text);
      if (value === null) return node;
      const colour = scale[Math.min(scale.length - 1, Math.max(0, Math.round((value - 0.5) * 2 * (scale.length - 1))))];
      node.style.background = colour;
      node.style.color = luminance(colour) > 0.18 ? "#000000" : "#ffffff";
      return node;
    };
    const rows = names.map((name, i) => element("tr", {}, element("th", { scope: "row" }, name), ...names.map((_, j) => cell(folded[i][j], texts[i][j]))));
    const header = ["trained on", ...names].map((name) => element("th", { scope: "col" }, name));
    return tableOf("AUC with its 95 % confidence interval; rows: trained on; columns: tested on; colour: distance of the AUC from 0.5", header, rows);
  };

  const section = (study, scale) => {
    const node = element("section", {}, element("h3", {}, study.title));
    node.append(element("ul", {}, ...study.words.map((sentence) => element("li", {}, sentence))));
    if (study.matrix) node.append(matrixTable(study.matrix, scale));
    node.append(element("details", {}, element("summary", {}, `${study.title}: all values`), valueTable(study)));
    return node;
  };

  const show = (run, scale) => {
    document.getElementById("studies-section").hidden = !run.studies.length;
    document.getElementById("studies").replaceChildren(...run.studies.map((study) => section(study, scale)));
  };

  return { show };
})();
