// The network as a drawing of its layers, with what each contributes to β and CNA.

function networkPanel(view, samples, selection) {
  const steps = view.network;
  if (!steps.length) return section("network", "The network", null, reason("The store lists no linear operators, and no layers are scored."));
  const splits = view.layers ? Object.keys(view.layers.splits) : [];
  let split = splits.includes("test") ? "test" : splits[0];
  const holder = el("div", { class: "net" });
  const spread = view.layers && samples && samples.z ? view.score.layers.map((_, k) => samples.z.quantiles(k, Uint32Array.from({ length: samples.total }, (_, i) => i), [0.05, 0.95])) : null;
  let rows = [];
  const draw = () => {
    rows = [];
    holder.replaceChildren(drawNetwork());
    mark();
  };
  const drawNetwork = () => {
    const width = Math.max(300, Math.floor(holder.getBoundingClientRect().width || 900));
    const narrow = width < 640;
    const parts = split ? view.layers.splits[split].layers : null;
    const columns = layoutColumns(width, narrow, parts !== null);
    const biggest = Math.log(Math.max(2, ...steps.map((step) => step.size)));
    const scales = parts && { beta: partScale(parts.map((part) => part.beta), columns.beta, spread, parts), cna: partScale(parts.map((part) => part.cna), columns.cna) };
    const compact = steps.length > 24;
    let y = parts ? 34 : 10;
    const drawing = svg("svg", { width, role: "img", "aria-label": `Drawing of ${steps.length} layers in order` });
    if (parts) drawing.append(headText(columns.beta, "part of mean β"), headText(columns.cna, "part of CNA"));
    steps.forEach((step, n) => {
      const height = narrow ? 46 : compact ? 22 : 30;
      const gap = step.then.length && !compact ? 20 : compact ? 4 : 8;
      const part = parts && step.counted !== null ? parts[step.counted] : null;
      const row = svg("g", { class: "row", onpointerenter: () => selection.pointLayer(step.counted), onpointerleave: () => selection.pointLayer(null) });
      const barY = narrow ? y + 30 : y + height / 2;
      const half = columns.block / 2;
      const size = step.size ? 14 + (columns.block - 14) * (Math.log(Math.max(1, step.size)) / biggest) : 14;
      row.append(svg("rect", { class: "back", x: 0, y: y - 1, width, height: height + 2, rx: 5 }));
      if (n + 1 < steps.length) drawing.append(svg("line", { class: "wire", x1: half, x2: half, y1: y + (narrow ? 22 : height - 2), y2: y + height + gap + 3 }));
      // A projection lies beside the path that it bypasses.
      const left = step.shortcut ? columns.block - size / 2 : half - size / 2;
      row.append(svg("rect", { class: `block ${step.counted === null ? "uncounted" : ""}`, x: left, y: y + 3, width: step.shortcut ? size / 2 : size, height: narrow ? 18 : height - 6, rx: 4 }));
      row.append(stepText(step, columns, narrow ? y + 16 : y + height / 2 + 4, narrow));
      const marks = { beta: svg("g"), cna: svg("g") };
      if (part) {
        for (const what of ["beta", "cna"]) row.append(...bar(part[what], scales[what], columns[what], barY, narrow));
        if (spread && spread[step.counted]) {
          const [low, high] = spread[step.counted].map((z) => scales.beta(part.coefficient * z)).sort((a, b) => a - b);
          row.append(svg("line", { class: "tick", x1: low, x2: high, y1: barY, y2: barY }));
        }
        row.append(marks.beta);
        rows.push({ row, part, counted: step.counted, scale: scales.beta, marks: marks.beta, y: barY, column: columns.beta });
      } else if (step.why && !narrow) row.append(svg("text", { class: "less", x: columns.beta ? columns.beta[0] : columns.text, y: y + height / 2 + 4, text: step.why }));
      row.append(svg("title", { text: stepTitle(step, part) }));
      drawing.append(row);
      if (step.then.length && !compact) drawing.append(svg("text", { class: "less", x: half + 12, y: y + height + 14, text: shorten(`↓ ${step.then.join(", ")}`, narrow ? 44 : 70) }));
      y += height + gap;
    });
    drawing.setAttribute("height", y + 6);
    return drawing;
  };
  const mark = () => {
    const i = selection.current;
    for (const { row, part, counted, scale, marks, y, column } of rows) {
      row.classList.toggle("lit", selection.layer === counted);
      marks.replaceChildren();
      if (!samples || !samples.z) continue;
      const tick = (z, name) => {
        const x = Math.max(column[0], Math.min(column[1], scale(part.coefficient * z)));
        if (Number.isFinite(x)) marks.append(svg("line", { class: name, x1: x, x2: x, y1: y - 8, y2: y + 8 }));
      };
      if (selection.set) {
        const middle = samples.z.quantiles(counted, selection.set, [0.5]);
        if (middle) tick(middle[0], "set");
      }
      if (i !== null) tick(samples.z.at(i, counted), "now");
    }
  };
  selection.on("point", mark);
  selection.on("set", mark);
  selection.on("layer", mark);
  onRedraw(draw);
  const about = describeNetwork(view);
  const controls = splits.length > 1 ? el("div", { class: "controls" }, toggles("Split", splits.map((name) => [name, name]), split, (value) => {
    split = value;
    draw();
  })) : null;
  const missing = view.layers ? null : reason(`What each layer contributes is not known: ${view.layers_reason}`);
  const node = section("network", "The network", about, controls, missing, holder,
    view.layers ? el("p", { class: "hint", text: "Blocks are wider the more elements a layer has. Bars sum to the mean of β, and to Pearson's CNA. Thin lines hold 90 % of samples; the black tick is the current sample's part of its β." }) : null);
  return { node, draw };
}

