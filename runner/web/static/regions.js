// Parts of a page that are read again: the same address is asked for, and what differs is exchanged.
let running = null, again = false;
const shown = () => location.pathname + location.search;

// Where one is running, another follows, for what happened meanwhile; both have ended when this has.
export function refresh(address = shown()) {
  if (running) again = true;
  return running ??= renew(address);
}

async function renew(address) {
  try {
    await once(address);
    while (again) { again = false; await once(shown()); }
  } finally {
    running = null;
  }
}

async function once(address) {
  try {
    const answer = await fetch(address, { headers: { Accept: "text/html" } });
    // Who is asked to sign in is told so.
    if (answer.redirected && new URL(answer.url).pathname !== location.pathname) { location.reload(); return; }
    if (answer.ok) exchange(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // The server is away: whoever asked asks again.
  }
}

function exchange(fresh) {
  for (const old of document.querySelectorAll("[data-region]")) {
    const made = fresh.querySelector(`[data-region="${old.dataset.region}"]`);
    if (!made) continue;
    for (const one of old.querySelectorAll("details[id]")) {
      const same = made.querySelector(`#${CSS.escape(one.id)}`);
      if (same) same.open = one.open;
    }
    for (const one of old.querySelectorAll("input[type=checkbox][id]")) {
      const same = made.querySelector(`#${CSS.escape(one.id)}`);
      if (same) same.checked = one.checked;
    }
    if (made.outerHTML === old.outerHTML) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.replaceWith(document.adoptNode(made));
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }
  document.dispatchEvent(new Event("exchanged"));
}

// At most once in `milliseconds`, however often it is called.
export function seldom(act, milliseconds) {
  let timer = null;
  return () => { timer ??= setTimeout(() => { timer = null; act(); }, milliseconds); };
}
