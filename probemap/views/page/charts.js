"use strict";
// Draws the charts of the page with Plotly.  Plotly interprets markup in texts, so it is given only numbers and
// escaped names.

const charts = (() => {
  const tone = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  const withDefaults = ({ xaxis, yaxis, ...layout }) => {
    const axis = { color: tone("soft"), gridcolor: tone("line"), linecolor: tone("line"), zeroline: false, fixedrange: true, automargin: true };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest", dragmode: false,
      font: { family: "system-ui, sans-serif", size: 12, color: tone("ink") }, margin: { l: 45, r: 10, t: 8, b: 40 },
      hoverlabel: { bgcolor: tone("paper"), bordercolor: tone("ink"), font: { color: tone("ink") } },
      xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...layout,
    };
  };

  const draw = (id, traces, layout, label) => {
    const node = document.getElementById(id);
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", label);
    // An existing chart keeps its old size unless the new one is passed.
    const size = { width: node.clientWidth, height: node.clientHeight };
    return Plotly.react(node, traces, { ...withDefaults(layout), ...(node.data ? size : {}), autosize: true }, { displayModeBar: false, responsive: true, doubleClick: false });
  };

  const text = (value, digits = 3) => (value === null || value === undefined ? "unknown" : value.toFixed(digits));
  const range = (low, high) => (low === null || high === null ? "" : `[${text(low)}, ${text(high)}]`);
  const escaped = (name) => String(name).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const colorscale = (colours) => colours.map((colour, k) => [k / (colours.length - 1), colour]);

  // Draws a map.  `marks` is null or contains the best cells, the confidence set and the gain; `selected` is null or
  // [row, column].
  const map = (id, grid, marks, selected, scales, label) => {
    const nLayers = grid.layers.length;
    const isEmpty = grid.value.map((row) => row.map((value) => (value === null ? 1 : null)));
    const containsZero = grid.signed ? grid.value.map((row, i) => row.map((value, j) => (value !== null && grid.low[i][j] <= 0 && grid.high[i][j] >= 0 ? 1 : null))) : null;
    const overlay = (z, colour, opacity) => ({ type: "heatmap", z, showscale: false, hoverinfo: "skip", opacity, colorscale: [[0, colour], [1, colour]], xgap: 1, ygap: 1 });
    const hover = grid.value.map((row, i) => row.map((value, j) =>
      `layer ${grid.layers[i]}, ${escaped(grid.positions[j])}<br>${text(value)} ${range(grid.low[i][j], grid.high[i][j])}<br>n = ${grid.n[j]}` +
      (marks && marks.gain ? `<br>gain ${text(marks.gain.value[i][j])} ${range(marks.gain.low[i][j], marks.gain.high[i][j])}` : "")));
    const traces = [
      overlay(isEmpty, tone("empty"), 1),
      { type: "heatmap", z: grid.value, zmin: grid.limits[0], zmax: grid.limits[1], colorscale: colorscale(grid.signed ? scales.diverging : scales.sequential), xgap: 1, ygap: 1,
        text: hover, hoverinfo: "text", colorbar: { thickness: 12, outlinewidth: 0, tickcolor: tone("soft") } },
    ];
    if (containsZero) traces.push(overlay(containsZero, tone("paper"), 0.72));
    const box = ([i, j], colour, width) => ({ type: "rect", x0: j - 0.5, x1: j + 0.5, y0: i - 0.5, y1: i + 0.5, line: { color: colour, width, dash: "solid" } });
    const shapes = marks ? marks.best.map((cell) => box(cell, tone("ink"), 2.5)) : [];
    if (marks && marks.confidenceSet.length) {
      traces.push({ type: "scatter", mode: "markers", x: marks.confidenceSet.map((cell) => cell[1]), y: marks.confidenceSet.map((cell) => cell[0]), hoverinfo: "skip",
        marker: { size: 3.5, color: "#ffffff", line: { color: "#000000", width: 0.8 } } });
    }
    if (selected) shapes.push(box(selected, tone("incorrect"), 3.5));
    const names = grid.positions.map((name, j) => `${escaped(name)} · ${grid.n[j]}`);
    return draw(id, traces, {
      shapes, margin: { l: 40, r: 10, t: 6, b: 60 },
      xaxis: { tickvals: names.map((_, j) => j), ticktext: names, tickangle: -90, showgrid: false, range: [-0.5, names.length - 0.5] },
      yaxis: { tickvals: grid.layers.map((_, i) => i).filter((i) => i % 2 === 0 || nLayers < 8), ticktext: grid.layers.filter((_, i) => i % 2 === 0 || nLayers < 8),
        showgrid: false, range: [nLayers - 0.5, -0.5], title: { text: "layer" } },
    }, label);
  };

  const line = (x, y, options) => ({ type: "scatter", mode: "lines", x, y, line: { color: tone("correct"), width: 2 }, ...options });
  // Draws one closed shape for each sequence of adjacent points with an interval; an isolated point gets a vertical bar.
  const band = (x, low, high, colour = tone("band")) => {
    const isKnown = low.map((value, k) => value !== null && high[k] !== null);
    const [bandX, bandY] = [[], []];
    for (let k = 0; k < x.length; k += 1) {
      if (!isKnown[k]) continue;
      let end = k;
      while (isKnown[end + 1]) end += 1;
      const run = x.map((_, i) => i).slice(k, end + 1);
      bandX.push(...run.map((i) => x[i]), ...[...run].reverse().map((i) => x[i]), x[k], null);
      bandY.push(...run.map((i) => high[i]), ...[...run].reverse().map((i) => low[i]), high[k], null);
      k = end;
    }
    return { type: "scatter", mode: "lines", x: bandX, y: bandY, fill: "toself", fillcolor: colour, line: { width: 1, color: colour }, hoverinfo: "skip", showlegend: false };
  };
  const guide = (x, y) => line(x, y, { line: { color: tone("soft"), width: 1, dash: "dot" }, hoverinfo: "skip" });

  // Draws one row or one column of a map and marks the selected cell.
  const curve = (id, names, { value, low, high }, selected, isAuc, label) => {
    const x = names.map((_, k) => k);
    const hover = value.map((v, k) => `${escaped(names[k])}<br>${text(v)} ${range(low[k], high[k])}`);
    const traces = [band(x, low, high), line(x, value, { mode: "lines+markers", marker: { size: 4, color: tone("correct") }, text: hover, hoverinfo: "text", connectgaps: false })];
    if (isAuc) traces.push(guide([0, x.length - 1], [0.5, 0.5]));
    traces.push({ type: "scatter", mode: "markers", x: [selected], y: [value[selected]], marker: { size: 10, color: tone("incorrect") }, hoverinfo: "skip" });
    const areNumbers = names.every((name) => typeof name === "number");
    const step = Math.ceil(names.length / 12);
    const ticks = areNumbers ? x.filter((k) => k % step === 0) : x;
    return draw(id, traces, { xaxis: { tickvals: ticks, ticktext: ticks.map((k) => escaped(names[k])), tickangle: areNumbers ? 0 : -90 } }, label);
  };

  const roc = (id, falsePositiveRates, [truePositiveRates, low, high], label) => draw(id, [
    band(falsePositiveRates, low, high), guide([0, 1], [0, 1]),
    line(falsePositiveRates, truePositiveRates, {
      text: truePositiveRates.map((rate, k) => `true positive rate ${text(rate, 2)} ${range(low[k], high[k])}<br>at false positive rate ${text(falsePositiveRates[k], 2)}`), hoverinfo: "text" }),
  ], { xaxis: { range: [0, 1], title: { text: "false positive rate" } }, yaxis: { range: [0, 1.02], title: { text: "true positive rate" } } }, label);

  // Draws the curves of a cell and, unless it is null, of the best baseline, and the constant risk of a random order.
  const risk = (id, coverages, cell, baseline, label) => {
    const hover = ([rates, low, high]) => rates.map((rate, k) => `${text(rate, 2)} ${range(low[k], high[k])} incorrect<br>if ${text(coverages[k], 2)} are accepted`);
    const curveOf = (name, { risk: values }, options) => line(coverages, values[0], { name, text: hover(values), hoverinfo: "text", ...options });
    const errorRate = cell.risk[0].at(-1);
    const traces = [
      band(coverages, cell.risk[1], cell.risk[2]), { ...guide([0, 1], [errorRate, errorRate]), name: "random", legendrank: 1001 },
      curveOf("probe", cell, {}),
    ];
    if (baseline) {
      traces.unshift(band(coverages, baseline.risk[1], baseline.risk[2], tone("other-band")));
      traces.push(curveOf("best baseline", baseline, { line: { color: tone("incorrect"), width: 2, dash: "dash" } }));
    }
    return draw(id, traces, {
      showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 } }, margin: { l: 45, r: 10, t: 40, b: 40 },
      xaxis: { range: [0, 1], title: { text: "share of accepted answers" } }, yaxis: { rangemode: "tozero", title: { text: "share incorrect" } },
    }, label);
  };

  const reliability = (id, [mean, fraction, low, high], label) => draw(id, [
    guide([0, 1], [0, 1]),
    { type: "scatter", mode: "lines+markers", x: mean, y: fraction, line: { color: tone("correct"), width: 2 }, marker: { size: 7, color: tone("correct") },
      error_y: { type: "data", symmetric: false, array: high.map((h, k) => h - fraction[k]), arrayminus: fraction.map((f, k) => f - low[k]), color: tone("correct"), thickness: 1.2, width: 3 },
      text: mean.map((m, k) => `predicted ${text(m, 2)}<br>correct ${text(fraction[k], 2)} ${range(low[k], high[k])}`), hoverinfo: "text" },
  ], { xaxis: { range: [0, 1], title: { text: "mean predicted probability" } }, yaxis: { range: [0, 1.02], title: { text: "fraction of correct answers" } } }, label);

  const histogram = (id, edges, [correct, incorrect], label) => {
    const centres = correct.map((_, k) => (edges[k] + edges[k + 1]) / 2);
    const bars = (name, y, pattern) => ({ type: "bar", x: centres, y, name, marker: { color: tone(name), opacity: 0.75, pattern: { shape: pattern } }, hovertemplate: `%{y} ${name}<extra></extra>` });
    return draw(id, [bars("correct", correct, ""), bars("incorrect", incorrect, "/")], {
      barmode: "group", bargap: 0.05, showlegend: true, legend: { orientation: "h", y: 1.15 },
      xaxis: { range: [0, 1], title: { text: "predicted probability" } }, yaxis: { title: { text: "number of answers" } },
    }, label);
  };

  return { map, curve, roc, risk, reliability, histogram, text, range };
})();
