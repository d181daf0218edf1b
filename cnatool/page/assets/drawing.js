// The drawing of a network: a row for each layer, with a block, a name and two bars.

const NARROW = 640; // pixels below which bars lie under the name
const COMPACT = 24; // layers from which rows are low

class NetworkDrawing {
  constructor(view, z, selection, split) {
    this.view = view;
    this.steps = view.network;
    this.z = z;
    this.selection = selection;
    this.split = split;
    this.spread = null;
    if (z) {
      const everyone = Uint32Array.from({ length: z.rows }, (_, i) => i);
      this.spread = view.score.layers.map((_, k) => z.quantiles(k, everyone, [0.05, 0.95]));
    }
    this.rows = [];
    this.node = el("div", { class: "net" });
    for (const event of ["point", "set", "layer"]) selection.on(event, () => this.mark());
  }

  draw() {
    const width = Math.max(300, Math.floor(this.node.getBoundingClientRect().width || 900));
    this.narrow = width < NARROW;
    this.compact = this.steps.length > COMPACT;
    this.width = width;
    this.parts = this.split ? this.view.layers.splits[this.split].layers : null;
    this.columns = layOut(width, this.narrow, this.parts !== null);
    this.most = Math.log(Math.max(2, ...this.steps.map((step) => step.size)));
    this.rows = [];
    const label = `Drawing of ${count(this.steps.length, "layer")} in order`;
    const picture = svg("svg", { width, role: "img", "aria-label": label });
    if (this.parts) {
      this.scales = { beta: this.partScale("beta"), cna: this.partScale("cna") };
      picture.append(columnTitle(this.columns.beta, "part of mean β"));
      picture.append(columnTitle(this.columns.cna, "part of CNA"));
    }
    let y = this.parts ? 34 : 10;
    this.steps.forEach((step, n) => {
      const height = this.narrow ? 46 : this.compact ? 22 : 30;
      const gap = this.compact ? 4 : step.then.length ? 20 : 8;
      if (n + 1 < this.steps.length) picture.append(this.wire(y, height, gap));
      picture.append(this.row(step, y, height));
      if (step.then.length && !this.compact) picture.append(this.between(step, y + height + 14));
      y += height + gap;
    });
    picture.setAttribute("height", y + 6);
    this.node.replaceChildren(picture);
    this.mark();
  }

  // A scale around 0 that holds all parts, and for β those of most samples.
  partScale(what) {
    const values = this.parts.map((part) => part[what]).filter((value) => value !== null);
    if (what === "beta" && this.spread) {
      this.spread.forEach((pair, k) => {
        if (pair) values.push(...pair.map((z) => this.parts[k].coefficient * z));
      });
    }
    const domain = [Math.min(0, ...values), Math.max(0, ...values)];
    return makeScale(domain, this.columns[what], 0.02);
  }

  wire(y, height, gap) {
    const x = this.columns.block / 2;
    const y1 = y + (this.narrow ? 22 : height - 2);
    return svg("line", { class: "wire", x1: x, x2: x, y1, y2: y + height + gap + 3 });
  }

  between(step, y) {
    const text = shorten(`↓ ${step.then.join(", ")}`, this.narrow ? 44 : 70);
    return svg("text", { class: "less", x: this.columns.block / 2 + 12, y, text });
  }

  row(step, y, height) {
    const part = this.parts && step.counted !== null ? this.parts[step.counted] : null;
    const middle = y + height / 2;
    const row = svg("g", {
      class: "row",
      onpointerenter: () => this.selection.pointLayer(step.counted),
      onpointerleave: () => this.selection.pointLayer(null),
    });
    const back = { class: "back", x: 0, y: y - 1, width: this.width, height: height + 2, rx: 5 };
    row.append(svg("rect", back), this.block(step, y, height));
    row.append(this.label(step, this.narrow ? y + 16 : middle + 4));
    if (part) this.addBars(row, step.counted, part, this.narrow ? y + 30 : middle);
    else if (step.why && !this.narrow) {
      const x = this.parts ? this.columns.beta[0] : this.columns.text + this.columns.room - 160;
      row.append(svg("text", { class: "less", x, y: middle + 4, text: step.why }));
    }
    row.append(svg("title", { text: stepTitle(step, part) }));
    return row;
  }

