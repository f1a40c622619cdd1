"use strict";
// Captions, names and speech are untrusted: they enter the document by textContent only.

const main = document.getElementById("main");
const SVG = "http://www.w3.org/2000/svg";
let turn = 0; // counts the pages that were opened: late answers of an older one are dropped
let overview = null;

function el(name, options = {}, ...children) {
  const { text, on = {}, style, ...attributes } = options;
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  for (const [kind, action] of Object.entries(on)) node.addEventListener(kind, action);
  Object.assign(node.style, style); // by the object model: the page's policy allows no style attributes
  if (text !== undefined && text !== null) node.textContent = text;
  node.append(...children.filter((child) => child !== null));
  return node;
}
function svg(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
async function ask(path, parameters = {}) {
  const answer = await fetch(`/api/${path}?${new URLSearchParams(parameters)}`);
  if (!answer.ok) throw new Error((await answer.text()).slice(0, 300));
  return answer.json();
}
function say(text) { document.getElementById("message").textContent = text; }
function show(...nodes) { main.replaceChildren(...nodes); }
const clock = (s) => s === null ? "" : `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;
const nameOf = (uri) => { try { return decodeURIComponent(uri.split("/").pop()); } catch { return uri.split("/").pop(); } };
const number = (n) => n.toLocaleString("en");
const videoLink = (id, text, time) => el("a", { href: `#/video?id=${id}${time === undefined ? "" : `&t=${time}`}`, dir: "auto", text });

function table(head, rows) {
  return el("div", { class: "wide" }, el("table", {},
    el("thead", {}, el("tr", {}, ...head.map((text, index) => el("th", { scope: "col", class: typeof rows[0]?.[index] === "number" ? "num" : null, text })))),
    el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells.map((cell) =>
      cell instanceof Node ? el("td", {}, cell) : typeof cell === "number" ? el("td", { class: "num", text: number(cell) }) : el("td", { dir: "auto", text: cell ?? "" })))))));
}

// A list of which one page is loaded at a time.
function paged(load, draw) {
  const place = el("div"), step = 50;
  async function page(offset) {
    const mine = turn, { total, rows } = await load(offset, step);
    if (mine !== turn) return;
    const go = (text, to, possible) => el("button", { type: "button", text, disabled: !possible, on: { click: () => page(to).catch((error) => say(error.message)) } });
    place.replaceChildren(el("p", { class: "soft", role: "status", text: total ? `${number(offset + 1)} to ${number(offset + rows.length)} of ${number(total)}` : "none" }), draw(rows),
      ...(total > step ? [el("p", {}, go("Earlier", Math.max(0, offset - step), offset > 0), " ", go("Later", offset + step, offset + step < total))] : []));
  }
  return { place, page };
}

