// Linear scales and their ticks.

function extent(values, indices = null) {
  let low = Infinity;
  let high = -Infinity;
  const visit = (value) => {
    if (value < low) low = value;
    if (value > high) high = value;
  };
  if (indices) for (const i of indices) visit(values[i]);
  else for (const value of values) visit(value);
  return low <= high ? [low, high] : null;
}

// A scale from numbers to pixels, a little wider than the numbers.
function makeScale(domain, range, padding = 0.04) {
  let [low, high] = domain;
  if (low === high)
    [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const room = (high - low) * padding;
  low -= room;
  high += room;
  const factor = (range[1] - range[0]) / (high - low);
  const scale = (value) => range[0] + (value - low) * factor;
  scale.invert = (pixel) => low + (pixel - range[0]) / factor;
  scale.domain = [low, high];
  return scale;
}

function ticks([low, high], wanted) {
  const raw = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= raw) || raw;
  const list = [];
  for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-12); i++) list.push(i * step || 0);
  return { list, step };
}

function tickText(value, step) {
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && step < 1e-4))
    return value.toExponential(step < size / 10 ? 1 : 0).replace("-", MINUS);
  const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return value
    .toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places })
    .replace("-", MINUS);
}
