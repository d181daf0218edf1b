// What was run, and what to know beside the numbers.

function aboutPanel(view) {
  const list = el(
    "dl",
    { class: "facts" },
    ...view.facts.map((fact) => [el("dt", { text: fact.name }), el("dd", { text: fact.text })]),
  );
  const notes = view.notes.length
    ? el(
        "ul",
        { class: "notes" },
        ...view.notes.map((text) => el("li", { text: sentence(plain(text)) })),
      )
    : null;
  return section(
    "about",
    "What was run",
    null,
    list,
    notes && el("h3", { class: "spaced", text: "To know beside the numbers" }),
    notes,
    view.score ? conventionDetails(view) : null,
  );
}

function conventionDetails(view) {
  const { fields } = view.score.convention;
  const value = (field) => (Array.isArray(field) ? field.join(" … ") : String(field));
  return el(
    "details",
    {},
    el("summary", { text: `Every setting of the convention ${view.convention}` }),
    el(
      "dl",
      { class: "facts" },
      ...Object.entries(fields).map(([name, field]) => [
        el("dt", { text: name }),
        el("dd", { text: value(field) }),
      ]),
    ),
  );
}
