"use strict";
const byId = (id) => document.getElementById(id);
const page = document.body.dataset.page;

/* Times: relative, with the absolute time in the tooltip. All of them refer to one clock, that of
   the API server, which may differ from the local one, and change at its whole seconds. */
let ahead = 0;
function setClock(now) { ahead = now - Date.now(); }
function present() { return Date.now() + ahead; }
setClock(Number(document.body.dataset.now));
/* The same as span in plugin/report/formatting.py. */
function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  for (const [unit, size, below, part] of [["d", 86400, "h", 3600], ["h", 3600, "m", 60]]) {
    if (s >= size) {
      const rest = Math.floor((s % size) / part);
      return `${Math.floor(s / size)}${unit}${rest ? rest + below : ""}`;
    }
  }
  const m = Math.floor(s / 60);
  return m ? `${m}m${s % 60 ? (s % 60) + "s" : ""}` : `${s}s`;
}
/* The same as Moment.text there. The times are in milliseconds. */
function written(exact, mode, now) {
  const [time, second] = [exact, now].map((one) => Math.floor(one / 1000) * 1000);
  const past = (second - time) / 1000;
  if (mode === "ago") return `${span(past)} ago`;
  if (mode === "for") return span(past);
  if (mode === "about" && past >= 0) return "any moment now";
  const [day, today] = [time, second].map((one) => new Date(one).toISOString().slice(0, 10));
  const clock = (day === today ? "" : `${day} `) + new Date(time).toISOString().slice(11, 19) + "Z";
  return `${mode === "about" ? "at about " : ""}${clock}, ${past < 0 ? `in ${span(-past)}` : "which has passed"}`;
}
function showTimes() {
  const now = present();
  for (const one of document.querySelectorAll("[data-mode]")) {
    const absolute = one.dateTime || one.dataset.time, time = Date.parse(absolute);
    if (Number.isNaN(time)) continue;
    const text = written(time, one.dataset.mode, now);
    if (one.textContent !== text) one.textContent = text;
    if (one.dateTime) one.title = absolute;
  }
}
/* Shows the times now and at each whole second. */
function keepTimes() {
  showTimes();
  setTimeout(keepTimes, 1001 - (present() % 1000));
}

/* In milliseconds. */
const endless = 600 * 1000;
/* A change that arrives must not move the page. */
const keep = { preventScroll: true };

/* The stream of changes. The browser reconnects by itself. A browser opens six connections to a
   host at most, so only visible tabs have one. */
