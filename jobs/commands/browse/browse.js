// The page of `winnow browse`. It loads nothing from other sites. The address holds the view, so a view is its link.
"use strict";

const token = document.querySelector('meta[name="token"]').content;
const $ = (id) => document.getElementById(id);
const SIZE = 120;
const STATES = [["kept", "Kept"], ["filtered", "Filtered"], ["duplicate", "Duplicates"], ["undecided", "Not decided yet"]];

let overview = null;
let view = {};
let shown = [];
let total = 0;
let asked = 0; // number of the newest request for images: late replies of older ones do not count
let loading = false;
let focused = -1;
let named = ""; // the reason that the page proposes: the name of the view
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
  const same = (one) => ["state", "reason", "category", "faults", "pending", "keeper", "groups", "queued", "apart", "all"]
    .every((name) => (one[name] || "") === (view[name] || ""));
  const button = (text, number, target) => element("button", {
    "aria-current": same(target), onclick: () => go({ ...target, words: view.words, where: view.where, sort: target.category ? "near the threshold" : target.groups ? "group" : "" }),
  }, text, element("span", {}, number === null ? "" : count(number)));
  const every = Object.values(overview.states).reduce((sum, number) => sum + number, 0);
  const parts = [button("All images", every, { all: "true" }), ...STATES.filter(([name]) => overview.states[name])
    .map(([name, text]) => button(text, overview.states[name], name === "duplicate" ? { groups: "true" } : { state: name }))];
  if (overview.distances) parts.push(button("Pairs by distance", null, { apart: "true" }));
  if (overview.quarantined) parts.push(button("Quarantined", overview.quarantined, { faults: "1" }));
  if (overview.pending) parts.push(button("Decided here", overview.pending, { pending: "true" }));
  if (overview.queued) parts.push(button("Queued for labelling", overview.queued, { queued: "true" }));
  if (overview.reasons.length) parts.push(element("h2", {}, "Filtered by"));
  for (const [name, number] of overview.reasons) parts.push(button(name, number, { state: "filtered", reason: name }));
  if (overview.categories.length) parts.push(element("h2", {}, "Scores"));
  for (const one of overview.categories) parts.push(button(one.name, one.scored, { category: one.name }));
  $("views").replaceChildren(...parts);
}

function parameters(offset) {
  const wanted = new URLSearchParams({ offset, limit: SIZE });
  const names = ["state", "reason", "words", "where", "category", "low", "high", "keeper", "pending", "groups", "queued", "like", "by", "sort"];
  for (const name of names) {
    if (view[name]) wanted.set(name, view[name]);
  }
  const category = overview.categories.find((one) => one.name === view.category);
  if (category) wanted.set("threshold", view.at || category.threshold || 0.5);
  return wanted;
}

// The name of the view: the reason that the page proposes for a decision.
function nameOfView() {
  const parts = [view.reason, view.category, view.like && "similar images", view.keeper && "a group", view.groups && "duplicates",
    view.apart && "pairs by distance", view.pending && "decided here", view.queued && "queued for labelling",
    !view.reason && view.state, view.words && `“${view.words}”`, view.where, view.sort !== "id" && view.sort];
  return parts.filter((part) => part && typeof part === "string").join(", ").slice(0, 500) || "all images";
}

function clear() {
  shown = []; total = 0; focused = -1;
  $("grid").replaceChildren();
}

const load = guarded(async (restart) => {
  if (view.apart || view.faults || loading && !restart) return;
  const own = ++asked;
  loading = true;
  try {
    const found = await request(`/images?${parameters(restart ? 0 : shown.length)}`).catch((error) => {
      if (!restart) throw error;
      if (own === asked) { clear(); say(error.message, true); }
    });
    if (own !== asked || !found) return;
    if (restart) clear();
    total = found.total;
    add(found.images);
    say(`${count(total)} ${total === 1 ? "image" : "images"}`);
  } finally { if (own === asked) loading = false; }
  if ($("more").getBoundingClientRect().top < innerHeight + 600 && shown.length < total) load(false);
});

