// How margins are distributed: how sure the network is of the right class.

const BINS = 40;

function marginsPanel(view, samples, selection) {
  const heading = el("h3", { text: "How sure the network is" });
  if (!samples.margin) {
    const why = Object.values(view.score.splits)
      .map(
        (split) =>
          split.performance_reason ||
          split.loss_reason ||
          (split.tokens && "each token has scores, and not the sample"),
      )
      .find(Boolean);
    return el(
      "div",
      { class: "panel" },
      heading,
      reason(`There are no margins: ${why || "there are no samples"}.`),
    );
  }
  const everyone = Array.from({ length: samples.total }, (_, i) => i);
  const known = everyone.filter((i) => Number.isFinite(samples.margin[i]));
  const styles = categories(samples.splits.map((split) => split.name));
  const domain = extent(samples.margin, known);
  const plot = new Plot({ ratio: 0.72, least: 230, most: 340, label: "Distribution of margins" });
  const width = (domain[1] - domain[0]) / BINS || 1;
  const bin = (value) => Math.max(0, Math.min(BINS - 1, Math.floor((value - domain[0]) / width)));
  const shares = (items) => {
    const bins = new Float64Array(BINS);
    for (const i of items) bins[bin(samples.margin[i])] += 1 / items.length;
    return bins;
  };
  const bySplit = samples.splits.map((_, k) => shares(known.filter((i) => samples.split[i] === k)));
  let scales = null;
  const edge = (b) => domain[0] + b * width;
  const outline = (bins) =>
    [...bins].flatMap((share, b) => {
      const y = Math.max(plot.frame.y1 - 4, scales.y(Math.sqrt(share)));
      return [
        [scales.x(edge(b)), y],
        [scales.x(edge(b + 1)), y],
      ];
    });
  const draw = () => {
    const frame = plot.open();
    const most = Math.max(...bySplit.flatMap((bins) => [...bins]));
    scales = {
      x: makeScale([edge(0), edge(BINS)], [frame.x0, frame.x1], 0.01),
      y: makeScale([0, Math.sqrt(most)], [frame.y0, frame.y1], 0),
    };
    plot.yAxis(scales.y, "share of samples (root scale)", {
      format: (value) => percentTick(value * value, value * value < 0.01 && value ? 0.001 : 0.01),
    });
    plot.xAxis(
      scales.x,
      view.score.convention.fields.margin === "paper"
        ? "margin, in probability"
        : "margin, in logits",
    );
    const dashes = [null, "7 3", "2 3", "9 3 2 3"];
    bySplit.forEach((bins, k) =>
      plot.under.append(
        svg("path", {
          d: path([
            [scales.x(edge(0)), frame.y0],
            ...outline(bins),
            [scales.x(edge(BINS)), frame.y0],
          ]),
          fill: `var(--${styles[k].colour})`,
          "fill-opacity": 0.1,
          stroke: `var(--${styles[k].colour})`,
          "stroke-width": 1.6,
          "stroke-dasharray": dashes[k % 4],
        }),
      ),
    );
    mark();
  };
  const mark = () => {
    const { over } = plot;
    over.replaceChildren();
    if (selection.set) {
      const items = selection.set.filter((i) => Number.isFinite(samples.margin[i]));
      if (items.length) over.append(svg("path", { class: "set", d: path(outline(shares(items))) }));
    }
    const i = selection.current;
    if (i === null || !Number.isFinite(samples.margin[i])) return;
    plot.markAt(scales.x(samples.margin[i]));
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
      text: "The score of the right class less that of the best other one; below 0 the prediction is wrong. Dashes: the selected samples.",
    }),
    el("div", { class: "controls" }, legend(styles)),
    plot.node,
  );
  return { node, draw };
}