function connect(handle) {
  const connection = byId("connection");
  let stream = null, last = "", again = false;
  const open = () => {
    const address = new URL(document.body.dataset.stream, location.href);
    if (again) address.searchParams.delete("seen");
    again = true;
    if (last) address.searchParams.set("since", last);
    stream = new EventSource(address);
    stream.onopen = () => { connection.textContent = "live"; connection.className = "quiet live"; };
    stream.onerror = () => { connection.textContent = "not connected: is kubectl initpipeline dashboard still running?"; connection.className = "bad"; };
    stream.onmessage = (event) => {
      const message = JSON.parse(event.data);
      last = event.lastEventId;
      setClock(message.now);
      handle(message);
      showTimes();
    };
  };
  const follow = () => {
    if (document.hidden) { stream?.close(); stream = null; connection.textContent = "paused"; } else if (!stream) open();
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}
function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

/* The list */
const filters = ["text", "namespace", "summary", "reason"];
function startList() {
  const rows = byId("rows");
  const known = new Map([...rows.children].map((row) => [row.dataset.key, row]));
  const place = (row) => {
    let low = 0, high = rows.children.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows.children[middle].dataset.order < row.dataset.order) low = middle + 1; else high = middle;
    }
    rows.insertBefore(row, rows.children[low] || null);
  };
  const options = () => {
    for (const name of ["namespace", "summary", "reason"]) {
      const counts = new Map();
      for (const row of known.values()) counts.set(row.dataset[name], (counts.get(row.dataset[name]) || 0) + 1);
      const select = byId(name), chosen = select.value;
      if (chosen && !counts.has(chosen)) counts.set(chosen, 0);
      select.replaceChildren(new Option("all", ""), ...[...counts].filter(([value]) => value).sort().map(([value, count]) => new Option(`${value} (${count})`, value)));
      select.value = chosen;
    }
  };
  /* Nothing else shows whether a step without a timeout hangs. */
  const attention = () => {
    const all = [...rows.children], bad = all.filter((row) => row.dataset.tone === "bad").length;
    const late = all.filter((row) => present() - Date.parse(row.dataset.endless) > endless);
    const which = late.length > 1 ? `${late[0].dataset.key} and ${late.length - 1} more have` : `${late[0]?.dataset.key} has`;
    const text = known.size ? `${bad || "None"} of ${known.size} ${bad > 1 ? "need" : "needs"} attention.` : "";
    const more = late.length ? ` ${which} run a step without a timeout for more than ten minutes.` : "";
    if (byId("attention").textContent !== text + more) byId("attention").textContent = text + more;
  };
  setInterval(attention, 5000);
  /* The order of urgency is that of the rows. */
  const chips = () => {
    const counts = new Map();
    for (const row of rows.children) {
      const of = counts.get(row.dataset.summary) || { count: 0, tone: row.dataset.tone };
      of.count += 1;
      counts.set(row.dataset.summary, of);
    }
    attention();
    const focused = document.activeElement?.dataset?.summary;
    byId("chips").replaceChildren(...[...counts].map(([summary, { count, tone }]) => {
      const chip = Object.assign(document.createElement("button"), { type: "button" });
      chip.dataset.summary = summary;
      chip.ariaPressed = String(byId("summary").value === summary);
      const name = Object.assign(document.createElement("span"), { className: tone, textContent: summary });
      chip.append(name, Object.assign(document.createElement("b"), { textContent: count }));
      return chip;
    }));
    if (focused) byId("chips").querySelector(`[data-summary="${CSS.escape(focused)}"]`)?.focus();
  };
  byId("chips").addEventListener("click", (event) => {
    const chip = event.target.closest("button");
    if (!chip) return;
    byId("summary").value = byId("summary").value === chip.dataset.summary ? "" : chip.dataset.summary;
    remember();
  });
  const apply = () => {
    chips();
    const [text, namespace, summary, reason] = filters.map((name) => byId(name).value);
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of known.values()) {
      const of = row.dataset;
      const visible = (!namespace || of.namespace === namespace) && (!summary || of.summary === summary) && (!reason || of.reason === reason) && words.every((word) => of.text.includes(word));
      if (row.hidden === visible) row.hidden = !visible;
      shown += visible;
    }
    byId("counts").textContent = `${shown} of ${known.size}`;
    const empty = byId("empty");
    empty.hidden = shown > 0;
    empty.textContent = known.size ? "No InitPipeline matches these filters." : "There are no InitPipelines here. kubectl initpipeline dashboard -A shows all namespaces.";
  };
  const remember = () => {
    const query = new URLSearchParams(filters.map((name) => [name, byId(name).value]).filter(([, value]) => value));
    history.replaceState(null, "", query.size ? `/?${query}` : "/");
    apply();
  };
  options();
  const query = new URLSearchParams(location.search);
  for (const name of filters) {
    const value = query.get(name) || "", field = byId(name);
    if (value && field.tagName === "SELECT" && ![...field.options].some((one) => one.value === value)) field.add(new Option(value, value));
    field.value = value;
    field.addEventListener("input", remember);
  }
  const more = byId("more");
  const expand = (on) => { more.ariaExpanded = String(on); };
  more.addEventListener("click", () => expand(more.ariaExpanded !== "true"));
  expand(filters.some((name) => name !== "text" && byId(name).value));
  byId("filters").addEventListener("submit", (event) => { event.preventDefault(); step(1); });
  apply();
  connect((message) => {
    if (message.reload) { location.reload(); return; }
    if (message.problems !== undefined) byId("problems").innerHTML = message.problems;
    for (const key of message.gone || []) { known.get(key)?.remove(); known.delete(key); }
    for (const { key, html } of message.rows || []) {
      const row = fragment(html).firstElementChild, before = known.get(key);
      const focused = before?.contains(document.activeElement);
      before?.remove();
      row.classList.add("updated");
      known.set(key, row);
      place(row);
      if (focused) row.querySelector("a").focus(keep);
    }
    options();
    apply();
  });
}

