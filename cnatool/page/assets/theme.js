// Light and dark: as the system has it, until the reader chooses. On paper light, and as wide as a page.

const dark = matchMedia("(prefers-color-scheme: dark)");
const redraws = new Set();
let chosen = null;

function applyTheme(printing = false) {
  const name = printing ? "light" : chosen || (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = name;
  document.documentElement.classList.toggle("printing", printing);
  const button = document.getElementById("theme");
  if (button) button.textContent = otherTheme();
  for (const redraw of redraws) redraw();
}

// Run when colours or sizes change.
function onRedraw(redraw) {
  redraws.add(redraw);
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function otherTheme() {
  return document.documentElement.dataset.theme === "dark" ? "Light" : "Dark";
}

function themeButton() {
  return el("button", {
    type: "button",
    id: "theme",
    text: otherTheme(),
    onclick: () => {
      chosen = otherTheme().toLowerCase();
      applyTheme();
    },
  });
}

dark.addEventListener("change", () => applyTheme());
addEventListener("beforeprint", () => applyTheme(true));
addEventListener("afterprint", () => applyTheme());
let waiting = 0;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => redraws.forEach((redraw) => redraw()), 80);
});
