// The view of one store, put together.

function showStore(view, main, top) {
  top.append(el("h1", { text: view.name }), el("p", { class: "lede", text: introduce(view) }));
  main.append(headline(view));
  if (!view.samples || !view.samples.id.length) {
    if (view.score)
      main.append(section("samples", "The samples", null, reason("The store has no samples.")));
    const network = networkPanel(view, null, new Selection(0));
    main.append(network.node || network);
    if (network.draw) network.draw();
    main.append(aboutPanel(view));
    document.documentElement.dataset.ready = "all";
    return;
  }
  const samples = readSamples(view.samples);
  const pictures = new Pictures(view.pictures ? readBlock(`pictures-${view.pictures}`) : null);
  const selection = new Selection(samples.total);
  selection.pinned = first(samples);
  const drawable = samples.alpha && samples.beta;
  const cloud = drawable ? cloudPanel(view, samples, pictures, selection) : null;
  const side = el("div", {}, cardPanel(view, samples, pictures, selection));
  const explore = el("div", { class: "explore" }, cloud ? cloud.node : noCloud(view), side);
  const trio = el("div", { class: "trio" });
  main.append(
    section(
      "samples",
      "The samples",
      "Simple inputs on the left, complex ones on the right; the higher a point, the more the activation grows with depth.",
      explore,
      trio,
    ),
  );
  if (cloud) {
    cloud.draw();
    onRedraw(() => cloud.draw());
  }
  document.documentElement.dataset.ready = "first";
  // The rest follows once the first chart is on the screen.
  requestAnimationFrame(() =>
    setTimeout(() => {
      // A panel more is a row more here.
      const placed = [
        [profilePanel(view, samples, selection), side],
        [groupsPanel(view, samples, selection), trio],
        [marginsPanel(view, samples, selection), trio],
        [chosenPanel(view, samples, pictures, selection), trio],
        [networkPanel(view, samples, selection), main],
        [layersPanel(view, selection), main],
        [aboutPanel(view), main],
      ].filter(([panel]) => panel);
      for (const [panel, parent] of placed) parent.append(panel.node || panel);
      // Panels share the width of the page, so they are drawn when all have their place.
      for (const [panel] of placed) if (panel.draw) panel.draw();
      document.documentElement.dataset.ready = "all";
    }),
  );
  clearOnEscape(selection, view.signal);
}

// The sample to begin with: the one with the largest loss, else the most complex one.
function first(samples) {
  const values = samples.loss || samples.alpha;
  return values ? findLargest(values) : null;
}

function introduce(view) {
  const model = view.score && view.score.model;
  const parts = [model ? `The model ${model.name}` : "A network"];
  if (view.network.length) parts.push(`of ${count(view.network.length, "layer")}`);
  if (view.samples)
    parts.push(
      `over ${view.samples.splits.map((split) => `${count(split.total)} samples of ${split.name}`).join(" and ")}`,
    );
  return sentence(parts.join(" "));
}

function noCloud(view) {
  const why = Object.values(view.score.splits)
    .map((split) => split.beta_reason || split.cna.reason)
    .find(Boolean);
  return el(
    "div",
    { class: "panel" },
    el("h3", { text: "Every point is a sample" }),
    reason(`The samples cannot be drawn: ${why || "α or β is undefined"}.`),
  );
}