const pages = {
  async "/"() {
    const { rows, videos, matched, rejects, progress, status, stages } = overview = await ask("overview");
    const tile = (name, value, more) => el("div", {}, el("dt", { text: name }), el("dd", { text: number(value) }, more ? el("small", { text: ` ${more}` }) : null));
    show(
      ...(status === "done" ? [] : [el("h2", { text: `Run: ${status}` }), el("pre", { text: progress ?? "" })]),
      el("h2", { text: "From input to dataset" }),
      el("dl", { class: "tiles" }, tile("videos", rows.videos, Object.entries(videos).map(([name, n]) => `${number(n)} ${name}`).join(", ")), tile("clips", rows.clips), tile("actions", rows.actions, `${number(matched)} matched`), tile("matches", rows.matches), tile("narratives", rows.narratives), tile("dropped", rows.rejects)),
      el("h2", { text: "What was dropped" }),
      table(["What", "Stage", "Reason", "Number"], rejects.map(({ kind, stage, reason, count }) => [kind, stage, el("a", { href: `#/rejects?${new URLSearchParams({ kind, stage, reason })}`, text: reason }), count])),
      el("h2", { text: "Stages" }),
      table(["Stage", "Seconds", "Measured", "Remembered", "Rejected", "Failed"], Object.entries(stages).map(([name, f]) => [name, Math.round(f.seconds * 10) / 10, f.measured ?? 0, f.remembered ?? 0, f.rejected ?? 0, f.failed ?? 0])),
    );
    if (status === "running") { const mine = turn; setTimeout(() => { if (mine === turn) open(); }, 5000); }
  },

  async "/videos"(asked) {
    const text = el("input", { value: asked.get("text") ?? "", type: "search" });
    const status = el("select", {}, ...["", "kept", "rejected", "duplicate", "failed"].map((name) => el("option", { value: name, text: name || "any", selected: name === (asked.get("status") ?? "") })));
    const list = paged((offset, limit) => ask("videos", { text: text.value, status: status.value, offset, limit }), (rows) =>
      table(["File", "Title", "Status", "Length", "Clips", "Actions", "Matches"], rows.map((row) => [videoLink(row.video_id, nameOf(row.uri)), row.title, row.status, clock(row.duration_s), row.num_clips, row.num_actions, row.num_matches])));
    const again = () => list.page(0).catch((error) => say(error.message));
    status.addEventListener("change", again);
    show(el("h2", { text: "Videos" }), el("form", { on: { submit: (event) => { event.preventDefault(); again(); } } }, el("label", { text: "Name or title" }, text), el("label", { text: "Status" }, status), el("button", { text: "Filter" })), list.place);
    await list.page(0);
  },

  async "/rejects"(asked) {
    const [kind, stage, reason] = ["kind", "stage", "reason"].map((name) => asked.get(name) ?? "");
    const list = paged((offset, limit) => ask("rejects", { kind, stage, reason, offset, limit }), (rows) =>
      table(["Video", "Time", "Why"], rows.map((row) => [row.video_id ? videoLink(row.video_id, nameOf(row.uri ?? row.video_id), row.start_s ?? 0) : nameOf(row.uri ?? ""), row.start_s === null ? "" : `${clock(row.start_s)} to ${clock(row.end_s)}`, evidence(row)])));
    show(el("h2", { text: `Dropped ${kind}s: ${stage}, ${reason}` }), list.place);
    await list.page(0);
  },

  async "/search"(asked) {
    const text = el("input", { type: "search", value: asked.get("text") ?? "", required: true });
    const places = el("div");
    async function again() {
      const part = (name, column) => paged((offset, limit) => ask("search", { text: text.value, offset, limit }).then((found) => found[name]), (rows) =>
        table(["Video", "Time", "Text"], rows.map((row) => [videoLink(row.video_id, row.video_id, row.start_s), `${clock(row.start_s)} to ${clock(row.end_s)}`, row[column]])));
      const clips = part("clips", "caption"), actions = part("actions", "text");
      places.replaceChildren(el("h2", { text: "Captions" }), clips.place, el("h2", { text: "Actions" }), actions.place);
      await Promise.all([clips.page(0), actions.page(0)]);
    }
    show(el("h2", { text: "Search in captions and actions" }), el("form", { on: { submit: (event) => { event.preventDefault(); again().catch((error) => say(error.message)); } } }, el("label", { text: "Text" }, text), el("button", { text: "Search" })), places);
    text.focus();
    if (text.value) await again();
  },

  async "/video"(asked) { await videoPage(asked.get("id") ?? "", Number(asked.get("t") ?? 0)); },
  async "/tune"() { await tunePage(); },

  async "/compare"() {
    const list = paged((offset, limit) => ask("compare", { offset, limit }), (rows) =>
      table(["What", "Video", "Time", `In ${overview.against}`, `In ${overview.output}`], rows.map((row) => [{ lost: "lost", gained: "gained", captions: "caption" }[row.kind], videoLink(row.video_id, row.video_id, row.start_s), `${clock(row.start_s)} to ${clock(row.end_s)}`, row.old ?? row.why, row.new ?? row.why])));
    const { counts, settings } = await ask("compare", { limit: 1 });
    show(el("h2", { text: `${overview.output} compared with ${overview.against}` }),
      el("p", { text: `${number(counts.gained)} clips gained, ${number(counts.lost)} lost, ${number(counts.captions)} captioned otherwise.` }),
      table(["Threshold", overview.against, overview.output], Object.entries(settings).map(([name, [old, now]]) => [name, String(old), String(now)])), list.place);
    await list.page(0);
  },
};

