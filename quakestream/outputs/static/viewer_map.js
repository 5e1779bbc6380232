// Draws on one canvas: shares by hexagon when far, buildings when near, areas and cells.

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

// Shares of the assessed, light to dark: told apart without red and green, and in grey.
const SHARE_STEPS = [
  { from: 0, text: "none", colour: "#cfe2f0", ink: "#16202a" },
  { from: 0.0001, text: "under 10 %", colour: "#fdeab0", ink: "#16202a" },
  { from: 0.1, text: "10–25 %", colour: "#f7bd68", ink: "#16202a" },
  { from: 0.25, text: "25–50 %", colour: "#e2703a", ink: "#16202a" },
  { from: 0.5, text: "50 % or more", colour: "#8f1130", ink: "#ffffff" },
];
const stepOf = (share) => SHARE_STEPS.findLast((s) => share >= s.from);

const HEX_PX = 21;
const NEAR_M = 2.4; // metres a pixel: buildings are about 5 px from here on
const LABEL_FROM = 5;

// Sums of shown buildings by hexagon, for whole zoom levels.
class Hexagons {
  constructor() { this.forget(); }
  forget() { this.levels = new Map(); }
  at(level, state) {
    if (!this.levels.has(level)) this.levels.set(level, this.sum(level, state));
    return this.levels.get(level);
  }
  sum(level, { data, visible }) {
    const radius = HEX_PX / (256 * 2 ** level);
    const index = new Map();
    const x = [], y = [], seen = [], severe = [], unseen = [];
    const from = data.severeFrom < 0 ? Infinity : data.severeFrom;
    for (let i = 0; i < data.n; i++) {
      if (!visible[i] || !data.placed(i)) continue;
      const fq = ((Math.sqrt(3) / 3) * data.x[i] - data.y[i] / 3) / radius;
      const fr = ((2 / 3) * data.y[i]) / radius;
      let q = Math.round(fq), r = Math.round(fr);
      const s = Math.round(-fq - fr);
      const dq = Math.abs(q - fq), dr = Math.abs(r - fr), ds = Math.abs(s + fq + fr);
      if (dq > dr && dq > ds) q = -r - s;
      else if (dr > ds) r = -q - s;
      const key = (q + 1048576) * 2097152 + r + 1048576;
      let k = index.get(key);
      if (k === undefined) {
        k = x.length;
        index.set(key, k);
        x.push(radius * Math.sqrt(3) * (q + r / 2));
        y.push(radius * 1.5 * r);
        seen.push(0); severe.push(0); unseen.push(0);
      }
      if (data.damage[i] < 0) unseen[k]++;
      else { seen[k]++; if (data.damage[i] >= from) severe[k]++; }
    }
    return { radius, x, y, seen, severe, unseen };
  }
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
    L.Renderer.prototype.initialize.call(this, { padding: 0.2, pane: "verdicts" });
    this._layers = {};
    this.state = state;
    this.hexagons = new Hexagons();
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
  // Draws once in the next frame, however often it is asked.
  soon() {
    if (this._waiting) return;
    this._waiting = requestAnimationFrame(() => { this._waiting = 0; this.redraw(); });
  },
  // True where buildings are too small to be told apart: hexagons are drawn.
  far() {
    const y = worldY(this._map.getCenter().lat);
    return metresPerWorld(y) / (256 * 2 ** this._map.getZoom()) > NEAR_M;
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
    if (state.showSlides) this._drawSlides(f);
    const far = this.far();
    if (far && !state.blind) this._drawHexagons(f);
    else if (!state.blind) this._drawBuildings(f);
    if (state.showAreas) this._drawAreas(f);
    if (state.selected >= 0) this._drawSelected(state.selected, f);
    state.onDrawn(far);
  },
  _drawHexagons(f) {
    const level = Math.round(this._map.getZoom());
    const cells = this.hexagons.at(level, this.state);
    const size = cells.radius * f.scale;
    const pen = this._context;
    pen.font = `600 ${Math.round(size * 0.55)}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    for (let k = 0; k < cells.x.length; k++) {
      if (cells.x[k] < f.w - cells.radius || cells.x[k] > f.e + cells.radius || cells.y[k] < f.n - cells.radius || cells.y[k] > f.s + cells.radius) continue;
      this._drawHexagon(cells, k, cells.x[k] * f.scale - f.ox, cells.y[k] * f.scale - f.oy, size);
    }
  },
  _drawHexagon(cells, k, px, py, size) {
    const pen = this._context;
    const seen = cells.seen[k], unseen = cells.unseen[k];
    // Few buildings make a smaller hexagon: a share of three is not a share of three hundred.
    const r = size * (seen + unseen < LABEL_FROM ? 0.55 : 0.94);
    pen.beginPath();
    for (let c = 0; c < 6; c++) {
      const angle = Math.PI / 6 + (c * Math.PI) / 3;
      pen[c ? "lineTo" : "moveTo"](px + r * Math.cos(angle), py + r * Math.sin(angle));
    }
    pen.closePath();
    const step = stepOf(seen ? cells.severe[k] / seen : 0);
    if (seen) { pen.globalAlpha = 0.88; pen.fillStyle = step.colour; pen.fill(); pen.globalAlpha = 1; }
    else { pen.globalAlpha = 0.8; pen.fillStyle = "#eef1f4"; pen.fill(); pen.globalAlpha = 1; }
    if (unseen > seen) { pen.fillStyle = this._hatch; pen.fill(); }
    pen.lineWidth = 1;
    pen.strokeStyle = seen ? "#0006" : this.inkNone;
    pen.stroke();
    if (seen >= LABEL_FROM && size > 15) {
      pen.fillStyle = step.ink;
      pen.fillText(String(Math.round((100 * cells.severe[k]) / seen)), px, py + 0.5);
    }
  },
  hexagonAt(latlng) {
    const cells = this.hexagons.at(Math.round(this._map.getZoom()), this.state);
    const x = worldX(latlng.lng), y = worldY(latlng.lat);
    let best = -1, least = cells.radius * cells.radius;
    for (let k = 0; k < cells.x.length; k++) {
      const d = (cells.x[k] - x) ** 2 + (cells.y[k] - y) ** 2;
      if (d < least) { least = d; best = k; }
    }
    return best < 0 ? null : { seen: cells.seen[best], severe: cells.severe[best], unseen: cells.unseen[best] };
  },
  // Not assessed first, the worst last: nothing mild covers what is worse.
  _drawBuildings(f) {
    const { data, visible, source } = this.state;
    const layers = [...this.state.about.classes, null].map(() => []);
    const missing = [];
    const pad = 100 / metresPerWorld((f.n + f.s) / 2);
    data.within(f.w - pad, f.n - pad, f.e + pad, f.s + pad, (i) => {
      if (!visible[i]) return;
      layers[data.damage[i] + 1].push(i);
      if (data.groupOf[i] < 0) missing.push(i);
    });
    source.request(data, missing, () => this.soon());
    for (const rows of layers) for (const i of rows) this._drawOne(i, f);
  },
  _drawOne(i, f) {
    const { data } = this.state;
    const pen = this._context;
    const damage = data.damage[i], known = damage >= 0;
    const colour = known ? this.inks[damage] : this.inkNone;
    const details = data.details(i);
    if (!details) { this._drawPoint(i, f, colour, damage); return; }
    this._trace(details[0].shapes, details[1], f);
    if (this.state.filled || !known) {
      pen.globalAlpha = known ? (damage > 0 ? 0.4 : 0.12) : 0.9;
      pen.fillStyle = known ? colour : this._hatch;
      pen.fill("evenodd");
      pen.globalAlpha = 1;
    }
    pen.lineWidth = damage > 0 ? 3.6 : 2.2;
    pen.strokeStyle = "#000a";
    pen.stroke();
    pen.lineWidth = damage > 0 ? 2.2 : 1.1;
    pen.strokeStyle = colour;
    pen.stroke();
  },
  _drawPoint(i, f, colour, damage) {
    const pen = this._context;
    const px = this.state.data.x[i] * f.scale - f.ox, py = this.state.data.y[i] * f.scale - f.oy;
    pen.beginPath();
    pen.arc(px, py, damage > 0 ? 4 : 3, 0, 2 * Math.PI);
    pen.fillStyle = damage < 0 ? "#fff0" : colour;
    pen.fill();
    pen.lineWidth = 1;
    pen.strokeStyle = damage < 0 ? colour : "#0008";
    pen.stroke();
  },
  _drawSelected(i, f) {
    const { data } = this.state;
    const pen = this._context;
    const details = data.details(i);
    if (details && !this.far()) this._trace(details[0].shapes, details[1], f);
    else if (data.placed(i)) {
      pen.beginPath();
      pen.arc(data.x[i] * f.scale - f.ox, data.y[i] * f.scale - f.oy, 9, 0, 2 * Math.PI);
    } else return;
    for (const [width, colour] of [[7, "#000c"], [4, "#fff"]]) {
      pen.lineWidth = width;
      pen.strokeStyle = colour;
      pen.stroke();
    }
  },
  _drawAreas(f) {
    const pen = this._context;
    const { kind, name, shapes } = this.state.areas;
    for (let i = 0; i < shapes.n; i++) {
      const aoi = kind[i] === "aoi";
      this._trace(shapes, i, f);
      pen.setLineDash(aoi ? [9, 5] : []);
      for (const [width, colour] of [[aoi ? 4 : 3, "#fffb"], [aoi ? 2 : 1.2, aoi ? "#10202e" : "#3a2a5c"]]) {
        pen.lineWidth = width;
        pen.strokeStyle = colour;
        pen.stroke();
      }
      pen.setLineDash([]);
      if (!aoi) this._drawName(shapes, i, name[i], f);
    }
  },
  _drawSlides(f) {
    const { shapes } = this.state.slides;
    const pen = this._context;
    const colour = cssColour("--c-slide");
    for (let i = 0; i < shapes.n; i++) {
      const [w, n, e, s] = shapes.box.subarray(4 * i, 4 * i + 4);
      if (e < f.w || w > f.e || s < f.n || n > f.s) continue;
      this._trace(shapes, i, f);
      pen.globalAlpha = 0.28;
      pen.fillStyle = colour;
      pen.fill("evenodd");
      pen.globalAlpha = 1;
      for (const [width, ink] of [[3.4, "#fffc"], [1.8, colour]]) {
        pen.lineWidth = width;
        pen.strokeStyle = ink;
        pen.stroke();
      }
    }
  },
  _drawName(shapes, i, name, f) {
    const [w, n, e, s] = shapes.box.subarray(4 * i, 4 * i + 4);
    const pen = this._context;
    pen.font = "600 13px system-ui, sans-serif";
    if ((e - w) * f.scale < pen.measureText(name).width + 12) return;
    const px = ((w + e) / 2) * f.scale - f.ox, py = ((n + s) / 2) * f.scale - f.oy;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineWidth = 4;
    pen.strokeStyle = "#fffd";
    pen.strokeText(name, px, py);
    pen.fillStyle = "#3a2a5c";
    pen.fillText(name, px, py);
  },
  _drawCells(f) {
    const pen = this._context;
    const { shapes, status, reason } = this.state.cells;
    for (let i = 0; i < shapes.n; i++) {
      this._trace(shapes, i, f);
      if (reason[i]) {
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
