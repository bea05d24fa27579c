// The console: lines are only ever added at its end, as text.
const MOST = 5000;
const list = document.querySelector("#log");
const follow = document.querySelector("#follow");
const find = document.querySelector("#find");
const found = document.querySelector("#found");
const clock = new Intl.DateTimeFormat("sv-SE", {
  timeZone: document.documentElement.dataset.zone, dateStyle: "short", timeStyle: "medium",
});

function span(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}

function row(line) {
  const made = document.createElement("li");
  made.id = `L${line.id}`;
  made.className = `level-${String(line.level).replace(/[^a-z]/g, "")}`;
  const link = document.createElement("a");
  link.href = `?line=${line.id}#L${line.id}`;
  const time = document.createElement("time");
  time.dateTime = line.at;
  time.textContent = clock.format(new Date(line.at));
  link.append(time);
  made.append(link, " ", span("level", line.level), " ", span("said", line.message));
  return made;
}

// Between the lines of one run and those of the next.
function border(run) {
  const made = document.createElement("li");
  made.className = "run";
  made.textContent = `Run ${run}`;
  return made;
}

let waiting = [];
let lastRun = Number(list.dataset.lastRun);

// Many lines that come together are added together.
export function append(line) {
  if (list.dataset.run && line.run_number !== Number(list.dataset.run)) return;
  waiting.push(line);
  if (waiting.length === 1) setTimeout(flush, 30);
}

function flush() {
  const made = document.createDocumentFragment();
  for (const line of waiting) {
    if (document.getElementById(`L${line.id}`) || made.getElementById(`L${line.id}`)) continue;
    if (line.run_number !== lastRun) made.append(border(line.run_number));
    lastRun = line.run_number;
    made.append(row(line));
  }
  waiting = [];
  list.append(made);
  while (list.childElementCount > MOST) {
    list.firstElementChild.remove();
    document.querySelector("#log-cut").hidden = false;
  }
  document.querySelector("#log-empty").hidden = true;
  if (find.value) search();
  if (follow.checked) toEnd();
}

function toEnd() { list.scrollTop = list.scrollHeight; }

function search() {
  const wanted = find.value.toLowerCase();
  const lines = list.querySelectorAll(":scope > li:not(.run)");
  let count = 0;
  for (const line of lines) {
    const fits = line.querySelector(".said").textContent.toLowerCase().includes(wanted);
    line.hidden = !fits;
    count += fits;
  }
  found.textContent = wanted ? `${count} of ${lines.length} lines` : "";
}

function mark() {
  for (const one of list.querySelectorAll(".marked")) one.classList.remove("marked");
  const line = /^#L\d+$/.test(location.hash) && document.querySelector(location.hash);
  if (!line) return;
  line.classList.add("marked");
  follow.checked = false;
  line.scrollIntoView({ block: "center" });
}

export function start() {
  follow.addEventListener("change", () => follow.checked && toEnd());
  list.addEventListener("scroll", () => {
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 4;
    if (!isAtEnd && list.matches(":hover, :focus")) follow.checked = false;
  });
  find.addEventListener("input", search);
  list.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    history.replaceState(null, "", link.href);
    mark();
  });
  if (location.hash) mark(); else toEnd();
}