// Words of a reject, and for an overlay the frame with its box.
function evidence(row) {
  const cell = el("div", {}, el("span", { dir: "auto", text: row.detail }));
  const box = /box \(([0-9.]+), ([0-9.]+), ([0-9.]+), ([0-9.]+)\)/.exec(row.detail);
  if (row.video_id && (box || row.kind === "clip")) {
    const time = Math.round(((row.start_s ?? 0) + (row.end_s ?? row.start_s ?? 0)) * 500);
    const image = el("img", { src: `/frames/${row.video_id}/${time}`, alt: "frame of what was dropped", loading: "lazy", on: { error: (event) => explain(event.target) } });
    const place = el("div", { class: "evidence" }, image);
    if (box) {
      const [left, top, right, bottom] = box.slice(1).map(Number);
      place.append(svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { x: left, y: top, width: right - left, height: bottom - top })));
    }
    cell.append(el("br"), place);
  }
  return cell;
}

// In place of a picture that cannot be shown, the reason in the server's words.
async function explain(image) {
  const answer = await fetch(image.src).catch(() => null);
  const reason = answer && answer.status === 404 ? await answer.text() : "the server does not answer";
  image.parentElement.replaceChildren(el("span", { class: "soft", text: `No picture: ${reason}.` }));
}

const colour = (iou) => `hsl(${Math.round(120 * Math.min(1, iou / 0.7))} 70% 42%)`;

