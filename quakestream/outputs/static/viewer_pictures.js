// Pictures before and after: on the map behind a divider, and of one building side by side.

// A square around a building with its own size of ground around it, at least 50 m in all.
function chipSquare([w, n, e, s]) {
  const y = (n + s) / 2;
  const side = Math.max(2 * (e - w), 2 * (s - n), 50 / metresPerWorld(y));
  return { x0: (w + e) / 2 - side / 2, y0: y - side / 2, side };
}

function drawChip(canvas, image, box, square, outline) {
  const pen = canvas.getContext("2d");
  const [pw, pn, pe, ps] = box;
  const scale = canvas.width / square.side;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(image, (pw - square.x0) * scale, (pn - square.y0) * scale, (pe - pw) * scale, (ps - pn) * scale);
  if (!outline) return;
  const [shapes, i] = outline;
  pen.beginPath();
  for (let r = shapes.first[i]; r < shapes.first[i + 1]; r++) {
    for (let v = shapes.start[r]; v < shapes.start[r + 1]; v++) {
      pen[v === shapes.start[r] ? "moveTo" : "lineTo"]((shapes.x[v] - square.x0) * scale, (shapes.y[v] - square.y0) * scale);
    }
    pen.closePath();
  }
  for (const [width, colour] of [[8, "#000b"], [4, "#fff"]]) {
    pen.lineWidth = width;
    pen.strokeStyle = colour;
    pen.stroke();
  }
}

const metresText = (m) => (m >= 10 ? `${Math.round(m)} m` : `${Number(m.toFixed(m < 1 ? 2 : 1))} m`);

