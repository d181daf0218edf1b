// z over depth: the current sample among the quantiles of all.

const SHARES = [0.05, 0.25, 0.5, 0.75, 0.95];

function profilePanel(view, samples, selection) {
  const layers = view.score.layers;
  if (!samples.z)
    return el(
      "div",
      { class: "panel" },
      el("h3", { text: "Through the layers" }),
      reason(view.layers_reason),
    );
  const everyone = Uint32Array.from({ length: samples.total }, (_, i) => i);
  const depths = layers.map((layer) => layer.depth);
  const quantiles = layers.map((_, k) => samples.z.quantiles(k, everyone, SHARES));
  const plot = new Plot({
    ratio: 0.74,
    least: 250,
    most: 360,
    label: "Activation over depth: quantiles of all samples and the current sample",
  });
  let standard = false;
  // As it is, or in units of the spread of all samples.
  const show = (value, k) => {
    if (!standard) return value;
    const [, low, middle, high] = quantiles[k] || [];
    return high > low ? (value - middle) / (high - low) : 0;
  };
  let scales = null;
  const point = (k, value) => [scales.x(depths[k]), scales.y(show(value, k))];
  const band = (low, high) =>
    path(
      [
        ...quantiles.map((q, k) => q && point(k, q[low])),
        ...quantiles.map((q, k) => q && point(k, q[high])).reverse(),
      ].filter(Boolean),
    ) + "Z";
  const draw = () => {
    const frame = plot.open();
    const values = quantiles.flatMap((q, k) => (q ? [show(q[0], k), show(q[4], k)] : []));
    if (!values.length) return;
    scales = {
      x: makeScale(extent(depths), [frame.x0, frame.x1], 0.03),
      y: makeScale(extent(values), [frame.y0, frame.y1], 0.12),
    };
    plot.yAxis(scales.y, standard ? "z, in quartile ranges from the median" : view.titles.z);
    const whole = [...new Set(depths)];
    plot.xAxis(scales.x, view.titles.depth, {
      only: whole.length <= 12 ? whole : undefined,
      format: (value) => (Number.isInteger(value) ? String(value) : ""),
    });
    plot.under.append(
      svg("path", { class: "band", d: band(0, 4) }),
      svg("path", { class: "band", d: band(1, 3) }),
      svg("path", {
        class: "middle",
        d: path(quantiles.map((q, k) => (q ? point(k, q[2]) : [NaN, NaN]))),
      }),
    );
    mark();
  };
  const mark = () => {
    if (!scales) return;
    const { over, frame } = plot;
    over.replaceChildren();
    if (selection.layer !== null) {
      const x = scales.x(depths[selection.layer]);
      over.append(svg("line", { class: "zero", x1: x, x2: x, y1: frame.y1, y2: frame.y0 }));
    }
    const clip = ([x, y]) => [x, Math.max(frame.y1 - 6, Math.min(frame.y0 + 6, y))];
    if (selection.set) {
      const medians = layers.map((_, k) => samples.z.quantiles(k, selection.set, [0.5]));
      over.append(
        svg("path", {
          class: "set",
          d: path(medians.map((q, k) => (q ? clip(point(k, q[0])) : [NaN, NaN]))),
        }),
      );
    }
    const i = selection.current;
    if (i === null) return;
    const points = layers.map((_, k) => clip(point(k, samples.z.at(i, k))));
    over.append(svg("path", { class: "now", d: path(points) }));
    if (layers.length <= 30)
      for (const [x, y] of points)
        if (Number.isFinite(y))
          over.append(svg("circle", { class: "now-dot", cx: x, cy: y, r: 3.2 }));
  };
  selection.on("point", mark);
  selection.on("set", mark);
  selection.on("layer", mark);
  onRedraw(draw);
  const node = el(
    "div",
    { class: "panel" },
    el("h3", { text: "Through the layers" }),
    el("p", {
      class: "quiet",
      text: "Bands hold half and 90 % of all samples; the bold line is the current sample, dashes the median of the selected. β is the slope.",
    }),
    el(
      "div",
      { class: "controls" },
      toggles(
        "Scale of z",
        [
          ["z", "z"],
          ["standard", "standardised"],
        ],
        "z",
        (value) => {
          standard = value === "standard";
          draw();
        },
      ),
    ),
    plot.node,
  );
  return { node, draw };
}
