// Spot checks on the map: walks through the sample, hides every verdict, saves the answers.

class SpotCheck {
  constructor(page) {
    this.page = page;
    this.on = false;
    $("check-start").addEventListener("click", () => this.start());
    $("check-file").addEventListener("change", async (event) => {
      const [file] = event.target.files;
      if (file) this.open(await file.text());
      event.target.value = "";
    });
    $("check-answers").append(...answerButtons((value) => this.answer(value)));
    $("check-name").addEventListener("input", (event) => this.book.name(event.target.value));
    $("check-back").addEventListener("click", () => this.go(this.at - 1));
    $("check-next").addEventListener("click", () => this.go(this.at + 1));
    $("check-undo").addEventListener("click", () => this.undo());
    $("check-csv").addEventListener("click", () => saveFile(this.book.fileName("csv"), this.book.csv(), "text/csv"));
    $("check-geojson").addEventListener("click", () => saveFile(this.book.fileName("geojson"), this.book.geojson(), "application/geo+json"));
    $("check-end").addEventListener("click", () => this.end());
  }

  // `quakestream view` has the sample; a page from disk asks for the file.
  async start() {
    if (!this.page.served) { $("check-file").click(); return; }
    const reply = await fetch("live/sample");
    if (reply.ok) this.open(await reply.text());
    else this.refuse("No sample was drawn from this map: `quakestream sample OUT` draws one.");
  }

  open(text) {
    let items = [];
    try {
      items = JSON.parse(text).features.map((one) => ({ id: String(one.properties.building_id), lon: one.geometry.coordinates[0], lat: one.geometry.coordinates[1] }));
    } catch { /* another file */ }
    if (!items.length) { this.refuse("This is not sample.geojson, which `quakestream sample` writes."); return; }
    $("check-refused").hidden = true;
    this.book = new AnswerBook(`${this.page.about.run.run_id ?? ""} ${items.length} ${items[0].id}`, items);
    this.at = Math.max(0, items.findIndex((one) => !this.book.of(one.id)));
    this.on = this.page.blind = true;
    document.body.classList.add("checking");
    $("check").hidden = false;
    $("hover").hidden = true;
    $("check-name").value = this.book.annotator;
    this.show();
  }

  refuse(text) {
    $("check-refused").hidden = false;
    $("check-refused").textContent = text;
  }

  end() {
    this.on = this.page.blind = false;
    document.body.classList.remove("checking");
    $("check").hidden = true;
    this.page.select(-1);
  }

  key(event) {
    if (event.target.tagName === "INPUT" && event.target.type !== "checkbox") return;
    const answer = CHECK_ANSWERS.find((one) => one.key === event.key);
    const does = { n: () => this.go(this.at + 1), p: () => this.go(this.at - 1), u: () => this.undo(), Escape: () => this.end() }[event.key] ?? (answer && (() => this.answer(answer.value)));
    if (!does) return;
    event.preventDefault();
    does();
  }

  answer(value) {
    if (!this.book.annotator) { $("check-note").textContent = "Enter your name first."; $("check-name").focus(); return; }
    this.book.set(this.book.items[this.at].id, value, false);
    this.go(Math.min(this.at + 1, this.book.items.length - 1));
  }

  undo() {
    const id = this.book.undo();
    if (id !== null) this.go(this.book.items.findIndex((one) => one.id === id));
  }

  go(n) {
    this.at = Math.min(this.book.items.length - 1, Math.max(0, n));
    this.show();
  }

  async show() {
    const { items, done, kept } = this.book;
    const item = items[this.at];
    $("check-number").textContent = `${this.at + 1} of ${items.length}`;
    $("check-done").textContent = `${done} answered`;
    for (const button of $("check-answers").children) button.setAttribute("aria-pressed", String(button.dataset.answer === this.book.of(item.id)));
    $("check-note").textContent = kept ? (done === items.length ? "All have an answer: save the file." : "") : "This browser keeps nothing: save the file before you close the page.";
    const found = (await this.page.source.find(this.page.data, item.id)).find((one) => one.id === item.id);
    if (items[this.at] !== item || !this.on) return;
    if (found) { await this.page.select(found.row, true); return; }
    await this.page.select(-1);
    this.page.map.setView([item.lat, item.lon], 18, { animate: false });
    $("check-note").textContent = "This page has no outline of this building: sheet.html and `quakestream view` have.";
  }
}
