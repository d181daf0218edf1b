// A cloud of points on a canvas: point at one, brush over many, or walk with the arrow keys.

const REACH = 26; // pixels from which a point is found
const STEP = 4; // pixels after which a press is a brush

class Scatter {
  // `data()` gives {x, y, xTitle, yTitle, xFormat, yFormat, styles, style, visible, curves}.
  constructor({ selection, label, data, describe, ratio = 0.68 }) {
    this.selection = selection;
    this.data = data;
    this.describe = describe;
    this.plot = new Plot({ ratio, label, most: 640, least: 280 });
    this.plot.node.removeAttribute("role");
    this.pad = el("div", {
      class: "pad",
      tabindex: 0,
      role: "application",
      "aria-label": label,
      "aria-roledescription": "scatter plot",
    });
    this.plot.node.append(this.pad);
    this.node = this.plot.node;
    this.box = null;
    this.listen();
    selection.on("point", () => this.mark());
    selection.on("set", () => {
      if (!selection.set) this.box = null;
      this.draw();
    });
  }

  draw() {
    const before = this.plot.frame;
    const frame = this.plot.open();
    if (before && before.width !== frame.width) this.box = null;
    const data = (this.now = this.data());
    const { x, y, visible } = data;
    const shown = [];
    for (let i = 0; i < x.length; i++)
      if (visible(i) && Number.isFinite(x[i]) && Number.isFinite(y[i])) shown.push(i);
    this.shown = shown;
    this.orders = {};
    const [xs, ys] = [extent(x, shown), extent(y, shown)];
    if (!xs) {
      this.plot.under.append(
        svg("text", { x: frame.x0, y: (frame.y0 + frame.y1) / 2, text: "no points to draw" }),
      );
      return;
    }
    this.sx = makeScale(xs, [frame.x0, frame.x1]);
    this.sy = makeScale(ys, [frame.y0, frame.y1]);
    this.plot.yAxis(this.sy, data.yTitle, { format: data.yFormat || tickText });
    this.plot.xAxis(this.sx, data.xTitle, { format: data.xFormat || tickText });
    this.px = new Float32Array(x.length).fill(NaN);
    this.py = new Float32Array(x.length).fill(NaN);
    for (const i of shown) {
      this.px[i] = this.sx(x[i]);
      this.py[i] = this.sy(y[i]);
    }
    this.drawPoints(frame.pen, data, shown);
    for (const { points, colour: name } of data.curves || [])
      this.drawCurve(frame.pen, points, name);
    this.mark();
  }

  drawPoints(pen, { styles, style }, shown) {
    const many = shown.length;
    const radius = many > 4000 ? 1.9 : many > 1200 ? 2.4 : many > 200 ? 3.2 : 5;
    const strength = many > 4000 ? 0.4 : many > 1200 ? 0.5 : many > 200 ? 0.65 : 0.85;
    const { set, members } = this.selection;
    const layers = set
      ? [
          [0, strength * 0.2],
          [1, Math.min(1, strength + 0.35)],
        ]
      : [[0, strength]];
    for (const [member, opacity] of layers) {
      const groups = styles.map(() => []);
      for (const i of shown) if (!set || members[i] === member) groups[style(i)].push(i);
      groups.forEach((group, k) => {
        const { colour: name, shape } = styles[k];
        pen.globalAlpha = shape === "cross" ? Math.min(1, opacity * 2) : opacity;
        pen.fillStyle = pen.strokeStyle = colour(name);
        pen.lineWidth = 1.5;
        pen.beginPath();
        for (const i of group)
          trace(pen, shape, this.px[i], this.py[i], shape === "cross" ? radius * 1.25 : radius);
        if (shape === "cross") pen.stroke();
        else pen.fill();
      });
    }
    pen.globalAlpha = 1;
  }

  drawCurve(pen, points, name) {
    for (const [stroke, width] of [
      [colour("paper"), 4],
      [colour(name), 1.9],
    ]) {
      pen.strokeStyle = stroke;
      pen.lineWidth = width;
      pen.lineJoin = "round";
      pen.beginPath();
      points.forEach(([x, y], i) =>
        i ? pen.lineTo(this.sx(x), this.sy(y)) : pen.moveTo(this.sx(x), this.sy(y)),
      );
      pen.stroke();
    }
  }