/* A pipeline */
const focusable = "a,button,summary,[tabindex]";
/* Identifies a control in a part that is replaced. */
const nameOf = (one) => one.getAttribute("href") || one.dataset.action || one.parentElement.id || one.getAttribute("aria-label") || one.textContent;
function startPipeline() {
  const run = /\/run\/(\d+)$/.exec(location.pathname);
  const open = () => {
    const target = run && byId(`run-${run[1]}`);
    if (!target) return;
    target.classList.add("target");
    target.querySelector("details").open = true;
  };
  const announce = () => {
    const said = document.querySelector(".announced")?.textContent.trim() || "";
    if (byId("announcement").textContent !== said) byId("announcement").textContent = said;
  };
  open();
  (run && byId(`run-${run[1]}`))?.scrollIntoView();
  const zoom = (on) => {
    document.querySelector(".timeline")?.classList.toggle("zoomed", on);
    const button = document.querySelector("[data-zoom]");
    if (button) button.ariaPressed = String(on);
  };
  connect((message) => {
    for (const [name, html] of Object.entries(message.parts || {})) {
      const part = byId(`part-${name}`);
      if (!part) continue;
      const opened = [...part.querySelectorAll("details[open]")].map((one) => one.id);
      const zoomed = part.querySelector(".zoomed"), left = part.querySelector(".timeline")?.scrollLeft;
      const focused = part.contains(document.activeElement) ? nameOf(document.activeElement) : null;
      part.innerHTML = html;
      if (name === "head") announce();
      for (const id of opened) { const one = byId(id); if (one) one.open = true; }
      if (zoomed) { zoom(true); part.querySelector(".timeline").scrollLeft = left; }
      if (focused !== null) {
        const again = [...part.querySelectorAll(focusable)];
        /* Resume takes the place of Suspend. */
        (again.find((one) => nameOf(one) === focused) || again.at(-1))?.focus(keep);
      }
      if (name === "history") open();
    }
    const edit = byId("edit");
    if (edit) edit.hidden = !byId("part-steps").textContent.trim();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-zoom]");
    if (button) zoom(button.ariaPressed !== "true");
    const action = event.target.closest("[data-action]");
    if (action) ask(action.dataset.action);
  });
  if (byId("edit")) startEdit();
}
function startEdit() {
  const [, namespace, name] = location.pathname.split("/");
  const spec = byId("edit-spec"), result = byId("edit-result");
  const load = async () => { spec.value = await (await fetch(`/-/spec/${namespace}/${name}`)).text(); result.hidden = true; };
  byId("edit-details").addEventListener("toggle", () => { if (byId("edit-details").open && !byId("edit").hidden && !spec.value) load(); });
  byId("edit-reset").addEventListener("click", load);
  byId("edit-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    result.hidden = false;
    result.textContent = "asking the API server ...";
    const body = await post(`/-/plan/${namespace}/${name}`, spec.value);
    result.textContent = body.error ? `error: ${body.error}` : body.lines.join("\n");
  });
}
/* Returns what the server answers to a request that may change something. */
async function post(address, content) {
  const csrf = document.querySelector("meta[name=csrf]").content;
  try {
    const answer = await fetch(address, { method: "POST", body: content, headers: { "X-InitPipeline-CSRF": csrf } });
    return answer.headers.get("Content-Type").startsWith("application/json") ? await answer.json() : { error: await answer.text() };
  } catch { return { error: "the dashboard does not answer: is kubectl initpipeline dashboard still running?" }; }
}
async function ask(action) {
  const [, namespace, name] = location.pathname.split("/");
  const path = `${namespace}/${name}/${action}`;
  const answer = await fetch(`/-/preview/${path}`);
  byId("confirm-title").textContent = `${action[0].toUpperCase()}${action.slice(1)} ${name}?`;
  const effects = byId("confirm-effects");
  if (answer.ok) effects.innerHTML = (await answer.json()).html; else effects.textContent = await answer.text();
  showTimes();
  const yes = byId("confirm-yes");
  yes.textContent = action[0].toUpperCase() + action.slice(1);
  yes.onclick = async () => {
    byId("confirm").close();
    const body = await post(`/-/action/${path}`);
    byId("result").textContent = body.error ? `Not done: ${body.error}` : `${name}: ${body.done}`;
    setTimeout(() => { byId("result").textContent = ""; }, 8000);
  };
  byId("confirm").showModal();
}

