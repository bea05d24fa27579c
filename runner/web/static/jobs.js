// The list: what is in progress is asked for every two seconds, and all of it where a job came or went.
import { confirm } from "./cancel.js";
import { refresh } from "./regions.js";
import { select } from "./select.js";

const EVERY = 2000;
const isOpen = confirm();
select();
const live = () => document.querySelector('[data-region="live"]');

async function look() {
  if (document.hidden || isOpen() || !live()) return;
  const before = live().dataset.ids;
  const address = new URL(location.href);
  address.searchParams.set("part", "live");
  await refresh(address);
  if (live().dataset.ids !== before) await refresh();
}

setInterval(look, EVERY);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
