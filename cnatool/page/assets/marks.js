// Marks of points: what colour tells, shape tells as well.

const COLOURS = 8;
const SHAPES = ["circle", "triangle", "diamond", "square", "cross"];

// Add a mark to the path of a canvas.
function trace(pen, shape, x, y, r) {
  if (shape === "circle") {
    pen.moveTo(x + r, y);
    pen.arc(x, y, r, 0, 2 * Math.PI);
  } else if (shape === "square") pen.rect(x - r * 0.88, y - r * 0.88, r * 1.76, r * 1.76);
  else if (shape === "cross") {
    pen.moveTo(x - r, y - r);
    pen.lineTo(x + r, y + r);
    pen.moveTo(x + r, y - r);
    pen.lineTo(x - r, y + r);
  } else {
    const corners =
      shape === "triangle"
        ? [
            [0, -1.25],
            [1.15, 0.8],
            [-1.15, 0.8],
          ]
        : [
            [0, -1.35],
            [1.15, 0],
            [0, 1.35],
            [-1.15, 0],
          ];
    corners.forEach(([dx, dy], i) =>
      i ? pen.lineTo(x + dx * r, y + dy * r) : pen.moveTo(x + dx * r, y + dy * r),
    );
    pen.closePath();
  }
}

// The same mark as SVG, for legends.
function markIcon({ colour: name, shape }) {
  const icon = svg("svg", { width: 12, height: 12, viewBox: "-6 -6 12 12", "aria-hidden": "true" });
  const style =
    shape === "cross"
      ? { stroke: `var(--${name})`, "stroke-width": 2 }
      : { fill: `var(--${name})` };
  const shapes = {
    circle: "M4.4 0A4.4 4.4 0 1 1-4.4 0A4.4 4.4 0 1 1 4.4 0Z",
    square: "M-4-4H4V4H-4Z",
    cross: "M-4-4L4 4M4-4L-4 4",
    triangle: "M0-5L4.8 3.6H-4.8Z",
    diamond: "M0-5.4L4.6 0L0 5.4L-4.6 0Z",
  };
  icon.append(svg("path", { d: shapes[shape], ...style }));
  return icon;
}

function legend(entries) {
  return el(
    "ul",
    { class: "legend" },
    ...entries.map((entry) => el("li", {}, markIcon(entry), entry.text)),
  );
}

// Styles for so many categories.
function categories(names) {
  return names.map((text, k) => ({
    text,
    colour: `c${k % COLOURS}`,
    shape: SHAPES[names.length > COLOURS ? Math.floor(k / COLOURS) % 4 : k % 4],
  }));
}