async function videoPage(id, time) {
  const mine = turn, found = await ask("video", { id });
  if (mine !== turn) return;
  const { video, clips, actions, matches, rejects, narratives, missing } = found, playable = missing === null;
  const ends = [...clips, ...actions, ...rejects].map((row) => row.end_s ?? 0);
  const extent = Math.max(video.duration_s ?? 0, ...ends, 0.1);
  const player = playable ? el("video", { controls: true, preload: "metadata", src: `/media/${id}` }) : el("p", { class: "soft", text: `Not playable here: ${missing}.` });
  const places = [], at = (s) => 100 * s / extent;
  const seek = (s) => { if (playable) player.currentTime = s; cursor(s); };
  function cursor(s) {
    for (const place of places) place.style.left = `${at(s)}%`;
    for (const row of lines.querySelectorAll("tbody tr")) row.classList.toggle("now", s >= row.dataset.start && s < row.dataset.end);
  }
  function lane(name, items) {
    const needle = el("i");
    places.push(needle);
    return el("div", { class: "lane" }, el("span", { text: name }), el("div", { class: "track", role: "group", "aria-label": name },
      ...items.map(({ start, end, text, look, fill }) => {
        const label = `${clock(start)} to ${clock(end)}: ${text}`;
        return el("button", { type: "button", class: look ?? "", title: label.slice(0, 400), "aria-label": label.slice(0, 400), style: { left: `${at(start)}%`, width: `${at(end - start)}%`, ...(fill ? { background: fill } : {}) }, on: { click: () => seek(start) } });
      }), needle));
  }
  const best = new Map();
  for (const pair of matches) for (const key of [pair.clip_id, pair.action_id]) best.set(key, Math.max(best.get(key) ?? 0, pair.iou));
  const dropped = (kind) => rejects.filter((row) => row.kind === kind && row.start_s !== null).map((row) => ({ start: row.start_s, end: row.end_s, text: `dropped by ${row.stage}, ${row.reason}: ${row.detail}`, look: "dropped" }));
  const shots = (video.shot_starts_s ?? []).map((start, index, all) => ({ start, end: all[index + 1] ?? extent, text: `shot ${index + 1}`, look: "hollow" }));
  const middles = new Map([...clips.map((row) => [row.clip_id, row]), ...actions.map((row) => [row.action_id, row])].map(([key, row]) => [key, 1000 * (row.start_s + row.end_s) / 2 / extent]));
  const pairs = svg("svg", { class: "pairs", viewBox: "0 0 1000 34", preserveAspectRatio: "none", role: "img", "aria-label": `${matches.length} matches` }, ...matches.map((pair) => svg("line", { x1: middles.get(pair.clip_id), y1: 0, x2: middles.get(pair.action_id), y2: 34, stroke: colour(pair.iou) }, Object.assign(document.createElementNS(SVG, "title"), { textContent: `IoU ${pair.iou.toFixed(3)}, starts ${pair.start_diff_s.toFixed(2)} s apart, by ${pair.rule}` }))));
  const spoken = actions.filter((row) => row.asr_text);
  const row = (each, ...cells) => { const line = el("tr", { "data-start": each.start_s, "data-end": each.end_s }); line.append(el("td", {}, el("button", { type: "button", text: clock(each.start_s), "aria-label": `play from ${clock(each.start_s)}`, on: { click: () => seek(each.start_s) } })), ...cells.map((text) => el("td", { dir: "auto", text }))); return line; };
  const iou = (key) => best.has(key) ? best.get(key).toFixed(2) : "";
  const lines = el("div", { class: "wide" }, el("table", {}, el("thead", {}, el("tr", {}, ...["Start", "What", "Text", "Best IoU"].map((text) => el("th", { scope: "col", text })))), el("tbody", {}, ...clips.map((each) => row(each, "clip", each.caption ?? "no caption", iou(each.clip_id))), ...actions.map((each) => row(each, "action", each.text, iou(each.action_id))))));
  show(el("h2", { dir: "auto", text: `${nameOf(video.uri)} – ${video.status}` }),
    el("p", { class: "soft", dir: "auto", text: [narratives[0]?.title, clock(video.duration_s), video.width_px && `${video.width_px} x ${video.height_px}`, video.video_codec, video.language].filter(Boolean).join(", ") }),
    ...rejects.filter((each) => each.kind === "file").map((each) => el("div", {}, el("p", { text: `Dropped by ${each.stage}: ${each.reason}` }), evidence({ ...each, start_s: each.start_s ?? 0 }))),
    player, lane("shots", shots), lane("clips", [...dropped("clip"), ...clips.map((each) => ({ start: each.start_s, end: each.end_s, text: each.caption ?? "", fill: best.has(each.clip_id) ? colour(best.get(each.clip_id)) : null }))]),
    el("div", { class: "lane" }, el("span", { text: "matches" }), pairs),
    lane("actions", [...dropped("action"), ...actions.map((each) => ({ start: each.start_s, end: each.end_s, text: each.text, look: each.matched ? "" : "hollow", fill: best.has(each.action_id) ? colour(best.get(each.action_id)) : null }))]),
    lane("speech", spoken.map((each) => ({ start: each.start_s, end: each.end_s, text: each.asr_text, look: "hollow" }))),
    el("p", { class: "legend soft", text: "IoU of matches:" }, ...[0.1, 0.3, 0.5, 0.7].flatMap((value) => [el("b", { style: { background: colour(value) } }), String(value)]), el("b", { style: { background: "var(--drop)" } }), "dropped"),
    el("h2", { text: "Clips and actions" }), lines,
    el("h2", { text: "Dropped" }), table(["What", "Time", "Why"], rejects.map((each) => [`${each.kind}: ${each.stage}, ${each.reason}`, each.start_s === null ? "" : `${clock(each.start_s)} to ${clock(each.end_s)}`, each.detail])));
  if (playable) {
    player.addEventListener("timeupdate", () => cursor(player.currentTime));
    if (time) player.addEventListener("loadedmetadata", () => seek(time), { once: true });
  }
  cursor(time);
}