/* A log */
const KEPT = 20000;
function startLog() {
  const log = byId("log"), search = byId("text");
  let word = "", found = 0, rest = "", drawn = null;
  const fill = (line) => {
    const text = line.dataset.line, at = word ? text.toLowerCase().indexOf(word) : -1;
    if (at < 0) { line.textContent = text + "\n"; return; }
    found += 1;
    const mark = document.createElement("mark");
    mark.textContent = text.slice(at, at + word.length);
    line.replaceChildren(text.slice(0, at), mark, text.slice(at + word.length) + "\n");
  };
  const count = () => { byId("counts").textContent = !word ? "" : found === 1 ? "1 line matches" : `${found || "no"} lines match`; };
  /* Each connection has the log from its beginning, after a line with its identity, which starts
     with a control character. Lines that are shown already are skipped. */
  let identity = "", seen = 0, position = -1;
  const accept = (line) => {
    if (line.startsWith("\x1e")) {
      const again = identity && line !== identity;
      if (line !== identity) seen = 0;
      identity = line; position = 0;
      return again ? ["[the log starts again: a newer attempt runs, or the kubelet has rotated the file]"] : [];
    }
    if (position >= 0 && ++position <= seen) return [];
    if (position >= 0) seen = position;
    return [line];
  };
  const add = (text) => {
    const received = (rest + text).split("\n");
    rest = received.pop();
    const lines = received.flatMap(accept);
    const made = document.createDocumentFragment();
    for (const text of lines) { const line = document.createElement("span"); line.dataset.line = text; fill(line); made.append(line); }
    drawn?.remove();
    log.append(made);
    if (rest && position >= seen) { drawn = document.createElement("span"); drawn.textContent = rest; log.append(drawn); } else drawn = null;
    while (log.childElementCount > KEPT) log.firstChild.remove();
    if (byId("follow").checked) log.scrollTop = log.scrollHeight;
    count();
  };
  search.addEventListener("input", () => {
    word = search.value.toLowerCase(); found = 0;
    for (const line of log.children) if (line.dataset.line !== undefined) fill(line);
    count();
    log.querySelector("mark")?.scrollIntoView({ block: "center" });
  });
  search.form.addEventListener("submit", (event) => event.preventDefault());
  const connection = byId("connection");
  let reading = null;
  const read = async () => {
    const own = reading = new AbortController();
    rest = ""; position = -1;
    try {
      const answer = await fetch(log.dataset.source, { signal: own.signal }), reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      connection.textContent = "live"; connection.className = "quiet live";
      for (;;) { const { done, value } = await reader.read(); if (own.signal.aborted) return; if (done) break; add(value); }
      connection.textContent = log.childElementCount ? "end of the log" : "no output"; connection.className = "quiet";
      document.removeEventListener("visibilitychange", follow);
    } catch {
      if (own.signal.aborted) return;
      connection.textContent = "the log was interrupted: reload the page"; connection.className = "bad";
    }
  };
  const follow = () => {
    if (document.hidden) { reading?.abort(); reading = null; connection.textContent = "paused"; } else if (!reading) read();
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}

/* Focuses the next or previous visible row. */
function step(by) {
  const links = [...byId("rows").querySelectorAll(".row:not([hidden]) a")];
  const at = links.indexOf(document.activeElement);
  links[Math.min(links.length - 1, Math.max(0, at + by))]?.focus();
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input,select,textarea,dialog")) return;
  if (event.key === "/" && byId("text")) { event.preventDefault(); byId("text").focus(); }
  if (event.key === "?") byId("help").showModal();
  if (event.key === "l") location.assign("/");
  if ((event.key === "j" || event.key === "k") && page === "list") step(event.key === "j" ? 1 : -1);
});
byId("help-button").addEventListener("click", () => byId("help").showModal());
for (const one of document.querySelectorAll("[data-close]")) one.addEventListener("click", () => one.closest("dialog").close());
keepTimes();
/* Links of the form #/namespace/name/run/3 work on each page. */
function followFragment() { if (/^#\/[^/]/.test(location.hash)) location.replace(location.hash.slice(1)); }
window.addEventListener("hashchange", followFragment);
followFragment();
({ list: startList, pipeline: startPipeline, log: startLog })[page]?.();
