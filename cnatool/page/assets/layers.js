// The layers as a table.

function layersPanel(view, selection) {
  if (!view.layers) return null;
  const names = Object.keys(view.layers.splits);
  let split = preferTest(names);
  const steps = new Map(
    view.network.filter((step) => step.counted !== null).map((step) => [step.counted, step]),
  );
  const holder = el("div", { class: "scroll tall" });
  let lines = new Map();
  const draw = () => {
    const rows = view.layers.layers.map((layer, k) => ({
      k,
      layer,
      step: steps.get(k),
      part: view.layers.splits[split].layers[k],
    }));
    const numeric = (title, value, help) => ({
      title,
      value,
      text: (row) => number(value(row)),
      help,
    });
    const columns = [
      { title: "depth", value: (row) => row.layer.depth, text: (row) => String(row.layer.depth) },
      {
        title: "layer",
        left: true,
        name: true,
        value: (row) => row.layer.name,
        text: (row) => row.layer.name,
      },
      {
        title: "operator",
        left: true,
        value: (row) => row.layer.operator,
        text: (row) => row.layer.operator,
      },
      {
        title: "shape",
        value: (row) => (row.step ? row.step.size : null),
        text: (row) => (row.step ? row.step.shape.join("×") || "scalar" : "–"),
      },
      numeric("mean z", (row) => row.part.mean),
      numeric("deviation", (row) => row.part.std),
      numeric("with α", (row) => row.part.correlation, "Pearson's correlation of z and α"),
      numeric("c", (row) => row.part.coefficient, "weight of z in β"),
      numeric("of β", (row) => row.part.beta, "part of the mean of β"),
      numeric("of CNA", (row) => row.part.cna, "part of Pearson's CNA"),
    ];
    if (view.network.some((step) => step.frobenius !== null)) {
      columns.push(
        numeric("‖W‖F", (row) => row.step && row.step.frobenius, "Frobenius norm of the weights"),
        numeric(
          "σ₁(W)",
          (row) => row.step && row.step.spectral,
          "largest singular value of the weights",
        ),
      );
    }
    const made = sortedTable(`Layers over the split ${split}`, columns, rows, {
      key: (row) => row.k,
      sortBy: 0,
    });
    lines = made.lines;
    for (const [k, line] of lines) {
      line.addEventListener("pointerenter", () => selection.pointLayer(k));
      line.addEventListener("pointerleave", () => selection.pointLayer(null));
    }
    holder.replaceChildren(made.table);
  };
  selection.on("layer", () => {
    for (const [k, line] of lines) line.classList.toggle("lit", k === selection.layer);
  });
  draw();
  const controls = splitToggles(names, split, (name) => {
    split = name;
    draw();
  });
  return section(
    "layers",
    "The layers in numbers",
    null,
    el("p", { class: "hint", text: "Press on a column to sort by it." }),
    controls,
    holder,
  );
}