function say(text, fault = false) {
  $("total").textContent = text;
  $("total").classList.toggle("fault", fault);
}

function add(images) {
  const cards = images.map((one, place) => card(one, shown.length + place));
  shown.push(...images);
  $("grid").append(...cards);
}

function facts(one) {
  if (one.likeness !== undefined) return `likeness ${rounded(one.likeness)}`;
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
  element("span", { class: "badges" },
    one.decision ? element("span", { class: "badge" }, pending ? `${one.decision.slice(8)} (pending)` : one.decision) : null,
    one.queued ? element("span", { class: "badge" }, `to label: ${one.queued}`) : null),
  element("span", { class: "text" }, element("span", { class: "state" }, facts(one)), element("span", {}, one.caption || one.key)));
  return made;
}

const drawFaults = guarded(async () => {
  const found = await request(`/faults?limit=500`);
  const rows = found.faults.map((one) => element("tr", {},
    ...[one.stage, one.reason, one.key, one.source, one.detail].map((text) => element("td", {}, text || ""))));
  const head = element("tr", {}, ...["step", "reason", "key", "source", "what was found"].map((text) => element("th", {}, text)));
  $("grid").replaceChildren(element("table", {}, head, ...rows));
  say(`${count(found.total)} quarantined${found.total > 500 ? "; the first 500 are shown" : ""}`);
});

// Similar images, and pairs by distance ---------------------------------------------------------------------------

function drawLike() {
  $("like").hidden = !view.like;
  if (!view.like) return;
  const by = view.by || "likeness";
  $("like-image").hidden = Boolean(view.file); // a file that was dropped in has no small image
  if (!view.file) $("like-image").src = picture(view.like);
  const what = by === "copies" ? "Images with the nearest perceptual hashes" : "Images that show similar things";
  $("like-text").textContent = view.file ? `${what}, to ${view.file}` : what;
  $("by-likeness").setAttribute("aria-pressed", by === "likeness");
  $("by-copies").setAttribute("aria-pressed", by === "copies");
}

function drawDistance() {
  const known = overview.distances;
  $("distance").hidden = !view.apart || !known;
  if ($("distance").hidden) return;
  const bits = Number(view.bits ?? known.threshold);
  const most = Math.max(...known.histogram, 1);
  $("bits").max = known.farthest;
  $("bits").value = bits;
  $("distance-now").textContent = `now ${known.threshold} bits of 256; striped: estimated beyond it`;
  $("distances").replaceChildren(...known.histogram.map((number, place) => {
    const bar = element("i", { class: `${place > known.threshold ? "guess " : ""}${place <= bits ? "above" : ""}`, title: `${place} bits: ${count(number)}` });
    bar.style.height = `${number ? Math.max(4, 100 * Math.log1p(number) / Math.log1p(most)) : 1}%`;
    return bar;
  }));
  pairsAt(bits, known.threshold);
}

