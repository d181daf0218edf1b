// Axes of a plot as SVG, and the frame that plots are drawn in.

// A plot of a height that follows its width: layers that `draw(frame)` fills anew each time.
class Plot {
  constructor({ ratio = 0.62, least = 200, most = 560, label, margin = {} }) {
    this.ratio = ratio;
    this.least = least;
    this.most = most;
    this.margin = { top: 10, right: 12, bottom: 44, left: 58, ...margin };
    this.under = svg("svg", { "aria-hidden": "true" });
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.over = svg("svg", { "aria-hidden": "true" });
    this.node = el(
      "div",
      { class: "plot", role: "img", "aria-label": label },
      this.under,
      this.canvas,
      this.over,
    );
  }

  // Measure the plot, and clear it.
  open() {
    const width = Math.max(220, Math.floor(this.node.getBoundingClientRect().width || 600));
    const height = Math.round(Math.min(this.most, Math.max(this.least, width * this.ratio)));
    this.node.style.height = `${height}px`;
    for (const layer of [this.under, this.over]) {
      layer.replaceChildren();
      layer.setAttribute("width", width);
      layer.setAttribute("height", height);
    }
    const density = Math.min(2, devicePixelRatio || 1);
    this.canvas.width = width * density;
    this.canvas.height = height * density;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(density, density);
    const { top, right, bottom, left } = this.margin;
    this.frame = { width, height, pen, x0: left, x1: width - right, y0: height - bottom, y1: top };
    return this.frame;
  }

  xAxis(scale, title, { format = tickText, wanted, only } = {}) {
    const { x0, x1, y0 } = this.frame;
    const { list, step } = only
      ? { list: only, step: 1 }
      : ticks(scale.domain, wanted || Math.max(3, (x1 - x0) / 90));
    this.under.append(svg("line", { class: "axis", x1: x0, x2: x1, y1: y0, y2: y0 }));
    for (const value of list) {
      const x = scale(value);
      this.under.append(
        svg("line", { class: "tick", x1: x, x2: x, y1: y0, y2: y0 + 4 }),
        svg("text", { x, y: y0 + 17, "text-anchor": "middle", text: format(value, step) }),
      );
    }
    this.under.append(
      svg("text", {
        class: "title",
        x: (x0 + x1) / 2,
        y: y0 + 37,
        "text-anchor": "middle",
        text: title,
      }),
    );
  }

  // Mark where the current sample lies along the horizontal axis.
  markAt(x) {
    const { y0, y1 } = this.frame;
    this.over.append(
      svg("line", { class: "now", x1: x, x2: x, y1, y2: y0, "stroke-width": 1.5 }),
    );
  }

  yAxis(scale, title, { format = tickText, wanted } = {}) {
    const { x0, x1, y0, y1 } = this.frame;
    const { list, step } = ticks(scale.domain, wanted || Math.max(3, (y0 - y1) / 60));
    for (const value of list) {
      const y = scale(value);
      this.under.append(
        svg("line", { class: "grid", x1: x0, x2: x1, y1: y, y2: y }),
        svg("text", { x: x0 - 8, y: y + 4, "text-anchor": "end", text: format(value, step) }),
      );
    }
    this.under.append(
      svg("text", {
        class: "title",
        text: title,
        "text-anchor": "middle",
        transform: `translate(13 ${(y0 + y1) / 2}) rotate(-90)`,
      }),
    );
  }
}

function path(points) {
  let text = "";
  let drawing = false;
  for (const [x, y] of points) {
    if (Number.isFinite(x) && Number.isFinite(y))
      text += `${drawing ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    drawing = Number.isFinite(x) && Number.isFinite(y);
  }
  return text;
}
