// Light and dark: as the system has it, until the reader chooses.

const dark = matchMedia("(prefers-color-scheme: dark)");
const redraws = new Set();
let chosen = null;

function applyTheme(printing = false) {
  const name = printing ? "light" : chosen || (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = name;
  for (const redraw of redraws) redraw();
}

// Run when colours or sizes change.
function onRedraw(redraw) {
  redraws.add(redraw);
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function themeButton() {
  const say = () => (document.documentElement.dataset.theme === "dark" ? "Light" : "Dark");
  const button = el("button", {
    type: "button",
    id: "theme",
    onclick: () => {
      chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      applyTheme();
      button.textContent = say();
    },
  });
  button.textContent = say();
  dark.addEventListener("change", () => {
    applyTheme();
    button.textContent = say();
  });
  return button;
}

addEventListener("beforeprint", () => applyTheme(true));
addEventListener("afterprint", () => applyTheme());
let waiting = 0;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => redraws.forEach((redraw) => redraw()), 80);
});
