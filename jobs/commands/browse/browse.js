// The page of `winnow browse`. It loads nothing from other sites. The address holds the view, so a view is its link.
"use strict";

const token = document.querySelector('meta[name="token"]').content;
const $ = (id) => document.getElementById(id);
const SIZE = 120;
const STATES = [["kept", "Kept"], ["filtered", "Filtered"], ["duplicate", "Duplicates"], ["undecided", "Not decided yet"]];
const WHY = "from browse";

let overview = null;
let view = {};
let shown = [];
let total = 0;
let asked = 0; // number of the newest request for images: late replies of older ones do not count
let loading = false;
let focused = -1;
const chosen = new Set();

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const count = (value) => Number(value).toLocaleString("en");
const rounded = (value, digits = 2) => (value === null || value === undefined ? "–" : Number(value).toFixed(digits));
const picture = (id) => `/thumb/${id}?token=${encodeURIComponent(token)}`;

async function request(path, options = {}) {
  const reply = await fetch(path, { ...options, headers: { ...options.headers, "x-winnow-token": token } });
  const body = await reply.json().catch(() => ({ error: `the server replied ${reply.status}` }));
  if (!reply.ok) throw new Error(body.error || `the server replied ${reply.status}`);
  return body;
}

function note(text) {
  $("note").textContent = text;
  $("note").hidden = false;
  clearTimeout(note.timer);
  note.timer = setTimeout(() => { $("note").hidden = true; }, 6000);
}

const guarded = (work) => async (...given) => {
  try { await work(...given); } catch (error) {
    note(error instanceof TypeError ? "the server does not answer: is `winnow browse` still running?" : error.message);
  }
};

// The view and the address --------------------------------------------------------------------------------------

function readAddress() {
  view = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (!Object.keys(view).length) view = { state: "kept" };
}

function go(next) {
  const bare = Object.fromEntries(Object.entries(next).filter(([, value]) => value !== "" && value !== undefined));
  location.hash = new URLSearchParams(bare).toString();
}

// Lists ---------------------------------------------------------------------------------------------------------

function drawViews() {
  const same = (one) => ["state", "reason", "category", "faults", "pending", "keeper", "groups"]
    .every((name) => (one[name] || "") === (view[name] || ""));
  const button = (text, number, target) => element("button", {
    "aria-current": same(target), onclick: () => go({ ...target, sort: target.category ? "near the threshold" : target.groups ? "group" : "" }),
  }, text, element("span", {}, number === null ? "" : count(number)));
  const parts = STATES.filter(([name]) => overview.states[name])
    .map(([name, text]) => button(text, overview.states[name], name === "duplicate" ? { groups: "true" } : { state: name }));
  if (overview.quarantined) parts.push(button("Quarantined", overview.quarantined, { faults: "1" }));
  if (overview.pending) parts.push(button("Decided here", overview.pending, { pending: "true" }));
  if (overview.reasons.length) parts.push(element("h2", {}, "Filtered by"));
  for (const [name, number] of overview.reasons) parts.push(button(name, number, { state: "filtered", reason: name }));
  if (overview.categories.length) parts.push(element("h2", {}, "Scores"));
  for (const one of overview.categories) parts.push(button(one.name, one.scored, { category: one.name }));
  $("views").replaceChildren(...parts);
}

function parameters(offset) {
  const wanted = new URLSearchParams({ offset, limit: SIZE });
  for (const name of ["state", "reason", "words", "category", "low", "high", "keeper", "pending", "groups", "sort"]) {
    if (view[name]) wanted.set(name, view[name]);
  }
  const category = overview.categories.find((one) => one.name === view.category);
  if (category) wanted.set("threshold", view.at || category.threshold || 0.5);
  return wanted;
}

const load = guarded(async (restart) => {
  if (view.similar || view.faults || loading && !restart) return;
  const own = ++asked;
  loading = true;
  try {
    const found = await request(`/images?${parameters(restart ? 0 : shown.length)}`);
    if (own !== asked) return;
    if (restart) { shown = []; $("grid").replaceChildren(); focused = -1; }
    total = found.total;
    add(found.images);
    $("total").textContent = `${count(total)} ${total === 1 ? "image" : "images"}`;
  } finally { if (own === asked) loading = false; }
  if ($("more").getBoundingClientRect().top < innerHeight + 600 && shown.length < total) load(false);
});

function add(images) {
  const cards = images.map((one, place) => card(one, shown.length + place));
  shown.push(...images);
  $("grid").append(...cards);
}

function facts(one) {
  if (one.apart !== undefined) return `${one.apart} bits apart`;
  if (one.score !== null && one.score !== undefined) return `score ${rounded(one.score, 3)}`;
  if (one.state === "duplicate") return one.reasons || `${one.distance} bits away, removed`;
  if (one.state === "filtered") return (one.reasons || "").split("\n")[0];
  if (one.copies) return `kept, ${count(one.copies)} ${one.copies === 1 ? "copy" : "copies"} removed`;
  return one.weight === null ? one.state : `weight ${rounded(one.weight)}`;
}

