// The page: state, panel, map. Texts from data are set as textContent only.

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Two figures, and never 0 % or 100 % of what is not.
function percent(part, whole) {
  if (!whole) return "–";
  const share = (100 * part) / whole;
  if (share > 0 && share < 0.1) return "< 0.1 %";
  if (share < 100 && share > 99.9) return "> 99.9 %";
  return `${share.toFixed(share === 0 || share === 100 || (share >= 9.95 && share < 99) ? 0 : 1)} %`;
}

function element(tag, { text, ...properties } = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) node.textContent = text;
  node.append(...children);
  return node;
}

function swatch(colour) {
  const node = element("span", { className: colour ? "swatch" : "swatch hatch" });
  if (colour) node.style.background = colour;
  return node;
}

function bar(share, colour) {
  const fill = element("i");
  fill.style.width = `${100 * share}%`;
  if (colour) fill.style.background = colour;
  return element("span", { className: "bar" }, fill);
}

class Page {
  constructor(about, data, source, pictures, served) {
    this.about = about;
    this.data = data;
    this.source = source;
    this.served = served;
    this.colours = classColours(about.classes);
    this.cells = { ...about.cells, shapes: decodeShapes(about.cells.shape) };
    this.areas = { ...about.areas, shapes: decodeShapes(about.areas.shape) };
    this.slides = about.slides && { ...about.slides, shapes: decodeShapes(about.slides.shape) };
    this.showSlides = Boolean(this.slides);
    this.shown = new Set([-1, ...about.classes.keys()]);
    this.reason = this.threshold = null;
    this.filled = this.showCells = false;
    this.showAreas = true;
    this.selected = -1;
    this.selectedId = "";
    this.visible = new Uint8Array(data.n).fill(1);
    this.buildMap(pictures);
    this.buildHeader();
    this.buildCounts();
    this.buildExpected();
    this.buildReasons();
    this.buildSlides();
    this.buildTexts();
    this.buildControls();
    this.find = new Find(this);
    this.blind = false; // hides verdicts during spot checks
    this.check = new SpotCheck(this);
    this.apply();
  }

