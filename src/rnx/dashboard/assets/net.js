// Questions to rnx, and streams that rest while nobody sees the page.

export class Failure extends Error {
  constructor(status, body) {
    super(body.message ?? `answer ${status}`);
    this.status = status;
    this.code = body.code;
    this.hint = body.details?.[0]?.hint;
  }
}

async function answered(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Failure(response.status, body);
  return body;
}

export async function get(path) {
  return answered(await fetch(`/api/${path}`, { credentials: "same-origin" }));
}

export async function post(path, body) {
  return answered(await fetch(`/api/${path}`, {
    method: "POST",
    credentials: "same-origin",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body ?? {}),
  }));
}

// Follows a stream until `close`. While the page is hidden the stream is closed, because a browser has few connections
// to one host; it goes on from `resume(lastId)`, the address that continues behind that event.
export function follow(address, handlers, resume) {
  let source = null;
  let last = "";
  let over = false;
  const open = () => {
    source = new EventSource(last && resume ? resume(last) : address);
    for (const [name, handle] of Object.entries(handlers)) {
      if (name === "lost") continue;
      source.addEventListener(name, (event) => {
        if (event.lastEventId) last = event.lastEventId;
        if (name === "end" || name === "failure") close();
        handle(JSON.parse(event.data), event.lastEventId);
      });
    }
    source.onerror = () => {
      handlers.lost?.();
      // A browser gives up after an answer other than 200.
      if (source?.readyState === EventSource.CLOSED && !over) setTimeout(() => { if (!over && !document.hidden) open(); }, 2000);
    };
  };
  const seen = () => {
    if (over) return;
    if (document.hidden) source?.close();
    else if (!source || source.readyState === EventSource.CLOSED) open();
  };
  const close = () => {
    over = true;
    source?.close();
    document.removeEventListener("visibilitychange", seen);
  };
  document.addEventListener("visibilitychange", seen);
  if (!document.hidden) open();
  return close;
}

// Asks again and again while the page is seen; `each` may return false to end it.
export function repeat(milliseconds, each) {
  let over = false;
  let timer = 0;
  const turn = async () => {
    if (over) return;
    if (!document.hidden && (await each()) === false) return;
    timer = setTimeout(turn, milliseconds);
  };
  turn();
  return () => { over = true; clearTimeout(timer); };
}
