// Tables that are sorted by a press on the head of a column.

// `columns`: {title, value(row), text(row), left, name}; `rows`: anything.
function sortedTable(caption, columns, rows, { pick, key, sortBy, descending = false } = {}) {
  const body = el("tbody");
  const lines = new Map();
  for (const row of rows) {
    const cells = columns.map((column) =>
      el(
        "td",
        {
          class: column.left ? `text ${column.name ? "name" : ""}` : null,
          title: column.name ? column.text(row) : null,
          text: column.node ? null : column.text(row),
        },
        column.node ? column.node(row) : null,
      ),
    );
    const line = el(
      "tr",
      { class: pick ? "pick" : null, onclick: pick ? () => pick(row) : null },
      ...cells,
    );
    lines.set(key ? key(row) : row, line);
    body.append(line);
  }
  let sorted = null;
  const sort = (place, down) => {
    sorted = { place, down };
    const value = columns[place].value;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      const missing = (v) => v === null || v === undefined || Number.isNaN(v);
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
      return down ? -order : order;
    };
    for (const row of [...rows].sort(compare)) body.append(lines.get(key ? key(row) : row));
    heads.forEach((head, i) => {
      if (i === place) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  };
  const heads = columns.map((column, place) =>
    el(
      "th",
      { scope: "col", class: column.left ? "text" : null },
      el("button", {
        type: "button",
        text: column.title,
        title: column.help,
        onclick: () => sort(place, sorted && sorted.place === place ? !sorted.down : !column.left),
      }),
    ),
  );
  const table = el(
    "table",
    {},
    el("caption", { class: "unseen", text: caption }),
    el("thead", {}, el("tr", {}, ...heads)),
    body,
  );
  if (sortBy !== undefined) sort(sortBy, descending);
  return { table, lines };
}
