"use strict";
// Draws what the page's content holds, through Plotly.  Only numbers and position names reach it: it reads markup in texts.

const charts = (() => {
  const tone = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  const frame = (more) => {
    const axis = { color: tone("soft"), gridcolor: tone("line"), linecolor: tone("line"), zeroline: false, fixedrange: true, automargin: true };
    const { xaxis, yaxis, ...rest } = more;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest", dragmode: false,
      font: { family: "system-ui, sans-serif", size: 12, color: tone("ink") }, margin: { l: 45, r: 10, t: 8, b: 40 },
      hoverlabel: { bgcolor: tone("paper"), bordercolor: tone("ink"), font: { color: tone("ink") } },
      xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
    };
  };

  const put = (id, traces, layout, label) => {
    const node = document.getElementById(id);
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", label);
    return Plotly.react(node, traces, frame(layout), { displayModeBar: false, responsive: true, doubleClick: false });
  };

  const text = (value, digits = 3) => (value === null || value === undefined ? "not known" : value.toFixed(digits));
  const range = (low, high) => (low === null || high === null ? "" : `[${text(low)}, ${text(high)}]`);
  // Plotly reads markup in texts, and position names may be anybody's.
  const plain = (name) => String(name).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const scale = (colours) => colours.map((colour, k) => [k / (colours.length - 1), colour]);

  // A map: `grid` as the report writes one; `marks` with best and equal cells, or nothing; `chosen` as [row, column].
  const map = (id, grid, marks, chosen, scales, label) => {
    const rows = grid.layers.length;
    const empty = grid.value.map((row) => row.map((value) => (value === null ? 1 : null)));
    const pale = grid.signed ? grid.value.map((row, i) => row.map((value, j) => (value !== null && grid.low[i][j] <= 0 && grid.high[i][j] >= 0 ? 1 : null))) : null;
    const veil = (z, colour, opacity) => ({ type: "heatmap", z, showscale: false, hoverinfo: "skip", opacity, colorscale: [[0, colour], [1, colour]], xgap: 1, ygap: 1 });
    const said = grid.value.map((row, i) => row.map((value, j) =>
      `layer ${grid.layers[i]}, ${plain(grid.positions[j])}<br>${text(value)} ${range(grid.low[i][j], grid.high[i][j])}<br>n = ${grid.n[j]}` +
      (marks && marks.gain ? `<br>gain ${text(marks.gain.value[i][j])} ${range(marks.gain.low[i][j], marks.gain.high[i][j])}` : "")));
    const traces = [
      veil(empty, tone("empty"), 1),
      { type: "heatmap", z: grid.value, zmin: grid.limits[0], zmax: grid.limits[1], colorscale: scale(grid.signed ? scales.signed : scales.plain), xgap: 1, ygap: 1,
        text: said, hoverinfo: "text", colorbar: { thickness: 12, outlinewidth: 0, tickcolor: tone("soft") } },
    ];
    if (pale) traces.push(veil(pale, tone("paper"), 0.72));
    const box = ([i, j], colour, width, dash) => ({ type: "rect", x0: j - 0.5, x1: j + 0.5, y0: i - 0.5, y1: i + 0.5, line: { color: colour, width, dash } });
    const shapes = marks ? marks.best.map((cell) => box(cell, tone("ink"), 2.5, "solid")) : [];
    if (marks && marks.equal.length) {
      traces.push({ type: "scatter", mode: "markers", x: marks.equal.map((cell) => cell[1]), y: marks.equal.map((cell) => cell[0]), hoverinfo: "skip",
        marker: { size: 3.5, color: "#ffffff", line: { color: "#000000", width: 0.8 } } });
    }
    if (chosen) shapes.push(box(chosen, tone("wrong"), 3.5, "solid"));
    const names = grid.positions.map((name, j) => `${plain(name)} · ${grid.n[j]}`);
    return put(id, traces, {
      shapes, margin: { l: 40, r: 10, t: 6, b: 60 },
      xaxis: { tickvals: names.map((_, j) => j), ticktext: names, tickangle: -90, showgrid: false, range: [-0.5, names.length - 0.5] },
      yaxis: { tickvals: grid.layers.map((_, i) => i).filter((i) => i % 2 === 0 || rows < 8), ticktext: grid.layers.filter((_, i) => i % 2 === 0 || rows < 8),
        showgrid: false, range: [rows - 0.5, -0.5], title: { text: "layer" } },
    }, label);
  };

  const line = (x, y, more) => ({ type: "scatter", mode: "lines", x, y, line: { color: tone("right"), width: 2 }, ...more });
  // One closed shape for each run of neighbours whose interval is known; one that stands alone has a bar.
  const band = (x, low, high) => {
    const known = low.map((value, k) => value !== null && high[k] !== null);
    const [across, up] = [[], []];
    for (let k = 0; k < x.length; k += 1) {
      if (!known[k]) continue;
      let end = k;
      while (known[end + 1]) end += 1;
      const run = x.map((_, i) => i).slice(k, end + 1);
      across.push(...run.map((i) => x[i]), ...[...run].reverse().map((i) => x[i]), x[k], null);
      up.push(...run.map((i) => high[i]), ...[...run].reverse().map((i) => low[i]), high[k], null);
      k = end;
    }
    return { type: "scatter", mode: "lines", x: across, y: up, fill: "toself", fillcolor: tone("band"), line: { width: 1, color: tone("band") }, hoverinfo: "skip" };
  };
  const guide = (x, y) => line(x, y, { line: { color: tone("soft"), width: 1, dash: "dot" }, hoverinfo: "skip" });

  // One row or one column of a map, with the chosen cell marked.
  const curve = (id, names, value, low, high, at, isAuc, label) => {
    const x = names.map((_, k) => k);
    const said = value.map((one, k) => `${plain(names[k])}<br>${text(one)} ${range(low[k], high[k])}`);
    const traces = [band(x, low, high), line(x, value, { mode: "lines+markers", marker: { size: 4, color: tone("right") }, text: said, hoverinfo: "text", connectgaps: false })];
    if (isAuc) traces.push(guide([0, x.length - 1], [0.5, 0.5]));
    traces.push({ type: "scatter", mode: "markers", x: [at], y: [value[at]], marker: { size: 10, color: tone("wrong") }, hoverinfo: "skip" });
    const numbers = names.every((name) => typeof name === "number");
    const step = Math.ceil(names.length / 12);
    const ticks = numbers ? x.filter((k) => k % step === 0) : x;
    return put(id, traces, { xaxis: { tickvals: ticks, ticktext: ticks.map((k) => plain(names[k])), tickangle: numbers ? 0 : -90 } }, label);
  };

  const roc = (id, alarms, [hits, low, high], label) => put(id, [
    band(alarms, low, high), guide([0, 1], [0, 1]),
    line(alarms, hits, { text: hits.map((hit, k) => `${text(hit, 2)} ${range(low[k], high[k])} of right answers<br>at ${text(alarms[k], 2)} of wrong ones`), hoverinfo: "text" }),
  ], { xaxis: { range: [0, 1], title: { text: "false alarms" } }, yaxis: { range: [0, 1.02] } }, label);

  const reliability = (id, [mean, share, low, high], label) => put(id, [
    guide([0, 1], [0, 1]),
    { type: "scatter", mode: "lines+markers", x: mean, y: share, line: { color: tone("right"), width: 2 }, marker: { size: 7, color: tone("right") },
      error_y: { type: "data", symmetric: false, array: high.map((h, k) => h - share[k]), arrayminus: share.map((s, k) => s - low[k]), color: tone("right"), thickness: 1.2, width: 3 },
      text: mean.map((m, k) => `given ${text(m, 2)}: ${text(share[k], 2)} ${range(low[k], high[k])} are right`), hoverinfo: "text" },
  ], { xaxis: { range: [0, 1], title: { text: "probability of “right”" } }, yaxis: { range: [0, 1.02] } }, label);

  const heaps = (id, edges, [right, wrong], label) => {
    const middles = right.map((_, k) => (edges[k] + edges[k + 1]) / 2);
    const bars = (name, y, pattern) => ({ type: "bar", x: middles, y, name, marker: { color: tone(name), opacity: 0.75, pattern: { shape: pattern } }, hovertemplate: `%{y} ${name}<extra></extra>` });
    return put(id, [bars("right", right, ""), bars("wrong", wrong, "/")], {
      barmode: "group", bargap: 0.05, showlegend: true, legend: { orientation: "h", y: 1.15 },
      xaxis: { range: [0, 1], title: { text: "probability of “right”" } }, yaxis: { title: { text: "answers" } },
    }, label);
  };

  return { map, curve, roc, reliability, heaps, text, range };
})();