async function tunePage() {
  const mine = turn, [histograms, before] = await Promise.all([ask("histograms"), ask("what-if")]);
  overview ??= await ask("overview");
  if (mine !== turn) return;
  const chosen = { ...overview.settings }, given = overview.settings;
  const counts = el("div", { role: "status" }), command = el("pre", { tabindex: 0 });
  let asked = 0;
  async function recount() {
    const own = ++asked, changed = Object.entries(chosen).filter(([name, value]) => value !== given[name]);
    command.textContent = changed.length ? changed.map(([name, value]) => `--set ${name}=${value ?? "null"}`).join(" ") : "(the run's own thresholds)";
    const now = await ask("what-if", Object.fromEntries(changed.map(([name, value]) => [name, value ?? "null"])));
    if (own !== asked || mine !== turn) return;
    const rows = [["videos with a match", "videos"], ["clips above the scores", "clips"], ["of these, with an action", "matched_clips"], ["pairs", "pairs"], ["actions with a clip", "matched_actions"], ["seconds in these clips", "seconds"]];
    counts.replaceChildren(table(["Count", "this run's thresholds", "chosen", "difference"], rows.map(([text, key]) => [text, Math.round(before[key]), Math.round(now[key]), Math.round(now[key] - before[key])])));
  }
  function slider(name, top, step, drawing) {
    const input = el("input", { type: "range", min: 0, max: top, step, value: chosen[name] ?? 1, id: name });
    const shown = el("output", { for: name, text: String(chosen[name] ?? "off") });
    input.addEventListener("input", () => {
      chosen[name] = Number(input.value);
      shown.textContent = input.value;
      drawing?.lastElementChild?.setAttribute("x1", 1000 * chosen[name] / top);
      drawing?.lastElementChild?.setAttribute("x2", 1000 * chosen[name] / top);
      recount().catch((error) => say(error.message));
    });
    return el("div", {}, el("label", { for: name, text: `${name} ` }, shown), drawing ?? null, input);
  }
  function histogram({ kept, dropped, top, threshold }) {
    const most = Math.max(1, ...kept.map((n, i) => n + dropped[i])), width = 1000 / kept.length;
    const bars = kept.flatMap((n, i) => [["kept", n, 0], ["dropped", dropped[i], n]].map(([look, count, under]) => svg("rect", { class: look, x: i * width, width: width - 2, y: 60 - 60 * (count + under) / most, height: 60 * count / most })));
    return svg("svg", { viewBox: "0 0 1000 60", preserveAspectRatio: "none", role: "img", "aria-label": "histogram of kept and dropped clips" }, ...bars, svg("line", { x1: 1000 * threshold / top, x2: 1000 * threshold / top, y1: 0, y2: 60 }));
  }
  const off = el("input", { type: "checkbox", checked: chosen["match.sufficient_iou"] === null, on: { change: (event) => { chosen["match.sufficient_iou"] = event.target.checked ? null : Number(document.getElementById("match.sufficient_iou").value); recount().catch((error) => say(error.message)); } } });
  show(el("h2", { text: "What would pass" }),
    el("p", { class: "soft", text: "Counted from the stored times and scores. A clip that a later stage would drop (no caption, off topic) is counted as kept." }), counts, el("h2", { text: "To make it so" }), command, el("h2", { text: "Matching rule" }),
    el("div", { class: "sliders" }, slider("match.max_start_diff_s", 20, 0.5), slider("match.min_iou", 1, 0.01), el("div", {}, slider("match.sufficient_iou", 1, 0.01), el("label", { class: "beside" }, off, "no overlap is sufficient by itself"))),
    el("h2", { text: "Scores of clips" }), el("p", { class: "legend soft" }, el("b", { style: { background: "var(--main)" } }), "kept", el("b", { style: { background: "var(--drop)" } }), "dropped for this score"),
    el("div", { class: "sliders" }, ...Object.values(histograms).map((each) => slider(each.setting, each.top, each.top / 500, histogram(each)))));
  await recount();
}

async function open() {
  turn += 1;
  say("");
  const [path, query] = (location.hash.slice(1) || "/").split("?");
  for (const link of document.querySelectorAll("nav a")) link.toggleAttribute("aria-current", link.hash === `#${path}`);
  try {
    if (!overview) {
      overview = await ask("overview");
      document.getElementById("output").textContent = overview.output;
      document.getElementById("compare").hidden = !overview.against;
    }
    await (pages[path] ?? pages["/"])(new URLSearchParams(query));
  } catch (error) { say(error.message); }
}
// Readers of the screen begin at the new page, unless it has chosen a field of its own.
window.addEventListener("hashchange", () => { open().then(() => { if (!main.contains(document.activeElement)) main.focus(); }); });
open();