  buildMap(pictures) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.map = L.map("map", { zoomSnap: 0.25, wheelPxPerZoomLevel: 90, maxZoom: 22, minZoom: 3, attributionControl: false, zoomAnimation: !still, fadeAnimation: !still, inertia: !still });
    this.map.createPane("verdicts").style.zIndex = 400;
    this.home = this.homeBounds(pictures);
    this.map.fitBounds(this.home, { padding: [24, 24], animate: false });
    L.control.scale({ imperial: false }).addTo(this.map);
    this.swipe = new Swipe(this.map, pictures, this.served, this.about.snapshot ?? "");
    this.swipe.firstMode = this.swipe.mode;
    this.layer = new VerdictLayer(this).addTo(this.map);
    this.map.on("click", (event) => this.click(event.latlng));
    this.map.on("mousemove", (event) => this.hover(event));
    this.map.on("mouseout", () => { $("hover").hidden = true; });
    this.map.on("moveend modechange", () => this.remember());
    this.map.on("nopicture", ({ scene }) => {
      $("nopicture").hidden = false;
      $("nopicture").textContent = `Scene ${scene} cannot be read from here. index.html of this map holds reduced pictures.`;
    });
  }

  homeBounds(pictures) {
    const { data, areas } = this;
    let w = 1, n = 1, e = 0, s = 0;
    const add = (x0, y0, x1, y1) => { w = Math.min(w, x0); n = Math.min(n, y0); e = Math.max(e, x1); s = Math.max(s, y1); };
    for (let i = 0; i < data.n; i++) if (data.placed(i)) add(data.x[i], data.y[i], data.x[i], data.y[i]);
    const slides = this.slides?.shapes;
    for (let i = 0; i < (slides?.n ?? 0); i++) add(...slides.box.subarray(4 * i, 4 * i + 4));
    if (e < w) for (let i = 0; i < areas.shapes.n; i++) add(...areas.shapes.box.subarray(4 * i, 4 * i + 4));
    if (e > w) return L.latLngBounds([latOf(n), lonOf(w)], [latOf(s), lonOf(e)]);
    if (pictures.length) return L.latLngBounds(pictures.flatMap((p) => [[p.bounds[0], p.bounds[1]], [p.bounds[2], p.bounds[3]]]));
    return L.latLngBounds([[-60, -170], [70, 170]]);
  }

  // The shown building at a place: inside its outline, or within 8 px of its point.
  buildingAt(latlng) {
    const { data } = this;
    const x = worldX(latlng.lng), y = worldY(latlng.lat);
    const reach = 300 / metresPerWorld(y);
    const near = 8 / (256 * 2 ** this.map.getZoom());
    let best = -1;
    data.within(x - reach, y - reach, x + reach, y + reach, (i) => {
      if (!this.visible[i] || (best >= 0 && data.damage[i] < data.damage[best])) return;
      const details = data.details(i);
      const hit = details ? contains(details[0].shapes, details[1], x, y) : Math.hypot(data.x[i] - x, data.y[i] - y) < near;
      if (hit) best = i;
    });
    return best;
  }

  click(latlng) {
    if (this.blind) return;
    if (this.layer.far()) this.map.setView(latlng, Math.min(this.map.getZoom() + 2, 17));
    else this.select(this.buildingAt(latlng));
  }

  titleOf(i) {
    const k = this.data.damage[i];
    return k < 0 ? `Not assessed: ${this.reasonTitle(this.data.reasons[this.data.reason[i]])}` : capital(this.about.classes[k].label);
  }

  reasonTitle(reason) {
    return this.about.reasons.find((r) => r.reason === reason)?.title ?? reason ?? "unknown";
  }

  hover(event) {
    if (this.blind) return;
    const building = this.layer.far() ? this.hexagonText(event.latlng) : this.buildingText(this.buildingAt(event.latlng));
    const text = building || this.slideText(event.latlng);
    $("map").classList.toggle("over", Boolean(text));
    $("hover").hidden = !text;
    if (!text) return;
    $("hover").textContent = text;
    const left = Math.min(event.containerPoint.x, this.map.getSize().x - 200);
    Object.assign($("hover").style, { left: `${left}px`, top: `${event.containerPoint.y}px` });
  }

  hexagonText(latlng) {
    const hex = this.layer.hexagonAt(latlng);
    if (!hex) return "";
    const unseen = hex.unseen ? `; ${number(hex.unseen)} not assessed` : "";
    return hex.seen ? `${this.about.headline.names} ${percent(hex.severe, hex.seen)} of ${number(hex.seen)} assessed${unseen}` : `${number(hex.unseen)} not assessed`;
  }

  buildingText(i) {
    if (i < 0) return "";
    const details = this.data.details(i);
    if (!details) return this.titleOf(i);
    const [group, j] = details;
    const clarity = this.threshold === null ? word(group.decided.clarity, j) : null;
    return [this.titleOf(i), clarity, group.id[j]].filter(Boolean).join(" · ");
  }

  slideText(latlng) {
    if (!this.showSlides) return "";
    const { shapes, area, p, buildings } = this.slides;
    const x = worldX(latlng.lng), y = worldY(latlng.lat);
    for (let i = 0; i < shapes.n; i++) {
      if (!contains(shapes, i, x, y)) continue;
      const touched = buildings[i] ? ` · ${number(buildings[i])} buildings touched` : "";
      return `Landslide · ${number(area[i])} m² · probability ${p[i].toFixed(2)}${touched}`;
    }
    return "";
  }

  // A map of landslides alone has no verdicts on buildings to show.
  buildSlides() {
    $("slides-label").hidden = $("slides-key").hidden = !this.slides;
    if (!this.slides) return;
    const { count, km2 } = this.slides;
    $("slides-key").querySelector("b").textContent = number(count);
    $("slides-key").querySelector("span:last-child").textContent = `${count === 1 ? "landslide" : "landslides"}, ${km2.toFixed(km2 < 1 ? 3 : 1)} km², by the model`;
    const alone = !this.about.classes.length;
    for (const id of ["walk", "headline", "stack", "legend-title", "legend", "hexes-key", "why"]) if (alone) $(id).style.display = "none";
  }

  buildHeader() {
    const { event, models, run } = this.about;
    $("event").textContent = event.id ?? "Earthquake";
    const parts = [];
    if (event.time) parts.push(`earthquake of ${String(event.time).slice(0, 16).replace("T", " ")} UTC`);
    if (run.published) parts.push(`${run.interim ? "interim map, not all is read yet, " : "map "}published ${run.published.slice(0, 16).replace("T", " ")} UTC`);
    for (const m of models) parts.push(`${m.name ?? "model"} ${m.version ?? ""}`.trim());
    $("when").textContent = parts.join(" · ");
    $("when").title = $("when").textContent;
  }

  buildCounts() {
    const { classes } = this.about;
    const rows = [...classes.map((c, k) => [k, c.label, this.colours[k]]).reverse(), [-1, "not assessed", null]];
    for (const [k, name, colour] of rows) {
      const part = element("i", { className: colour ? "" : "hatch" });
      part.dataset.key = k;
      if (colour) part.style.background = colour;
      $("stack").append(part);
      $("legend").append(this.legendRow(k, name, colour));
    }
    $("evidence").textContent = this.about.evidence;
    $("evidence").hidden = !this.about.evidence;
    $("caveat").append(...this.about.headline.caveat.map((text) => element("p", { text })));
    $("hexes").append(...SHARE_STEPS.map((s) => element("span", {}, swatch(s.colour), s.text)), element("span", {}, swatch(null), "most not assessed"));
    $("score").hidden = this.data.severeFrom < 1;
    $("score-input").value = Math.round(100 * this.about.threshold);
  }

  // Maps of calibrated models: how many are expected, before how many are declared one by one.
  buildExpected() {
    const { expected } = this.about.headline;
    $("score-word").textContent = this.word = this.about.shares ? "probability" : "score";
    $("units").hidden = !this.about.shares?.length;
    if (!expected) return;
    const { label, amount, interval, buildings } = expected;
    for (const id of ["expected", "expected-range"]) $(id).hidden = false;
    $("declared").className = "";
    $("expected").firstElementChild.textContent = `About ${amount}`;
    $("expected").lastElementChild.textContent = `${label} (90 %: ${interval}), estimated`;
    $("expected-range").textContent = `Of the ${number(buildings)} assessed.`;
    const head = ["unit", "declared", "estimated (90 %)", "share (90 %)"];
    $("units-table").append(element("tr", {}, ...head.map((text, n) => element("th", { text, className: n ? "n" : "" }))));
    for (const unit of this.about.shares) $("units-table").append(this.unitRow(unit));
  }

  unitRow({ id, title, buildings, declared, expected, interval, share }) {
    const area = this.areas.unit.indexOf(id);
    const name = element("td", { text: area < 0 ? title : "" });
    if (area >= 0) {
      const button = element("button", { type: "button", className: "plain", text: title, title: "Show this unit on the map" });
      button.addEventListener("click", () => this.showArea(area));
      name.append(button);
    }
    const cells = [`${number(declared)} of ${number(buildings)}`, `${expected} (${interval})`, share];
    // the interval is not broken, and may stand below its number
    const parts = (text) => text.split(/(?=\()/).map((part) => part.startsWith("(") ? element("span", { text: part }) : part);
    return element("tr", {}, name, ...cells.map((text) => element("td", { className: "n" }, ...parts(text))));
  }

  legendRow(k, name, colour) {
    const box = element("input", { type: "checkbox", checked: true });
    box.dataset.key = k;
    box.addEventListener("change", () => {
      const shown = new Set(this.shown);
      if (box.checked) shown.add(k);
      else shown.delete(k);
      this.setShown(shown);
    });
    const figure = element("span", { className: "count" });
    figure.dataset.class = k < 0 ? "not_assessed" : name;
    figure.dataset.key = k;
    const share = element("span", { className: "share" });
    share.dataset.key = k;
    const only = element("button", { type: "button", className: "only", text: "only", title: `Show only: ${name}` });
    only.addEventListener("click", () => this.showOnly(k));
    const label = element("label", {}, box, swatch(colour), element("span", { className: "name", text: capital(name) }), figure, share);
    return element("div", { className: "key" }, label, only);
  }

  showOnly(k) {
    const alone = this.shown.size === 1 && this.shown.has(k);
    this.setShown(alone ? [-1, ...this.about.classes.keys()] : [k]);
  }

  setShown(classes) {
    this.shown = new Set(classes);
    for (const box of document.querySelectorAll("#legend input")) box.checked = this.shown.has(Number(box.dataset.key));
    this.apply();
  }

  // Another threshold than the map's own; null: the published verdicts.
  setThreshold(value) {
    this.threshold = value !== null && Math.abs(value - this.about.threshold) < 0.004 ? null : value;
    $("score-input").value = Math.round(100 * (this.threshold ?? this.about.threshold));
    this.data.declare(this.threshold);
    this.apply();
    if (this.selected >= 0) this.fillCard(this.selected);
  }

  setReason(reason) {
    this.reason = reason;
    for (const other of document.querySelectorAll(".reason")) other.setAttribute("aria-pressed", String(other.dataset.reason === reason));
    this.apply();
  }

  // After any change of a filter or the threshold: what is shown, all counts, the drawing.
  apply() {
    const { data } = this;
    const reason = this.reason === null ? -1 : data.reasons.indexOf(this.reason);
    const counts = new Uint32Array(this.about.classes.length + 1);
    for (let i = 0; i < data.n; i++) {
      counts[data.damage[i] + 1]++;
      this.visible[i] = (reason >= 0 ? data.damage[i] < 0 && data.reason[i] === reason : this.shown.has(data.damage[i])) ? 1 : 0;
    }
    this.order = null;
    this.layer.hexagons.forget();
    this.showCounts(counts);
    this.layer.redraw();
    this.remember();
  }

  showCounts(counts) {
    const { names } = this.about.headline;
    const unseen = counts[0], total = this.data.n, assessed = total - unseen;
    const from = this.data.severeFrom;
    const severe = from < 0 ? 0 : counts.slice(from + 1).reduce((a, b) => a + b, 0);
    $("severe").textContent = number(severe);
    $("severe-what").textContent = this.about.headline.expected ? `declared ${names}` : names;
    const beside = unseen ? `${number(unseen)} of ${number(total)} not seen` : `all ${number(total)} seen`;
    $("share").textContent = assessed ? `${percent(severe, assessed)} of the ${number(assessed)} assessed; ${beside}` : `no building was assessed; ${beside}`;
    for (const part of $("stack").children) part.style.flexGrow = counts[Number(part.dataset.key) + 1];
    for (const part of $("stack").children) part.hidden = !counts[Number(part.dataset.key) + 1];
    for (const figure of document.querySelectorAll("#legend .count")) figure.textContent = number(counts[Number(figure.dataset.key) + 1]);
    for (const share of document.querySelectorAll("#legend .share")) {
      const k = Number(share.dataset.key);
      share.textContent = k < 0 ? `${percent(unseen, total)} of all` : percent(counts[k + 1], assessed);
    }
    $("stack").setAttribute("aria-label", [...document.querySelectorAll("#legend .key")].map((row) => row.innerText.replace(/\s+/g, " ")).join("; "));
    this.showThreshold();
    const filtered = this.reason !== null || this.shown.size <= this.about.classes.length;
    $("filtered").hidden = !filtered;
    const drawn = this.visible.reduce((a, b) => a + b, 0);
    $("filtered-text").textContent = `Filter: the map shows ${number(drawn)} of ${number(total)} buildings.`;
  }

  showThreshold() {
    const own = Math.round(100 * this.about.threshold);
    const now = Math.round(100 * (this.threshold ?? this.about.threshold));
    $("score-value").textContent = `${now} %`;
    $("score-what").textContent = this.about.headline.names;
    $("what-if").hidden = this.threshold === null;
    $("what-if").firstElementChild.textContent = `What if: counts and colours at ${now} %. The published verdicts, in every file, use ${own} %; ${this.about.shares ? "the estimated number does not depend on it" : "the model card's figures hold there"}.`;
    document.body.classList.toggle("trying", this.threshold !== null);
  }

  buildReasons() {
    const { reasons } = this.about;
    $("why").hidden = !reasons.length;
    const most = Math.max(...reasons.map((r) => r.count), 1);
    for (const r of reasons) {
      const figure = element("b", { className: "reason-count", text: number(r.count) });
      figure.dataset.reason = r.reason;
      const button = element("button", { type: "button", className: "reason", title: "Show only these buildings on the map" },
        element("span", { text: r.title }), figure, bar(r.count / most));
      button.dataset.reason = r.reason;
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => this.setReason(this.reason === r.reason ? null : r.reason));
      $("reasons").append(button);
    }
  }

  buildTexts() {
    const { models, notes, operators, issues, run, credits } = this.about;
    const say = (text) => $("caveats").append(element("p", { text }));
    if (this.slides) say("A landslide is ground that a model takes for a fresh slide in one image. Quarries, new roads, fields and river beds look alike; slides under cloud, in shadow or under trees are not seen. Look at the image before anybody is sent.");
    if (!this.about.classes.length) { this.buildNotes(models, notes, operators, issues, run, credits); return; }
    say("A verdict is a model's estimate from images taken from above. Damage to façades, inner walls and lower storeys is not visible there, and “no visible damage” is not “safe”.");
    if (this.about.headline.advice) say(this.about.headline.advice);
    say("The state of buildings that were not assessed is unknown. They never count as undamaged.");
    this.buildNotes(models, notes, operators, issues, run, credits);
  }

  buildNotes(models, notes, operators, issues, run, credits) {
    $("left").hidden = !notes.length;
    $("notes").append(...notes.map((text) => element("li", { text })));
    $("image-credits").append(...credits.map((text) => element("li", { text })));
    $("images").hidden = !credits.length;
    this.buildOperators(models, operators, issues, run);
    $("credit").textContent = ["quakestream", run.run_id && `run ${run.run_id}`, "map drawn with Leaflet (BSD-2-Clause)"].filter(Boolean).join(" · ");
  }

  buildOperators(models, operators, issues, run) {
    const count = issues.length === 1 ? "1 input in quarantine" : `${number(issues.length)} inputs in quarantine`;
    $("operators-title").textContent = `For those who run quakestream${issues.length ? `: ${count}` : ""}`;
    $("operator-notes").append(...operators.map((text) => element("li", { text })));
    for (const one of issues) {
      const again = one.retryable ? ". Run the same command again to retry." : "";
      $("issues").append(element("div", { className: "issue" }, element("b", { text: `${one.kind} ${one.subject}` }), element("div", { className: "quiet", text: one.cause + again })));
    }
    const facts = Object.entries(run).map(([name, value]) => [name.replaceAll("_", " "), value]);
    for (const m of models) facts.push([m.name ?? "model", [m.version, m.engine, m.digest?.slice(0, 12)].filter(Boolean).join(" · ")]);
    $("facts").append(...facts.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: String(value) })]));
    for (const m of models.filter((one) => one.metrics.length)) {
      const rows = m.metrics.map(([name, value]) => element("tr", {}, element("td", { text: name }), element("td", { className: "n", text: value })));
      $("metrics").append(element("details", {}, element("summary", { text: `All figures of ${m.name ?? "the model"}` }), element("table", {}, ...rows)));
    }
  }

  buildControls() {
    $("score-input").addEventListener("input", (event) => this.setThreshold(event.target.value / 100));
    $("score-back").addEventListener("click", () => this.setThreshold(null));
    $("filter-off").addEventListener("click", () => { this.reason = null; this.setReason(null); this.setShown([-1, ...this.about.classes.keys()]); });
    for (const [id, key] of [["filled", "filled"], ["cells", "showCells"], ["areas", "showAreas"], ["slides", "showSlides"]]) {
      $(id).addEventListener("change", (event) => { this[key] = event.target.checked; $("cells-key").hidden = !this.showCells; this.layer.redraw(); });
    }
    $("areas-label").hidden = !this.areas.shapes.n;
    $("next").addEventListener("click", () => this.step(1));
    $("prev").addEventListener("click", () => this.step(-1));
    $("random").addEventListener("click", () => {
      const open = this.walk();
      if (open.length) this.select(open[Math.floor(Math.random() * open.length)], true);
    });
    $("theme").addEventListener("click", () => {
      const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
      document.documentElement.dataset.theme = dark === "dark" ? "light" : "dark";
      this.layer.redraw();
    });
    $("link").addEventListener("click", () => copyText(this.link(), $("link").querySelector("span")));
    $("home").addEventListener("click", () => this.map.fitBounds(this.home, { padding: [24, 24], animate: false }));
    $("to-card").addEventListener("click", () => {
      const card = document.querySelector(".model-card");
      if (card) { card.open = true; card.scrollIntoView({ block: "start" }); }
    });
    $("to-card").hidden = !document.querySelector(".model-card");
    document.addEventListener("keydown", (event) => this.key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.layer.redraw());
    new ResizeObserver(() => { this.map.invalidateSize({ pan: false }); this.swipe.apply(); this.layer.soon(); }).observe($("stage"));
    addEventListener("beforeprint", () => this.fitPaper());
    addEventListener("hashchange", () => { if (location.hash.slice(1) !== this.hash) openState(this, location.hash.slice(1)); });
  }

  // Paper shows the map as it is on the screen, scaled: Chrome prints a canvas that is drawn anew
  // for the paper over everything below it.
  fitPaper() {
    const { clientWidth: wide, clientHeight: high } = $("stage");
    const style = document.documentElement.style;
    style.setProperty("--stage-wide", `${wide}px`);
    style.setProperty("--stage-high", `${high}px`);
    style.setProperty("--stage-zoom", Math.min(680 / wide, 620 / high));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.check.on) { this.check.key(event); return; }
    if (event.target.tagName === "INPUT") return;
    if (event.key === "Escape") this.select(-1);
    if (event.key === "n") this.step(1);
    if (event.key === "p") this.step(-1);
    if (event.key === "/") { event.preventDefault(); $("query").focus(); }
  }

  onDrawn(far) {
    $("hexes-key").hidden = !far;
  }

  // Shown buildings in the order of "next": the highest scores first, the unseen last.
  walk() {
    if (!this.order) {
      const { severe, damage } = this.data;
      const rank = (i) => (severe[i] === UNKNOWN_SCORE ? -1 : severe[i]);
      const open = [];
      for (let i = 0; i < this.data.n; i++) if (this.visible[i]) open.push(i);
      this.order = open.sort((a, b) => damage[b] - damage[a] || rank(b) - rank(a) || a - b);
    }
    return this.order;
  }

  step(direction) {
    const open = this.walk();
    if (!open.length) return;
    const at = open.indexOf(this.selected);
    const to = at < 0 ? 0 : Math.min(open.length - 1, Math.max(0, at + direction));
    this.select(open[to], true);
  }

  async select(i, fly = false) {
    this.selected = i;
    this.selectedId = "";
    $("card").hidden = i < 0;
    if (i >= 0) {
      if (fly) this.flyTo(i);
      this.fillCard(i);
      $("panel").scrollTop = 0;
      if (!this.data.details(i)) {
        try { await this.source.load(this.data, i); } catch (error) { this.failed = String(error); }
        if (this.selected !== i) return;
        this.fillCard(i);
        if (fly) this.flyTo(i);
      }
    }
    this.remember();
    this.layer.redraw();
  }

  flyTo(i) {
    const box = this.data.bounds(i);
    if (!box) return;
    const centre = [latOf((box[1] + box[3]) / 2), lonOf((box[0] + box[2]) / 2)];
    this.map.setView(centre, Math.min(19, Math.max(this.map.getZoom(), 18)), { animate: false });
  }

  showArea(area) {
    const [w, n, e, s] = this.areas.shapes.box.subarray(4 * area, 4 * area + 4);
    this.map.fitBounds([[latOf(n), lonOf(w)], [latOf(s), lonOf(e)]], { padding: [24, 24], animate: false });
  }

  showPosition({ lat, lon }) {
    this.map.setView([lat, lon], Math.max(this.map.getZoom(), 17), { animate: false });
    this.mark?.remove();
    this.mark = L.circleMarker([lat, lon], { radius: 10, weight: 3, color: "#0b5cad", fill: false, interactive: false, renderer: L.svg() }).addTo(this.map);
    const i = this.layer.far() ? -1 : this.buildingAt(L.latLng(lat, lon));
    if (i >= 0) this.select(i);
  }

  // Keeps the address in step with what is shown.
  remember() {
    clearTimeout(this.remembering);
    this.remembering = setTimeout(() => {
      this.hash = stateText(this);
      history.replaceState(null, "", `#${this.hash}`);
    }, 200);
  }

  link() { return `${location.href.split("#")[0]}#${stateText(this)}`; }

  fillCard(i) {
    const details = this.data.details(i);
    this.selectedId = details ? details[0].id[details[1]] : "";
    if (this.blind) {
      const shown = details ? this.chipsOf(i, ...details) : [this.withoutDetails()];
      $("card").replaceChildren(element("div", { className: "id", text: this.selectedId }), ...shown);
      return;
    }
    const close = element("button", { type: "button", className: "close", text: "×", title: "Close" });
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", () => this.select(-1));
    const k = this.data.damage[i];
    const head = element("header", {}, swatch(k < 0 ? null : this.colours[k]), element("b", { text: k < 0 ? "Not assessed" : capital(this.about.classes[k].label) }),
      element("span", { className: "quiet", text: this.headDetail(i, details) }));
    const nodes = [close, head, ...this.scoresOf(i)];
    if (details) nodes.splice(2, 0, element("div", { className: "id", text: this.selectedId }));
    nodes.push(...(details ? this.detailsOf(i, ...details) : [this.withoutDetails()]));
    $("card").replaceChildren(...nodes);
  }

  headDetail(i, details) {
    if (this.data.damage[i] < 0) return this.reasonTitle(this.data.reasons[this.data.reason[i]]);
    if (this.threshold !== null) return this.data.damage[i] === this.data.published[i] ? "also by the published verdict" : `what if; published: ${this.about.classes[this.data.published[i]].label}`;
    return details ? word(details[0].decided.clarity, details[1]) ?? "" : "";
  }

  withoutDetails() {
    const text = this.failed ?? (this.served ? "loading…" : "This page holds no outline and details of this building, since the map is large. `quakestream view` shows them.");
    return element("p", { className: "quiet", text });
  }

  // Each score beside the threshold it is held against: the most severe class that reaches it is declared.
  scoresOf(i) {
    const { data, about } = this;
    if (data.damage[i] < 0) return [];
    const least = this.threshold ?? about.threshold;
    const rows = [];
    for (let k = about.classes.length - 1; k > 0; k--) {
      const score = data.scores[k][i] / 1000;
      const line = bar(score, this.colours[k]);
      const tick = element("u", { title: `threshold ${(100 * least).toFixed(1)} %` });
      tick.style.left = `${100 * least}%`;
      const name = k < about.classes.length - 1 ? `${about.classes[k].label} or worse` : about.classes[k].label;
      rows.push(element("div", { className: "prob" }, element("span", { text: name }), element("span", { className: "track" }, line, tick), element("b", { text: (100 * score).toFixed(1) })));
    }
    const title = `${capital(this.word)}, % — declared from ${(100 * least).toFixed(1)} %`;
    const what = about.shares ? "Of 100 buildings with this probability so many are expected to be destroyed, if the share around them is right." : "A score is the model's, not the share of such buildings that fell: see the model card.";
    return [element("h3", { text: title }), ...rows, element("p", { className: "quiet small", text: what })];
  }

  detailsOf(i, group, j) {
    const position = this.positionOf(i);
    const tools = element("div", { className: "row small-tools" });
    const tool = (text, what) => {
      const button = element("button", { type: "button", text });
      button.addEventListener("click", () => copyText(what(), button));
      tools.append(button);
    };
    tool("copy link", () => this.link());
    if (position) tool("copy coordinates", () => position);
    return [
      ...this.chipsOf(i, group, j),
      tools,
      ...this.facts("Share around it", this.shareOf(group, j)),
      ...this.facts("Images", this.imagesOf(group, j)),
      ...this.facts("Shaking and ground", [...group.hazard.map((h) => [h.title, h.values[j]]), ["No value for", word(group.missing, j)]]),
      ...this.facts("Technical", this.technicalOf(group, j, position)),
    ];
  }

  // Pictures before and after, side by side, where they exist.
  chipsOf(i, group, j) {
    const box = this.data.bounds(i);
    if (!box) return [];
    const square = chipSquare(box);
    const chips = [];
    for (const [epoch, name, column] of [["pre", "Before", "scene_pre"], ["post", "After", "scene_post"]]) {
      // A building on a seam is put together from its tiles, the one that shows most of it on top.
      const tiles = tilesOf(word(group.text[column], j));
      const all = (tiles.length ? tiles : [null]).map((tile) => this.swipe.chipOf(i, epoch, tile, box, this.about.scenes[tile]?.gsd)).filter(Boolean);
      const layers = [...new Map(all.map((one) => [one.src, one])).values()].reverse();
      const chip = layers.at(-1);
      if (!chip) continue;
      const canvas = element("canvas", { width: 480, height: 480 });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${name}, ${chip.acquired.slice(0, 10)}, ${chip.note}`);
      const caption = element("figcaption", {}, element("b", { text: `${name} · ${chip.acquired.slice(0, 10)}` }), element("span", { className: chip.reduced ? "reduced" : "", text: chip.note }));
      const images = layers.map((one) => Object.assign(new Image(), { src: one.src }));
      Promise.all(images.map((image) => image.decode()))
        .then(() => images.forEach((image, k) => drawChip(canvas, image, layers[k].box, square, k === images.length - 1 && [group.shapes, j])))
        .catch(() => { caption.lastChild.textContent = "the scene cannot be read from here"; });
      chips.push(element("figure", {}, canvas, caption));
    }
    if (!chips.length) return [element("p", { className: "quiet", text: "This page has no picture of this building." })];
    const credit = [...new Set(["scene_pre", "scene_post"].flatMap((c) => tilesOf(word(group.text[c], j))).map((scene) => this.about.scenes[scene]?.credit).filter(Boolean))].join("; ");
    return [element("div", { className: "chips" }, ...chips), element("p", { className: "quiet small", text: credit ? `Images: ${credit}` : "" })];
  }

  facts(title, pairs) {
    const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
    if (!known.length) return [];
    const cells = known.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: String(value) })]);
    return [element("h3", { text: title }), element("dl", {}, ...cells)];
  }

  // `Onikişubat (TR4602)`, or the unit alone where it is its name or has none.
  unitTitle(unit) {
    const name = this.areas.name[this.areas.unit.indexOf(unit)];
    return name && name !== unit ? `${name} (${unit})` : unit;
  }

  // The expected share of destroyed buildings of its unit; nothing without calibration.
  shareOf(group, j) {
    if (!group.number.share) return [];
    const [share, low, high, score] = ["share", "share_low", "share_high", "score"].map((name) => fixed(group.number[name], j));
    if (share === null) return [];
    const per = (value) => `${(100 * value).toFixed(1)} %`;
    return [
      ["Destroyed", low === high ? per(share) : `${per(share)} (90 %: ${per(low)} to ${per(high)})`],
      ["Unit", this.unitTitle(word(group.text.share_area, j))],
      ["Model's score", per(score)],
    ];
  }

  imagesOf(group, j) {
    const dated = (names) => {
      const time = this.about.scenes[tilesOf(names)[0]]?.time;
      return time ? `${tilesOf(names).join(" and ")}, ${time}` : names;
    };
    const post = word(group.text.scene_post, j);
    const valid = fixed(group.number.valid_fraction, j);
    return [
      ["After", dated(post)],
      ["Acquired", this.about.scenes[tilesOf(post)[0]] ? null : word(group.acquired, j)],
      ["Before", dated(word(group.text.scene_pre, j))],
      ["Seen", valid === null ? null : `${Math.round(100 * valid)} % of the outline`],
    ];
  }

  technicalOf(group, j, position) {
    const shift = fixed(group.number.shift_m, j), quality = fixed(group.number.shift_quality, j);
    return [
      ["Position", position],
      ["Evidence", word(group.text.evidence, j)],
      ["Shift of the images", shift === null ? null : `${shift} m${quality === null ? "" : ` (quality ${quality})`}`],
      ["Model", word(group.text.model, j)],
      ["Engine", word(group.text.engine, j)],
    ];
  }

  positionOf(i) {
    const box = this.data.bounds(i);
    return box && `${latOf((box[1] + box[3]) / 2).toFixed(6)}, ${lonOf((box[0] + box[2]) / 2).toFixed(6)}`;
  }
}

(async () => {
  try {
    const served = document.documentElement.dataset.served === "yes";
    const about = toJson(await gunzip(fromBase64($("data-about").textContent)));
    const source = served ? new Live(about) : new Disk();
    const data = new Buildings(await source.core(), about);
    await source.start(data);
    const hash = location.hash.slice(1);
    window.page = new Page(about, data, source, JSON.parse($("data-pictures").textContent), served);
    await openState(window.page, hash);
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    $("broken").hidden = false;
    $("broken").textContent = `This browser cannot show the map (${error}): use a browser from 2023 or later. buildings.parquet next to this page holds the same verdicts.`;
    throw error;
  }
})();
