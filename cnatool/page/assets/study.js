// The view of a study: networks as points, linked to a table and to what is known of each.

function showStudy(view, main, top, open) {
  top.append(
    el("h1", { text: view.name }),
    el("p", {
      class: "lede",
      text: `A study of ${count(view.total, "network")}${view.convention ? `, convention ${view.convention}` : ""}.`,
    }),
  );
  const study = readStudy(view);
  const selection = new Selection(view.ids.length);
  const state = {
    x: pickColumn(study, ["test.cna", "train.cna", "cna_margin", "margin"]),
    y: pickColumn(study, view.targets),
    by: view.cluster !== null && Object.hasOwn(view.tags, view.cluster) ? view.cluster : "",
  };
  const best = study.columns.get(state.y);
  if (best) selection.pinned = findLargest(best.values);
  const networks = networksPanel(view, study, state, selection);
  const card = networkCard(view, study, selection, open);
  const correlations = correlationsPanel(view, study, state, (measure) => {
    state.x = measure;
    networks.update();
  });
  networks.follow = () => correlations.draw();
  main.append(
    section(
      "networks",
      "The networks",
      "Every point is a network. Point at one, or drag to select many.",
      el("div", { class: "explore" }, networks.node, el("div", {}, card)),
    ),
  );
  networks.draw();
  onRedraw(() => networks.draw());
  document.documentElement.dataset.ready = "first";
  main.append(correlations.node, networksTable(view, study, selection), aboutPanel(view));
  document.documentElement.dataset.ready = "all";
  clearOnEscape(selection, view.signal);
}

function readStudy(view) {
  const columns = new Map(
    view.columns.map((column) => [column.name, { ...column, values: unpack(column.values) }]),
  );
  return { columns, names: [...columns.keys()] };
}

function pickColumn(study, wanted) {
  return wanted.find((name) => study.columns.has(name)) || study.names[0];
}

function columnText(column, i) {
  return column.share ? percent(column.values[i], 2) : number(column.values[i]);
}
