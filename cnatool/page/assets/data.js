// The data of the page, out of blocks of JSON.

const ARRAYS = {
  u1: Uint8Array,
  u2: Uint16Array,
  u4: Uint32Array,
  i4: Int32Array,
  f4: Float32Array,
  f8: Float64Array,
};
const MISSING = -2147483648;

function readBlock(id) {
  const block = document.getElementById(id);
  return block ? JSON.parse(block.textContent) : null;
}

function unpack(packed) {
  if (!packed) return null;
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new ARRAYS[packed.type](bytes.buffer);
}

// A quantised matrix, as rows of numbers.
class Matrix {
  constructor(quantised) {
    this.codes = unpack(quantised.codes);
    this.low = quantised.low;
    this.high = quantised.high;
    this.columns = quantised.low.length;
    this.rows = this.columns ? this.codes.length / this.columns : 0;
  }

  at(row, column) {
    const code = this.codes[row * this.columns + column];
    if (code === 65535) return NaN;
    const low = this.low[column];
    return low + (this.high[column] - low) * (code / 65534);
  }

  row(row) {
    return Float64Array.from({ length: this.columns }, (_, column) => this.at(row, column));
  }

  // Some quantiles of a column over some rows, none of which is missing.
  quantiles(column, rows, shares) {
    const codes = new Uint16Array(rows.length);
    let known = 0;
    for (const row of rows) {
      const code = this.codes[row * this.columns + column];
      if (code !== 65535) codes[known++] = code;
    }
    if (!known) return null;
    const sorted = codes.subarray(0, known).sort();
    const low = this.low[column];
    const step = (this.high[column] - low) / 65534;
    return shares.map((share) => low + step * sorted[Math.round(share * (known - 1))]);
  }
}

// The samples of a store: columns of equal length, and the split of each.
function readSamples(record) {
  const total = record.id.length;
  const split = new Uint8Array(total);
  let start = 0;
  record.splits.forEach((each, k) => {
    split.fill(k, start, start + each.shown);
    start += each.shown;
  });
  const label = unpack(record.label);
  const prediction = unpack(record.prediction);
  const samples = {
    total,
    split,
    label,
    prediction,
    splits: record.splits.map((each) => ({ ...each, curve: each.curve && each.curve.map(unpack) })),
    id: record.id,
    text: record.text,
    row: unpack(record.row),
    alpha: unpack(record.alpha),
    beta: unpack(record.beta),
    loss: unpack(record.loss),
    margin: unpack(record.margin),
    z: record.z ? new Matrix(record.z) : null,
  };
  // 1 right, 0 wrong, 2 unknown
  samples.outcome = new Uint8Array(total).fill(2);
  if (label && prediction) {
    for (let i = 0; i < total; i++) {
      if (label[i] !== MISSING && prediction[i] !== MISSING)
        samples.outcome[i] = Number(label[i] === prediction[i]);
    }
  }
  return samples;
}

// Pictures of samples, a sheet of which is decoded when it is first needed.
class Pictures {
  constructor(record) {
    this.record = record;
    this.places = new Map();
    if (record) unpack(record.samples).forEach((sample, place) => this.places.set(sample, place));
    this.sheets = new Map();
  }

  has(sample) {
    return this.places.has(sample);
  }

  // Draw the picture of a sample, when it is decoded and unless the canvas was used otherwise.
  draw(canvas, sample) {
    const { width, height, columns, sheet, sheets } = this.record;
    const place = this.places.get(sample);
    const page = Math.floor(place / sheet);
    if (!this.sheets.has(page)) {
      const image = new Image();
      image.src = sheets[page];
      this.sheets.set(
        page,
        image.decode().then(() => image),
      );
    }
    // Few pixels are enlarged as squares, many smoothly.
    canvas.style.imageRendering = width < 40 ? "pixelated" : "auto";
    canvas.width = width;
    canvas.height = height;
    canvas.dataset.sample = sample;
    const inside = place % sheet;
    return this.sheets.get(page).then((image) => {
      if (canvas.dataset.sample !== String(sample)) return;
      const [x, y] = [inside % columns, Math.floor(inside / columns)];
      canvas
        .getContext("2d")
        .drawImage(image, x * width, y * height, width, height, 0, 0, width, height);
    });
  }
}