  // Redraw what lies over the points: the current one, and the brush.
  mark() {
    if (!this.px) return;
    const { over, frame } = this.plot;
    over.replaceChildren();
    if (this.box) {
      const [x, y, u, v] = this.box;
      over.append(
        svg("rect", {
          class: "brush",
          x: Math.min(x, u),
          y: Math.min(y, v),
          width: Math.abs(u - x),
          height: Math.abs(v - y),
        }),
      );
    }
    const i = this.selection.current;
    if (i === null || !Number.isFinite(this.px[i])) return;
    const [x, y] = [this.px[i], this.py[i]];
    over.append(
      svg("line", {
        class: "zero",
        x1: x,
        x2: x,
        y1: y + 9,
        y2: frame.y0,
        "stroke-dasharray": "2 3",
      }),
      svg("line", {
        class: "zero",
        x1: frame.x0,
        x2: x - 9,
        y1: y,
        y2: y,
        "stroke-dasharray": "2 3",
      }),
      svg("circle", { class: "now", cx: x, cy: y, r: 8 }),
    );
  }

  nearest(x, y) {
    let best = null;
    let least = REACH * REACH;
    for (const i of this.shown || []) {
      const distance = (this.px[i] - x) ** 2 + (this.py[i] - y) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  inside([x, y, u, v]) {
    const [left, right] = [Math.min(x, u), Math.max(x, u)];
    const [top, bottom] = [Math.min(y, v), Math.max(y, v)];
    return this.shown.filter(
      (i) => this.px[i] >= left && this.px[i] <= right && this.py[i] >= top && this.py[i] <= bottom,
    );
  }

  listen() {
    const { pad, selection } = this;
    let from = null;
    const place = (event) => {
      const box = pad.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    pad.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      from = place(event);
      pad.setPointerCapture(event.pointerId);
    });
    pad.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      if (from && (this.brushing || Math.hypot(x - from[0], y - from[1]) > STEP)) {
        this.brushing = true;
        this.box = [...from, x, y];
        this.mark();
      } else if (!from) selection.hover(this.nearest(x, y));
    });
    const release = (event) => {
      if (!from) return;
      from = null;
      if (this.brushing && event.type === "pointercancel") {
        // The finger scrolls the page instead.
        this.brushing = false;
        this.box = null;
        this.mark();
      } else if (this.brushing) {
        this.brushing = false;
        const items = this.inside(this.box);
        selection.choose(items);
        announce(items.length ? `${count(items.length)} selected` : "nothing selected");
        if (!items.length) this.mark();
      } else if (event.type === "pointerup") {
        const item = this.nearest(...place(event));
        selection.pin(item);
        if (item === null) selection.choose(null);
      }
    };
    pad.addEventListener("pointerup", release);
    pad.addEventListener("pointercancel", release);
    pad.addEventListener("pointerleave", () => selection.hover(null));
    pad.addEventListener("keydown", (event) => this.walk(event));
  }

  // Left and right walk along x, up and down along y.
  walk(event) {
    if (event.key === "Escape") {
      this.selection.clear();
      announce("selection cleared");
      return;
    }
    const steps = {
      ArrowRight: ["x", 1],
      ArrowLeft: ["x", -1],
      ArrowUp: ["y", 1],
      ArrowDown: ["y", -1],
      Home: ["x", -Infinity],
      End: ["x", Infinity],
    };
    if (!(event.key in steps) || !this.shown || !this.shown.length) return;
    event.preventDefault();
    const [axis, step] = steps[event.key];
    const values = this.now[axis];
    const among = this.selection.set
      ? this.shown.filter((i) => this.selection.members[i])
      : this.shown;
    const order = [...among].sort((a, b) => values[a] - values[b] || a - b);
    const at = order.indexOf(this.selection.pinned);
    const last = order.length - 1;
    let place = at + step * (event.shiftKey ? 10 : 1);
    if (at < 0 && Number.isFinite(step)) place = step > 0 ? 0 : last;
    const item = order[Math.max(0, Math.min(last, place))];
    this.selection.pin(item);
    announce(this.describe(item));
  }
}