// Pictures are in two panes. The upper one (before) is clipped at the divider.
class Swipe {
  constructor(map, pictures, served, version) {
    this.map = map;
    this.share = 0.5;
    this.served = served;
    this.version = version;
    this.divider = document.getElementById("divider");
    for (const p of pictures) {
      const [south, west, north, east] = p.bounds;
      p.box = [worldX(west), worldY(north), worldX(east), worldY(south)];
    }
    this.pictures = pictures.filter((p) => p.row < 0);
    this.chips = new Map(pictures.filter((p) => p.row >= 0).map((p) => [`${p.row} ${p.epoch}`, p]));
    for (const [epoch, z] of [["post", 210], ["pre", 220]]) {
      map.createPane(epoch).style.zIndex = z;
      for (const p of this.pictures.filter((one) => one.epoch === epoch)) this.addPicture(p);
    }
    this.epochs = new Set(this.pictures.map((p) => p.epoch));
    this.dates = {};
    this.coarsest = {};
    for (const epoch of this.epochs) {
      const days = [...new Set(this.pictures.filter((p) => p.epoch === epoch).map((p) => p.acquired.slice(0, 10)))].sort();
      this.coarsest[epoch] = Math.max(0, ...this.pictures.filter((p) => p.epoch === epoch && p.reduced).map((p) => p.ground));
      this.dates[epoch] = days.length > 2 ? `${days[0]} … ${days.at(-1)}` : days.join(", ");
    }
    this.modes = { swipe: "Swipe", pre: "Before", post: "After", none: "Plain" };
    this.listen();
    this.setMode(this.epochs.size === 2 ? "swipe" : this.epochs.size ? [...this.epochs][0] : "none");
  }
  addPicture(p) {
    const [south, west, north, east] = p.bounds;
    const bounds = [[south, west], [north, east]];
    if (!this.served) {
      p.layer = L.imageOverlay(p.src, bounds, { pane: p.epoch, alt: "" }).addTo(this.map);
      p.layer.getElement().decoding = "sync"; // else paper shows no picture after the map was fitted to it
      return;
    }
    const url = `live/scenes/${encodeURIComponent(p.scene)}/{z}/{x}/{y}?v=${encodeURIComponent(this.version)}`;
    // Tiles beyond a scene's own resolution are magnified by the browser.
    const deepest = Math.min(22, Math.max(15, Math.ceil(Math.log2(WORLD_M / 256 / (p.ground || 0.5)))));
    p.layer = L.tileLayer(url, { pane: p.epoch, bounds, minZoom: 14, maxZoom: 22, maxNativeZoom: deepest, noWrap: true });
    p.layer.on("tileerror", () => this.map.fire("nopicture", { scene: p.scene }));
    p.layer.addTo(this.map);
  }
  listen() {
    this.map.on("move zoomend resize viewreset", () => this.apply());
    const drag = (event) => {
      const stage = this.divider.parentElement.getBoundingClientRect();
      this.moveTo((event.clientX - stage.left) / stage.width);
    };
    this.divider.addEventListener("pointerdown", (event) => {
      this.divider.setPointerCapture(event.pointerId);
      this.divider.addEventListener("pointermove", drag);
    });
    for (const end of ["pointerup", "pointercancel"]) this.divider.addEventListener(end, () => this.divider.removeEventListener("pointermove", drag));
    this.divider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.02, ArrowRight: 0.02, PageUp: 0.1, PageDown: -0.1 }[event.key];
      const end = { Home: 0, End: 1 }[event.key];
      if (step === undefined && end === undefined) return;
      event.preventDefault();
      this.moveTo(end ?? this.share + step);
    });
    const group = document.getElementById("modes");
    for (const [mode, title] of Object.entries(this.modes)) {
      if (!this.epochs.has(mode) && !(mode === "swipe" && this.epochs.size === 2) && mode !== "none") continue;
      const button = element("button", { type: "button", text: title });
      button.dataset.mode = mode;
      button.addEventListener("click", () => this.setMode(mode));
      group.append(button);
    }
    group.hidden = this.epochs.size === 0;
  }
  offers(mode) { return mode === "none" || this.epochs.has(mode) || (mode === "swipe" && this.epochs.size === 2); }
  setMode(mode) {
    this.mode = mode;
    for (const button of document.querySelectorAll("#modes button")) button.setAttribute("aria-pressed", button.dataset.mode === mode);
    this.map.getPane("post").style.display = mode === "post" || mode === "swipe" ? "" : "none";
    this.map.getPane("pre").style.display = mode === "pre" || mode === "swipe" ? "" : "none";
    this.divider.hidden = mode !== "swipe";
    for (const [id, epoch, title] of [["before", "pre", "before"], ["after", "post", "after"]]) {
      const badge = document.getElementById(id);
      badge.hidden = !(mode === "swipe" || mode === epoch);
      badge.textContent = `${title} · ${this.dates[epoch] ?? ""}`;
      if (this.coarsest[epoch]) badge.append(element("br"), `reduced to ${metresText(this.coarsest[epoch])} a pixel`);
    }
    this.apply();
    this.map.fire("modechange");
  }
  // The picture of the building's own view, else the newest picture that shows it.
  pictureOf(epoch, scene, [w, n, e, s]) {
    const x = (w + e) / 2, y = (n + s) / 2;
    const over = this.pictures.filter((p) => p.epoch === epoch && x > p.box[0] && x < p.box[2] && y > p.box[1] && y < p.box[3]);
    return this.pictures.find((p) => p.epoch === epoch && p.scene === scene) ?? over.at(-1);
  }
  // A building in one epoch: { src, box, acquired, scene, note }; null without a picture.
  chipOf(row, epoch, scene, box, gsd) {
    const whole = this.pictureOf(epoch, scene, box);
    if (this.served) {
      if (!whole) return null;
      const square = chipSquare(box);
      const around = [lonOf(box[0]), latOf(box[3]), lonOf(box[2]), latOf(box[1])].map((v) => v.toFixed(7)).join(",");
      const src = `live/scenes/${encodeURIComponent(whole.scene)}/window?bounds=${around}&v=${encodeURIComponent(this.version)}`;
      return { src, box: [square.x0, square.y0, square.x0 + square.side, square.y0 + square.side], acquired: whole.acquired, scene: whole.scene, note: whole.ground ? `${metresText(whole.ground)} a pixel` : "full resolution" };
    }
    const chip = this.chips.get(`${row} ${epoch}`) ?? whole;
    if (!chip) return null;
    const note = chip.reduced
      ? `reduced to ${metresText(chip.ground)} a pixel${gsd ? ` from ${metresText(gsd)}` : ""}`
      : `${metresText(chip.ground)} a pixel`;
    return { src: chip.src, box: chip.box, acquired: chip.acquired, scene: chip.scene, note, reduced: chip.reduced };
  }
  moveTo(share) {
    this.share = Math.min(1, Math.max(0, share));
    this.apply();
  }
  apply() {
    const size = this.map.getSize();
    const at = Math.round(size.x * this.share);
    this.divider.style.left = `${at}px`;
    this.divider.setAttribute("aria-valuenow", Math.round(100 * this.share));
    const place = (id, style) => Object.assign(document.getElementById(id).style, style);
    const swiping = this.mode === "swipe";
    place("before", swiping ? { left: "", right: `${size.x - at + 24}px` } : { left: "50%", right: "" });
    place("after", swiping ? { left: `${at + 24}px` } : { left: "50%" });
    const pane = this.map.getPane("pre");
    if (!swiping) {
      pane.style.clipPath = "";
      return;
    }
    const a = this.map.containerPointToLayerPoint([0, 0]);
    const b = this.map.containerPointToLayerPoint([at, size.y]);
    pane.style.clipPath = `polygon(${a.x}px ${a.y}px, ${b.x}px ${a.y}px, ${b.x}px ${b.y}px, ${a.x}px ${b.y}px)`;
  }
}
