// The current sample: its picture, label, prediction and numbers.

function cardPanel(view, samples, pictures, selection) {
  const card = el("div", {
    class: "card",
    id: "sample",
    "aria-label": "Current sample",
    role: "region",
  });
  const draw = () => {
    const i = selection.current;
    card.classList.toggle("empty", i === null);
    if (i === null) {
      card.replaceChildren(
        el("p", { class: "who", text: "Point at a sample" }),
        el("p", {
          class: "hint",
          text: `Here you see ${pictures.record ? "its picture, " : samples.text ? "its text, " : ""}what it is, what the network makes of it, and in each chart where it lies.`,
        }),
        ...(pictures.record || samples.text ? [] : [reason(`Samples have no pictures: ${plain(view.pictures_reason)}.`)]),
      );
      return;
    }
    const split = samples.splits[samples.split[i]].name;
    const label =
      samples.label && samples.label[i] !== MISSING ? className(view, samples.label[i]) : null;
    const predicted =
      samples.prediction && samples.prediction[i] !== MISSING
        ? className(view, samples.prediction[i])
        : null;
    const words = el(
      "div",
      {},
      el("p", { class: "who", text: label === null ? "no label" : `label ${label}` }),
      predicted === null
        ? null
        : el("p", {
            class: `verdict ${samples.outcome[i] === 0 ? "bad" : ""}`,
            text:
              samples.outcome[i] === 2
                ? `predicted ${predicted}`
                : samples.outcome[i]
                  ? `✓ predicted ${predicted}`
                  : `✗ predicted ${predicted}`,
          }),
      el("p", { class: "id", text: `${split}, row ${count(samples.row[i])}` }),
      samples.id[i] === String(samples.row[i])
        ? null
        : el("p", { class: "id", text: samples.id[i] }),
      samples.text && el("p", { class: "text", text: samples.text[i] || "an empty text" }),
    );
    const top = el("div", { class: pictures.record ? "top" : "top plain" });
    if (pictures.record) {
      const canvas = el("canvas", {
        role: "img",
        "aria-label": `Picture of sample ${samples.id[i]}`,
      });
      if (pictures.has(i)) pictures.draw(canvas, i);
      else words.append(el("p", { class: "id", text: "its picture is not on this page" }));
      top.append(canvas);
    }
    top.append(words);
    const numbers = [
      ["α", samples.alpha],
      ["β", samples.beta],
      ["loss", samples.loss],
      ["margin", samples.margin],
    ];
    card.replaceChildren(
      top,
      el(
        "dl",
        { class: "figures" },
        ...numbers.map(([name, values]) => [
          el("dt", { text: name }),
          el("dd", { text: number(values ? values[i] : null) }),
        ]),
      ),
    );
  };
  selection.on("point", draw);
  draw();
  return card;
}