const pairsAt = guarded(async (bits, threshold) => {
  const own = ++asked;
  const found = await request(`/distance?at=${bits}`);
  if (own !== asked) return;
  const lines = [...found.effect, bits === threshold ? "" : `To use it: --set dedup.max_distance=${bits}`].filter(Boolean);
  $("distance-effect").replaceChildren(...lines.map((line) => element("p", {}, line)));
  clear();
  const shownPairs = count(found.pairs.length);
  say(bits < threshold ? `${shownPairs} of the pairs that would no longer count, the nearest to ${bits} bits first`
    : bits > threshold ? `${shownPairs} of the pairs that would also count: the nearest ones beyond the distance in use`
    : "Pairs near the distance in use; move the slider to see which pairs would change sides");
  for (const pair of found.pairs) {
    const at = shown.length;
    shown.push(pair.a, pair.b);
    $("grid").append(element("div", { class: "pair" },
      element("div", { class: "line" }, element("b", {}, `${pair.distance} bits`), pair.kind === "beyond" ? " not a duplicate now" : " a pair now"),
      card(pair.a, at), card(pair.b, at + 1)));
  }
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
      ...row("sharpness", one.sharpness === null ? null : rounded(one.sharpness)), ...scores, ...row("queued to label", one.queued), ...row("meta", one.meta === "{}" ? null : one.meta), ...row("source", one.source), ...row("image", one.image_id)),
    element("div", { class: "acts" },
      act("Keep", () => decide("keep", [id])), act("Drop", () => decide("drop", [id])),
      one.decision ? act("Withdraw", () => decide("withdraw", [id])) : null,
      act("More like this", () => leave({ like: id, by: overview.alike ? "likeness" : "copies" })),
      act("Its group", () => leave({ keeper: group, sort: "group" })), act("Close", close)),
    element("h2", {}, "On the command line"), element("code", {}, one.explain),
  );
  $("detail").hidden = false;
  document.querySelector("main").classList.add("open");
});

// On a narrow screen, the facts of one image cover the view.
function leave(next) {
  if (matchMedia("(max-width: 800px)").matches) close();
  go(next);
}

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
  const known = found.recall;
  const labels = known === null ? "" : ` Of the labels of the random sample, ${count(known.missed)} of ${count(known.positives)} positives would be missed` +
    `${known.at_least === null ? "" : ` (recall at least ${rounded(100 * known.at_least, 1)} % at ${rounded(100 * one.confidence, 0)} % confidence, if these labels did not choose the threshold)`}` +
    `${known.precision === null ? "" : `; about ${rounded(100 * known.precision, 0)} % of the filtered images would belong to the category`}.`;
  const change = found.now === null || found.now === found.above ? "" :
    found.above > found.now ? `; ${count(found.above - found.now)} more than now` : `; ${count(found.now - found.above)} fewer than now`;
  $("effect").textContent = `At ${rounded(at, 3)}, ${share(found.above)} would be filtered${change}.${labels} Below, the images nearest to it come first. ` +
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
  if (chosen.size && ($("why").value === named || !$("why").value.trim())) $("why").value = named = nameOfView();
}

const BATCH = 500;

// Posts images in parts, shows what the server replies about each, and returns the last reply.
async function post(path, ids, body) {
  note("saving…");
  let reply = null, queued = 0;
  for (let start = 0; start < ids.length; start += BATCH) {
    const images = ids.slice(start, start + BATCH);
    const why = $("why").value.trim() || nameOfView();
    reply = await request(path, { method: "POST", body: JSON.stringify({ images, why, ...body }), headers: { "content-type": "application/json" } });
    refresh(reply.images);
    queued += reply.queued || 0;
  }
  chosen.clear();
  drawChosen();
  overview = await request("/overview");
  drawViews();
  if (!$("detail").hidden && ids.length === 1) detail(ids[0]);
  return { ...reply, queued };
}

function refresh(images) {
  const known = new Map(images.map((one) => [one.image_id, one]));
  [...$("grid").querySelectorAll(".card")].forEach((made, place) => {
    const now = known.get(made.dataset.id);
    if (!now) return;
    shown[place] = { ...shown[place], decision: now.decision, why: now.why, queued: now.queued };
    const again = card(shown[place], place);
    const had = document.activeElement === made;
    made.replaceWith(again);
    if (had) again.focus();
  });
}

const decide = guarded(async (decision, ids) => {
  if (!ids.length) return;
  await post("/decide", ids, { decision });
  note(overview.pending ? `Saved. ${count(overview.pending)} pending until you run: ${overview.next}` : "Saved. No decision is pending.");
});

