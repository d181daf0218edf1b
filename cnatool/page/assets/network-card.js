// The current network, or the selected ones: tags and numbers.

function networkCard(view, study, selection, open) {
  const card = el("div", {
    class: "card",
    id: "network",
    role: "region",
    "aria-label": "Current network",
  });
  const draw = () => {
    const i = selection.current;
    card.classList.toggle("empty", i === null && selection.set === null);
    if (i === null) {
      card.replaceChildren(
        el("p", {
          class: "who",
          text: selection.set
            ? `${count(selection.set.length, "network")} selected`
            : "Point at a network",
        }),
        ...(selection.set
          ? [meansTable(study, selection.set)]
          : [el("p", { class: "hint", text: "Here you see its tags and all of its numbers." })]),
      );
      return;
    }
    const tags = Object.entries(view.tags)
      .filter(([, values]) => values[i] !== null)
      .map(([tag, values]) => `${tag} ${values[i]}`);
    const columns = [...study.columns.values()].filter((column) =>
      Number.isFinite(column.values[i]),
    );
    card.replaceChildren(
      el("p", { class: "who", text: view.ids[i] }),
      el("p", { class: "id", text: tags.join(" · ") }),
      view.stores[i] === null
        ? ""
        : el(
            "p",
            {},
            el("button", {
              type: "button",
              class: "open",
              text: "Look inside this network",
              onclick: () => open(view.stores[i]),
            }),
          ),
      el(
        "div",
        { class: "tall" },
        el(
          "table",
          {},
          el("caption", { class: "unseen", text: `Numbers of ${view.ids[i]}` }),
          el(
            "tbody",
            {},
            ...columns.map((column) =>
              el(
                "tr",
                {},
                el("th", { class: "text", scope: "row", text: column.title }),
                el("td", { text: columnText(column, i) }),
              ),
            ),
          ),
        ),
      ),
    );
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
    return el(
      "tr",
      {},
      el("th", { class: "text", scope: "row", text: column.title }),
      el("td", { text: text(mean(column.values, set)) }),
      el("td", { text: text(mean(column.values, column.values.keys())) }),
    );
  });
  return el(
    "div",
    { class: "tall" },
    el(
      "table",
      {},
      el("caption", { class: "unseen", text: "Means of the selected networks and of all" }),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("th", { class: "text", scope: "col", text: "mean of" }),
          el("th", { scope: "col", text: "selected" }),
          el("th", { scope: "col", text: "all" }),
        ),
      ),
      el("tbody", {}, ...rows),
    ),
  );
}
