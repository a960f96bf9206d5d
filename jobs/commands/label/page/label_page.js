// The label page. It decodes images before they are needed, and sends answers in the order in which they were given.

const AHEAD = 10; // images that the page keeps ready, beside those of the next screen
const LOW = 4; // with fewer of these ready, the page requests more before it sends answers
const PAST = 6; // answered screens that undo shows without a request
const VEIL = 72; // longest side of a blurred image in pixels: too few to recognise anything
const RETRY = 1500; // milliseconds
const IDLE = 3000; // milliseconds

const WAYS = ["side", "blink", "difference"]; // ways to look at a pair

const token = new URLSearchParams(location.search).get("token");
const { lake, category, pairs } = document.body.dataset; // pairs: veiled or clear; undefined on the page of a category
const THING = pairs ? "pair" : "image";
const NAMES = pairs ? { yes: "same", no: "different", unsure: "unsure" } : { yes: "yes", no: "no", unsure: "unsure" };
const pairViews = pairs && (await import(`./pair.js?token=${encodeURIComponent(token)}`));
const grid = pairs ? null : await import(`./grid.js?token=${encodeURIComponent(token)}`);
const $ = (id) => document.getElementById(id);
const page = { name: "", screen: [], ahead: [], past: [], outbox: [], revealed: false, cursor: 0, waiting: null, busy: false };
Object.assign(page, { rejected: 0, stopped: "" }); // answers that the server rejected; why the page sends no more requests

// Settings of this browser -------------------------------------------------------------------------------------------

