"use strict";
// Text from the service enters the document by textContent only: nothing in it is read as HTML.

const at = (id) => document.getElementById(id);
const API = "/v1/narratives";
const UNFINISHED = ["queued", "running", "cancelling"];
const WORDS = { queued: "waiting for its turn", running: "being made", cancelling: "being cancelled",
  cancelled: "cancelled", done: "done", failed: "failed" };
let shown = null; // the narrative that is open
let stream = null; // ends the event stream of the open narrative

const given = new URLSearchParams(location.hash.slice(1)).get("key");
if (given) {
  sessionStorage.setItem("key", given);
  history.replaceState(null, "", location.pathname);
}

function message(text) { at("message").textContent = text; }

async function call(method, path, body, signal) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem("key") ?? ""}` };
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
  if (answer.ok) return answer;
  if (answer.status === 401) at("access").open = true;
  const problem = await answer.json().catch(() => ({}));
  const reason = answer.status === 401 ? "This service needs its access key." : problem.detail ?? answer.statusText;
  throw Object.assign(new Error(reason), { status: answer.status });
}

// Runs an action of the user and shows what went wrong.
async function attempt(action) {
  message("");
  try { await action(); } catch (error) { if (error.name !== "AbortError") message(error.message); }
}

async function list() {
  const { narratives } = await (await call("GET", `${API}?limit=50`)).json();
  at("none").hidden = narratives.length > 0;
  at("films").replaceChildren(...narratives.map((each) => {
    const item = document.createElement("li"), button = document.createElement("button");
    const goal = document.createElement("bdi"), small = document.createElement("small");
    goal.textContent = each.goal;
    small.textContent = WORDS[each.status];
    button.type = "button";
    button.append(goal, small);
    if (shown && shown.id === each.id) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => attempt(() => open(each.id)));
    item.append(button);
    return item;
  }));
}

async function open(id) {
  stream?.abort();
  stream = new AbortController();
  at("plan").replaceChildren();
  at("movie").removeAttribute("src");
  withdraw(at("movie"));
  shown = null;
  watch(id, stream.signal);
}

// Follows the events; the stream begins with the whole narrative, so a lost connection loses nothing.
async function watch(id, signal) {
  for (let wait = 1000; !signal.aborted; wait = Math.min(wait * 2, 15000)) {
    try {
      const answer = await call("GET", `${API}/${id}/events`, null, signal);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        wait = 1000;
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) await take(event);
      }
      if (shown && !UNFINISHED.includes(shown.status)) return;
    } catch (error) {
      if (signal.aborted) return;
      message(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function take(event) {
  const data = event.split("\n").find((line) => line.startsWith("data: "));
  if (!data) return;
  const found = JSON.parse(data.slice(6));
  if (event.startsWith("event: step")) {
    showStep(found);
  } else {
    const changed = !shown || shown.status !== found.status;
    shown = found;
    showWhole(found);
    if (changed) await list();
  }
}

function showWhole(film) {
  at("film").hidden = false;
  at("title").textContent = film.goal;
  at("status").textContent = WORDS[film.status] + (film.error ? `: ${film.error}` : "");
  const unfinished = UNFINISHED.includes(film.status);
  at("cancel").hidden = !unfinished;
  at("remove").hidden = unfinished;
  film.steps.forEach(showStep);
  while (at("plan").children.length > film.steps.length) at("plan").lastElementChild.remove();
  at("whole").hidden = !film.film;
  if (film.film) load(at("movie"), film.film, film.ended_s, () => {
    at("download").href = at("movie").src;
    at("download").download = `${film.goal.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 80)}.mp4`;
  });
}

// Media need the key, so they are fetched and shown from memory. Content that an edit replaces while it is
// fetched is dropped, whether it arrives or is gone: a later event names what follows it.
async function load(element, address, version, done = () => {}) {
  const wanted = `${address} ${version}`;
  if (element.dataset.from === wanted) return;
  element.dataset.from = wanted;
  try {
    const blob = await (await call("GET", address)).blob();
    if (element.dataset.from !== wanted) return;
    if (element.src) URL.revokeObjectURL(element.src);
    element.src = URL.createObjectURL(blob);
    element.hidden = false;
    done();
  } catch (error) {
    if (element.dataset.from !== wanted) return;
    delete element.dataset.from;
    if (error.status !== 404) message(error.message);
  }
}

// Hides what is being made anew, and whatever of it is still on its way.
function withdraw(element) {
  element.dataset.turn = Number(element.dataset.turn ?? 0) + 1;
  delete element.dataset.from;
  element.hidden = true;
}

function showStep(step) {
  const plan = at("plan");
  while (plan.children.length < step.step) plan.append(newStep(plan.children.length + 1));
  const item = plan.children[step.step - 1], [image] = item.getElementsByTagName("img"), [video] = item.getElementsByTagName("video");
  item.querySelector("h3").textContent = `${step.step}. ${step.action}`;
  item.querySelector(".caption").textContent = step.caption === step.action ? "" : step.caption;
  // The same address has new content after an edit; it is absent in between.
  if (!step.keyframe) withdraw(image);
  if (!step.clips.length) withdraw(video);
  image.alt = `Key frame of step ${step.step}: ${step.caption}`;
  video.setAttribute("aria-label", `Clip of step ${step.step}`);
  item.querySelector(".waiting").hidden = Boolean(step.keyframe);
  if (step.keyframe && !step.clips.length) load(image, step.keyframe, image.dataset.turn);
  if (step.clips.length) load(video, step.clips[0], video.dataset.turn, () => withdraw(image));
}

function newStep(number) {
  const item = at("step").content.firstElementChild.cloneNode(true);
  const form = item.querySelector("form"), input = form.querySelector("input");
  item.querySelector("summary").textContent = `Edit step ${number}`;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      await call("PUT", `${API}/${shown.id}/steps/${number}`, { action: input.value });
      input.value = "";
      item.querySelector("details").open = false;
      const id = shown.id;
      stream?.abort();
      stream = new AbortController();
      watch(id, stream.signal);
    });
  });
  return item;
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", at("key").value);
  at("key").value = "";
  at("access").open = false;
  attempt(list);
});
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const wanted = { goal: at("goal").value, seed: Number(at("seed").value) };
    if (at("steps").value) wanted.steps = Number(at("steps").value);
    const made = await (await call("POST", API, wanted)).json();
    await open(made.id);
  });
});
at("cancel").addEventListener("click", () => attempt(() => call("POST", `${API}/${shown.id}/cancel`)));
at("remove").addEventListener("click", () => attempt(async () => {
  await call("DELETE", `${API}/${shown.id}`);
  stream?.abort();
  shown = null;
  at("film").hidden = true;
  await list();
}));

attempt(async () => {
  const about = await fetch("/models");
  if (about.ok) {
    const { notice } = await about.json();
    at("notice").textContent = notice ? `${notice}.` : "";
    at("notice").hidden = !notice;
  }
  if (sessionStorage.getItem("key")) await list(); else at("access").open = true;
});
