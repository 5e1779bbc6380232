"use strict";
// Unpacks the columns of outputs/viewer_rows.py into typed arrays.

async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// Web Mercator as fractions of the world, 0 at the north-west corner.
const worldX = (lon) => lon / 360 + 0.5;
const worldY = (lat) => {
  const s = Math.sin((lat * Math.PI) / 180);
  return 0.5 - Math.log((1 + s) / (1 - s)) / (4 * Math.PI);
};

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
const word = (column, i) => (column.codes[i] < 0 ? null : column.words[column.codes[i]]);

function decodeVerdicts(packed, classes) {
  const shapes = decodeShapes(packed.shape);
  const n = packed.id.length;
  // Probability of the severe classes together.
  const severeFrom = classes.findIndex((c) => c.xbd === "major" || c.xbd === "destroyed");
  const severe = new Float32Array(n).fill(-1);
  for (let i = 0; i < n; i++) {
    if (packed.damage[i] < 0 || severeFrom < 0) continue;
    severe[i] = 0;
    for (let k = severeFrom; k < classes.length; k++) severe[i] += fixed(packed.p[k], i) || 0;
  }
  return { n, shapes, severeFrom, severe, ...packed };
}