  block(step, y, height) {
    const { block } = this.columns;
    const size = step.size ? 14 + (block - 14) * (Math.log(step.size) / this.most) : 14;
    return svg("rect", {
      class: step.counted === null ? "block uncounted" : "block",
      // A projection lies beside the path that it bypasses.
      x: step.shortcut ? block - size / 2 : (block - size) / 2,
      y: y + 3,
      width: step.shortcut ? size / 2 : size,
      height: this.narrow ? 18 : height - 6,
      rx: 4,
    });
  }

  label(step, y) {
    const shape = step.size ? step.shape.join("×") || "scalar" : "";
    const tail = `${step.operator} ${shape}`.trim();
    const room = Math.floor(Math.max(80, this.columns.room) / 7);
    const name = shorten(step.name, Math.max(8, room - tail.length - 2));
    return svg(
      "text",
      { class: "name", x: this.columns.text, y },
      svg("tspan", { text: name }),
      svg("tspan", { dx: 8, fill: "var(--soft)", text: tail }),
    );
  }

  addBars(row, counted, part, y) {
    for (const what of ["beta", "cna"]) row.append(...bar(part[what], this.scales[what], y));
    const pair = this.spread && this.spread[counted];
    if (pair) {
      const [x1, x2] = pair.map((z) => this.scales.beta(part.coefficient * z));
      row.append(svg("line", { class: "tick", x1, x2, y1: y, y2: y }));
    }
    const marks = svg("g");
    row.append(marks);
    this.rows.push({ row, part, counted, marks, y });
  }

  // Mark the layer that is pointed at, and the parts of the current and the selected samples.
  mark() {
    const { layer, current, set } = this.selection;
    for (const { row, part, counted, marks, y } of this.rows) {
      row.classList.toggle("lit", layer === counted);
      marks.replaceChildren();
      if (!this.z) continue;
      const middle = set && this.z.quantiles(counted, set, [0.5]);
      if (middle) this.tick(marks, part.coefficient * middle[0], "set", y);
      if (current !== null)
        this.tick(marks, part.coefficient * this.z.at(current, counted), "now", y);
    }
  }

  tick(marks, value, name, y) {
    const [low, high] = this.columns.beta;
    const x = Math.max(low, Math.min(high, this.scales.beta(value)));
    if (Number.isFinite(x)) {
      marks.append(svg("line", { class: name, x1: x, x2: x, y1: y - 8, y2: y + 8 }));
    }
  }
}

// Where blocks, names and bars lie.
function layOut(width, narrow, bars) {
  const block = narrow ? 54 : 96;
  const text = block + 16;
  if (!bars) return { block, text, room: width - text };
  if (narrow) {
    const half = (width - text - 16) / 2;
    const cna = [text + half + 16, width - 2];
    return { block, text, room: width - text, beta: [text, text + half], cna };
  }
  const length = Math.min(290, (width - text) * 0.3);
  const beta = [width - 2 * length - 84, width - length - 84];
  return { block, text, room: beta[0] - text - 36, beta, cna: [width - length - 2, width - 2] };
}

function columnTitle([x0, x1], text) {
  return svg("text", { x: (x0 + x1) / 2, y: 16, "text-anchor": "middle", class: "title", text });
}

function bar(value, scale, y) {
  const zero = scale(0);
  const axis = svg("line", { class: "zero", x1: zero, x2: zero, y1: y - 9, y2: y + 9 });
  if (value === null) return [axis];
  const end = scale(value);
  const width = Math.max(0.5, Math.abs(end - zero));
  const sign = value < 0 ? "minus" : "plus";
  const place = { x: Math.min(zero, end), y: y - 5, width, height: 10, rx: 1.5 };
  return [axis, svg("rect", { class: sign, ...place })];
}

function stepTitle(step, part) {
  const lines = [`${step.name} (${step.operator})`];
  if (step.size) lines.push(`${count(step.size)} elements`);
  if (step.weights) lines.push(`weights ${step.weights.join("×")}`);
  if (part) {
    lines.push(`mean z ${number(part.mean)}`);
    lines.push(`part of β ${number(part.beta)}`, `part of CNA ${number(part.cna)}`);
  }
  if (step.why) lines.push(step.why);
  return lines.join("\n");
}
