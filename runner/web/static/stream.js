// What a job does, as it does it: EventSource with a reconnection of our own, and polling while it is away.
const FIRST = 1000, LONGEST = 30000, POLL = 2000;
const NAMES = ["snapshot", "state", "progress", "log", "output", "end"];

export class Stream {
  // `hear(name, data)`: each event; `tell(state, seconds)`: how the connection is.
  constructor(api, last, hear, tell) {
    Object.assign(this, { api, last, hear, tell, delay: FIRST, source: null, over: false });
    document.addEventListener("visibilitychange", () => this.seen());
    addEventListener("online", () => this.now());
    addEventListener("pagehide", () => this.source?.close());
    addEventListener("pageshow", (event) => event.persisted && this.now());
    this.open();
  }

  open() {
    this.source?.close();
    const source = this.source = new EventSource(`${this.api}/events?last_event_id=${this.last}`);
    source.onopen = () => { this.rest(); this.delay = FIRST; this.tell("live"); };
    source.onerror = () => { if (source === this.source) this.lost(); };
    for (const name of NAMES) {
      source.addEventListener(name, (event) => {
        if (source !== this.source) return;
        if (name === "log") this.last = Number(event.lastEventId);
        if (name === "end") this.close();
        this.hear(name, JSON.parse(event.data));
      });
    }
  }

  // The first try after one second, then later and later, for ever; with jitter, so that not all come at once.
  lost() {
    this.source.close();
    this.source = null;
    if (this.over || document.hidden) return;
    const wait = this.delay === FIRST ? FIRST : this.delay * (0.75 + Math.random() / 2);
    this.delay = Math.min(this.delay * 2, LONGEST);
    this.tell("away", Math.round(wait / 1000));
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), wait);
    this.polling ??= setInterval(() => this.poll(), POLL);
  }

  async poll() {
    try {
      const answer = await fetch(this.api);
      if (answer.status === 401) location.reload();
      if (answer.status === 404) { this.close(); this.tell("gone"); }
      if (!answer.ok || this.over) return;
      const job = await answer.json();
      await this.lines();
      if (this.over || this.source?.readyState === EventSource.OPEN) return;
      if (job.completed_at) this.close();
      this.hear(job.completed_at ? "end" : "snapshot", job);
    } catch {
      // Nobody answers: the next try comes.
    }
  }

  // The log too, where a proxy lets no stream through.
  async lines() {
    for (let more = true; more;) {
      const answer = await fetch(`${this.api}/logs?after=${this.last}`);
      if (!answer.ok) return;
      const page = await answer.json();
      for (const line of page.lines) {
        if (line.id <= this.last) continue;
        this.last = line.id;
        this.hear("log", line);
      }
      more = page.next !== null;
    }
  }

  rest() {
    clearTimeout(this.timer);
    clearInterval(this.polling);
    this.polling = null;
  }

  now() {
    if (this.over) return;
    this.rest();
    this.delay = FIRST;
    this.open();
  }

  // A tab that nobody sees holds no connection: a browser has six.
  seen() {
    if (this.over) return;
    if (!document.hidden) { this.now(); return; }
    this.rest();
    this.source?.close();
    this.source = null;
    this.tell("paused");
  }

  close() {
    this.over = true;
    this.rest();
    this.source?.close();
    this.source = null;
  }
}
