// Schedules: what is new is shown every five seconds, while somebody looks; a pause asks for its reason on this page.
import { refresh } from "./regions.js";

const EVERY = 5000;
const dialog = document.querySelector("#pause-dialog");

document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-pause]");
  if (!link || !dialog || event.metaKey || event.ctrlKey) return;
  event.preventDefault();
  const form = dialog.querySelector("form");
  form.reset();
  form.action = link.href;
  dialog.querySelector("#pause-title").textContent = `Pause ${link.dataset.pause}?`;
  dialog.showModal();
});

setInterval(() => { if (!document.hidden && !dialog?.open) refresh(); }, EVERY);
document.addEventListener("visibilitychange", () => { if (!document.hidden && !dialog?.open) refresh(); });
