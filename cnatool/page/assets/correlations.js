// The correlations of a study, and its networks, as tables.

function correlationsPanel(view, study, state, pick) {
  const holder = el("div");
  const draw = () => {
    const rows = view.correlations.filter(
      (row) =>
        row.target === state.y && study.columns.has(row.measure) && row.pearson.value !== null,
    );
    if (!rows.length) {
      holder.replaceChildren(
        reason(
          `The study has no correlations with ${study.columns.has(state.y) ? study.columns.get(state.y).title : "this column"}.`,
        ),
      );
      return;
    }
    const without =
      rows.every((row) => row.pearson.interval === null) && rows[0].pearson.interval_reason;
    const estimate = (title, name) => ({
      title,
      value: (row) => row[name].value,
      text: (row) => number(row[name].value, 2),
    });
    const columns = [
      {
        title: "measure",
        left: true,
        value: (row) => measureText(study.columns.get(row.measure)),
        text: (row) => measureText(study.columns.get(row.measure)),
      },
      estimate("Pearson", "pearson"),
      {
        title: "−1 … 1",
        value: (row) => row.pearson.value,
        text: () => "",
        node: (row) => whisker(row.pearson, [-1, 1]),
      },
      ...(without
        ? []
        : [
            {
              title: "interval",
              value: (row) => row.pearson.interval && row.pearson.interval[0],
              text: (row) => interval(row.pearson.interval, (value) => number(value, 2)) || "–",
            },
          ]),
      estimate("Spearman", "spearman"),
      estimate("Kendall τ-b", "kendall"),
      { title: "networks", value: (row) => row.networks, text: (row) => count(row.networks) },
    ];
    const made = sortedTable(`Correlations with ${state.y}`, columns, rows, {
      pick: (row) => pick(row.measure),
      key: (row) => row.measure,
    });
    if (made.lines.has(state.x)) made.lines.get(state.x).classList.add("lit");
    holder.replaceChildren(
      el("p", {
        class: "quiet",
        text: `With ${study.columns.get(state.y).title}. Press on a measure to draw it.${without ? ` There are no intervals: ${plain(without)}.` : ""}`,
      }),
      el("div", { class: "scroll" }, made.table),
    );
  };
  draw();
  return { node: section("correlations", "What goes with generalisation", null, holder), draw };
}

// The title of a measure, and whether it is a norm or a trivial baseline.
function measureText({ kind, title }) {
  return kind === "measure" ? title : `${kind}: ${title}`;
}

function networksTable(view, study, selection) {
  const wanted = [
    "test.accuracy",
    "train.accuracy",
    "gap",
    "train.cna",
    "test.cna",
    "cna_area",
    "margin",
    "cna_margin",
  ].filter((name) => study.columns.has(name));
  const shown = wanted.length ? wanted : study.names.slice(0, 8);
  const rows = Array.from({ length: view.ids.length }, (_, i) => i);
  const columns = [
    {
      title: "network",
      left: true,
      name: true,
      value: (i) => view.ids[i],
      text: (i) => view.ids[i],
    },
    ...shown.map((name) => {
      const column = study.columns.get(name);
      return {
        title: column.title,
        value: (i) => column.values[i],
        text: (i) => columnText(column, i),
      };
    }),
    ...Object.entries(view.tags).map(([tag, values]) => ({
      title: tag,
      left: true,
      value: (i) => values[i],
      text: (i) => (values[i] === null ? "–" : values[i]),
    })),
  ];
  const { table, lines } = sortedTable("The networks", columns, rows, {
    pick: (i) => selection.pin(i),
  });
  const mark = () => {
    for (const [i, line] of lines) {
      line.classList.toggle("lit", i === selection.current);
      line.hidden = selection.set !== null && !selection.members[i];
    }
  };
  selection.on("point", mark);
  selection.on("set", mark);
  return section(
    "table",
    "Network by network",
    null,
    el("p", {
      class: "hint",
      text: "Press on a column to sort, on a row to mark the network in the chart.",
    }),
    el("div", { class: "scroll tall" }, table),
  );
}
