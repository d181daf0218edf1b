// The view of a study: networks as points, linked to a table and to what is known of each.

function showStudy(view, main, top, open) {
  top.append(el("h1", { text: view.name }), el("p", { class: "lede", text: `A study of ${count(view.total, "network")}${view.convention ? `, convention ${view.convention}` : ""}.` }));
  const study = readStudy(view);
  const selection = new Selection(view.ids.length);
  const state = { x: pickColumn(study, ["test.cna", "train.cna", "cna_margin", "margin"]), y: view.targets[0] || study.names[0], by: view.cluster !== null && view.cluster in view.tags ? view.cluster : "" };
  const networks = networksPanel(view, study, state, selection);
  const card = networkCard(view, study, selection, open);
  const correlations = correlationsPanel(view, study, state, (measure) => {
    state.x = measure;
    networks.update();
  });
  networks.follow = () => correlations.draw();
  main.append(section("networks", "The networks", "Every point is a network. Point at one, or drag to select many.", el("div", { class: "explore" }, networks.node, el("div", {}, card))));
  networks.draw();
  onRedraw(() => networks.draw());
  document.documentElement.dataset.ready = "first";
  main.append(correlations.node, networksTable(view, study, selection), aboutPanel(view));
  document.documentElement.dataset.ready = "all";
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") selection.clear();
  }, { signal: view.signal });
}

function readStudy(view) {
  const columns = new Map(view.columns.map((column) => [column.name, { ...column, values: unpack(column.values) }]));
  return { columns, names: [...columns.keys()] };
}

function pickColumn(study, wanted) {
  return wanted.find((name) => study.columns.has(name)) || study.names[0];
}

function columnText(column, i) {
  return column.share ? percent(column.values[i], 2) : number(column.values[i]);
}

function networksPanel(view, study, state, selection) {
  if (!study.names.length) return { node: reason("The networks have no numbers."), draw() {}, update() {} };
  const options = [...study.columns.values()].map((column) => [column.name, column.title]);
  const key = el("div", { class: "key" });
  const said = el("p", { class: "quiet" });
  const tagStyles = () => {
    if (!state.by) return { styles: [{ text: "network", colour: "c0", shape: "circle" }], style: () => 0 };
    const values = view.tags[state.by];
    const names = [...new Set(values)].sort((a, b) => String(a).localeCompare(String(b), "en", { numeric: true }));
    const places = new Map(names.map((name, k) => [name, k]));
    return { styles: categories(names.map((name) => (name === null ? "none" : name))), style: (i) => places.get(values[i]) };
  };
  const scatter = new Scatter({
    selection,
    label: "Networks by two of their numbers. Arrow keys walk through networks, Escape clears.",
    describe: (i) => `${view.ids[i]}, ${[state.x, state.y].map((name) => `${study.columns.get(name).title} ${columnText(study.columns.get(name), i)}`).join(", ")}`,
    data: () => {
      const [x, y] = [study.columns.get(state.x), study.columns.get(state.y)];
      return { x: x.values, y: y.values, xTitle: x.title, yTitle: y.title, xFormat: x.share ? percentTick : tickText, yFormat: y.share ? percentTick : tickText, visible: () => true, ...tagStyles() };
    },
  });
  const panel = {};
  const pick = (what) => choice(what === "x" ? "Across" : "Up", options, state[what], (value) => {
    state[what] = value;
    panel.update();
  });
  let selects = null;
  panel.draw = () => {
    key.replaceChildren(state.by ? legend(tagStyles().styles) : "");
    const row = view.correlations.find((each) => each.target === state.y && each.measure === state.x);
    said.textContent = row && row.pearson.value !== null ? `Pearson's r ${number(row.pearson.value, 2)}${row.pearson.interval ? ` [${interval(row.pearson.interval, (value) => number(value, 2))}]` : ""}, Kendall's τ ${number(row.kendall.value, 2)}, over ${count(row.networks)} networks.` : "";
    scatter.draw();
  };
  panel.update = () => {
    selects.x.querySelector("select").value = state.x;
    panel.draw();
    if (panel.follow) panel.follow();
  };
  selects = { x: pick("x"), y: pick("y") };
  const tags = Object.keys(view.tags).filter((tag) => new Set(view.tags[tag]).size <= 24);
  const by = tags.length ? choice("Colour by", [["", "nothing"], ...tags.map((tag) => [tag, tag])], state.by, (value) => {
    state.by = value;
    panel.draw();
  }) : null;
  panel.node = el("div", { class: "panel" }, el("div", { class: "controls" }, selects.x, selects.y, by), said, key, scatter.node,
    el("p", { class: "hint" }, "With the keyboard: arrows walk along both axes, ", el("kbd", { text: "Esc" }), " clears."));
  return panel;
}

