// The selected samples, in numbers and in pictures; without a selection, the extreme ones.

const MOST_PICTURES = 72;

function chosenPanel(view, samples, pictures, selection) {
  const node = el("div", { class: "panel", id: "chosen" });
  const ranks = [
    ["loss", "largest loss", -1],
    ["margin", "smallest margin", 1],
    ["alpha", "largest α", -1],
    ["alpha", "smallest α", 1],
    ["beta", "largest β", -1],
    ["beta", "smallest β", 1],
  ]
    .filter(([column]) => samples[column])
    .map(([column, text, sign]) => ({ text, column, sign }));
  let rank = 0;
  const everyone = Array.from({ length: samples.total }, (_, i) => i);
  const draw = () => {
    if (selection.set) node.replaceChildren(...drawSelection(selection.set));
    else if (ranks.length) node.replaceChildren(...drawExtremes());
  };
  const drawSelection = (set) => [
    el("h3", { text: `${count(set.length, "sample")} selected` }),
    el(
      "div",
      { class: "chosen" },
      summaryTable(samples, set, everyone),
      el(
        "div",
        {},
        sheet(spread(set)),
        set.length > MOST_PICTURES
          ? el("p", { class: "hint", text: `${MOST_PICTURES} of them, evenly over their α.` })
          : null,
      ),
    ),
  ];
  // As many as there is room for, evenly along α.
  const spread = (set) => {
    const order = [...set].sort((a, b) =>
      samples.alpha ? samples.alpha[a] - samples.alpha[b] : a - b,
    );
    if (order.length <= MOST_PICTURES) return order;
    return Array.from(
      { length: MOST_PICTURES },
      (_, k) => order[Math.round((k * (order.length - 1)) / (MOST_PICTURES - 1))],
    );
  };
  const drawExtremes = () => {
    const { column, sign } = ranks[rank];
    const values = samples[column];
    const order = everyone
      .filter((i) => Number.isFinite(values[i]))
      .sort((a, b) => sign * (values[a] - values[b]))
      .slice(0, MOST_PICTURES);
    return [
      el("h3", { text: "At the extremes" }),
      el(
        "div",
        { class: "controls" },
        choice(
          "Samples with the",
          ranks.map(({ text }, k) => [String(k), text]),
          String(rank),
          (value) => {
            rank = Number(value);
            draw();
          },
        ),
      ),
      sheet(order),
    ];
  };
  const sheet = (items) => {
    const list = el("div", { class: "sheet" });
    for (const i of items) {
      const wrong = samples.outcome[i] === 0;
      const words = `${describeSample(view, samples, i)}${wrong ? ", wrong" : ""}`;
      const button = el("button", {
        type: "button",
        class: wrong ? "wrong" : null,
        "aria-label": words,
        title: words,
        onclick: () => selection.pin(i),
        onpointerenter: () => selection.hover(i),
        onpointerleave: () => selection.hover(null),
      });
      if (pictures.has(i)) {
        const canvas = el("canvas", { "aria-hidden": "true" });
        pictures.draw(canvas, i);
        button.append(canvas);
      } else button.append(el("span", { class: "chip", text: shorten((samples.text && samples.text[i]) || samples.id[i], 18) }));
      list.append(button);
    }
    return list;
  };
  selection.on("set", draw);
  draw();
  return node;
}

function summaryTable(samples, set, everyone) {
  const [some, all] = [summarise(samples, set), summarise(samples, everyone)];
  const rows = [
    ...samples.splits.map((split, k) => [
      `in ${split.name}`,
      count(set.filter((i) => samples.split[i] === k).length),
      count(split.shown),
    ]),
    ["accuracy", percent(some.accuracy, 2), percent(all.accuracy, 2)],
    ["mean α", number(some.alpha), number(all.alpha)],
    ["mean β", number(some.beta), number(all.beta)],
    ["mean loss", number(some.loss), number(all.loss)],
    ["mean margin", number(some.margin), number(all.margin)],
  ];
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      {},
      el("caption", { class: "unseen", text: "The selected samples and all that are shown" }),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el(
            "th",
            { class: "text", scope: "col" },
            el("span", { class: "unseen", text: "number" }),
          ),
          el("th", { scope: "col", text: "selected" }),
          el("th", { scope: "col", text: "all shown" }),
        ),
      ),
      el(
        "tbody",
        {},
        ...rows.map(([name, a, b]) =>
          el(
            "tr",
            {},
            el("th", { class: "text", scope: "row", text: name }),
            el("td", { text: a }),
            el("td", { text: b }),
          ),
        ),
      ),
    ),
  );
}