function stored(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`winnow.${key}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function store(key, value) {
  try {
    localStorage.setItem(`winnow.${key}`, JSON.stringify(value));
  } catch {
    // Without storage, the browser forgets settings. Labels are on the server.
  }
}

const viewKey = pairs ? `view.pairs.${pairs}` : "view"; // a page that starts unblurred must not lift the blur of another
const view = { veil: pairs !== "clear", grey: false, size: 100, way: "side", grid: 1, ...stored(viewKey, {}) };
const perScreen = () => (pairs ? 1 : view.grid);
const many = () => perScreen() > 1;

function setView(change) {
  Object.assign(view, change);
  if (change.grid) page.ahead.unshift(...page.screen.splice(0));
  view.size = Math.min(100, Math.max(30, view.size));
  store(viewKey, view);
  $("veil").checked = view.veil;
  $("grey").checked = view.grey;
  $("size").value = view.size;
  document.body.classList.toggle("grey", view.grey);
  document.body.classList.toggle("unveiled", !view.veil);
  $("stage").style.setProperty("--size", view.size / 100);
  document.body.classList.toggle("many", many());
  if (!pairs) $("grid").value = view.grid;
  for (const way of pairs ? WAYS : []) $(way).setAttribute("aria-pressed", String(way === view.way));
  if (!change.grid) return draw();
  show(take());
  exchange();
}

// The server ---------------------------------------------------------------------------------------------------------

// Part of every request: by now, the page of another category may be served at this address.
const identity = new URLSearchParams({ lake, category });
const address = (path) => `${path}?${identity}&token=${encodeURIComponent(token)}`;
const outboxKey = () => `outbox.${lake}.${category}.${page.name}`;
const DENIED = "the access token is no longer valid, or another lake is served here; open the address that `winnow label serve` printed";

// The server refused a request, and would refuse it again.
class Refused extends Error {}

async function request(path, body) {
  const answer = await fetch(`${path}?${identity}`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-winnow-token": token },
    body: JSON.stringify(body),
  });
  const reply = await answer.json().catch(() => null);
  if (reply && (answer.ok || reply.unqueued)) return reply;
  throw failure(answer.status, reply?.error);
}

function failure(status, message) {
  const text = message || (status === 403 ? DENIED : `the server answered ${status}`);
  // A 404 may come from another program that listens here until the page is served again.
  return status >= 400 && status < 500 && status !== 404 ? new Refused(text) : new Error(text);
}

// Sends no more requests and shows no image. Unsent answers stay in the browser.
function stop(reason) {
  page.stopped = reason;
  showStatus(page.outbox.length ? `stopped, ${notSaved()}` : "stopped", true);
  draw();
}

const notSaved = () => `${page.outbox.length} not saved yet (kept in this browser)`;

// One request at a time, so that the server receives everything in the order in which it happened.
async function exchange() {
  if (page.busy || page.stopped || !page.name) return;
  page.busy = true;
  clearTimeout(page.waiting);
  try {
    while (!page.stopped && page.name) {
      const needsImages = page.ahead.length < spare(page.outbox.length ? LOW : AHEAD) && !page.dry;
      if (needsImages) await fetchMore();
      else if (page.outbox.length) await send();
      else break;
    }
    if (!page.screen.length || page.dry) page.waiting = setTimeout(again, page.loading ? 400 : IDLE);
  } catch (error) {
    if (error instanceof Refused) return stop(error.message);
    showStatus(`${page.outbox.length ? notSaved() : "no answer from the server"}: ${error.message}`, true);
    page.waiting = setTimeout(again, RETRY);
  } finally {
    page.busy = false;
  }
}

function again() {
  page.dry = false;
  exchange();
}

const spare = (most) => (many() ? perScreen() : 0) + most;

async function fetchMore() {
  const held = [...page.screen, ...page.ahead].map((one) => one.image_id);
  const unsent = new Set(page.outbox.map((one) => one.image_id));
  const holding = [...new Set([...held, ...unsent])];
  const { name } = page;
  const reply = await request("next", { name, holding, count: spare(AHEAD) - page.ahead.length });
  if (page.name !== name) return; // another person took over
  const lost = new Set(reply.lost.filter((id) => !unsent.has(id) && !page.outbox.some((one) => one.image_id === id)));
  page.ahead = page.ahead.filter((one) => !lost.has(one.image_id));
  const known = new Set([...held, ...page.outbox.map((one) => one.image_id)]);
  for (const image of reply.images) if (!known.has(image.image_id)) page.ahead.push(prepared(image));
  Object.assign(page, { loading: reply.loading, elsewhere: reply.elsewhere, dry: !reply.images.length });
  const kept = page.screen.filter((one) => !lost.has(one.image_id));
  const more = page.ahead.splice(0, perScreen() - kept.length);
  const changes = more.length || kept.length < page.screen.length;
  handleReply(reply);
  if (!kept.length) return show(more);
  page.screen = [...kept, ...more];
  if (changes) draw();
}

async function send() {
  const [first] = page.outbox;
  const reply = await request(first.path, { name: page.name, image_id: first.image_id, ...(first.answer && { answer: first.answer }) });
  page.outbox.shift();
  store(outboxKey(), page.outbox);
  // The server rejected this answer alone; the page still sends the later ones.
  if (reply.unqueued) page.rejected += 1;
  handleReply(reply);
}

function post(entry) {
  page.outbox.push(entry);
  showSaved();
  store(outboxKey(), page.outbox);
  exchange();
}

function handleReply(reply) {
  if (reply.progress) report(reply.progress);
  if (reply.fault) showStatus(`labels are safe on the server, but cannot be written to the lake now: ${reply.fault}`, true);
  else showSaved();
}

function showSaved() {
  const state = page.outbox.length ? "saving" : "all saved";
  if (!page.rejected) return showStatus(state);
  showStatus(`${state}, but ${count(page.rejected, "answer was", "answers were")} refused: no longer queued`, true);
}

function showStatus(text, late = false) {
  $("saved").textContent = text;
  $("saved").classList.toggle("late", late);
}

// Images -------------------------------------------------------------------------------------------------------------

function prepared(image) {
  const one = { ...image, clear: null, veil: null, broken: false };
  one.ready = load(one).catch((error) => {
    if (error instanceof Refused) stop(error.message);
    else one.broken = true;
  });
  one.ready.then(() => page.screen.includes(one) && draw());
  return one;
}

async function load(one) {
  if (!pairs) return loadImage(one);
  await Promise.all(one.images.map(loadImage));
  const [a, b] = one.images;
  one.clear = a.clear;
  one.veil = pairViews.sideBySide([a.veil, b.veil], "pair veiled");
}

async function loadImage(one) {
  const answer = await fetch(address(`picture/${encodeURIComponent(one.image_id)}`));
  if (!answer.ok) throw failure(answer.status, (await answer.json().catch(() => ({}))).error);
  const bitmap = await createImageBitmap(await answer.blob());
  one.clear = canvas(bitmap, 1, "clear");
  const share = Math.min(1, VEIL / Math.max(bitmap.width, bitmap.height));
  one.veil = veil(bitmap, share);
  bitmap.close();
  for (const drawn of [one.clear, one.veil]) {
    drawn.setAttribute("role", "img");
    drawn.setAttribute("aria-label", drawn === one.veil ? "blurred image" : one.caption || "image without a caption");
  }
}

function canvas(source, share, name) {
  const made = document.createElement("canvas");
  made.width = Math.max(1, Math.round(source.width * share));
  made.height = Math.max(1, Math.round(source.height * share));
  made.className = name;
  const pen = made.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(source, 0, 0, made.width, made.height);
  return made;
}

// Blurs a small copy once and draws it large: nothing is left to compute when the image is shown.
function veil(bitmap, share) {
  const small = canvas(bitmap, share, "small");
  const soft = document.createElement("canvas");
  const pen = Object.assign(soft, { width: small.width, height: small.height }).getContext("2d");
  const radius = Math.max(2, Math.max(small.width, small.height) / 14);
  pen.filter = `blur(${radius}px) saturate(0.5)`;
  // Drawn a little beyond its edges, so that the blur does not fade out there.
  pen.drawImage(small, -radius, -radius, small.width + 2 * radius, small.height + 2 * radius);
  const large = document.createElement("canvas");
  const scale = Math.min(480, Math.max(bitmap.width, bitmap.height)) / Math.max(small.width, small.height);
  Object.assign(large, { width: Math.round(small.width * scale), height: Math.round(small.height * scale), className: "veil" });
  const brush = large.getContext("2d");
  brush.imageSmoothingQuality = "high";
  brush.drawImage(soft, 0, 0, large.width, large.height);
  large.dataset.ratio = bitmap.width / bitmap.height;
  large.dataset.width = bitmap.width;
  return large;
}

function show(images) {
  Object.assign(page, { screen: images, revealed: false, second: false, cursor: 0 });
  draw();
}

// Takes the images of the next screen.
const take = () => page.ahead.splice(0, perScreen());

const veiled = () => view.veil && !page.revealed;

function draw() {
  if (many()) return drawGrid();
  const one = (!page.stopped && page.screen[0]) || null;
  const drawn = one && (one.broken ? null : veiled() ? one.veil : pairs ? one.clear && pairViews.drawn(one.images, view.way, page.second) : one.clear);
  if (drawn?.className === "veil") {
    // As large as the clear image, so that the layout does not jump.
    const box = $("stage").getBoundingClientRect();
    const [width, ratio] = [Number(drawn.dataset.width), Number(drawn.dataset.ratio)];
    const shown = Math.min(width, (box.width * view.size) / 100, ((box.height * view.size) / 100) * ratio);
    drawn.style.width = `${shown}px`;
    drawn.style.height = `${shown / ratio}px`;
  }
  $("image").replaceChildren(...(drawn ? [drawn] : []));
  if (pairs) describePair(one);
  else describe(one);
  document.body.classList.toggle("idle", !one);
  document.body.classList.toggle("seen", page.revealed || !drawn);
  $("rest").hidden = Boolean(one && !one.broken && drawn);
  if (!drawn) rest(one);
}

function drawGrid() {
  const images = page.stopped ? [] : page.screen;
  page.cursor = Math.max(0, Math.min(page.cursor, images.length - 1));
  $("image").replaceChildren(...(images.length ? [grid.drawn(images, veiled(), page.cursor, view.grid)] : []));
  describe(images[page.cursor] ?? null);
  $("all").firstElementChild.textContent = images.length ? `Answer all: ${grid.summary(images)}` : "Answer all";
  document.body.classList.toggle("idle", !images.length);
  document.body.classList.toggle("seen", page.revealed || !images.length);
  $("rest").hidden = Boolean(images.length);
  if (!images.length) rest(null);
}

function describe(one) {
  $("caption").textContent = one ? one.caption || "no caption" : "";
  $("reason").textContent = one ? (one.reason ? `${one.origin}: ${one.reason}` : one.origin) : "";
  $("reason").title = one?.reason ?? "";
}

// Neither the distance nor why the pair was picked: both would tell people what to answer.
function describePair(one) {
  for (const [place, id] of ["caption", "reason"].entries()) {
    const image = one?.images[place];
    $(id).textContent = image ? `${"AB"[place]}: ${image.caption || "no caption"} (${image.size?.join(" × ") ?? "?"})` : "";
    $(id).title = $(id).textContent;
  }
}

function rest(one) {
  const [head, say] = [$("rest").querySelector("h2"), $("rest").querySelector(".say")];
  $("rest").querySelector(".refill").hidden = Boolean(one || page.loading || page.elsewhere || !page.reported || page.stopped);
  if (page.stopped) [head.textContent, say.textContent] = ["This page has stopped", whyStopped()];
  else if (one?.broken) [head.textContent, say.textContent] = [`This ${THING} cannot be shown`, "Answer Unsure, or reload the page."];
  else if (one || page.loading || !page.reported) [head.textContent, say.textContent] = ["", "Loading"];
  else if (page.elsewhere)
    [head.textContent, say.textContent] = [`No more ${THING}s for you`, `${count(page.elsewhere, `${THING} is`, `${THING}s are`)} assigned to other people.`];
  else [head.textContent, say.textContent] = ["All done", `Every queued ${THING} has an answer. Thank you.`];
}

function whyStopped() {
  const why = `The server refused a request: ${page.stopped}.`;
  if (!page.outbox.length) return why;
  const kept = count(page.outbox.length, "answer is", "answers are");
  return `${why} ${kept} not saved yet. This browser keeps unsaved answers and sends them when you open the page of ${category} here again.`;
}

// Answers ------------------------------------------------------------------------------------------------------------

const isReady = (one) => one.clear || one.broken;

function answer(kind, event) {
  const one = page.screen[many() ? page.cursor : 0];
  if (!one || page.stopped || !isReady(one)) return;
  if (many()) return mark(page.cursor, kind);
  press(kind);
  finish([[one, kind]], event);
}

// Answers all images of the grid; those without a mark get a no.
function answerAll(event) {
  if (!many() || !page.screen.length || page.stopped || !page.screen.every(isReady)) return;
  press("all");
  finish(page.screen.map((one) => [one, grid.answerOf(one)]), event);
}

function finish(answers, event) {
  page.past.push(answers.map(([one]) => one));
  while (page.past.length > PAST) page.past.shift();
  show(take());
  measure(event);
  for (const [one, kind] of answers) post({ path: "decide", image_id: one.image_id, answer: kind });
}

// Marks an image of the grid with an answer, or with the next one of yes, unsure and no. A blurred image is shown first.
function mark(place, kind) {
  const one = page.screen[place];
  if (!one || page.stopped || !isReady(one)) return;
  page.cursor = place;
  if (veiled()) return reveal();
  if (kind) one.mark = kind;
  else grid.turn(one);
  draw();
}

function move(key) {
  page.cursor = grid.moved(page.cursor, key, page.screen.length, view.grid);
  draw();
}

async function undo() {
  if (page.stopped) return;
  press("undo");
  const last = page.past.pop();
  if (last) {
    page.ahead.unshift(...last, ...page.screen);
    show(take());
    for (const one of [...last].reverse()) post({ path: "undo", image_id: one.image_id });
    return;
  }
  // The server knows older answers than the page remembers.
  if (page.busy || page.outbox.length) return;
  page.busy = true;
  try {
    const reply = await request("undo", { name: page.name });
    if (reply.image) {
      const others = [...page.screen, ...page.ahead].filter((one) => one.image_id !== reply.image.image_id);
      page.ahead = [prepared(reply.image), ...others];
      show(take());
    }
    handleReply(reply);
  } catch (error) {
    if (error instanceof Refused) stop(error.message);
    else showStatus(error.message, true);
  } finally {
    page.busy = false;
  }
  exchange();
}

function reveal() {
  if (!page.screen.length || (!view.veil && !pairs && !many())) return;
  if (pairs && !veiled()) return blink();
  if (many() && !veiled()) return mark(page.cursor);
  page.revealed = !page.revealed;
  draw();
}

// Shows the other image of a pair in the same place.
function blink() {
  if (view.way !== "blink") return setView({ way: "blink" });
  page.second = !page.second;
  draw();
}

function press(id) {
  $(id).classList.add("pressed");
  setTimeout(() => $(id).classList.remove("pressed"), 120);
}

// Measures the time from the key press until the next image is painted.
function measure(event) {
  const start = event?.timeStamp ?? performance.now();
  requestAnimationFrame(() => {
    const painted = new MessageChannel();
    painted.port1.onmessage = () => {
      performance.measure("next image", { start, end: performance.now() });
      painted.port1.close();
    };
    painted.port2.postMessage(null);
  });
}

// Progress -----------------------------------------------------------------------------------------------------------

const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

function made(tag, text, name) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
}

function report(p) {
  page.reported = true;
  const all = p.done + p.left;
  $("bar").firstElementChild.style.width = `${all ? (100 * p.done) / all : 0}%`;
  $("count").textContent = `${p.done.toLocaleString("en")} done, ${p.left.toLocaleString("en")} left`;
  const own = Object.entries(p.answers).map(([answer, n]) => {
    const pair = document.createElement("div");
    pair.append(made("dt", NAMES[answer]), made("dd", n.toLocaleString("en")));
    return pair;
  });
  const [today, rate] = p.today;
  const pace = rate === null ? "" : `, about ${Number(rate.toPrecision(2)).toLocaleString("en")} per hour`;
  $("own").replaceChildren(...own, made("div", `${count(today, "answer", "answers")} today${pace}`, "wide"));
  const rows = Object.entries(p.labels).map(([origin, [yes, no]]) => {
    const row = document.createElement("tr");
    row.append(made("td", origin), made("td", yes.toLocaleString("en")), made("td", no.toLocaleString("en")));
    return row;
  });
  $("labels").tBodies[0].replaceChildren(...rows);
  $("labels").hidden = !rows.length;
  calibration(...p.random_positives);
  $("agreement").hidden = !p.agreement.length;
  $("agreement").querySelector("ul").replaceChildren(...p.agreement.map(pair));
}

// A category with a set threshold needs no positive of the random sample (0); each one gives a better bound on its recall.
function calibration(have, need) {
  $("calibration").querySelector("i").style.width = `${need ? Math.min(100, (100 * have) / need) : 0}%`;
  $("calibration").querySelector("p").textContent = !need
    ? `${have.toLocaleString("en")} positives of the random sample: the recall of the threshold from the settings ${have ? "has a bound" : "is unknown"}`
    : have >= need
      ? `${have.toLocaleString("en")} positives of the random sample: enough to calibrate`
      : `${have.toLocaleString("en")} of the ${need.toLocaleString("en")} positives of the random sample that calibration needs`;
}

function pair(one) {
  const item = document.createElement("li");
  const kappa = one.kappa === null ? "κ undefined" : `κ ${one.kappa.toFixed(2)}`;
  item.append(made("span", one.people.join(" and ")), made("span", `agree on ${one.agreed} of ${one.images}, ${kappa}`));
  return item;
}

// Keys, buttons, the name --------------------------------------------------------------------------------------------

const KEYS = {
  ...(pairs ? { s: (e) => answer("yes", e), d: (e) => answer("no", e) } : { y: (e) => answer("yes", e), n: (e) => answer("no", e) }),
  ...Object.fromEntries([...Array(9).keys()].map((place) => [String(place + 1), () => many() && mark(place)])),
  ...(pairs && Object.fromEntries(WAYS.map((way, place) => [String(place + 1), () => setView({ way })]))),
  u: (e) => answer("unsure", e),
  arrowright: (e) => (many() ? move("arrowright") : answer("yes", e)),
  arrowleft: (e) => (many() ? move("arrowleft") : answer("no", e)),
  arrowdown: (e) => (many() ? move("arrowdown") : answer("unsure", e)),
  arrowup: () => many() && move("arrowup"),
  enter: (e) => answerAll(e),
  m: () => pairs || setView({ grid: grid.SIZES[(grid.SIZES.indexOf(view.grid) + 1) % grid.SIZES.length] }),
  z: undo,
  backspace: undo,
  " ": reveal,
  b: () => setView({ veil: !view.veil }),
  g: () => setView({ grey: !view.grey }),
  "+": () => setView({ size: view.size + 10 }),
  "=": () => setView({ size: view.size + 10 }),
  "-": () => setView({ size: view.size - 10 }),
};

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox]), textarea, select");
  const pressing = [" ", "Enter"].includes(event.key) && event.target.closest?.("button, input, summary");
  // A key that is held down must not answer many images.
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || typing || pressing || $("work").hidden) return;
  const act = KEYS[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act(event);
});

for (const kind of ["yes", "no", "unsure"])
  $(kind).addEventListener("click", (event) => {
    answer(kind, event);
    // Otherwise Space would press the button again instead of showing the next image.
    if (event.detail) event.currentTarget.blur();
  });
$("undo").addEventListener("click", (event) => {
  undo();
  if (event.detail) event.currentTarget.blur();
});
$("all").addEventListener("click", (event) => {
  answerAll(event);
  if (event.detail) event.currentTarget.blur();
});
$("stage").addEventListener("click", (event) => {
  const cell = event.target.closest(".cell");
  if (!many() || veiled()) reveal();
  else if (cell) mark(Number(cell.dataset.place));
});
$("grid")?.addEventListener("change", (event) => {
  setView({ grid: Number(event.target.value) });
  event.target.blur();
});
for (const way of pairs ? WAYS : [])
  $(way).addEventListener("click", (event) => {
    setView({ way });
    if (event.detail) event.currentTarget.blur();
  });
$("veil").addEventListener("change", (event) => setView({ veil: event.target.checked }));
$("grey").addEventListener("change", (event) => setView({ grey: event.target.checked }));
$("size").addEventListener("input", (event) => setView({ size: Number(event.target.value) }));
for (const id of ["veil", "grey", "size"]) $(id).addEventListener("pointerup", (event) => setTimeout(() => event.target.blur()));
addEventListener("resize", draw);
addEventListener("pagehide", () => {
  if (page.name) navigator.sendBeacon(address("leave"), JSON.stringify({ name: page.name }));
});
addEventListener("pageshow", (event) => event.persisted && again());

$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  if (name) start(name);
});
$("person").addEventListener("click", async () => {
  if (page.outbox.length) return;
  await request("leave", { name: page.name }).catch(() => {});
  clearTimeout(page.waiting);
  Object.assign(page, { name: "", screen: [], ahead: [], past: [], rejected: 0, dry: false, loading: 0, elsewhere: 0, reported: false });
  askName();
});

function askName() {
  $("work").hidden = true;
  $("who").hidden = false;
  $("person").textContent = "";
  $("saved").textContent = "";
  $("name").focus();
}

function start(name) {
  page.name = name;
  store("name", name);
  page.outbox = stored(outboxKey(), []);
  $("who").hidden = true;
  $("work").hidden = false;
  $("person").textContent = name;
  $("person").title = "Switch to another person";
  document.querySelector("details")?.toggleAttribute("open", !matchMedia("(max-width: 900px)").matches);
  setView({});
  exchange();
}

const name = new URLSearchParams(location.search).get("name")?.trim() || stored("name", "");
if (name) start(name.slice(0, 80));
else askName();
