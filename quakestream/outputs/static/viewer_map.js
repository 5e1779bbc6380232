// Draws verdicts on one canvas, and the divider between before and after.

const COLOUR_OF = { no: "--c-no", minor: "--c-minor", major: "--c-major", destroyed: "--c-destroyed" };
const cssColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Two classes of one xBD grade share its hue and differ in lightness. Colours are CSS, or values
// for a canvas, which has no CSS variables.
function classColours(classes, name = (variable) => `var(${variable})`) {
  const seen = {};
  return classes.map((c) => {
    const base = name(COLOUR_OF[c.xbd]);
    const k = (seen[c.xbd] = (seen[c.xbd] ?? -1) + 1);
    return k ? `color-mix(in oklab, ${base} ${100 - 25 * k}%, black)` : base;
  });
}

function hatchPattern(context, colour) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d");
  pen.strokeStyle = colour;
  pen.lineWidth = 1.4;
  for (const offset of [-6, 0, 6]) {
    pen.beginPath();
    pen.moveTo(offset - 1, 7);
    pen.lineTo(offset + 7, -1);
    pen.stroke();
  }
  return context.createPattern(tile, "repeat");
}

const VerdictLayer = L.Renderer.extend({
  initialize(state) {
    L.Renderer.prototype.initialize.call(this, { padding: 0.4, pane: "verdicts" });
    this._layers = {};
    this.state = state;
  },
  _initContainer() {
    this._container = document.createElement("canvas");
    this._context = this._container.getContext("2d");
  },
  _updatePaths() {},
  _destroyContainer() {
    this._container.remove();
    delete this._container;
  },
  _update() {
    if (this._map._animatingZoom && this._bounds) return;
    L.Renderer.prototype._update.call(this);
    const size = this._bounds.getSize();
    const ratio = window.devicePixelRatio || 1;
    this._container.width = Math.round(ratio * size.x);
    this._container.height = Math.round(ratio * size.y);
    this._container.style.width = `${size.x}px`;
    this._container.style.height = `${size.y}px`;
    L.DomUtil.setPosition(this._container, this._bounds.min);
    this._context.setTransform(ratio, 0, 0, ratio, -ratio * this._bounds.min.x, -ratio * this._bounds.min.y);
    this.draw();
  },
  redraw() {
    if (this._map) this._update();
  },
  // Converts world fractions to the layer points of the canvas.
  _frame() {
    const scale = 256 * 2 ** this._map.getZoom();
    const origin = this._map.getPixelOrigin();
    const { min, max } = this._bounds;
    return {
      scale, ox: origin.x, oy: origin.y,
      w: (min.x + origin.x) / scale, n: (min.y + origin.y) / scale,
      e: (max.x + origin.x) / scale, s: (max.y + origin.y) / scale,
    };
  },
  _trace(shapes, i, f) {
    const pen = this._context;
    pen.beginPath();
    for (let r = shapes.first[i]; r < shapes.first[i + 1]; r++) {
      for (let v = shapes.start[r]; v < shapes.start[r + 1]; v++) {
        const px = shapes.x[v] * f.scale - f.ox, py = shapes.y[v] * f.scale - f.oy;
        if (v === shapes.start[r]) pen.moveTo(px, py);
        else pen.lineTo(px, py);
      }
      pen.closePath();
    }
  },
  draw() {
    const { state, _context: pen } = this;
    const f = this._frame();
    this.inks = classColours(state.about.classes, cssColour);
    this.inkNone = cssColour("--c-none");
    this._hatch = hatchPattern(pen, this.inkNone);
    if (state.showCells) this._drawCells(f);
    for (const i of state.drawOrder) {
      if (state.visible[i]) this._drawOne(i, f);
    }
    if (state.selected >= 0) this._drawSelected(state.selected, f);
  },
  _drawOne(i, f) {
    const { shapes, damage } = this.state.data;
    const { box } = shapes;
    const b = 4 * i;
    if (box[b] > f.e || box[b + 2] < f.w || box[b + 1] > f.s || box[b + 3] < f.n) return;
    const pen = this._context;
    const known = damage[i] >= 0;
    const colour = known ? this.inks[damage[i]] : this.inkNone;
    const wide = (box[b + 2] - box[b]) * f.scale, high = (box[b + 3] - box[b + 1]) * f.scale;
    if (Math.max(wide, high) < 5) {
      // At small scales a building is a dot, so that damaged ones stay visible.
      const side = damage[i] > 0 ? 4 : 2.5;
      pen.globalAlpha = known ? 1 : 0.7;
      pen.fillStyle = colour;
      pen.fillRect(box[b] * f.scale - f.ox + (wide - side) / 2, box[b + 1] * f.scale - f.oy + (high - side) / 2, side, side);
      pen.globalAlpha = 1;
      return;
    }
    this._trace(shapes, i, f);
    if (!this.state.outlines || !known) {
      pen.globalAlpha = known ? (damage[i] > 0 ? 0.3 : 0.07) : 0.9;
      pen.fillStyle = known ? colour : this._hatch;
      pen.fill("evenodd");
      pen.globalAlpha = 1;
    }
    pen.lineWidth = damage[i] > 0 ? 2.6 : 1.6;
    pen.strokeStyle = "#0008";
    pen.stroke();
    pen.lineWidth = damage[i] > 0 ? 1.8 : 1.1;
    pen.strokeStyle = colour;
    pen.stroke();
  },
  _drawSelected(i, f) {
    const pen = this._context;
    this._trace(this.state.data.shapes, i, f);
    for (const [width, colour] of [[7, "#000c"], [4, "#fff"]]) {
      pen.lineWidth = width;
      pen.strokeStyle = colour;
      pen.stroke();
    }
  },
  _drawCells(f) {
    const pen = this._context;
    const { shapes, status } = this.state.cells;
    for (let i = 0; i < shapes.n; i++) {
      this._trace(shapes, i, f);
      if (this.state.cells.reason[i]) {
        pen.globalAlpha = 0.35;
        pen.fillStyle = this._hatch;
        pen.fill("evenodd");
        pen.globalAlpha = 1;
      }
      pen.lineWidth = 1;
      pen.setLineDash(status[i] === "scored" ? [] : [5, 4]);
      pen.strokeStyle = cssColour("--accent");
      pen.stroke();
      pen.setLineDash([]);
    }
  },
});

