// Answers of spot checks: kept in the browser, exported as CSV and GeoJSON.

const CHECK_ANSWERS = [
  { key: "1", value: "destroyed", text: "Destroyed", colour: "var(--c-destroyed)" },
  { key: "2", value: "damaged", text: "Damaged", colour: "var(--c-major)" },
  { key: "3", value: "intact", text: "Intact", colour: "var(--c-no)" },
  { key: "4", value: "cannot_tell", text: "Cannot tell", colour: "var(--c-none)" },
];

// A button per answer; `given` gets the answer of the one that is pressed.
function answerButtons(given) {
  return CHECK_ANSWERS.map(({ key, value, text, colour }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "answer";
    button.dataset.answer = value;
    button.style.setProperty("--key", colour);
    const hint = document.createElement("kbd");
    hint.textContent = key;
    button.append(`${text} `, hint);
    button.addEventListener("click", () => given(value));
    return button;
  });
}

class AnswerBook {
  // `key` names the sample; `items` have an id, lon and lat.
  constructor(key, items) {
    this.key = `quakestream spot checks ${key}`;
    this.items = items;
    this.annotator = "";
    this.given = new Map();
    this.undone = [];
    this.kept = true;
    this.load();
  }
  load() {
    try {
      const { annotator, given } = JSON.parse(localStorage.getItem(this.key) ?? "{}");
      this.annotator = annotator ?? "";
      this.given = new Map(given ?? []);
    } catch { this.kept = false; }
  }
  save() {
    try { localStorage.setItem(this.key, JSON.stringify({ annotator: this.annotator, given: [...this.given] })); this.kept = true; } catch { this.kept = false; }
  }
  name(text) { this.annotator = text.trim(); this.save(); }
  of(id) { return this.given.get(id)?.answer ?? ""; }
  get done() { return this.items.filter((one) => this.given.has(one.id)).length; }
  set(id, answer, sawVerdict) {
    this.undone.push([id, this.given.get(id)]);
    this.given.set(id, { answer, at: `${new Date().toISOString().slice(0, 19)}Z`, saw: Boolean(sawVerdict || this.given.get(id)?.saw) });
    this.save();
  }
  // Takes the last answer back; gives the building, or null.
  undo() {
    const last = this.undone.pop();
    if (!last) return null;
    const [id, before] = last;
    if (before) this.given.set(id, before);
    else this.given.delete(id);
    this.save();
    return id;
  }
  rows() {
    return this.items.map((one) => {
      const said = this.given.get(one.id);
      return { building_id: one.id, answer: said?.answer ?? "", annotator: this.annotator, answered_at: said?.at ?? "", saw_verdict: said ? String(said.saw) : "" };
    });
  }
  csv() {
    const quote = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const rows = this.rows();
    return [Object.keys(rows[0]), ...rows.map(Object.values)].map((row) => row.map((v) => quote(String(v))).join(",")).join("\n") + "\n";
  }
  geojson() {
    const features = this.rows().map((properties, n) => ({ type: "Feature", geometry: { type: "Point", coordinates: [this.items[n].lon, this.items[n].lat] }, properties }));
    return `${JSON.stringify({ type: "FeatureCollection", features })}\n`;
  }
  fileName(ending) {
    const who = this.annotator.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
    return `answers${who ? `-${who}` : ""}.${ending}`;
  }
}

function saveFile(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
