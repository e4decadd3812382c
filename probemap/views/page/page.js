"use strict";
// The state of the page: the current selection, and the drawing of everything that depends on it.

(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const byId = (id) => document.getElementById(id);
  const runs = content.runs;
  const probabilities = runs.map((run) => (run.answers.rows.length ? answers.decoder(run, content.missing) : null));
  const state = { run: 0, value: "auc", cell: null, limit: answers.PAGE };

  const run = () => runs[state.run];
  const grid = () => run().values[state.value];
  const { text, range } = charts;

  const setOptions = (select, pairs) => select.replaceChildren(...pairs.map(([value, name]) => element("option", { value }, name)));

  const facts = () => {
    const { answers: all, decided, right: correct, held_out: heldOut } = run().counts;
    const sentences = [`${all} answers: ${correct} correct, ${decided - correct} incorrect, ${all - decided} undecided and excluded.`];
    if (run().nested) sentences.push(`Best cell, nested CV: AUC ${text(run().nested[0])} ${range(run().nested[1], run().nested[2])}.`);
    if (heldOut) sentences.push(`Evaluated on ${heldOut} held-out answers.`);
    return [...sentences, ...run().notes].join(" ");
  };

  const marks = (shownRun, value) => ({
    best: value === "auc" ? shownRun.best : [],
    confidenceSet: value === "auc" ? shownRun.confidenceSet : [],
    gain: value === "gain" ? null : shownRun.values.gain,
  });

  const comparedRun = () => (byId("compare").value === "" ? null : runs[Number(byId("compare").value)]);

  // Maps that are shown side by side share one scale.
  const limits = () => {
    const shown = [run(), comparedRun()].map((shownRun) => shownRun && shownRun.values[state.value]).filter(Boolean).map((shownGrid) => shownGrid.limits);
    return [Math.min(...shown.map(([low]) => low)), Math.max(...shown.map(([, high]) => high))];
  };

  const drawMap = () => {
    const label = `${grid().label}, ${run().layers.length} layers by ${run().positions.length} positions; the table below contains the same values`;
    byId("map-caption").textContent = runs.length > 1 ? `${run().title}: ${grid().label}` : grid().label;
    return charts.map("map", { ...grid(), limits: limits() }, marks(run(), state.value), state.cell, content.scales, label);
  };

  // Returns the first run minus the second.  The page contains each difference only once.
  const difference = (first, second) => {
    const stored = content.differences.find((d) => d.first === Math.min(first, second) && d.second === Math.max(first, second));
    if (!stored || first < second) return stored;
    const negated = (values) => values.map((row) => row.map((value) => (value === null ? null : -value)));
    return { ...stored, value: negated(stored.value), low: negated(stored.high), high: negated(stored.low) };
  };

  const comparedGrid = () => comparedRun() && comparedRun().values[state.value];
  const shownDifference = () => (comparedGrid() && state.value === "auc" ? difference(state.run, Number(byId("compare").value)) : null);

  // Shows and hides figures.  The charts must be drawn afterwards, because they adopt the size of their figures.
  const arrange = () => {
    const [i, j] = state.cell;
    const hasDiagnostics = Boolean(run().diagnostics[i][j]);
    byId("compare-figure").hidden = !comparedRun();
    byId("compare-map").hidden = !comparedGrid();
    byId("difference-figure").hidden = !shownDifference();
    byId("top").classList.toggle("compared", Boolean(comparedRun()));
    for (const node of [byId("roc").parentElement, byId("risk").parentElement, byId("risk-metrics")]) node.hidden = !hasDiagnostics;
    for (const id of ["reliability", "histogram"]) byId(id).parentElement.hidden = !hasDiagnostics || !run().hasLogOdds;
  };

  const drawComparison = () => {
    const compared = comparedRun();
    if (!compared) return;
    const shownGrid = comparedGrid();
    byId("compare-caption").textContent = shownGrid ? `${compared.title}: ${shownGrid.label}` : `${compared.title} does not contain the value ${state.value}`;
    if (!shownGrid) return;
    charts.map("compare-map", { ...shownGrid, limits: limits() }, marks(compared, state.value), null, content.scales, `${compared.title}: ${shownGrid.label}`);
    const delta = shownDifference();
    if (!delta) return;
    byId("difference-caption").textContent = "Difference of the AUCs: this run minus the compared run; cells whose 95 % confidence interval contains 0 are pale";
    charts.map("difference-map", delta, null, null, content.scales, "difference between the two maps");
  };

  const drawRisk = (cell, probe, baseline) => {
    const half = content.coverages.indexOf(0.5);
    const at = ({ risk }, k) => `${text(risk[0][k])} ${range(risk[1][k], risk[2][k])}`.trim();
    const baselineText = baseline ? `; best baseline, ${baseline.name}: ${at(baseline, half)}` : "";
    charts.risk("risk", content.coverages, probe, baseline,
      `Risk-coverage curve of ${cell}: share of incorrect answers if half of the answers are accepted: ${at(probe, half)}${baselineText}; if all are accepted: ${text(probe.risk[0].at(-1))}`);
    const columns = [["probe", probe], ...(baseline ? [[`best baseline, ${baseline.name}`, baseline]] : [])];
    const header = element("tr", {}, element("td", {}), ...columns.map(([name]) => element("th", { scope: "col" }, name)));
    const estimate = ([value, low, high]) => element("td", {}, `${text(value)} `, element("span", { class: "interval" }, range(low, high)));
    const rows = Object.keys(probe.metrics).map((name) => element("tr", {}, element("th", { scope: "row" }, name), ...columns.map(([, { metrics }]) => estimate(metrics[name]))));
    byId("risk-table").replaceChildren(
      element("caption", {}, "Area under the curve (AURC; lower is better), its excess over a perfect order, and prediction rejection ratio (PRR; 1 for a perfect order, 0 for a random one), with 95 % confidence intervals"),
      element("thead", {}, header), element("tbody", {}, ...rows));
  };

  const drawCell = () => {
    const [i, j] = state.cell;
    const { layers, positions } = run();
    const { value, low, high, n } = grid();
    const cell = `Layer ${layers[i]}, ${positions[j]}`;
    byId("cell-heading").textContent = `${cell}: ${grid().label} ${text(value[i][j])} ${range(low[i][j], high[i][j])}, n = ${n[j]}`;
    const column = (values) => values.map((row) => row[j]);
    const isAuc = state.value === "auc";
    charts.curve("layers", layers, { value: column(value), low: column(low), high: column(high) }, i, isAuc, `${grid().label} at ${positions[j]} over the layers`);
    charts.curve("positions", positions, { value: value[i], low: low[i], high: high[i] }, j, isAuc, `${grid().label} at layer ${layers[i]} over the positions`);
    const diagnostics = run().diagnostics[i][j];
    if (!diagnostics) return;
    charts.roc("roc", content.falsePositiveRates, diagnostics.roc, `ROC curve of ${cell}`);
    drawRisk(cell, run().risks[i][j], run().baselines[j]);
    if (!run().hasLogOdds) return;
    charts.reliability("reliability", diagnostics.reliability, `Reliability diagram of ${cell}`);
    charts.histogram("histogram", content.histogramEdges, diagnostics.histogram, `Histogram of the predicted probabilities of correct and incorrect answers, ${cell}`);
  };

  const drawAnswers = () => {
    const probability = probabilities[state.run];
    byId("answers-section").hidden = !probability;
    if (!probability) return;
    const [i, j] = state.cell;
    byId("answers-heading").textContent = `Answers, scored by the probe of layer ${run().layers[i]}, ${run().positions[j]}`;
    byId("answers-rule").textContent = [run().answers.rule, run().hasLogOdds ? "" : "The scores of this probe are not probabilities; they only rank the answers."].join(" ").trim();
    // The filters for confident errors require probabilities.
    for (const option of byId("filter").options) option.hidden = option.disabled = !run().hasLogOdds && ["errors", "false-positives", "false-negatives"].includes(option.value);
    if (byId("filter").selectedOptions[0].disabled) byId("filter").value = "all";
    answers.show(run(), probability, state.cell, { filter: byId("filter").value, search: byId("search").value, order: byId("order").value, limit: state.limit });
  };

  const drawTable = () => {
    const { layers, positions } = run();
    const { label, value, low, high, n } = grid();
    const header = element("tr", {}, element("th", { scope: "col" }, "layer"), ...positions.map((name, j) => element("th", { scope: "col" }, `${name}, n = ${n[j]}`)));
    const rows = layers.map((layer, i) => element("tr", {}, element("th", { scope: "row" }, String(layer)),
      ...positions.map((_, j) => element("td", {}, value[i][j] === null ? "–" : `${text(value[i][j])} ${range(low[i][j], high[i][j])}`))));
    byId("table").replaceChildren(element("caption", {}, `${label}, with its 95 % confidence interval`), element("thead", {}, header), element("tbody", {}, ...rows));
  };

  const drawTexts = () => {
    byId("title").textContent = run().title;
    byId("facts").textContent = facts();
    byId("observations").replaceChildren(...run().observations.map((sentence) => element("li", {}, sentence)));
    studies.show(run(), content.scales.sequential);
    const { citation, ...provenance } = run().provenance;
    byId("provenance").replaceChildren(...Object.entries(provenance).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
    const excluded = Object.entries(run().excluded);
    byId("excluded").replaceChildren(...(excluded.length ? excluded.map(([reason, count]) => element("li", {}, `${count}: ${reason}`)) : [element("li", {}, "none")]));
    byId("citation").textContent = citation || "Orgad et al. 2024, LLMs Know More Than They Show (arXiv 2410.02707), with probemap.";
  };

  const draw = () => {
    arrange();
    drawMap();
    drawCell();
    drawComparison();
  };

  const selectCell = (cell) => {
    state.cell = cell;
    state.limit = answers.PAGE;
    arrange();
    drawMap();
    drawCell();
    drawAnswers();
  };

  // Returns the cell with this layer and position in the shown run, or its best cell if there is no such cell.
  const cellOf = (layer, position) => {
    const cell = [run().layers.indexOf(layer), run().positions.indexOf(position)];
    return cell.includes(-1) ? run().best[0] || [0, 0] : cell;
  };

  const drawAll = (layer, position) => {
    setOptions(byId("value"), Object.keys(run().values).map((name) => [name, name]));
    if (!run().values[state.value]) state.value = "auc";
    byId("value").value = state.value;
    setOptions(byId("compare"), [["", "none"], ...runs.map(({ title }, k) => [String(k), title]).filter(([k]) => Number(k) !== state.run)]);
    drawTexts();
    drawTable();
    selectCell(cellOf(layer, position));
    drawComparison();
  };

  const save = (name, blob) => {
    const link = element("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const saveFigure = async (format) => {
    const address = await Plotly.toImage(byId("map"), { format, width: 700, height: 800, scale: format === "png" ? 2 : 1 });
    const [head, body] = [address.slice(0, address.indexOf(",")), address.slice(address.indexOf(",") + 1)];
    const bytes = head.endsWith("base64") ? Uint8Array.from(atob(body), (character) => character.charCodeAt(0)) : decodeURIComponent(body);
    save(`map.${format}`, new Blob([bytes], { type: format === "png" ? "image/png" : "image/svg+xml" }));
  };

  // Spreadsheet programs execute text that begins like a formula, unless it is a number.
  const csvCell = (value) => {
    const plain = String(value);
    const safe = /^[=+\-@\t\r]/.test(plain) && Number.isNaN(Number(plain)) ? `'${plain}` : plain;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };

  const saveCsv = () => {
    const lines = [["run", "layer", "position", state.value, "low", "high", "n"]];
    for (const { title, layers, positions, values } of runs) {
      const shown = values[state.value];
      if (!shown) continue;
      layers.forEach((layer, i) => positions.forEach((name, j) => lines.push([title, layer, name, shown.value[i][j] ?? "", shown.low[i][j] ?? "", shown.high[i][j] ?? "", shown.n[j]])));
    }
    save("map.csv", new Blob([lines.map((cells) => cells.map(csvCell).join(",")).join("\n") + "\n"], { type: "text/csv" }));
  };

  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const applyTheme = () => {
    const theme = byId("theme").value || (prefersDark.matches ? "dark" : "light");
    document.documentElement.classList.toggle("dark", theme === "dark");
    if (state.cell) draw();
  };

  setOptions(byId("run"), runs.map(({ title }, k) => [String(k), title]));
  byId("run").parentElement.hidden = byId("compare-label").hidden = runs.length < 2;
  byId("run").addEventListener("change", () => {
    const [layer, position] = [run().layers[state.cell[0]], run().positions[state.cell[1]]];
    state.run = Number(byId("run").value);
    drawAll(layer, position);
  });
  byId("value").addEventListener("change", () => { state.value = byId("value").value; drawTable(); draw(); });
  byId("compare").addEventListener("change", draw);
  byId("theme").addEventListener("change", applyTheme);
  prefersDark.addEventListener("change", applyTheme);
  for (const id of ["filter", "order"]) byId(id).addEventListener("change", () => { state.limit = answers.PAGE; drawAnswers(); });
  byId("search").addEventListener("input", () => { state.limit = answers.PAGE; drawAnswers(); });
  byId("more").addEventListener("click", () => { state.limit += answers.PAGE; drawAnswers(); });
  for (const id of ["controls", "filters"]) byId(id).addEventListener("submit", (event) => event.preventDefault());
  byId("save-svg").addEventListener("click", () => saveFigure("svg"));
  byId("save-png").addEventListener("click", () => saveFigure("png"));
  byId("save-csv").addEventListener("click", saveCsv);

  const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -1e6], End: [0, 1e6], PageUp: [-5, 0], PageDown: [5, 0] };
  byId("map-keys").addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const clamp = (k, length) => Math.min(Math.max(k, 0), length - 1);
    selectCell([clamp(state.cell[0] + step[0], run().layers.length), clamp(state.cell[1] + step[1], run().positions.length)]);
  });

  applyTheme();
  drawAll();
  byId("map").on("plotly_click", ({ points }) => {
    const point = points.find(({ pointIndex }) => Array.isArray(pointIndex)) || points[0];
    selectCell(Array.isArray(point.pointIndex) ? point.pointIndex : [point.y, point.x]);
  });
  document.documentElement.dataset.ready = "yes";
})();
