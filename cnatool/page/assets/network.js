// The network as a drawing of its layers, with what each contributes to β and CNA.

function networkPanel(view, samples, selection) {
  if (!view.network.length) {
    const why = "The store lists no linear operators, and no layers are scored.";
    return section("network", "The network", null, reason(why));
  }
  const splits = view.layers ? Object.keys(view.layers.splits) : [];
  const z = samples && view.layers ? samples.z : null;
  const drawing = new NetworkDrawing(view, z, selection, preferTest(splits));
  const missing = view.layers
    ? null
    : reason(`What each layer contributes is not known: ${view.layers_reason}`);
  const hint = view.layers
    ? el("p", {
        class: "hint",
        text: "Blocks are wider the more elements a layer has. Bars sum to the mean of β, and to Pearson's CNA. Thin lines hold 90 % of samples; the bold tick is the current sample's part of its β.",
      })
    : null;
  const controls = splitToggles(splits, drawing.split, (name) => {
    drawing.split = name;
    drawing.draw();
  });
  onRedraw(() => drawing.draw());
  const said = describeNetwork(view);
  const node = section("network", "The network", said, controls, missing, drawing.node, hint);
  return { node, draw: () => drawing.draw() };
}

function describeNetwork(view) {
  const depth = Math.max(0, ...view.network.map((step) => step.path || 0));
  const texts = [`${count(view.network.length, "layer")} in order of execution`];
  if (depth) texts.push(`the longest path has ${count(depth)}`);
  if (view.score) texts.push(`${count(view.score.layers.length)} count for β`);
  return sentence(texts.join("; "));
}

// Layers are shown over one split at a time.
function preferTest(splits) {
  return splits.includes("test") ? "test" : splits[0];
}

function splitToggles(splits, value, onchange) {
  if (splits.length < 2) return null;
  const options = splits.map((name) => [name, name]);
  return el("div", { class: "controls" }, toggles("Split", options, value, onchange));
}
