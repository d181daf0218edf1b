// What the reader points at and has selected; every chart listens to it.

class Selection {
  constructor(total) {
    this.total = total;
    this.hovered = null;
    this.pinned = null;
    this.set = null; // indices, or null for none
    this.members = new Uint8Array(total);
    this.layer = null;
    this.listeners = { point: [], set: [], layer: [] };
  }

  get current() {
    return this.hovered === null ? this.pinned : this.hovered;
  }

  on(event, listener) {
    this.listeners[event].push(listener);
  }

  tell(event) {
    for (const listener of this.listeners[event]) listener();
  }

  hover(item) {
    if (item === this.hovered) return;
    this.hovered = item;
    this.tell("point");
  }

  pin(item) {
    this.pinned = item;
    this.hovered = null;
    this.tell("point");
  }

  choose(items) {
    this.set = items && items.length ? items : null;
    this.members.fill(0);
    if (this.set) for (const item of this.set) this.members[item] = 1;
    this.tell("set");
  }

  clear() {
    this.hovered = this.pinned = null;
    this.tell("point");
    this.choose(null);
  }

  pointLayer(layer) {
    if (layer === this.layer) return;
    this.layer = layer;
    this.tell("layer");
  }
}

function clearOnEscape(selection, signal) {
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.key === "Escape") selection.clear();
    },
    { signal },
  );
}

// The place of the largest finite number; the first place if there is none.
function findLargest(values) {
  return values.reduce(
    (best, value, i) => (Number.isFinite(value) && !(value <= values[best]) ? i : best),
    0,
  );
}
