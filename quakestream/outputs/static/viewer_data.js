// Data of the page: a few numbers of every building, and details of groups of them.

async function gunzip(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
const fromBase64 = (text) => Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
const toJson = (bytes) => JSON.parse(new TextDecoder().decode(bytes));

// Web Mercator as fractions of the world, 0 at the north-west corner.
const worldX = (lon) => lon / 360 + 0.5;
const worldY = (lat) => {
  const s = Math.sin((lat * Math.PI) / 180);
  return 0.5 - Math.log((1 + s) / (1 - s)) / (4 * Math.PI);
};
const lonOf = (x) => (x - 0.5) * 360;
const latOf = (y) => (360 / Math.PI) * Math.atan(Math.exp((0.5 - y) * 2 * Math.PI)) - 90;
const WORLD_M = 40075016.7;
const metresPerWorld = (y) => WORLD_M / Math.cosh((0.5 - y) * 2 * Math.PI);

// Rings of many shapes: `first[i]..first[i + 1]` are the rings of shape i,
// `start[r]..start[r + 1]` the vertices of ring r, `box` its (west, north, east, south).
function decodeShapes(packed) {
  const n = packed.rings.length;
  const first = new Uint32Array(n + 1);
  const start = new Uint32Array(packed.points.length + 1);
  packed.rings.forEach((count, i) => { first[i + 1] = first[i] + count; });
  packed.points.forEach((count, r) => { start[r + 1] = start[r] + count; });
  const x = new Float64Array(packed.xy.length / 2);
  const y = new Float64Array(packed.xy.length / 2);
  let lon = 0, lat = 0;
  for (let v = 0; v < x.length; v++) {
    lon += packed.xy[2 * v];
    lat += packed.xy[2 * v + 1];
    x[v] = worldX(lon / 1e6);
    y[v] = worldY(lat / 1e6);
  }
  const box = new Float64Array(4 * n);
  for (let i = 0; i < n; i++) {
    let w = Infinity, t = Infinity, e = -Infinity, b = -Infinity;
    for (let v = start[first[i]]; v < start[first[i + 1]]; v++) {
      w = Math.min(w, x[v]); e = Math.max(e, x[v]);
      t = Math.min(t, y[v]); b = Math.max(b, y[v]);
    }
    box.set([w, t, e, b], 4 * i);
  }
  return { n, first, start, x, y, box };
}

function contains(shapes, i, px, py) {
  const b = 4 * i;
  if (px < shapes.box[b] || py < shapes.box[b + 1] || px > shapes.box[b + 2] || py > shapes.box[b + 3]) return false;
  let inside = false;
  for (let r = shapes.first[i]; r < shapes.first[i + 1]; r++) {
    for (let v = shapes.start[r], u = shapes.start[r + 1] - 1; v < shapes.start[r + 1]; u = v++) {
      const cross = shapes.y[v] > py !== shapes.y[u] > py;
      if (cross && px < ((shapes.x[u] - shapes.x[v]) * (py - shapes.y[v])) / (shapes.y[u] - shapes.y[v]) + shapes.x[v]) inside = !inside;
    }
  }
  return inside;
}

const fixed = (column, i) => (column.values[i] < 0 ? null : column.values[i] / 10 ** column.digits);
// The tiles of one acquisition that show a building; the one that shows most of it comes first.
const tilesOf = (scene) => (scene ? scene.split(";") : []);
const word = (column, i) => (column.codes[i] < 0 ? null : column.words[column.codes[i]]);

// The blob of outputs/viewer_rows.py `core_blob`: typed arrays from byte planes.
function decodeCore(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const length = view.getUint32(0, true);
  const header = toJson(bytes.subarray(4, 4 + length));
  const kinds = { i1: Int8Array, i4: Int32Array, u2: Uint16Array };
  let at = 4 + length;
  const out = { n: header.n, reasons: header.reasons };
  for (const [name, kind, size] of header.arrays) {
    const values = new kinds[kind + size](header.n);
    for (let b = 0; b < size; b++, at += header.n) {
      for (let i = 0; i < header.n; i++) values[i] |= bytes[at + i] << (8 * b);
    }
    out[name] = values;
  }
  return out;
}

const BLOCK = 2000; // consecutive rows lie near each other: a block is the unit of looking up
const UNKNOWN_SCORE = 65535;

class Buildings {
  constructor(core, about) {
    this.n = core.n;
    this.classes = about.classes;
    this.published = core.damage;
    this.reason = core.reason;
    this.reasons = core.reasons;
    this.scores = about.classes.map((_, k) => core[`score${k}`]);
    this.severeFrom = about.classes.findIndex((c) => c.xbd === "major" || c.xbd === "destroyed");
    this.severe = this.severeFrom > 0 ? this.scores[this.severeFrom] : new Uint16Array(this.n);
    this.groups = new Map();
    this.groupOf = new Int32Array(this.n).fill(-1);
    this.placeOf = new Int32Array(this.n);
    this.place(core);
    this.damage = Int8Array.from(this.published);
  }

  place(core) {
    this.x = new Float64Array(this.n);
    this.y = new Float64Array(this.n);
    this.boxes = new Float64Array(4 * Math.ceil(this.n / BLOCK));
    let lon = 0, lat = 0;
    for (let i = 0; i < this.n; i++) {
      lon += core.lon[i];
      lat += core.lat[i];
      const placed = lat <= 90e5;
      this.x[i] = placed ? worldX(lon / 1e5) : NaN;
      this.y[i] = placed ? worldY(lat / 1e5) : NaN;
      const b = 4 * Math.floor(i / BLOCK);
      if (i % BLOCK === 0) this.boxes.set([2, 2, -1, -1], b);
      if (!placed) continue;
      this.boxes[b] = Math.min(this.boxes[b], this.x[i]);
      this.boxes[b + 1] = Math.min(this.boxes[b + 1], this.y[i]);
      this.boxes[b + 2] = Math.max(this.boxes[b + 2], this.x[i]);
      this.boxes[b + 3] = Math.max(this.boxes[b + 3], this.y[i]);
    }
  }

  placed(i) { return Number.isFinite(this.x[i]); }

  // Calls `each` with the rows whose centres lie in a box, by blocks.
  within(w, n, e, s, each) {
    for (let block = 0; 4 * block < this.boxes.length; block++) {
      const b = 4 * block;
      if (this.boxes[b] > e || this.boxes[b + 2] < w || this.boxes[b + 1] > s || this.boxes[b + 3] < n) continue;
      const end = Math.min(this.n, (block + 1) * BLOCK);
      for (let i = block * BLOCK; i < end; i++) {
        if (this.x[i] >= w && this.x[i] <= e && this.y[i] >= n && this.y[i] <= s) each(i);
      }
    }
  }

  // Verdicts by another threshold: the most severe class whose score reaches it. `null`: published.
  declare(threshold) {
    if (threshold === null) { this.damage.set(this.published); return; }
    const least = Math.round(1000 * threshold);
    for (let i = 0; i < this.n; i++) {
      if (this.published[i] < 0) continue;
      let k = this.classes.length - 1;
      while (k > 0 && this.scores[k][i] < least) k--;
      this.damage[i] = k;
    }
  }

  add(key, columns) {
    const group = { ...columns, shapes: decodeShapes(columns.shape), rows: columns.row };
    for (let j = 1; j < group.rows.length; j++) group.rows[j] += group.rows[j - 1];
    group.rows.forEach((row, j) => { this.groupOf[row] = key; this.placeOf[row] = j; });
    this.groups.set(key, group);
    return group;
  }

  // The group and the place in it that hold a row's details; null where the page lacks them.
  details(i) {
    const group = this.groups.get(this.groupOf[i]);
    return group ? [group, this.placeOf[i]] : null;
  }

  bounds(i) {
    const known = this.details(i);
    if (known) {
      const box = known[0].shapes.box.subarray(4 * known[1], 4 * known[1] + 4);
      if (Number.isFinite(box[0])) return box;
    }
    return this.placed(i) ? [this.x[i], this.y[i], this.x[i], this.y[i]] : null;
  }
}

// Where the page gets what it does not hold. From disk: nowhere.
class Disk {
  async core() { return decodeCore(await gunzip(fromBase64(document.getElementById("data-core").textContent))); }
  async start(buildings) {
    const scripts = [...document.querySelectorAll("script.rows")];
    const groups = await Promise.all(scripts.map(async (s) => toJson(await gunzip(fromBase64(s.textContent)))));
    groups.forEach((columns, key) => buildings.add(key, columns));
  }
  request() {}
  async load(buildings, i) { return buildings.details(i); }
  async find(buildings, text) {
    const found = [], exact = [], needle = text.toLowerCase();
    for (const group of buildings.groups.values()) {
      for (let j = 0; j < group.id.length && found.length < 8; j++) {
        if (group.id[j] === text) exact.push({ row: group.rows[j], id: text });
        else if (group.id[j].toLowerCase().includes(needle)) found.push({ row: group.rows[j], id: group.id[j] });
      }
    }
    return [...exact, ...found].slice(0, 8);
  }
}

// The server of `quakestream view`.
class Live {
  constructor(about) { this.size = about.groupRows; this.version = about.snapshot; this.loading = new Map(); this.failedAt = new Map(); }
  async bytes(path) {
    const reply = await fetch(path);
    if (!reply.ok) throw new Error(`${reply.status} ${reply.statusText}`);
    return gunzip(new Uint8Array(await reply.arrayBuffer()));
  }
  async core() { return decodeCore(await this.bytes("live/core")); }
  async start() {}
  group(buildings, key) {
    if (buildings.groups.has(key)) return Promise.resolve(buildings.groups.get(key));
    if (!this.loading.has(key)) {
      const coming = this.bytes(`live/details/${key}`).then((bytes) => buildings.add(key, toJson(bytes)));
      this.loading.set(key, coming);
      coming.catch(() => this.failedAt.set(key, Date.now())).finally(() => this.loading.delete(key));
    }
    return this.loading.get(key);
  }
  // Asks for the details of rows in view; `done` is called when some came.
  request(buildings, rows, done) {
    const open = (key) => !buildings.groups.has(key) && !this.loading.has(key) && Date.now() - (this.failedAt.get(key) ?? 0) > 10_000;
    const wanted = new Set(rows.map((i) => Math.floor(i / this.size)).filter(open));
    if (wanted.size) Promise.allSettled([...wanted].map((key) => this.group(buildings, key))).then(done);
  }
  async load(buildings, i) {
    await this.group(buildings, Math.floor(i / this.size));
    return buildings.details(i);
  }
  async find(buildings, text) { return (await fetch(`live/find?q=${encodeURIComponent(text)}`)).json(); }
}