function networkCard(view, study, selection, open) {
  const card = el("div", { class: "card", id: "network", role: "region", "aria-label": "Current network" });
  const draw = () => {
    const i = selection.current;
    if (i === null) {
      card.replaceChildren(el("p", { class: "who", text: selection.set ? `${count(selection.set.length, "network")} selected` : "Point at a network" }),
        ...(selection.set ? [meansTable(study, selection.set)] : [el("p", { class: "hint", text: "Here you see its tags and all of its numbers." })]));
      return;
    }
    const tags = Object.entries(view.tags).filter(([, values]) => values[i] !== null).map(([tag, values]) => `${tag} ${values[i]}`);
    const columns = [...study.columns.values()].filter((column) => Number.isFinite(column.values[i]));
    card.replaceChildren(
      el("p", { class: "who", text: view.ids[i] }), el("p", { class: "id", text: tags.join(" · ") }),
      view.stores[i] === null ? "" : el("p", {}, el("button", { type: "button", class: "open", text: "Look inside this network", onclick: () => open(view.stores[i]) })),
      el("div", { class: "tall" }, el("table", {}, el("caption", { class: "unseen", text: `Numbers of ${view.ids[i]}` }),
        el("tbody", {}, ...columns.map((column) => el("tr", {}, el("th", { class: "text", scope: "row", text: column.title }), el("td", { text: columnText(column, i) })))))));
  };
  selection.on("point", draw);
  selection.on("set", draw);
  draw();
  return card;
}

// Means over the selected networks and over all.
function meansTable(study, set) {
  const mean = (values, items) => {
    const known = [...items].filter((i) => Number.isFinite(values[i]));
    return known.length ? known.reduce((sum, i) => sum + values[i], 0) / known.length : NaN;
  };
  const rows = [...study.columns.values()].map((column) => {
    const text = (value) => (column.share ? percent(value, 2) : number(value));
    return el("tr", {}, el("th", { class: "text", scope: "row", text: column.title }), el("td", { text: text(mean(column.values, set)) }), el("td", { text: text(mean(column.values, column.values.keys())) }));
  });
  return el("div", { class: "tall" }, el("table", {}, el("caption", { class: "unseen", text: "Means of the selected networks and of all" }),
    el("thead", {}, el("tr", {}, el("th", { class: "text", scope: "col", text: "mean of" }), el("th", { scope: "col", text: "selected" }), el("th", { scope: "col", text: "all" }))), el("tbody", {}, ...rows)));
}

function correlationsPanel(view, study, state, pick) {
  const holder = el("div");
  const draw = () => {
    const rows = view.correlations.filter((row) => row.target === state.y && study.columns.has(row.measure) && row.pearson.value !== null);
    if (!rows.length) {
      holder.replaceChildren(reason(`The study has no correlations with ${study.columns.has(state.y) ? study.columns.get(state.y).title : "this column"}.`));
      return;
    }
    const estimate = (title, name) => ({ title, value: (row) => row[name].value, text: (row) => number(row[name].value, 2) });
    const columns = [
      { title: "measure", left: true, value: (row) => study.columns.get(row.measure).title, text: (row) => study.columns.get(row.measure).title },
      { title: "networks", value: (row) => row.networks, text: (row) => count(row.networks) },
      { title: "−1 … 1", value: (row) => row.pearson.value, text: () => "", node: (row) => whisker(row.pearson, [-1, 1]) },
      estimate("Pearson", "pearson"),
      { title: "interval", value: (row) => row.pearson.interval && row.pearson.interval[0], text: (row) => interval(row.pearson.interval, (value) => number(value, 2)) || "–" },
      estimate("Spearman", "spearman"), estimate("Kendall τ-b", "kendall"),
    ];
    const made = sortedTable(`Correlations with ${state.y}`, columns, rows, { pick: (row) => pick(row.measure), key: (row) => row.measure });
    if (made.lines.has(state.x)) made.lines.get(state.x).classList.add("lit");
    holder.replaceChildren(el("p", { class: "quiet", text: `With ${study.columns.get(state.y).title}. Press on a measure to draw it.` }), el("div", { class: "scroll tall" }, made.table));
  };
  draw();
  return { node: section("correlations", "What goes with generalisation", null, holder), draw };
}

function networksTable(view, study, selection) {
  const wanted = ["test.accuracy", "train.accuracy", "gap", "train.cna", "test.cna", "cna_area", "margin", "cna_margin"].filter((name) => study.columns.has(name));
  const shown = wanted.length ? wanted : study.names.slice(0, 8);
  const rows = Array.from({ length: view.ids.length }, (_, i) => i);
  const columns = [
    { title: "network", left: true, name: true, value: (i) => view.ids[i], text: (i) => view.ids[i] },
    ...Object.entries(view.tags).map(([tag, values]) => ({ title: tag, left: true, value: (i) => values[i], text: (i) => (values[i] === null ? "–" : values[i]) })),
    ...shown.map((name) => {
      const column = study.columns.get(name);
      return { title: column.title, value: (i) => column.values[i], text: (i) => columnText(column, i) };
    }),
  ];
  const { table, lines } = sortedTable("The networks", columns, rows, { pick: (i) => selection.pin(i) });
  const mark = () => {
    for (const [i, line] of lines) {
      line.classList.toggle("lit", i === selection.current);
      line.hidden = selection.set !== null && !selection.members[i];
    }
  };
  selection.on("point", mark);
  selection.on("set", mark);
  return section("table", "Network by network", "Press on a column to sort, on a row to mark the network in the chart.", el("div", { class: "scroll tall" }, table));
}
