// The status page: what the stream says is put where it belongs.
import { confirm } from "./cancel.js";
import { append, start } from "./log.js";
import { refresh, seldom } from "./regions.js";
import { Stream } from "./stream.js";

const page = document.querySelector("#job");
const known = {
  status: page.dataset.status, run: Number(page.dataset.run), display: page.dataset.display,
  outputs: page.dataset.outputs, away: false,
};
const LEAVE = 2000;
const SIGNS = ["wheel", "touchmove", "scroll", "keydown"]; // of a reader who is at something
const renew = seldom(refresh, 300);
const renewOutputs = seldom(refresh, 1000);
let stayed = false;

document.documentElement.classList.add("scripted");
start();
confirm();

function progress(data) {
  const percent = Math.floor(data.progress ?? 0);
  page.querySelector("progress").value = data.progress ?? 0;
  page.querySelector("#percent").textContent = `${percent} %`;
  page.querySelector("#message").textContent = data.message ?? "";
  step(data.current_step);
}

function step(name) {
  const steps = [...page.querySelectorAll(".steps li")];
  const at = steps.findIndex((one) => one.dataset.step === name);
  if (at < 1 || at === steps.length - 1 || known.status !== "running") return;
  steps.forEach((one, n) => {
    one.className = n < at ? "done" : n === at ? "current" : "ahead";
    one.querySelector(".unseen").textContent = n < at ? ", done" : n === at ? ", now" : ", to come";
    if (n === at) one.setAttribute("aria-current", "step"); else one.removeAttribute("aria-current");
  });
}

function whole(data) {
  const shown = data.display_state ?? data.status;
  const moved = data.status !== known.status || data.run_number !== known.run || shown !== known.display;
  Object.assign(known, { status: data.status, run: data.run_number, display: shown });
  if ("progress" in data) progress(data);
  if ("outputs" in data) outputs(data.outputs);
  if (!moved) return;
  const words = shown.replaceAll("_", " ");
  const badge = page.querySelector("#badge .state");
  badge.className = `state state-${shown}`;
  badge.textContent = words;
  document.title = `Job ${page.dataset.id}: ${words} · runner`;
  page.querySelector("#spoken").textContent = `The job is ${words}.`;
  renew();
}

// By their sizes: of each change that is heard of here they are read again anyhow.
function outputs(told) {
  const sizes = told.map((one) => one.bytes).join();
  if (sizes !== known.outputs) renewOutputs();
  known.outputs = sizes;
}

function hear(name, data) {
  if (name === "log") append(data);
  if (name === "progress") progress(data);
  if (name === "output") renewOutputs();
  if (name === "snapshot" || name === "state" || name === "end") whole(data);
  if (name === "end") end(data);
}

async function end(data) {
  tell("ended");
  page.querySelector("#cancel-dialog")?.close();
  await refresh();
  const shows = page.querySelector('[data-region="actions"] a[href$="/output"]');
  if (data.status === "completed" && shows) offer();
}

// There after two seconds, unless the reader is at something here.
function offer() {
  const notice = page.querySelector("#done");
  const busy = stayed || String(getSelection()) || !page.querySelector("#follow").checked;
  notice.hidden = false;
  notice.setAttribute("role", "status");
  if (busy) { notice.textContent = "The output is ready."; return; }
  const stay = document.createElement("button");
  stay.type = "button";
  stay.className = "quiet";
  stay.id = "stay";
  stay.textContent = "Stay here";
  notice.append("The output is ready and opens in two seconds. ", stay);
  const timer = setTimeout(() => { location.href = page.dataset.output; }, LEAVE);
  const keep = () => { clearTimeout(timer); notice.textContent = "The output is ready."; };
  stay.addEventListener("click", keep);
  for (const sign of SIGNS) addEventListener(sign, keep, { once: true });
  document.addEventListener("selectionchange", () => String(getSelection()) && keep());
}

for (const sign of SIGNS) addEventListener(sign, () => { stayed = true; }, { passive: true });

const WORDS = {
  connecting: () => "connecting", live: () => "live", paused: () => "paused while the tab is hidden", ended: () => "ended",
  gone: () => "the job was removed", away: (seconds) => `connection lost; next try in ${seconds} s`,
};

function tell(state, seconds) {
  if (state === "live" && known.away) renewOutputs();
  known.away = state === "away" || state === "paused";
  page.querySelector("#connection").dataset.state = state;
  page.querySelector("#connection-text").textContent = WORDS[state](seconds);
}

if (page.dataset.over !== "yes") {
  tell("connecting");
  new Stream(page.dataset.api, Number(page.dataset.last), hear, tell);
}
