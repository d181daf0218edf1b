// The networks of a study as points, by any two of their numbers.

function networksPanel(view, study, state, selection) {
  if (!study.names.length)
    return { node: reason("The networks have no numbers."), draw() {}, update() {} };
  const options = [...study.columns.values()].map((column) => [column.name, column.title]);
  const key = el("div", { class: "key" });
  const said = el("p", { class: "quiet" });
  const tagStyles = () => {
    if (!state.by)
      return { styles: [{ text: "network", colour: "c0", shape: "circle" }], style: () => 0 };
    const values = view.tags[state.by];
    const names = [...new Set(values)].sort((a, b) =>
      String(a).localeCompare(String(b), "en", { numeric: true }),
    );
    const places = new Map(names.map((name, k) => [name, k]));
    return {
      styles: categories(names.map((name) => (name === null ? "none" : name))),
      style: (i) => places.get(values[i]),
    };
  };
  const scatter = new Scatter({
    selection,
    label: "Networks by two of their numbers. Arrow keys walk through networks, Escape clears.",
    describe: (i) =>
      `${view.ids[i]}, ${[state.x, state.y].map((name) => `${study.columns.get(name).title} ${columnText(study.columns.get(name), i)}`).join(", ")}`,
    data: () => {
      const [x, y] = [study.columns.get(state.x), study.columns.get(state.y)];
      return {
        x: x.values,
        y: y.values,
        xTitle: x.title,
        yTitle: y.title,
        xFormat: x.share ? percentTick : tickText,
        yFormat: y.share ? percentTick : tickText,
        visible: () => true,
        ...tagStyles(),
      };
    },
  });
  const panel = {};
  const pick = (what) =>
    choice(what === "x" ? "Across" : "Up", options, state[what], (value) => {
      state[what] = value;
      panel.update();
    });
  let selects = null;
  panel.draw = () => {
    key.replaceChildren(state.by ? legend(tagStyles().styles) : "");
    const row = view.correlations.find(
      (each) => each.target === state.y && each.measure === state.x,
    );
    said.textContent =
      row && row.pearson.value !== null
        ? `Pearson's r ${number(row.pearson.value, 2)}${row.pearson.interval ? ` [${interval(row.pearson.interval, (value) => number(value, 2))}]` : ""}, Kendall's τ ${number(row.kendall.value, 2)}, over ${count(row.networks)} networks.`
        : "";
    scatter.draw();
  };
  panel.update = () => {
    selects.x.querySelector("select").value = state.x;
    panel.draw();
    if (panel.follow) panel.follow();
  };
  selects = { x: pick("x"), y: pick("y") };
  const tags = Object.keys(view.tags).filter((tag) => new Set(view.tags[tag]).size <= 24);
  const by = tags.length
    ? choice(
        "Colour by",
        [["", "nothing"], ...tags.map((tag) => [tag, tag])],
        state.by,
        (value) => {
          state.by = value;
          panel.draw();
        },
      )
    : null;
  panel.node = el(
    "div",
    { class: "panel" },
    el("div", { class: "controls" }, selects.x, selects.y, by),
    said,
    key,
    scatter.node,
    el(
      "p",
      { class: "hint" },
      "With the keyboard: arrows walk along both axes, ",
      el("kbd", { text: "Esc" }),
      " clears.",
    ),
  );
  return panel;
}
