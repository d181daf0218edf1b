// Elements. Text is only ever set as text, never parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

// A section with a heading, and what is said of it.
function section(id, title, said, ...children) {
  return el(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title`, text: title }),
    said ? el("p", { class: "lede", text: said }) : null,
    el("div", { class: "body" }, ...children),
  );
}

function choice(label, options, value, onchange) {
  const select = el("select", { onchange: () => onchange(select.value) });
  for (const [key, text] of options) select.append(el("option", { value: key, text }));
  select.value = value;
  return el("label", {}, label, select);
}

// Buttons of which one is pressed.
function toggles(label, options, value, onchange) {
  const group = el("div", { class: "switch", role: "group", "aria-label": label });
  for (const [key, text] of options) {
    const press = () => {
      for (const other of group.children)
        other.setAttribute("aria-pressed", String(other === button));
      onchange(key);
    };
    const button = el("button", {
      type: "button",
      text,
      "aria-pressed": String(key === value),
      onclick: press,
    });
    group.append(button);
  }
  return group;
}

function reason(text) {
  return el("p", { class: "reason", text });
}

// Read to whoever hears the page.
function announce(text) {
  document.getElementById("live").textContent = text;
}