// Draws a building in one picture, with its own size of ground around it, at least 50 m in all.
function drawChip(canvas, picture, shapes, i) {
  const pen = canvas.getContext("2d");
  const [w, n, e, s] = shapes.box.subarray(4 * i, 4 * i + 4);
  const y = (n + s) / 2;
  const metre = Math.cosh((0.5 - y) * 2 * Math.PI) / 40075016.7;
  const side = Math.max(2 * (e - w), 2 * (s - n), 50 * metre);
  const x0 = (w + e) / 2 - side / 2, y0 = y - side / 2;
  const [pw, pn, pe, ps] = picture.box;
  const scale = canvas.width / side;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture.element, (pw - x0) * scale, (pn - y0) * scale, (pe - pw) * scale, (ps - pn) * scale);
  pen.beginPath();
  for (let r = shapes.first[i]; r < shapes.first[i + 1]; r++) {
    for (let v = shapes.start[r]; v < shapes.start[r + 1]; v++) {
      pen[v === shapes.start[r] ? "moveTo" : "lineTo"]((shapes.x[v] - x0) * scale, (shapes.y[v] - y0) * scale);
    }
    pen.closePath();
  }
  for (const [width, colour] of [[4, "#0009"], [2, "#fff"]]) {
    pen.lineWidth = width;
    pen.strokeStyle = colour;
    pen.stroke();
  }
}

// Pictures are in two panes. The upper one (before) is clipped at the divider.
class Swipe {
  constructor(map, pictures) {
    this.map = map;
    this.share = 0.5;
    this.divider = document.getElementById("divider");
    for (const [epoch, z] of [["post", 210], ["pre", 220]]) {
      map.createPane(epoch).style.zIndex = z;
      for (const p of pictures.filter((one) => one.epoch === epoch)) {
        const [south, west, north, east] = p.bounds;
        p.box = [worldX(west), worldY(north), worldX(east), worldY(south)];
        p.element = L.imageOverlay(p.src, [[south, west], [north, east]], { pane: epoch, alt: "" }).addTo(map).getElement();
      }
    }
    this.pictures = pictures;
    this.epochs = new Set(pictures.map((p) => p.epoch));
    this.dates = {};
    for (const epoch of this.epochs) {
      const days = [...new Set(pictures.filter((p) => p.epoch === epoch).map((p) => p.acquired.slice(0, 10)))].sort();
      this.dates[epoch] = days.length > 2 ? `${days[0]} … ${days.at(-1)}` : days.join(", ");
    }
    this.modes = { swipe: "Swipe", pre: "Before", post: "After", none: "Plain" };
    this.listen();
    this.setMode(this.epochs.size === 2 ? "swipe" : this.epochs.size ? [...this.epochs][0] : "none");
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
    this.divider.addEventListener("pointerup", () => this.divider.removeEventListener("pointermove", drag));
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
    }
    this.apply();
  }
  // The picture of the building's own view, else the newest picture that shows it.
  pictureOf(epoch, scene, shapes, i) {
    const [w, n, e, s] = shapes.box.subarray(4 * i, 4 * i + 4);
    const x = (w + e) / 2, y = (n + s) / 2;
    const over = this.pictures.filter((p) => p.epoch === epoch && x > p.box[0] && x < p.box[2] && y > p.box[1] && y < p.box[3]);
    return over.find((p) => p.scene === scene) ?? over.at(-1);
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
