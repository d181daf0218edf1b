// The page: its bar, and the view that is open.

const views = [];
for (let n = 0; document.getElementById(`view-${n}`); n++) views.push(n);
const names = views.map((n) => readBlock(`view-${n}`)).map(({ kind, name }) => ({ kind, name }));
const heading = document.title;
let leave = new AbortController();

function openView(n) {
  leave.abort();
  leave = new AbortController();
  redraws.clear();
  document.title = views.length > 1 ? `${names[n].name} – ${heading}` : heading;
  const main = document.getElementById("main");
  const top = document.getElementById("top");
  main.replaceChildren();
  top.replaceChildren(topBar(n));
  const view = readBlock(`view-${n}`);
  view.signal = leave.signal;
  if (view.kind === "study") showStudy(view, main, top, go);
  else showStore(view, main, top);
}

function topBar(n) {
  const controls = el("div", { class: "controls" });
  if (views.length > 1) {
    const select = el("select", { id: "views", onchange: () => go(Number(select.value)) });
    for (const [kind, text] of [
      ["study", "Studies"],
      ["store", "Networks"],
    ]) {
      const group = el("optgroup", { label: text });
      names.forEach(
        (each, k) =>
          each.kind === kind && group.append(el("option", { value: k, text: each.name })),
      );
      if (group.children.length) select.append(group);
    }
    select.value = n;
    controls.append(el("label", {}, "Show", select));
  }
  controls.append(themeButton());
  return el(
    "div",
    { class: "bar" },
    el("span", {
      class: "brand",
      text: heading === names[n].name ? "cnatool" : heading,
    }),
    controls,
  );
}

function go(n) {
  location.hash = `view-${n}`;
}

function fromHash() {
  const n = Number(location.hash.replace("#view-", ""));
  return location.hash.startsWith("#view-") && views.includes(n) ? n : 0;
}

addEventListener("hashchange", () => {
  // Without a hash it is the first view, to which the reader goes back.
  if (location.hash && !location.hash.startsWith("#view-")) return;
  openView(fromHash());
  scrollTo(0, 0);
});
applyTheme();
openView(fromHash());
document.getElementById("foot").append(
  el("p", {
    text: `Made by ${document.querySelector("meta[name=generator]").content}. This file is complete: it loads nothing and sends nothing.`,
  }),
);
