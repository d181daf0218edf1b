// Numbers and names as text.

const MINUS = "−";

// To so many significant digits, whole numbers in full, with a true minus sign; – where there is no number.
function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  let text;
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) text = value.toExponential(digits - 1);
  else if (Number.isInteger(value)) text = value.toLocaleString("en-US");
  else {
    const places = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
    text = value.toLocaleString("en-US", {
      minimumFractionDigits: places,
      maximumFractionDigits: places,
    });
  }
  return text.replace("-", MINUS);
}

function percent(value, digits = 1) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = (100 * value).toFixed(digits).replace(/^-(?=[0.]+$)/, "");
  return `${text} %`.replace("-", MINUS);
}

function count(value, noun) {
  const text = value.toLocaleString("en-US");
  return noun ? `${text} ${noun}${value === 1 ? "" : "s"}` : text;
}

function interval(pair, format = number) {
  return pair ? `${format(pair[0])} … ${format(pair[1])}` : "";
}

function shorten(text, longest) {
  if (text.length <= longest) return text;
  const end = Math.floor(((longest - 1) * 2) / 5);
  return `${text.slice(0, longest - 1 - end)}…${text.slice(text.length - end)}`;
}

function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}

// Backquotes mark code in notes.
function plain(text) {
  return text.replaceAll("`", "");
}
