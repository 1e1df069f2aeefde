// Draws every run as a point and lets the reader choose the rows and the language it is scored on.
for (const figure of document.querySelectorAll("figure.explorer")) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const [rows, language] = figure.querySelectorAll("select");
  const plot = figure.querySelector(".plot");
  const option = (text, value) => new Option(text, value);
  const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  rows.append(...Object.keys(data.scores).map(name => option(name, name)));

  const offerLanguages = () => {
    const before = language.value;
    const known = Object.keys(data.scores[rows.value]);
    language.replaceChildren(...known.map(name => option(data.groups[name] ?? name, name)));
    language.value = known.includes(before) ? before : known[0];
  };

  const draw = () => {
    const scores = data.scores[rows.value][language.value];
    const shown = data.runs.map((run, i) => ({ ...run, score: scores[i] })).filter(run => run.score !== null);
    const seeds = [...new Set(shown.map(run => run.seed))].sort((a, b) => a - b);
    // Seeds stand side by side, in the same order for each method.
    const offset = seed => seeds.length > 1 ? (seeds.indexOf(seed) / (seeds.length - 1) - 0.5) * 0.5 : 0;
    const traces = data.methods.map((method, m) => {
      const own = shown.filter(run => run.method === m);
      return {
        type: "scatter", mode: "markers", name: method, showlegend: false,
        x: own.map(run => m + offset(run.seed)), y: own.map(run => run.score),
        customdata: own.map(run => [run.id, run.split, run.seed, run.epoch]),
        marker: { color: data.colours[m % data.colours.length], size: 9, opacity: 0.8 },
        hovertemplate: `<b>${method}</b> %{y:.2f}<br>split %{customdata[1]}, seed %{customdata[2]}`
          + "<br>best epoch %{customdata[3]}<br>run %{customdata[0]}<extra></extra>",
      };
    });
    Plotly.react(plot, traces, {
      height: 420, margin: { l: 60, r: 10, t: 10, b: 60 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: style("--ink") },
      xaxis: {
        tickvals: data.methods.map((_, m) => m), ticktext: data.methods, range: [-0.6, data.methods.length - 0.4],
        zeroline: false, gridcolor: style("--line"), fixedrange: true,
      },
      yaxis: { title: { text: "Pearson × 100" }, zeroline: false, gridcolor: style("--line") },
    }, { displayModeBar: false, responsive: true });
    figure.querySelector("output").textContent = `${shown.length} runs`;
  };

  rows.addEventListener("change", () => { offerLanguages(); draw(); });
  language.addEventListener("change", draw);
  offerLanguages();
  draw();
  plot.on("plotly_click", event => { location.hash = `run-${event.points[0].customdata[0]}`; });
}
