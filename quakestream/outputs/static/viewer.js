// The page: state, panel, map. Texts from data are set as textContent only.

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(part && part < whole ? 1 : 0)} %` : "–");

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
  constructor(about, data, pictures) {
    this.about = about;
    this.data = data;
    this.colours = classColours(about.classes);
    this.cells = { ...about.cells, shapes: decodeShapes(about.cells.shape) };
    this.shown = new Set([-1, ...about.classes.keys()]);
    this.reason = null;
    this.least = 0;
    this.outlines = this.showCells = false;
    this.selected = -1;
    this.visible = new Uint8Array(data.n).fill(1);
    // Buildings that were not assessed are drawn first, the worst last.
    this.drawOrder = [...data.damage.keys()].sort((a, b) => data.damage[a] - data.damage[b] || a - b);
    this.worst = [...data.damage.keys()].filter((i) => data.damage[i] >= 0)
      .sort((a, b) => data.severe[b] - data.severe[a] || data.damage[b] - data.damage[a] || a - b);
    this.buildMap(pictures);
    this.buildHeader();
    this.buildCounts();
    this.buildReasons();
    this.buildTrust();
    this.buildControls();
    this.openLink();
  }

  buildMap(pictures) {
    this.map = L.map("map", { zoomSnap: 0.25, wheelPxPerZoomLevel: 90, maxZoom: 22, minZoom: 3, attributionControl: false, zoomAnimation: true });
    this.map.createPane("verdicts").style.zIndex = 400;
    this.home = this.homeBounds(pictures);
    this.map.fitBounds(this.home, { padding: [24, 24] });
    L.control.scale({ imperial: false }).addTo(this.map);
    this.swipe = new Swipe(this.map, pictures);
    this.layer = new VerdictLayer(this).addTo(this.map);
    this.map.on("click", (event) => this.select(this.buildingAt(event.latlng)));
    this.map.on("mousemove", (event) => this.hover(event));
    this.map.on("mouseout", () => { $("hover").hidden = true; });
  }

  homeBounds(pictures) {
    const { shapes } = this.data;
    let w = 1, n = 1, e = 0, s = 0;
    for (let i = 0; i < shapes.n; i++) {
      if (!Number.isFinite(shapes.box[4 * i])) continue;
      w = Math.min(w, shapes.box[4 * i]); n = Math.min(n, shapes.box[4 * i + 1]);
      e = Math.max(e, shapes.box[4 * i + 2]); s = Math.max(s, shapes.box[4 * i + 3]);
    }
    if (e > w) return L.latLngBounds(this.latLng(w, n), this.latLng(e, s));
    if (pictures.length) return L.latLngBounds(pictures.flatMap((p) => [[p.bounds[0], p.bounds[1]], [p.bounds[2], p.bounds[3]]]));
    return L.latLngBounds([[-60, -170], [70, 170]]);
  }

  latLng(x, y) {
    return L.latLng((360 / Math.PI) * Math.atan(Math.exp((0.5 - y) * 2 * Math.PI)) - 90, (x - 0.5) * 360);
  }

  buildingAt(latlng) {
    const x = worldX(latlng.lng), y = worldY(latlng.lat);
    for (let k = this.drawOrder.length - 1; k >= 0; k--) {
      const i = this.drawOrder[k];
      if (this.visible[i] && contains(this.data.shapes, i, x, y)) return i;
    }
    return -1;
  }

  verdict(i) {
    const k = this.data.damage[i];
    if (k < 0) return { title: "Not assessed", detail: this.reasonTitle(word(this.data.text.reason, i)) };
    return { title: this.about.classes[k].label, detail: `${Math.round(100 * fixed(this.data.p[k], i))} %`, colour: this.colours[k] };
  }

  reasonTitle(reason) {
    return this.about.reasons.find((r) => r.reason === reason)?.title ?? reason;
  }

  hover(event) {
    const i = this.buildingAt(event.latlng);
    $("map").classList.toggle("over", i >= 0);
    $("hover").hidden = i < 0;
    if (i < 0) return;
    const { title, detail } = this.verdict(i);
    $("hover").textContent = `${title} · ${detail} · ${this.data.id[i]}`;
    Object.assign($("hover").style, { left: `${event.containerPoint.x}px`, top: `${event.containerPoint.y}px` });
  }

  buildHeader() {
    const { event, models, run } = this.about;
    $("event").textContent = event.id ?? "Earthquake";
    const parts = [];
    if (event.time) parts.push(`earthquake of ${String(event.time).slice(0, 16).replace("T", " ")} UTC`);
    if (run.published) parts.push(`map published ${run.published.slice(0, 16).replace("T", " ")} UTC`);
    for (const m of models) parts.push(`${m.name ?? "model"} ${m.version ?? ""}`.trim());
    $("when").textContent = parts.join(" · ");
    $("when").title = $("when").textContent;
    const credit = ["quakestream", run.run_id && `run ${run.run_id}`, run.snapshot && `snapshot ${run.snapshot}`, "map drawn with Leaflet (BSD-2-Clause)"];
    $("credit").textContent = credit.filter(Boolean).join(" · ");
  }

  buildCounts() {
    const { classes, total } = this.about;
    const assessed = classes.reduce((sum, c) => sum + c.count, 0);
    const from = this.data.severeFrom;
    const severe = from < 0 ? 0 : classes.slice(from).reduce((sum, c) => sum + c.count, 0);
    const names = from < 0 ? "severe" : classes.slice(from).map((c) => c.label.toLowerCase()).join(" or ");
    for (const [value, name] of [[number(severe), names], [percent(assessed, total), `assessed of ${number(total)}`], [number(total - assessed), "not assessed"]]) {
      $("tiles").append(element("div", {}, element("b", { text: value }), element("span", { text: name })));
    }
    const rows = [...classes.map((c, k) => [k, c.label, c.count, this.colours[k]]).reverse(), [-1, "Not assessed", total - assessed, null]];
    for (const [k, name, count, colour] of rows) {
      if (count) {
        const part = element("i", { title: `${name}: ${number(count)}`, className: colour ? "" : "hatch" });
        part.style.flexGrow = count;
        if (colour) part.style.background = colour;
        $("stack").append(part);
      }
      $("legend").append(this.legendRow(k, name, count, colour));
    }
    $("evidence").textContent = this.about.evidence;
    $("evidence").hidden = !this.about.evidence;
    $("stack").setAttribute("aria-label", rows.map(([, name, count]) => `${name} ${count}`).join(", "));
    $("least-what").textContent = `probability of ${names}`;
    $("least").hidden = from < 0;
  }

  legendRow(k, name, count, colour) {
    const box = element("input", { type: "checkbox", checked: true });
    box.dataset.key = k;
    box.addEventListener("change", () => {
      if (box.checked) this.shown.add(k);
      else this.shown.delete(k);
      this.filter();
    });
    const figure = element("span", { className: "count", text: number(count) });
    figure.dataset.class = k < 0 ? "not_assessed" : name;
    figure.dataset.count = count;
    const only = element("button", { type: "button", className: "only", text: "only", title: `Show only: ${name}` });
    only.addEventListener("click", () => this.showOnly(k));
    const label = element("label", {}, box, swatch(colour), element("span", { className: "name", text: name }), figure,
      element("span", { className: "share", text: percent(count, this.about.total) }));
    return element("div", { className: "key" }, label, only);
  }

  showOnly(k) {
    const alone = this.shown.size === 1 && this.shown.has(k);
    this.shown = new Set(alone ? [-1, ...this.about.classes.keys()] : [k]);
    for (const box of document.querySelectorAll("#legend input")) box.checked = this.shown.has(Number(box.dataset.key));
    this.filter();
  }

  buildReasons() {
    const { reasons } = this.about;
    $("why").hidden = !reasons.length;
    const most = Math.max(...reasons.map((r) => r.count), 1);
    for (const r of reasons) {
      const figure = element("b", { className: "reason-count", text: number(r.count) });
      figure.dataset.reason = r.reason;
      figure.dataset.count = r.count;
      const button = element("button", { type: "button", className: "reason", title: "Show only these buildings on the map" },
        element("span", { text: r.title }), figure, bar(r.count / most));
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        this.reason = this.reason === r.reason ? null : r.reason;
        for (const other of document.querySelectorAll(".reason")) other.setAttribute("aria-pressed", other === button && this.reason !== null);
        this.filter();
      });
      $("reasons").append(button);
    }
  }

  buildTrust() {
    const { models, notes, issues } = this.about;
    const check = Math.min(100, Math.max(20, Math.round(this.about.total / 500)));
    const say = (text) => $("caveats").append(element("p", { text }));
    say("A verdict is a model's estimate from images taken from above. Damage to façades, inner walls and lower storeys is not visible there, and “no visible damage” is not “safe”.");
    say(`Expect lower accuracy on a new earthquake than in the figures below. Verify ${check} random buildings by eye before you rely on the counts: the button “random” chooses them.`);
    say("The state of buildings that were not assessed is unknown. They never count as undamaged.");
    for (const m of models) {
      if (!m.metrics.length) continue;
      const rows = m.metrics.map(([name, value]) => element("tr", {}, element("td", { text: name }), element("td", { className: "n", text: value })));
      const title = element("summary", { text: `Model card of ${m.name ?? "the model"}` });
      $("caveats").append(element("details", {}, title, element("table", {}, ...rows)));
    }
    $("left").hidden = !notes.length;
    $("notes").append(...notes.map((text) => element("li", { text })));
    $("bad").hidden = !issues.length;
    for (const one of issues) {
      const again = one.retryable ? ". Run the same command again to retry." : "";
      $("issues").append(element("div", { className: "issue" }, element("b", { text: `${one.kind} ${one.subject}` }), element("div", { className: "quiet", text: one.cause + again })));
    }
  }

  buildControls() {
    $("least-input").addEventListener("input", (event) => {
      this.least = event.target.value / 100;
      $("least-value").textContent = `${event.target.value} %`;
      this.filter();
    });
    $("outlines").addEventListener("change", (event) => { this.outlines = event.target.checked; this.layer.redraw(); });
    $("cells").addEventListener("change", (event) => { this.showCells = event.target.checked; this.layer.redraw(); });
    $("next").addEventListener("click", () => this.step(1));
    $("prev").addEventListener("click", () => this.step(-1));
    $("random").addEventListener("click", () => {
      const open = this.worst.filter((i) => this.visible[i]);
      if (open.length) this.select(open[Math.floor(Math.random() * open.length)], true);
    });
    $("theme").addEventListener("click", () => {
      const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
      document.documentElement.dataset.theme = dark === "dark" ? "light" : "dark";
      this.layer.redraw();
    });
    document.addEventListener("keydown", (event) => {
      if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape") this.select(-1);
      if (event.key === "n") this.step(1);
      if (event.key === "p") this.step(-1);
    });
    new ResizeObserver(() => { this.map.invalidateSize({ pan: false }); this.swipe.apply(); }).observe($("stage"));
    this.buildSearch();
  }

  buildSearch() {
    const close = () => { $("found").hidden = true; $("found").replaceChildren(); };
    const matches = () => {
      const text = $("query").value.trim().toLowerCase();
      const found = [];
      for (let i = 0; text && i < this.data.n && found.length < 8; i++) if (this.data.id[i].toLowerCase().includes(text)) found.push(i);
      return found;
    };
    $("query").addEventListener("input", () => {
      const items = matches().map((i) => {
        const item = element("li", { text: `${this.data.id[i]} · ${this.verdict(i).title}` });
        item.setAttribute("role", "option");
        item.addEventListener("pointerdown", () => { this.select(i, true); close(); });
        return item;
      });
      $("found").replaceChildren(...items);
      $("found").hidden = !items.length;
    });
    $("query").addEventListener("blur", close);
    $("find").addEventListener("submit", (event) => {
      event.preventDefault();
      const [exact] = [this.data.id.indexOf($("query").value.trim()), ...matches()].filter((i) => i >= 0);
      if (exact !== undefined) this.select(exact, true);
      close();
    });
  }

  filter() {
    const { damage, severe, text } = this.data;
    const reason = this.reason === null ? -1 : text.reason.words.indexOf(this.reason);
    for (let i = 0; i < this.data.n; i++) {
      const wanted = reason >= 0 ? text.reason.codes[i] === reason : this.shown.has(damage[i]);
      this.visible[i] = wanted && (damage[i] < 0 || severe[i] >= this.least || this.least === 0) ? 1 : 0;
    }
    this.layer.redraw();
  }

  step(direction) {
    const open = this.worst.filter((i) => this.visible[i]);
    if (!open.length) return;
    const at = open.indexOf(this.selected);
    const to = at < 0 ? 0 : Math.min(open.length - 1, Math.max(0, at + direction));
    this.select(open[to], true);
  }

  select(i, fly = false) {
    this.selected = i;
    $("card").hidden = i < 0;
    if (i >= 0) {
      $("card").replaceChildren(...this.cardOf(i));
      $("panel").scrollTop = 0;
      if (fly) this.flyTo(i);
    }
    history.replaceState(null, "", i < 0 ? "#" : `#b=${encodeURIComponent(this.data.id[i])}`);
    this.layer.redraw();
  }

  flyTo(i) {
    const { box } = this.data.shapes;
    if (!Number.isFinite(box[4 * i])) return;
    const bounds = L.latLngBounds(this.latLng(box[4 * i], box[4 * i + 1]), this.latLng(box[4 * i + 2], box[4 * i + 3]));
    const zoom = Math.min(19, Math.max(this.map.getZoom(), 18));
    this.map.setView(bounds.getCenter(), zoom, { animate: false });
  }

  openLink() {
    const found = /^#b=(.+)$/.exec(location.hash);
    if (!found) return;
    let id = "";
    try { id = decodeURIComponent(found[1]); } catch { return; }
    const i = this.data.id.indexOf(id);
    if (i >= 0) this.select(i, true);
  }

  cardOf(i) {
    const { data, about } = this;
    const { title, detail, colour } = this.verdict(i);
    const close = element("button", { type: "button", className: "close", text: "×", title: "Close" });
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", () => this.select(-1));
    const nodes = [close, element("header", {}, swatch(colour), element("b", { text: title }), element("span", { className: "quiet", text: detail })),
      element("div", { className: "id", text: data.id[i] })];
    if (data.damage[i] >= 0) {
      const bars = about.classes.map((c, k) => {
        const p = fixed(data.p[k], i) ?? 0;
        return element("div", { className: "prob" }, element("span", { text: c.label }), bar(p, this.colours[k]), element("b", { text: `${(100 * p).toFixed(1)}` }));
      });
      nodes.push(element("h3", { text: "Probabilities, %" }), ...bars.reverse());
    }
    nodes.push(...this.chipsOf(i));
    nodes.push(...this.facts("Evidence", this.evidenceOf(i)), ...this.facts("Shaking and ground", this.hazardOf(i)));
    return nodes;
  }

  // Pictures before and after, side by side, where they exist.
  chipsOf(i) {
    if (!Number.isFinite(this.data.shapes.box[4 * i])) return [];
    const chips = [];
    for (const [epoch, name, scene] of [["pre", "Before", "scene_pre"], ["post", "After", "scene_post"]]) {
      const picture = this.swipe.pictureOf(epoch, word(this.data.text[scene], i), this.data.shapes, i);
      if (!picture) continue;
      const canvas = element("canvas", { width: 320, height: 320 });
      canvas.setAttribute("aria-label", `${name}, ${picture.acquired}`);
      picture.element.decode().then(() => drawChip(canvas, picture, this.data.shapes, i)).catch(() => canvas.remove());
      chips.push(element("figure", {}, canvas, element("figcaption", { text: `${name} · ${picture.acquired.slice(0, 10)}` })));
    }
    return chips.length ? [element("div", { className: "chips" }, ...chips)] : [];
  }

  facts(title, pairs) {
    const known = pairs.filter(([, value]) => value !== null && value !== undefined);
    if (!known.length) return [];
    const cells = known.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: String(value) })]);
    return [element("h3", { text: title }), element("dl", {}, ...cells)];
  }

  evidenceOf(i) {
    const { text, number: figures, acquired } = this.data;
    const share = (name) => { const v = fixed(figures[name], i); return v === null ? null : `${Math.round(100 * v)} %`; };
    const dated = (scene) => (scene && this.about.scenes[scene] ? `${scene}, ${this.about.scenes[scene]}` : scene);
    const shift = fixed(figures.shift_m, i);
    const quality = fixed(figures.shift_quality, i);
    const lat = this.centre(i);
    return [
      ["Source", word(text.evidence, i)],
      ["After", dated(word(text.scene_post, i))],
      ["Acquired", this.about.scenes[word(text.scene_post, i)] ? null : word(acquired, i)],
      ["Before", dated(word(text.scene_pre, i))],
      ["Valid pixels", share("valid_fraction")],
      ["Confidence", share("confidence")],
      ["Uncertainty", fixed(figures.uncertainty, i)],
      ["Shift of the images", shift === null ? null : `${shift} m${quality === null ? "" : ` (quality ${quality})`}`],
      ["Model", word(text.model, i)],
      ["Engine", word(text.engine, i)],
      ["Position", lat && `${lat.lat.toFixed(6)}, ${lat.lng.toFixed(6)}`],
    ];
  }

  centre(i) {
    const { box } = this.data.shapes;
    if (!Number.isFinite(box[4 * i])) return null;
    return this.latLng((box[4 * i] + box[4 * i + 2]) / 2, (box[4 * i + 1] + box[4 * i + 3]) / 2);
  }

  hazardOf(i) {
    return [...this.data.hazard.map((h) => [h.title, h.values[i]]), ["No value for", word(this.data.missing, i)]];
  }
}

(async () => {
  try {
    const [about, verdicts] = await Promise.all([unpack("data-about"), unpack("data-verdicts")]);
    window.page = new Page(about, decodeVerdicts(verdicts, about.classes), JSON.parse($("data-pictures").textContent));
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    $("broken").hidden = false;
    $("broken").textContent = `This browser cannot show the map (${error}): use a browser from 2023 or later. buildings.parquet next to this page holds the same verdicts.`;
    throw error;
  }
})();
