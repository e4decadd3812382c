"use strict";
// What is chosen, and what happens when something else is.

(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const at = (id) => document.getElementById(id);
  const runs = content.runs;
  const chances = runs.map((run) => (run.answers.rows.length ? answers.chancesOf(run, content.missing) : null));
  const state = { run: 0, value: "auc", cell: null, count: answers.PAGE };

  const run = () => runs[state.run];
  const grid = () => run().values[state.value];
  const { text, range } = charts;

  const options = (select, pairs) => select.replaceChildren(...pairs.map(([value, name]) => element("option", { value }, name)));

  const facts = () => {
    const { answers: all, decided, right, held_out: apart } = run().counts;
    let said = `${all} answers: ${right} right, ${decided - right} wrong, ${all - decided} undecided and left out.`;
    if (run().honest) said += ` The best cell, chosen on some answers and judged on others, is worth ${text(run().honest[0])} ${range(run().honest[1], run().honest[2])}.`;
    if (apart) said += ` Judged on ${apart} answers that were held out.`;
    return [said, ...run().notes].join(" ");
  };

  const marks = (one, value) => ({ best: value === "auc" ? one.best : [], equal: value === "auc" ? one.equal : [], gain: value === "gain" ? null : one.values.gain });

  const besideRun = () => (at("beside").value === "" ? null : runs[Number(at("beside").value)]);

  // Maps beside each other share one scale.
  const limits = () => {
    const both = [run(), besideRun()].map((one) => one && one.values[state.value]).filter(Boolean).map((one) => one.limits);
    return [Math.min(...both.map((one) => one[0])), Math.max(...both.map((one) => one[1]))];
  };

  const drawMap = () => {
    const shown = { ...grid(), limits: limits() };
    const label = `${grid().label}, ${run().layers.length} layers by ${run().positions.length} positions; the same numbers are in the table below`;
    at("map-caption").textContent = runs.length > 1 ? `${run().title}: ${grid().label}` : grid().label;
    return charts.map("map", shown, marks(run(), state.value), state.cell, content.scales, label);
  };

  const difference = (one, other) => {
    const found = content.differences.find((d) => d.one === Math.min(one, other) && d.other === Math.max(one, other));
    if (!found || one < other) return found;
    const minus = (values) => values.map((row) => row.map((value) => (value === null ? null : -value)));
    return { ...found, value: minus(found.value), low: minus(found.high), high: minus(found.low) };
  };

  const drawBeside = () => {
    const other = besideRun();
    const there = other && other.values[state.value];
    at("beside-figure").hidden = !other;
    at("beside-map").hidden = !there;
    at("top").classList.toggle("compared", Boolean(other));
    const delta = there ? difference(state.run, Number(at("beside").value)) : null;
    at("difference-figure").hidden = !delta || state.value !== "auc";
    if (!other) return;
    at("beside-caption").textContent = there ? `${other.title}: ${there.label}` : `${other.title} holds no ${state.value}`;
    if (!there) return;
    charts.map("beside-map", { ...there, limits: limits() }, marks(other, state.value), null, content.scales, `${other.title}: ${there.label}`);
    if (at("difference-figure").hidden) return;
    at("difference-caption").textContent = "The first minus the second, AUC; pale where the interval holds 0";
    charts.map("difference-map", delta, null, null, content.scales, "the difference of both maps");
  };

  const drawCell = () => {
    const [i, j] = state.cell;
    const { layers, positions } = run();
    const { value, low, high, n } = grid();
    const where = `Layer ${layers[i]} at ${positions[j]}`;
    at("cell-heading").textContent = `${where}: ${grid().label} ${text(value[i][j])} ${range(low[i][j], high[i][j])}, n = ${n[j]}`;
    const column = (values) => values.map((row) => row[j]);
    const isAuc = state.value === "auc";
    charts.curve("layers", layers, column(value), column(low), column(high), i, isAuc, `${grid().label} at ${positions[j]} over the layers`);
    charts.curve("positions", positions, value[i], low[i], high[i], j, isAuc, `${grid().label} at layer ${layers[i]} over the positions`);
    const portrait = run().portraits[i][j];
    at("roc").parentElement.hidden = !portrait;
    for (const id of ["reliability", "heaps"]) at(id).parentElement.hidden = !portrait || !run().areOdds;
    if (!portrait) return;
    charts.roc("roc", content.falseAlarms, portrait[0], `ROC of ${where}`);
    if (!run().areOdds) return;
    charts.reliability("reliability", portrait[1], `Reliability of ${where}`);
    charts.heaps("heaps", content.heaps, portrait[2], `Probabilities of right and of wrong answers, ${where}`);
  };

  const drawAnswers = () => {
    at("answers-section").hidden = !chances[state.run];
    if (!chances[state.run]) return;
    at("answers-heading").textContent = `Answers, as layer ${run().layers[state.cell[0]]} at ${run().positions[state.cell[1]]} judges them`;
    at("answers-rule").textContent = [run().answers.rule, run().areOdds ? "" : "The probe gives scores, not probabilities: they order the answers, and say no more."].join(" ").trim();
    // Of scores that are no probabilities nothing is confident.
    for (const option of at("filter").options) option.hidden = option.disabled = !run().areOdds && ["mistakes", "trusted", "doubted"].includes(option.value);
    if (at("filter").selectedOptions[0].disabled) at("filter").value = "all";
    answers.show(run(), chances[state.run], state.cell, at("filter").value, at("search").value, at("order").value, state.count);
  };

  const drawTable = () => {
    const { layers, positions, label, value, low, high, n } = { ...grid(), label: grid().label };
    const head = element("tr", {}, element("th", { scope: "col" }, "layer"), ...positions.map((name, j) => element("th", { scope: "col" }, `${name}, n = ${n[j]}`)));
    const rows = layers.map((layer, i) => element("tr", {}, element("th", { scope: "row" }, String(layer)),
      ...positions.map((_, j) => element("td", {}, value[i][j] === null ? "–" : `${text(value[i][j])} ${range(low[i][j], high[i][j])}`))));
    at("table").replaceChildren(element("caption", {}, `${label}, with its 95 % interval`), element("thead", {}, head), element("tbody", {}, ...rows));
  };

  const drawWords = () => {
    at("title").textContent = run().title;
    at("facts").textContent = facts();
    at("observations").replaceChildren(...run().observations.map((one) => element("li", {}, one)));
    studies.show(run(), content.scales.plain);
    at("made").replaceChildren(...Object.entries(run().madeBy).filter(([key]) => key !== "citation").flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)]));
    const dropped = Object.entries(run().dropped);
    at("dropped").replaceChildren(...(dropped.length ? dropped.map(([why, count]) => element("li", {}, `${count}: ${why}`)) : [element("li", {}, "nothing")]));
    at("cite").textContent = run().madeBy.citation || "Orgad et al. 2024, LLMs Know More Than They Show (arXiv 2410.02707), with probemap.";
  };

  const draw = () => {
    drawMap();
    drawCell();
    drawBeside();
  };

  const choose = (cell) => {
    state.cell = cell;
    state.count = answers.PAGE;
    drawMap();
    drawCell();
    drawAnswers();
  };

  // The cell of another run that has the same name, or its highest.
  const sameCell = (layer, position) => {
    const cell = [run().layers.indexOf(layer), run().positions.indexOf(position)];
    return cell.includes(-1) ? run().best[0] || [0, 0] : cell;
  };

  const drawAll = (layer, position) => {
    options(at("value"), Object.keys(run().values).map((name) => [name, name]));
    if (!run().values[state.value]) state.value = "auc";
    at("value").value = state.value;
    options(at("beside"), [["", "nothing"], ...runs.map((one, k) => [String(k), one.title]).filter(([k]) => Number(k) !== state.run)]);
    drawWords();
    drawTable();
    choose(sameCell(layer, position));
    drawBeside();
  };

  const save = (name, blob) => {
    const link = element("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const savePicture = async (format) => {
    const address = await Plotly.toImage(at("map"), { format, width: 700, height: 800, scale: format === "png" ? 2 : 1 });
    const [head, body] = [address.slice(0, address.indexOf(",")), address.slice(address.indexOf(",") + 1)];
    const bytes = head.endsWith("base64") ? Uint8Array.from(atob(body), (character) => character.charCodeAt(0)) : decodeURIComponent(body);
    save(`map.${format}`, new Blob([bytes], { type: format === "png" ? "image/png" : "image/svg+xml" }));
  };

  // A spreadsheet runs what begins like a formula, unless it is a number.
  const csvCell = (value) => {
    const plain = String(value);
    const safe = /^[=+\-@\t\r]/.test(plain) && Number.isNaN(Number(plain)) ? `'${plain}` : plain;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };

  const saveCsv = () => {
    const lines = [["run", "layer", "position", state.value, "low", "high", "n"]];
    runs.forEach((one) => {
      const values = one.values[state.value];
      if (!values) return;
      one.layers.forEach((layer, i) => one.positions.forEach((name, j) => lines.push([one.title, layer, name, values.value[i][j] ?? "", values.low[i][j] ?? "", values.high[i][j] ?? "", values.n[j]])));
    });
    save("map.csv", new Blob([lines.map((line) => line.map(csvCell).join(",")).join("\n") + "\n"], { type: "text/csv" }));
  };

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => {
    const wanted = at("theme").value || (dark.matches ? "dark" : "light");
    document.documentElement.classList.toggle("dark", wanted === "dark");
    if (state.cell) draw();
  };

  options(at("run"), runs.map((one, k) => [String(k), one.title]));
  at("run").parentElement.hidden = at("beside-label").hidden = runs.length < 2;
  at("run").addEventListener("change", () => {
    const [layer, position] = [run().layers[state.cell[0]], run().positions[state.cell[1]]];
    state.run = Number(at("run").value);
    drawAll(layer, position);
  });
  at("value").addEventListener("change", () => { state.value = at("value").value; drawTable(); draw(); });
  at("beside").addEventListener("change", draw);
  at("theme").addEventListener("change", theme);
  dark.addEventListener("change", theme);
  for (const id of ["filter", "order"]) at(id).addEventListener("change", () => { state.count = answers.PAGE; drawAnswers(); });
  at("search").addEventListener("input", () => { state.count = answers.PAGE; drawAnswers(); });
  at("more").addEventListener("click", () => { state.count += answers.PAGE; drawAnswers(); });
  for (const id of ["controls", "filters"]) at(id).addEventListener("submit", (event) => event.preventDefault());
  at("save-svg").addEventListener("click", () => savePicture("svg"));
  at("save-png").addEventListener("click", () => savePicture("png"));
  at("save-csv").addEventListener("click", saveCsv);

  const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -1e6], End: [0, 1e6], PageUp: [-5, 0], PageDown: [5, 0] };
  at("map-keys").addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const within = (k, length) => Math.min(Math.max(k, 0), length - 1);
    choose([within(state.cell[0] + step[0], run().layers.length), within(state.cell[1] + step[1], run().positions.length)]);
  });

  theme();
  drawAll();
  at("map").on("plotly_click", ({ points }) => {
    const point = points.find((one) => Array.isArray(one.pointIndex)) || points[0];
    choose(Array.isArray(point.pointIndex) ? point.pointIndex : [point.y, point.x]);
  });
  document.documentElement.dataset.ready = "yes";
})();