const queue = guarded(async (ids) => {
  const category = $("category-to-label").value;
  if (!ids.length) return;
  if (!category) throw new Error("the settings define no category: add [categories.NAME] to your settings, then start `winnow browse` again");
  const { queued, label } = await post("/queue", ids, { category });
  note(`${count(queued)} of ${count(ids.length)} queued${queued < ids.length ? "; the others are queued or labelled already" : ""}. To label them: ${label}`);
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
  const many = view.apart ? 2 * columns() : columns();
  const target = () => (chosen.size ? [...chosen] : focused >= 0 && shown[focused] ? [shown[focused].image_id] : []);
  const keys = {
    ArrowRight: () => move(1), ArrowLeft: () => move(-1), ArrowDown: () => move(many), ArrowUp: () => move(-many),
    x: () => choose(focused), k: () => decide("keep", target()), d: () => decide("drop", target()), u: () => decide("withdraw", target()), q: () => queue(target()),
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
  go({ ...found, file: file.name });
});

document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => { event.preventDefault(); find(event.dataTransfer.files[0]); });

// Start ---------------------------------------------------------------------------------------------------------

const draw = guarded(async () => {
  readAddress();
  $("note").hidden = true;
  chosen.clear();
  drawChosen();
  drawViews();
  drawThreshold();
  drawLike();
  drawDistance();
  $("words").value = view.words || "";
  $("where").value = view.where || "";
  $("sort").value = view.sort || "id";
  $("sort").disabled = Boolean(view.like || view.apart || view.faults);
  if (overview.labelled.includes(view.category)) $("category-to-label").value = view.category;
  if (view.faults) { asked++; clear(); await drawFaults(); return; }
  if (!view.apart) await load(true);
});

// A search covers the whole lake, within the scores of a category or the images like one. A click on a view narrows it.
function search() {
  const { category, at, like, by, file, sort } = view;
  go({ all: category || like ? "" : "true", category, at, like, by, file, sort, words: $("words").value.trim(), where: $("where").value.trim() });
}

window.addEventListener("hashchange", draw);
$("search").addEventListener("submit", (event) => { event.preventDefault(); search(); });
$("sort").addEventListener("change", () => go({ ...view, sort: $("sort").value }));
$("at").addEventListener("input", () => { view.at = $("at").value; drawThreshold(); });
$("at").addEventListener("change", () => go({ ...view, at: $("at").value, sort: "near the threshold" }));
$("bits").addEventListener("input", () => { view.bits = $("bits").value; drawDistance(); });
$("bits").addEventListener("change", () => go({ ...view, bits: $("bits").value }));
$("by-likeness").addEventListener("click", () => go({ ...view, by: "likeness" }));
$("by-copies").addEventListener("click", () => go({ ...view, by: "copies" }));
$("like-end").addEventListener("click", () => { const { like, by, file, ...kept } = view; go(Object.keys(kept).length ? kept : { all: "true" }); });
$("where").addEventListener("change", search);
$("veil").addEventListener("change", () => document.body.classList.toggle("veiled", $("veil").checked));
$("file").addEventListener("change", () => find($("file").files[0]));
$("keep").addEventListener("click", () => decide("keep", [...chosen]));
$("drop").addEventListener("click", () => decide("drop", [...chosen]));
$("withdraw").addEventListener("click", () => decide("withdraw", [...chosen]));
$("queue").addEventListener("click", () => queue([...chosen]));
$("clear").addEventListener("click", () => { chosen.clear(); drawChosen(); });
document.body.classList.add("veiled");
new IntersectionObserver((seen) => { if (seen[0].isIntersecting && shown.length < total) load(false); }, { rootMargin: "600px" }).observe($("more"));

overview = JSON.parse($("overview").textContent);
$("columns").append(...[...overview.columns, ...overview.fields.map((name) => `meta.${/^[\w-]+$/.test(name) ? name : `"${name}"`}`),
  ...overview.categories.map((one) => `score.${one.name}`)].map((name) => element("option", { value: name })));
$("to-label").hidden = !overview.labelled.length;
draw();