function describeNetwork(view) {
  const counted = view.score ? view.score.layers.length : 0;
  const depth = Math.max(0, ...view.network.map((step) => step.path || 0));
  const texts = [`${count(view.network.length, "layer")} in order of execution`];
  if (depth) texts.push(`the longest path has ${count(depth)}`);
  if (view.score) texts.push(`${count(counted)} count for β`);
  return sentence(texts.join("; "));
}

function layoutColumns(width, narrow, bars) {
  const block = narrow ? 54 : 96;
  const text = block + 16;
  if (!bars) return { block, text, room: width - text };
  if (narrow) {
    const half = (width - text - 16) / 2;
    return { block, text, room: width - text, beta: [text, text + half], cna: [text + half + 16, width - 2] };
  }
  const bar = Math.min(290, (width - text) * 0.3);
  return { block, text, room: width - text - 2 * bar - 120, beta: [width - 2 * bar - 84, width - bar - 84], cna: [width - bar - 2, width - 2] };
}

function headText([x0, x1], text) {
  return svg("text", { x: (x0 + x1) / 2, y: 16, "text-anchor": "middle", class: "title", text });
}

// A scale around 0 that holds all parts, and for β those of most samples.
function partScale(values, column, spread, parts) {
  const all = values.filter((value) => value !== null);
  if (spread) spread.forEach((pair, k) => pair && all.push(...pair.map((z) => parts[k].coefficient * z)));
  return makeScale([Math.min(0, ...all), Math.max(0, ...all)], column, 0.02);
}

function bar(value, scale, [x0, x1], y, narrow) {
  const zero = scale(0);
  const items = [svg("line", { class: "zero", x1: zero, x2: zero, y1: y - 9, y2: y + 9 })];
  if (value === null) return items;
  const end = scale(value);
  items.push(svg("rect", { class: value < 0 ? "minus" : "plus", x: Math.min(zero, end), y: y - 5, width: Math.max(0.5, Math.abs(end - zero)), height: 10, rx: 1.5 }));
  return items;
}

function stepText(step, columns, y, narrow) {
  const shape = step.shape.length ? step.shape.join("×") : step.size ? "scalar" : "";
  const room = Math.floor(Math.max(80, columns.room) / 7);
  const tail = `  ${step.operator}${shape ? `  ${shape}` : ""}`;
  const name = shorten(step.name, Math.max(8, room - tail.length));
  return svg("text", { class: "name", x: columns.text, y }, svg("tspan", { text: name }), svg("tspan", { dx: 8, fill: "var(--soft)", text: `${step.operator}${shape ? ` ${shape}` : ""}` }));
}

function stepTitle(step, part) {
  const lines = [`${step.name} (${step.operator})`];
  if (step.size) lines.push(`${count(step.size)} elements`);
  if (step.weights) lines.push(`weights ${step.weights.join("×")}`);
  if (part) lines.push(`mean z ${number(part.mean)}`, `part of β ${number(part.beta)}`, `part of CNA ${number(part.cna)}`);
  if (step.why) lines.push(step.why);
  return lines.join("\n");
}
