// The scores of a store, large, with their intervals.

// What accuracy is of, before the word: of samples, of tokens, or of those that follow.
function scoredUnit(split, word) {
  if (!split.tokens) return word;
  return `${split.tokens.targets === "next" ? "Next-token" : "Token"} ${word.toLowerCase()}`;
}

function headline(view) {
  const { score } = view;
  if (!score)
    return section("scores", "Scores", null, reason(`There are no scores: ${view.score_reason}`));
  const fields = score.convention.fields;
  const level = `${Number((100 * fields.level).toPrecision(12))} %`;
  const list = el("dl", { class: "score" });
  for (const [name, split] of Object.entries(score.splits)) {
    list.append(
      figure(`${scoredUnit(split, "Accuracy")}, ${name}`, percent(split.accuracy, 2), [
        split.accuracy === null ? sentence(split.performance_reason || "undefined") : null,
        split.loss === null
          ? split.loss_reason && sentence(split.loss_reason)
          : `mean loss ${number(split.loss)} nats`,
        split.tokens &&
          `over ${count(split.tokens.count)} tokens, perplexity ${number(split.tokens.perplexity)}`,
        sampleCount(split),
      ]),
    );
  }
  if (score.gap.value !== null) {
    const text = fields.gap === "accuracy" ? percent(score.gap.value, 2) : number(score.gap.value);
    list.append(
      figure("Generalisation gap", text, [
        fields.gap === "accuracy"
          ? "accuracy of train − accuracy of test, in percentage points"
          : "difference of the losses, in nats",
      ]),
    );
  }
  for (const [name, split] of Object.entries(score.splits)) {
    const { cna } = split;
    list.append(
      figure(
        `CNA, ${name}`,
        number(cna.value),
        [
          cna.value === null
            ? sentence(cna.reason)
            : cna.interval
              ? intervalLine(cna, level)
              : cna.interval_reason && `no interval: ${cna.interval_reason}`,
          cna.p_value === null
            ? null
            : chanceText(cna),
          split.length && fixedLengthText(split.length),
        ],
        whisker(cna, [-1, 1]),
      ),
    );
  }
  const chance = score.cna_area_by_chance;
  list.append(
    figure(
      "CNA-A, train to test",
      number(score.cna_area.value),
      [
        ...estimateLines(score.cna_area, level),
        chance.mean === null
          ? null
          : `by chance ${number(chance.mean)}, ${chanceText(chance)}`,
      ],
      whisker(score.cna_area, null, chance.mean),
    ),
    figure(`Margin, ${fields.margin_split}`, number(score.margin.value), [
      score.margin.value === null ? sentence(score.margin.reason) : null,
    ]),
    figure(
      "CNA-M = margin · CNA-A",
      number(score.cna_margin.value),
      estimateLines(score.cna_margin, level),
      whisker(score.cna_margin, null),
    ),
  );
  const said = `CNA is the correlation of an input's complexity α with the network's use of its depth β. Convention ${view.convention}.`;
  return section("scores", "Scores", said, list);
}

function figure(name, value, lines, extra) {
  return el(
    "div",
    {},
    el("dt", {}, ...keepWhole(name)),
    el("dd", { class: "big", text: value }),
    extra ? el("dd", {}, extra) : null,
    ...lines.filter(Boolean).map((text) => el("dd", { class: "sub", text: plain(text) })),
  );
}

function estimateLines(estimate, level) {
  if (estimate.value === null) return [sentence(estimate.reason)];
  return [estimate.interval ? intervalLine(estimate, level) : null];
}

function intervalLine(estimate, level) {
  // A line may only break after the dots.
  const text = `${level}: ${interval(estimate.interval)}`;
  return text.replaceAll(" ", "\u00a0").replace("…\u00a0", "… ");
}

// CNA with length held fixed, where samples differ in it.
function fixedLengthText({ cna, alpha, beta }) {
  const fixed = cna.value === null ? "undefined" : number(cna.value);
  return `${fixed} with length held fixed (r of length with α ${number(alpha.value)}, with β ${number(beta.value)})`;
}

function sampleCount(split) {
  if (!split.complete) return `${count(split.samples)} of ${count(split.rows)} samples so far`;
  return count(split.samples, "sample");
}

// Words with a hyphen, such as CNA-A, stay on one line.
function keepWhole(text) {
  return text
    .split(/( )/)
    .map((word) => (word.includes("-") ? el("span", { class: "whole", text: word }) : word));
}

// A p-value; at the least that there can be, as a bound.
function chanceText({ p_value: value, p_least: least }) {
  return `p ${value <= least * (1 + 1e-9) ? "≤" : "="} ${probability(value)}`.replaceAll(
    " ",
    "\u00a0",
  );
}

// A number on a line, with its interval, and what chance gives as a ring.
function whisker(estimate, domain, chance = null) {
  if (estimate.value === null) return null;
  const values = [
    estimate.value,
    ...(estimate.interval || []),
    ...(chance === null ? [] : [chance]),
  ];
  const [low, high] = domain || [Math.min(0, ...values), Math.max(0, ...values) * 1.15 || 1];
  const x = (value) => 4 + (152 * (value - low)) / (high - low);
  const icon = svg(
    "svg",
    { width: 160, height: 16, viewBox: "0 0 160 16", "aria-hidden": "true" },
    svg("line", { class: "grid", x1: 4, x2: 156, y1: 8, y2: 8, "stroke-width": 2 }),
    svg("line", { class: "tick", x1: x(0), x2: x(0), y1: 3, y2: 13 }),
  );
  if (estimate.interval)
    icon.append(
      svg("line", {
        x1: x(estimate.interval[0]),
        x2: x(estimate.interval[1]),
        y1: 8,
        y2: 8,
        stroke: "var(--c0)",
        "stroke-width": 4,
        "stroke-linecap": "round",
        "stroke-opacity": 0.45,
      }),
    );
  if (chance !== null)
    icon.append(
      svg("circle", {
        cx: x(chance),
        cy: 8,
        r: 4,
        fill: "none",
        stroke: "var(--soft)",
        "stroke-width": 1.5,
      }),
    );
  icon.append(svg("circle", { cx: x(estimate.value), cy: 8, r: 3.6, fill: "var(--c0)" }));
  return icon;
}
