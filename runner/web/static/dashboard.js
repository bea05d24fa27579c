// The whole page is short: all of it is asked for again, while somebody looks.
import { confirm } from "./cancel.js";
import { refresh } from "./regions.js";

const EVERY = 3000;
const isOpen = confirm();

setInterval(() => { if (!document.hidden && !isOpen()) refresh(); }, EVERY);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