function card(one, place) {
  const image = element("img", { src: picture(one.image_id), loading: "lazy", alt: one.caption || one.key, draggable: "false" });
  image.addEventListener("error", () => image.replaceWith(element("span", { class: "line" }, "cannot be shown")));
  const pending = (one.decision || "").startsWith("pending ");
  const made = element("button", {
    class: `card${one.state === "filtered" || view.category ? " hide" : ""}${chosen.has(one.image_id) ? " chosen" : ""}`,
    "data-id": one.image_id, title: one.caption || one.key,
    onclick: (event) => { focused = place; if (event.metaKey || event.ctrlKey || event.shiftKey) choose(place); else detail(one.image_id); },
    onfocus: () => { focused = place; },
  },
  element("span", { class: "frame" }, image),
  one.decision ? element("span", { class: "badge" }, pending ? `${one.decision.slice(8)} (pending)` : one.decision) : null,
  element("span", { class: "text" }, element("span", { class: "state" }, facts(one)), element("span", {}, one.caption || one.key)));
  return made;
}

const drawFaults = guarded(async () => {
  const found = await request(`/faults?limit=500`);
  const rows = found.faults.map((one) => element("tr", {},
    ...[one.stage, one.reason, one.key, one.source, one.detail].map((text) => element("td", {}, text || ""))));
  const head = element("tr", {}, ...["step", "reason", "key", "source", "what was found"].map((text) => element("th", {}, text)));
  $("grid").replaceChildren(element("table", {}, head, ...rows));
  $("total").textContent = `${count(found.total)} quarantined${found.total > 500 ? "; the first 500 are shown" : ""}`;
});

const drawSimilar = guarded(async (found, text) => {
  shown = []; $("grid").replaceChildren(); focused = -1; asked++;
  total = found.total;
  add(found.images);
  $("total").textContent = text;
});

// One image -----------------------------------------------------------------------------------------------------

const detail = guarded(async (id) => {
  const one = await request(`/image/${id}`);
  const row = (name, value) => (value === null || value === undefined || value === "" ? [] : [element("dt", {}, name), element("dd", {}, String(value))]);
  const scores = one.scores.flatMap(([name, value]) => row(`score of ${name}`, rounded(value, 4)));
  const act = (text, work) => element("button", { onclick: work }, text);
  const group = one.kept_id || one.image_id;
  $("detail").replaceChildren(
    element("img", { src: picture(id), alt: one.caption || one.key }),
    element("dl", {},
      ...row("result", one.state), ...row("reasons", one.reasons), ...row("decision", one.decision && `${one.decision}: ${one.why}`),
      ...row("caption", one.caption), ...row("key", one.key), ...row("size", `${one.width} × ${one.height}, ${one.format}`),
      ...row("weight", one.weight === null ? null : rounded(one.weight, 3)), ...row("distance", one.distance === null ? null : `${one.distance} bits`),
      ...row("sharpness", one.sharpness === null ? null : rounded(one.sharpness)), ...scores, ...row("source", one.source), ...row("image", one.image_id)),
    element("div", { class: "acts" },
      act("Keep", () => decide("keep", [id])), act("Drop", () => decide("drop", [id])),
      one.decision ? act("Withdraw", () => decide("withdraw", [id])) : null,
      act("Similar images", () => go({ similar: id })), act("Its group", () => go({ keeper: group, sort: "group" })), act("Close", close)),
    element("h2", {}, "On the command line"), element("code", {}, one.explain),
  );
  $("detail").hidden = false;
  document.querySelector("main").classList.add("open");
});

function close() {
  $("detail").hidden = true;
  document.querySelector("main").classList.remove("open");
}

// Thresholds ----------------------------------------------------------------------------------------------------

function drawThreshold() {
  const one = overview.categories.find((each) => each.name === view.category);
  $("threshold").hidden = !one;
  if (!one) return;
  const most = Math.max(...one.histogram, 1);
  $("category").textContent = one.name;
  const recall = one.recall === null ? "recall unknown" : `recall at least ${rounded(100 * one.recall, 1)} %`;
  $("now").textContent = one.threshold === null ? "no threshold yet" : `threshold ${rounded(one.threshold, 4)}, ${recall}`;
  const at = Number(view.at || one.threshold || 0.5);
  $("at").value = at;
  $("histogram").replaceChildren(...one.histogram.map((number, place) => {
    const bar = element("i", { class: (place + 0.5) / one.histogram.length >= at ? "above" : "" });
    bar.style.height = `${Math.max(2, 100 * Math.log1p(number) / Math.log1p(most))}%`;
    return bar;
  }));
  effect(one, at);
}

