// The answer sheet: one building after the other, before and after, with the keyboard.

const get = (id) => document.getElementById(id);

class Sheet {
  constructor(about) {
    this.items = about.items;
    this.book = new AnswerBook(about.key, about.items);
    this.at = Math.max(0, this.items.findIndex((one) => !this.book.of(one.id)));
    this.seen = new Set();
    get("answers").append(...answerButtons((value) => this.answer(value)));
    this.listen();
    get("annotator").value = this.book.annotator;
    this.show();
  }
  listen() {
    get("annotator").addEventListener("input", (event) => { this.book.name(event.target.value); this.say(""); });
    get("annotator").addEventListener("keydown", (event) => { if (event.key === "Enter") event.target.blur(); });
    get("back").addEventListener("click", () => this.go(this.at - 1));
    get("next").addEventListener("click", () => this.go(this.at + 1));
    get("open").addEventListener("click", () => this.goOpen());
    get("undo").addEventListener("click", () => this.undo());
    get("outline").addEventListener("change", () => this.show());
    get("reveal").addEventListener("change", () => this.show());
    get("csv").addEventListener("click", () => saveFile(this.book.fileName("csv"), this.book.csv(), "text/csv"));
    get("geojson").addEventListener("click", () => saveFile(this.book.fileName("geojson"), this.book.geojson(), "application/geo+json"));
    document.addEventListener("keydown", (event) => this.key(event));
  }
  key(event) {
    if (event.target.id === "annotator" || event.altKey || event.metaKey) return;
    if (event.ctrlKey && event.key !== "z") return;
    const answer = CHECK_ANSWERS.find((one) => one.key === event.key);
    const does = {
      ArrowLeft: () => this.go(this.at - 1),
      ArrowRight: () => this.go(this.at + 1),
      n: () => this.goOpen(),
      u: () => this.undo(),
      o: () => get("outline").click(),
      z: () => event.ctrlKey && this.undo(),
    }[event.key] ?? (answer && (() => this.answer(answer.value)));
    if (!does) return;
    event.preventDefault();
    does();
  }
  answer(value) {
    if (!this.book.annotator) {
      this.say("Enter your name first: answers of several people are compared.", true);
      get("annotator").focus();
      return;
    }
    const { id } = this.items[this.at];
    this.book.set(id, value, this.seen.has(id));
    if (this.at + 1 < this.items.length) this.go(this.at + 1);
    else this.show();
  }
  undo() {
    const id = this.book.undo();
    if (id === null) this.say("There is nothing to undo.");
    else this.go(this.items.findIndex((one) => one.id === id));
  }
  goOpen() {
    const order = [...this.items.keys()].map((n) => (this.at + 1 + n) % this.items.length);
    const open = order.find((n) => !this.book.of(this.items[n].id));
    if (open === undefined) this.say("All buildings have an answer. Save the file and send it.");
    else this.go(open);
  }
  go(n) {
    this.at = Math.min(this.items.length - 1, Math.max(0, n));
    this.show();
  }
  show() {
    const item = this.items[this.at];
    const total = this.items.length, done = this.book.done;
    get("number").textContent = `${this.at + 1} of ${total}`;
    get("id").textContent = item.id;
    get("where").textContent = `${item.district} · ${item.lat.toFixed(5)}, ${item.lon.toFixed(5)}`;
    for (const epoch of ["before", "after"]) this.picture(get(epoch), item, epoch);
    for (const button of get("answers").children) button.setAttribute("aria-pressed", String(button.dataset.answer === this.book.of(item.id)));
    const reveal = get("reveal").checked;
    if (reveal) this.seen.add(item.id);
    get("verdict").hidden = !reveal;
    get("verdict").textContent = reveal ? `The map says: ${item.verdict}${item.p === null ? "" : `, score ${(100 * item.p).toFixed(0)} %`}` : "";
    get("done").textContent = `${done} of ${total}`;
    get("left").textContent = done === total ? "all answered" : "answered";
    get("done-bar").style.width = `${(100 * done) / total}%`;
    get("back").disabled = this.at === 0;
    get("next").disabled = this.at === total - 1;
    get("undo").disabled = !this.book.undone.length;
    this.say(this.book.kept ? (done === total ? "All buildings have an answer. Save the file and send it." : "") : "This browser keeps nothing: save the file before you close the page.", !this.book.kept);
  }
  picture(figure, item, epoch) {
    const box = figure.querySelector(".picture");
    const found = item.pictures[epoch];
    box.classList.toggle("bare", !get("outline").checked);
    const images = found.map((one) => Object.assign(new Image(), { src: one.src, alt: "" }));
    box.replaceChildren(...(images.length ? [...images, this.outline(item.outline)] : ["no picture"]));
    const name = epoch === "before" ? "Before" : "After";
    const dates = [...new Set(found.map((one) => one.date).filter(Boolean))].join(", ");
    figure.querySelector("figcaption").textContent = dates ? `${name} · ${dates}` : name;
  }
  outline(path) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", "0 0 1 1");
    svg.setAttribute("aria-hidden", "true");
    for (const layer of ["under", "over"]) {
      const line = document.createElementNS(space, "path");
      line.setAttribute("d", path);
      line.setAttribute("class", layer);
      svg.append(line);
    }
    return svg;
  }
  say(text, warn = false) {
    get("note").textContent = text;
    get("note").classList.toggle("warn", warn && Boolean(text));
  }
}

window.sheet = new Sheet(JSON.parse(get("data").textContent));
document.documentElement.dataset.ready = "yes";
