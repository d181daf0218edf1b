// The cloud of samples: use of depth β over input complexity α.

function cloudPanel(view, samples, pictures, selection) {
  const splitStyles = categories(samples.splits.map((split) => split.name));
  const hidden = new Set();
  let mode = "split";
  const outcomes = [
    { text: "wrong", colour: "bad", shape: "cross" },
    { text: "right", colour: "good", shape: "circle" },
    { text: "unknown", colour: "c7", shape: "diamond" },
  ];
  const classes = listClasses(view, samples);
  const modes = {
    split: { text: "split", styles: splitStyles, style: (i) => samples.split[i] },
    outcome: { text: "right or wrong", styles: outcomes, style: (i) => samples.outcome[i] },
  };
  if (classes)
    modes.label = {
      text: "label",
      styles: categories(classes.map((c) => c.text)),
      style: (i) => classes.place.get(samples.label[i]),
    };
  if (!samples.outcome.some((outcome) => outcome !== 2)) delete modes.outcome;
  const key = el("div");
  const scatter = new Scatter({
    selection,
    label:
      "Samples by input complexity α and use of depth β. Arrow keys walk through samples, Escape clears.",
    describe: (i) => describeSample(view, samples, i),
    data: () => ({
      x: samples.alpha,
      y: samples.beta,
      xTitle: view.titles.alpha,
      yTitle: view.titles.beta,
      visible: (i) => !hidden.has(samples.split[i]),
      curves: samples.splits
        .map((split, k) => ({ split, k }))
        .filter(({ split, k }) => split.curve && !hidden.has(k))
        .map(({ split, k }) => ({
          colour: mode === "split" ? splitStyles[k].colour : "ink",
          points: Array.from(split.curve[0], (a, i) => [a, split.curve[1][i]]),
        })),
      ...modes[mode],
    }),
  });
  const update = () => {
    key.replaceChildren(
      legend(
        modes[mode].styles.filter(
          (style) => style.text !== "unknown" || samples.outcome.includes(2),
        ),
      ),
    );
    scatter.draw();
  };
  const controls = el("div", { class: "controls" }, key);
  if (Object.keys(modes).length > 1) {
    controls.append(
      choice(
        "Colour by",
        Object.entries(modes).map(([name, { text }]) => [name, text]),
        mode,
        (value) => {
          mode = value;
          update();
        },
      ),
    );
  }
  if (samples.splits.length > 1) {
    controls.append(
      el(
        "div",
        { class: "controls", role: "group", "aria-label": "Splits shown" },
        ...samples.splits.map((split, k) => {
          const button = el("button", {
            type: "button",
            text: split.name,
            "aria-pressed": "true",
            onclick: () => {
              if (hidden.has(k)) hidden.delete(k);
              else hidden.add(k);
              button.setAttribute("aria-pressed", String(!hidden.has(k)));
              update();
            },
          });
          return button;
        }),
      ),
    );
  }
  const clear = el("button", {
    type: "button",
    text: "Clear selection",
    onclick: () => selection.clear(),
  });
  const able = () => {
    clear.disabled = selection.set === null && selection.pinned === null;
  };
  selection.on("set", able);
  selection.on("point", able);
  able();
  controls.append(clear);
  const drawn = samples.splits.map((split) =>
    split.shown < split.total
      ? `${count(split.shown)} of ${count(split.total)} ${split.name}`
      : `all ${count(split.total)} ${split.name}`,
  );
  const windows = [
    ...new Set(samples.splits.filter((split) => split.curve).map((split) => count(split.window))),
  ];
  const lines = windows.length
    ? ` Lines are running means over ${windows.join(" and ")} samples, computed from all of them.`
    : "";
  const partial = samples.splits.some((split) => split.shown < split.total)
    ? ", chosen at random"
    : "";
  const node = el(
    "div",
    { class: "panel" },
    el("h3", { text: "Every point is a sample" }),
    el("p", {
      class: "quiet",
      text: `Shown: ${drawn.join(", ")} samples${partial}.${lines}${describePictures(pictures, samples)}`,
    }),
    controls,
    scatter.node,
    el(
      "p",
      { class: "hint" },
      "Point at a sample, or drag to select many. With the keyboard: ",
      el("kbd", { text: "←" }),
      " ",
      el("kbd", { text: "→" }),
      " along α, ",
      el("kbd", { text: "↑" }),
      " ",
      el("kbd", { text: "↓" }),
      " along β, ",
      el("kbd", { text: "Esc" }),
      " clears.",
    ),
  );
  return { node, draw: update };
}

function describePictures({ record }, samples) {
  if (!record) return "";
  const some = record.count < samples.total;
  const many = some ? ` ${count(record.count)} of them, chosen at random, have a picture.` : "";
  if (!record.contrast) return many;
  const [black, white] = record.contrast;
  return `${many} Pictures are black at ${number(black)} and white at ${number(white)}.`;
}

// The labels, if they are few enough to tell apart.
function listClasses(view, samples) {
  if (!samples.label) return null;
  const values = [...new Set(samples.label)]
    .filter((value) => value !== MISSING)
    .sort((a, b) => a - b);
  if (!values.length || values.length > 24 || samples.label.includes(MISSING)) return null;
  const list = values.map((value) => ({ value, text: className(view, value) }));
  list.place = new Map(values.map((value, k) => [value, k]));
  return list;
}

function className(view, label) {
  const name = view.classes && view.classes[label];
  return name === undefined || name === null ? String(label) : name;
}

function describeSample(view, samples, i) {
  const parts = [`sample ${samples.id[i]} of ${samples.splits[samples.split[i]].name}`];
  if (samples.label && samples.label[i] !== MISSING)
    parts.push(`label ${className(view, samples.label[i])}`);
  if (samples.prediction && samples.prediction[i] !== MISSING)
    parts.push(`predicted ${className(view, samples.prediction[i])}`);
  if (samples.alpha) parts.push(`α ${number(samples.alpha[i])}`);
  if (samples.beta) parts.push(`β ${number(samples.beta[i])}`);
  return parts.join(", ");
}
