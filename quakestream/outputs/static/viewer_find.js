// Search by coordinates, building id and district, and links to what is shown. No geocoder.

// `37.58, 36.93`, `37.58 36.93`, `37.58N 36.93E`, `36.93 E, 37.58 N`, `37°34'48"N 36°55'48"E`,
// with decimal commas where a semicolon or a space parts the two.
function parsePosition(text) {
  const part = /([+-]?\d{1,3}(?:[.,]\d+)?)\s*(?:°\s*(?:(\d{1,2}(?:[.,]\d+)?)\s*['′]\s*)?(?:(\d{1,2}(?:[.,]\d+)?)\s*["″]\s*)?)?([NSEW])?/giy;
  const found = [];
  let at = 0;
  while (at < text.length && found.length < 3) {
    part.lastIndex = at;
    const m = part.exec(text);
    if (!m) return null;
    // A comma between two whole numbers parts them only before a space: "37,58 36,93".
    const [degrees, minutes, seconds] = [m[1], m[2], m[3]].map((v) => (v === undefined ? 0 : Number(v.replace(",", "."))));
    const sign = degrees < 0 || m[1].startsWith("-") ? -1 : 1;
    const side = (m[4] ?? "").toUpperCase();
    found.push({ value: sign * (Math.abs(degrees) + minutes / 60 + seconds / 3600) * ("SW".includes(side) && side ? -1 : 1), side });
    at = part.lastIndex;
    const gap = /[\s,;/]*/y;
    gap.lastIndex = at;
    at += gap.exec(text)[0].length;
  }
  if (found.length !== 2) return null;
  let [lat, lon] = found;
  if ("EW".includes(lat.side) && lat.side || "NS".includes(lon.side) && lon.side) [lat, lon] = [lon, lat];
  if ("EW".includes(lat.side) && lat.side || "NS".includes(lon.side) && lon.side) return null;
  return Math.abs(lat.value) <= 85 && Math.abs(lon.value) <= 180 ? { lat: lat.value, lon: lon.value } : null;
}

class Find {
  constructor(page) {
    this.page = page;
    this.query = $("query");
    this.list = $("found");
    this.at = -1;
    this.query.addEventListener("input", () => this.update());
    this.query.addEventListener("keydown", (event) => this.key(event));
    this.query.addEventListener("blur", () => this.close());
    $("find").addEventListener("submit", async (event) => {
      event.preventDefault();
      if (!this.hits?.length) await this.update();
      this.go(this.hits[Math.max(this.at, 0)]);
    });
  }

  async update() {
    const text = this.query.value.trim();
    const hits = await this.search(text);
    if (text !== this.query.value.trim()) return;
    this.hits = hits;
    this.at = -1;
    const items = hits.map((hit, k) => {
      const item = element("li", { id: `hit-${k}`, text: hit.title });
      item.setAttribute("role", "option");
      item.addEventListener("pointerdown", (event) => { event.preventDefault(); this.go(hit); });
      return item;
    });
    if (text && !items.length) items.push(element("li", { className: "quiet", text: "nothing found: an id, a district, or 37.58, 36.93" }));
    this.list.replaceChildren(...items);
    this.list.hidden = !items.length;
    this.query.setAttribute("aria-expanded", String(items.length > 0));
  }

  async search(text) {
    if (!text) return [];
    const position = parsePosition(text);
    const hits = position ? [{ title: `go to ${position.lat}, ${position.lon}`, position }] : [];
    const { kind, unit } = this.page.areas;
    unit.forEach((id, area) => {
      const title = this.page.unitTitle(id);
      if (kind[area] === "district" && hits.length < 5 && title.toLowerCase().includes(text.toLowerCase())) hits.push({ title: `${title} · district`, area });
    });
    let found = [];
    try { found = await this.page.source.find(this.page.data, text); } catch { found = []; }
    return [...hits, ...found.map(({ row, id }) => ({ title: `${id} · ${this.page.titleOf(row)}`, row }))];
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") { this.close(); event.stopPropagation(); }
    if (!step || !this.hits?.length) return;
    event.preventDefault();
    this.at = (this.at + step + this.hits.length) % this.hits.length;
    [...this.list.children].forEach((item, k) => item.setAttribute("aria-selected", String(k === this.at)));
    this.query.setAttribute("aria-activedescendant", `hit-${this.at}`);
  }

  go(hit) {
    this.close();
    if (!hit) return;
    if (hit.row !== undefined) this.page.select(hit.row, true);
    if (hit.area !== undefined) this.page.showArea(hit.area);
    if (hit.position) this.page.showPosition(hit.position);
  }

  close() {
    this.list.hidden = true;
    this.list.replaceChildren();
    this.query.setAttribute("aria-expanded", "false");
    this.query.removeAttribute("aria-activedescendant");
  }
}

// What is shown, as the part of the address after `#`: it can be sent to a colleague.
function stateText(page) {
  const { lat, lng } = page.map.getCenter();
  const parts = new URLSearchParams();
  parts.set("at", `${page.map.getZoom()}/${lat.toFixed(5)}/${lng.toFixed(5)}`);
  if (page.selectedId) parts.set("b", page.selectedId);
  if (page.swipe.mode !== page.swipe.firstMode) parts.set("show", page.swipe.mode);
  if (page.threshold !== null) parts.set("score", page.threshold);
  if (page.reason) parts.set("why", page.reason);
  else if (page.shown.size < page.about.classes.length + 1) parts.set("only", [...page.shown].join("."));
  return parts.toString().replaceAll("%2F", "/");
}

async function openState(page, text) {
  const parts = new URLSearchParams(text);
  const [zoom, lat, lng] = (parts.get("at") ?? "").split("/").map(Number);
  if (Number.isFinite(lng) && Math.abs(lat) <= 85) page.map.setView([lat, lng], Math.min(22, Math.max(3, zoom)), { animate: false });
  if (page.swipe.offers(parts.get("show"))) page.swipe.setMode(parts.get("show"));
  const score = Number(parts.get("score"));
  if (parts.has("score") && score >= 0 && score <= 1) page.setThreshold(score);
  const why = page.about.reasons.some((r) => r.reason === parts.get("why")) ? parts.get("why") : null;
  if (why) page.setReason(why);
  const only = (parts.get("only") ?? "").split(".").filter(Boolean).map(Number);
  if (only.length) page.setShown(only.filter((k) => k >= -1 && k < page.about.classes.length));
  const id = parts.get("b");
  if (!id) return;
  const hit = (await page.source.find(page.data, id)).find((one) => one.id === id);
  if (hit) await page.select(hit.row, !parts.has("at"));
}

async function copyText(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    button.textContent = document.execCommand("copy") ? "copied" : "not allowed here";
    area.remove();
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}