const effect = guarded(async (one, at) => {
  const found = await request(`/threshold?category=${encodeURIComponent(one.name)}&at=${at}`);
  const share = (value) => `${count(value)} of ${count(found.scored)} (${rounded(100 * value / found.scored, 2)} %)`;
  const change = found.now === null || found.now === found.above ? "" :
    found.above > found.now ? `; ${count(found.above - found.now)} more than now` : `; ${count(found.now - found.above)} fewer than now`;
  $("effect").textContent = `At ${rounded(at, 3)}, ${share(found.above)} would be filtered${change}. Below, the images nearest to it come first. ` +
    `To use it: threshold = ${rounded(at, 3)} in the category's settings.`;
});

// Choosing and deciding -----------------------------------------------------------------------------------------

function choose(place) {
  const one = shown[place];
  if (!one) return;
  if (chosen.has(one.image_id)) chosen.delete(one.image_id); else chosen.add(one.image_id);
  drawChosen();
}

function drawChosen() {
  for (const one of document.querySelectorAll(".card")) one.classList.toggle("chosen", chosen.has(one.dataset.id));
  $("bar").hidden = !chosen.size;
  $("selected").textContent = `${count(chosen.size)} selected`;
  if (chosen.size && !$("why").value) $("why").value = WHY;
}

const decide = guarded(async (decision, ids) => {
  if (!ids.length) return;
  const why = $("why").value.trim() || WHY;
  note("saving…");
  for (let start = 0; start < ids.length; start += 500) {
    const images = ids.slice(start, start + 500);
    await request("/decide", { method: "POST", body: JSON.stringify({ images, decision, why }), headers: { "content-type": "application/json" } });
  }
  chosen.clear();
  for (const one of shown) if (ids.includes(one.image_id)) one.decision = `pending ${decision}`;
  for (const made of document.querySelectorAll(".card")) {
    if (!ids.includes(made.dataset.id)) continue;
    const place = [...$("grid").children].indexOf(made);
    const again = card(shown[place], place);
    const had = document.activeElement === made;
    made.replaceWith(again);
    if (had) again.focus();
  }
  drawChosen();
  const { pending } = await request("/overview").then((found) => { overview = found; return found; });
  drawViews();
  note(`Saved. ${count(pending)} pending until you run: ${overview.next}`);
  if (!$("detail").hidden && ids.length === 1) detail(ids[0]);
});

function move(step) {
  const cards = $("grid").querySelectorAll(".card");
  if (!cards.length) return;
  focused = Math.max(0, Math.min(cards.length - 1, focused < 0 ? 0 : focused + step));
  cards[focused].focus();
  cards[focused].scrollIntoView({ block: "nearest" });
}

function columns() {
  return getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const target = () => (chosen.size ? [...chosen] : focused >= 0 && shown[focused] ? [shown[focused].image_id] : []);
  const keys = {
    ArrowRight: () => move(1), ArrowLeft: () => move(-1), ArrowDown: () => move(columns()), ArrowUp: () => move(-columns()),
    x: () => choose(focused), k: () => decide("keep", target()), d: () => decide("drop", target()), u: () => decide("withdraw", target()),
    "/": () => $("words").focus(), Escape: () => { chosen.clear(); drawChosen(); close(); },
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

// Search by image -----------------------------------------------------------------------------------------------

const find = guarded(async (file) => {
  if (!file) return;
  note("searching…");
  const found = await request("/find", { method: "POST", body: file });
  $("note").hidden = true;
  await drawSimilar(found, `The images nearest to ${file.name}, by their perceptual hashes`);
});

document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => { event.preventDefault(); find(event.dataTransfer.files[0]); });

// Start ---------------------------------------------------------------------------------------------------------

const draw = guarded(async () => {
  readAddress();
  chosen.clear();
  drawChosen();
  drawViews();
  drawThreshold();
  $("words").value = view.words || "";
  $("sort").value = view.sort || "id";
  if (view.faults) { asked++; shown = []; await drawFaults(); return; }
  if (view.similar) {
    await drawSimilar(await request(`/similar/${view.similar}`), "The nearest images by their perceptual hashes");
    return;
  }
  await load(true);
});

window.addEventListener("hashchange", draw);
$("search").addEventListener("submit", (event) => { event.preventDefault(); go({ words: $("words").value, sort: view.sort }); });
$("sort").addEventListener("change", () => go({ ...view, sort: $("sort").value }));
$("at").addEventListener("input", () => { view.at = $("at").value; drawThreshold(); });
$("at").addEventListener("change", () => go({ ...view, at: $("at").value, sort: "near the threshold" }));
$("veil").addEventListener("change", () => document.body.classList.toggle("veiled", $("veil").checked));
$("file").addEventListener("change", () => find($("file").files[0]));
$("keep").addEventListener("click", () => decide("keep", [...chosen]));
$("drop").addEventListener("click", () => decide("drop", [...chosen]));
$("withdraw").addEventListener("click", () => decide("withdraw", [...chosen]));
$("clear").addEventListener("click", () => { chosen.clear(); drawChosen(); });
document.body.classList.add("veiled");
new IntersectionObserver((seen) => { if (seen[0].isIntersecting && shown.length < total) load(false); }, { rootMargin: "600px" }).observe($("more"));

overview = JSON.parse($("overview").textContent);
draw();
