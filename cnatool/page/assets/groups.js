// Error by quantiles of α.

function groupsTitle(view) {
  const [split] = Object.values(view.score.splits);
  return `${scoredUnit(split, "Error")} and accuracy by input complexity`;
}

function groupsPanel(view, samples, selection) {
  const splits = Object.entries(view.score.splits).filter(([, split]) =>
    split.alpha_groups.some((group) => group.error !== null && group.alpha_mean !== null),
  );
  const heading = el("h3", { text: groupsTitle(view) });
  if (!splits.length) {
    const why = Object.values(view.score.splits)
      .map((split) => split.performance_reason)
      .find(Boolean);
    return el(
      "div",
      { class: "panel" },
      heading,
      reason(`There is no error by α: ${why || "there are no samples"}.`),
    );
  }
  const names = samples.splits.map((split) => split.name);
  const styles = categories(names);
  const plot = new Plot({
    ratio: 0.72,
    least: 230,
    most: 340,
    label: "Share of wrong predictions by quantiles of α",
  });
  let what = "error";
  let scales = null;
  const read = (group) =>
    what !== "accuracy" ? group[what] : group.error === null ? null : 1 - group.error;
  const known = (group) => group.alpha_mean !== null && read(group) !== null;
  const draw = () => {
    const frame = plot.open();
    const groups = splits.flatMap(([, split]) => split.alpha_groups).filter(known);
    scales = {
      x: makeScale(extent(groups.map((group) => group.alpha_mean)), [frame.x0, frame.x1], 0.2),
      y: makeScale([0, Math.max(...groups.map(read)) || 0.01], [frame.y0, frame.y1], 0.05),
    };
    plot.yAxis(
      scales.y,
      what === "loss" ? "mean loss (nats)" : what,
      what === "loss" ? {} : { format: percentTick },
    );
    plot.xAxis(scales.x, view.titles.alpha);
    for (const [name, split] of splits) {
      const { colour: shade, shape } = styles[names.indexOf(name)];
      const shown = split.alpha_groups.filter(known);
      const { pen } = frame;
      pen.strokeStyle = pen.fillStyle = colour(shade);
      pen.lineWidth = 1.8;
      pen.beginPath();
      shown.forEach((group, k) =>
        k
          ? pen.lineTo(scales.x(group.alpha_mean), scales.y(read(group)))
          : pen.moveTo(scales.x(group.alpha_mean), scales.y(read(group))),
      );
      pen.stroke();
      pen.beginPath();
      for (const group of shown)
        trace(pen, shape, scales.x(group.alpha_mean), scales.y(read(group)), 4.5);
      pen.fill();
    }
    mark();
  };
  const mark = () => {
    const { over, frame } = plot;
    over.replaceChildren();
    if (selection.set && samples.alpha) {
      const range = extent(samples.alpha, selection.set);
      const [low, high] = range.map((a) => Math.max(frame.x0, Math.min(frame.x1, scales.x(a))));
      const summary = summarise(samples, selection.set);
      const value =
        what === "error"
          ? summary.accuracy === null
            ? null
            : 1 - summary.accuracy
          : summary[what];
      over.append(
        svg("rect", {
          class: "brush",
          x: low,
          y: frame.y1,
          width: Math.max(1, high - low),
          height: frame.y0 - frame.y1,
        }),
      );
      if (value !== null) {
        const y = Math.max(frame.y1, scales.y(value));
        over.append(
          svg("line", { class: "set", x1: low, x2: Math.max(high, low + 8), y1: y, y2: y }),
        );
      }
    }
    const i = selection.current;
    if (i === null || !samples.alpha) return;
    plot.markAt(Math.max(frame.x0, Math.min(frame.x1, scales.x(samples.alpha[i]))));
  };
  selection.on("point", mark);
  selection.on("set", mark);
  onRedraw(draw);
  const node = el(
    "div",
    { class: "panel" },
    heading,
    el("p", {
      class: "quiet",
      text: `All samples in ${view.score.convention.fields.alpha_groups} groups by quantiles of α. Dashes: the selected samples.`,
    }),
    el(
      "div",
      { class: "controls" },
      toggles(
        "What is drawn",
        [
          ["error", "error"],
          ["accuracy", "accuracy"],
          ["loss", "loss"],
        ],
        what,
        (value) => {
          what = value;
          draw();
        },
      ),
      legend(splits.map(([name]) => styles[names.indexOf(name)])),
    ),
    plot.node,
  );
  return { node, draw };
}

function percentTick(value, step) {
  return percent(value, Math.max(0, -Math.floor(Math.log10(step * 100) + 1e-9)));
}

// Means over some samples; null where undefined.
function summarise(samples, items) {
  const mean = (values) => {
    if (!values) return null;
    let [sum, known] = [0, 0];
    for (const i of items) {
      if (Number.isFinite(values[i])) {
        sum += values[i];
        known++;
      }
    }
    return known ? sum / known : null;
  };
  let [right, judged] = [0, 0];
  for (const i of items) {
    if (samples.outcome[i] === 2) continue;
    judged++;
    right += samples.outcome[i];
  }
  return {
    samples: items.length,
    accuracy: judged ? right / judged : null,
    alpha: mean(samples.alpha),
    beta: mean(samples.beta),
    loss: mean(samples.loss),
    margin: mean(samples.margin),
  };
}
