/**
 * The browser's client: a key that never leaves the browser, requests that are signed with it, and a stream that resumes.
 * The daemon serves it as /client.js; docs/clients.md has an example and the table of options.
 *
 *     import { openKey, connect } from "/client.js";
 *
 *     const key = await openKey();                  // key.publicKey is what producers name in `to`
 *     const events = connect("/events", { key });
 *     events.addEventListener("note", (event) => show(JSON.parse(event.data)));
 *     events.addEventListener("resync", () => refetch());
 *     events.onstate = ({ state, error }) => status(state, error);
 *
 * It needs Ed25519 in WebCrypto (Chrome 137, Firefox 129, Safari 17), and a page from https or from this machine. It needs no document:
 * it works in workers as well.
 */

const ALGORITHM = "Ed25519";
const LASTS = 30; // seconds that a signature is good for: half of what the daemon allows
const ANSWER = 10_000; // ms in which a session is answered
const SILENCE = 45_000; // ms; three of the daemon's default heartbeats: one may be late, two are an accident
const LEAST = 1_000; // ms between two attempts, where the daemon does not say
const MOST = 30_000;
const MOST_ASKED = 600_000; // a daemon that asks for longer waits gets this: it may be a slip, and nobody would notice
const MAX_BLOCK = 16 * 1024 * 1024; // characters of one event
const OWN_TYPES = ["connected", "heartbeat", "resync", "bye"];
const PASSING = [408, 425, 429];
// The second: a browser or a proxy may send a request once more by itself, when its connection broke before the answer.
const SIGN_ANEW = ["sign_again", "replayed"];
const ANOTHER_SESSION = ["session_over", "signature_required", "conflicting_participant"];

/** An answer that is no stream. `status`, and the daemon's own `code`; `passing`: it may be another one next time. */
export class Refused extends Error {
  constructor(status, code, detail, retryAfter = 0) {
    super(`${code}: ${detail}`);
    this.name = "Refused";
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter; // ms
  }

  get passing() {
    return this.status >= 500 || PASSING.includes(this.status) || SIGN_ANEW.includes(this.code);
  }
}

// The key ---------------------------------------------------------------------------------------------------------------------

/**
 * The key of this name, made if there is none: it stays in this browser's IndexedDB, for pages of this origin, and cannot be read out
 * of it, also not by this page. A browser that forgets a site's data forgets it too: navigator.storage.persist() asks it not to.
 */
export async function openKey(name = "default") {
  const found = (await inStore("readonly", (store, answer) => read(store, name, answer))) ?? (await make(name));
  return new Key(found.publicKey, found.secret);
}

/** Forgets a key, for ever: nobody can read its events any more. */
export async function forgetKey(name = "default") {
  await inStore("readwrite", (store) => store.delete(name));
}

/** A key that signs. publicKey: base64url, the daemon's canonical form; ahead: seconds by which the daemon's clock is ahead of ours. */
class Key {
  #secret;

  constructor(publicKey, secret) {
    this.publicKey = publicKey;
    this.ahead = 0;
    this.#secret = secret;
  }

  /** The headers that sign one request, which can be sent once (RFC 9421; docs/security.md has the shape). */
  async headers(method, url, lastEventId = "") {
    const { host, pathname, search } = new URL(url, location.href);
    const covered = {
      "@method": method,
      "@authority": host.replace(/:(80|443)$/, ""),
      "@path": pathname,
      "@query": search || "?",
      "x-public-key": this.publicKey,
      ...(lastEventId && { "last-event-id": lastEventId }),
    };
    const parameters = this.#parameters(Object.keys(covered));
    const lines = Object.entries({ ...covered, "@signature-params": parameters }).map(([name, value]) => `"${name}": ${value}`);
    const signature = await crypto.subtle.sign(ALGORITHM, this.#secret, new TextEncoder().encode(lines.join("\n")));
    return {
      "X-Public-Key": this.publicKey,
      "Signature-Input": `sig=${parameters}`,
      Signature: `sig=:${base64(signature)}:`,
      ...(lastEventId && { "Last-Event-ID": lastEventId }),
    };
  }

  #parameters(components) {
    const created = Math.floor(Date.now() / 1000 + this.ahead);
    const nonce = base64url(crypto.getRandomValues(new Uint8Array(18)));
    const names = components.map((name) => `"${name}"`).join(" ");
    const times = `created=${created};expires=${created + LASTS}`;
    return `(${names});${times};nonce="${nonce}";keyid="${this.publicKey}";alg="ed25519";tag="sse-daemon"`;
  }
}

async function make(name) {
  const pair = await generate();
  const publicKey = base64url(await crypto.subtle.exportKey("raw", pair.publicKey));
  // Another tab may have been quicker: then it is that one's key, for both.
  return inStore("readwrite", (store, answer) =>
    read(store, name, (found) => {
      const kept = found ?? { publicKey, secret: pair.privateKey };
      if (!found) store.add(kept, name);
      answer(kept);
    }),
  );
}

async function generate() {
  if (!globalThis.crypto?.subtle) {
    throw new Error("keys need a page from https, or from this machine: this one has no WebCrypto");
  }
  try {
    return await crypto.subtle.generateKey(ALGORITHM, false, ["sign", "verify"]);
  } catch (cause) {
    throw new Error("this browser has no Ed25519 in WebCrypto: Chrome 137, Firefox 129, Safari 17 or newer have", { cause });
  }
}

function read(store, name, answer) {
  const reading = store.get(name);
  reading.onsuccess = () => answer(reading.result);
}

/** Runs work(store, answer) as one transaction; what it gave to `answer`, once that is on the disk. */
async function inStore(mode, work) {
  const database = await opened();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction("keys", mode, { durability: "strict" });
      let given;
      transaction.oncomplete = () => resolve(given);
      transaction.onabort = () => reject(transaction.error);
      work(transaction.objectStore("keys"), (value) => (given = value));
    });
  } finally {
    database.close();
  }
}

function opened() {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("sse-daemon", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("keys");
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}

// Requests --------------------------------------------------------------------------------------------------------------------

/**
 * Opens a session for an EventSource of your own: its cookie speaks for the key for `seconds`. url: of the daemon.
 * Throws Refused, and what fetch throws.
 */
export async function openSession(key, url = location.href) {
  const signal = AbortSignal.timeout(ANSWER);
  const answer = await signedFetch(key, "POST", new URL("/session", new URL(url, location.href)), { credentials: "include", signal });
  return answer.json();
}

/** fetch, signed; where the daemon finds the signature to be of another time, once more, by the daemon's clock. Throws Refused. */
async function signedFetch(key, method, url, init, lastEventId = "") {
  for (let again = false; ; again = true) {
    const headers = { ...init.headers, ...(await key.headers(method, url, lastEventId)) };
    const response = await fetch(url, { ...init, method, headers, cache: "no-store", redirect: "manual" });
    if (response.ok) return response;
    const refused = await refusal(response);
    if (refused.code !== "sign_again" || again) throw refused;
    key.ahead = ahead(response.headers.get("Date"));
  }
}

async function refusal(response) {
  // What is no answer of the daemon is somebody's in between, who need not speak JSON: the status has to do.
  const said = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get("Retry-After")) || 0;
  const code = said?.error ?? `http_${response.status}`;
  return new Refused(response.status, code, said?.detail ?? "the answer does not say why", seconds * 1000);
}

function ahead(date) {
  return (Date.parse(date ?? "") - Date.now()) / 1000 || 0;
}

function checkType(response) {
  if (!/^text\/event-stream\s*(;|$)/i.test(response.headers.get("Content-Type") ?? "")) {
    throw new Refused(response.status, "not_an_event_stream", "the answer is of another type");
  }
}

// The stream ------------------------------------------------------------------------------------------------------------------

/**
 * Follows a stream until close(), or until it is refused for good. Options:
 *
 *     key           from openKey
 *     types, topics filters: lists; others go into the URL
 *     lastEventId   resume after this position; without: the retained snapshots, then what comes
 *     session       true: a session's cookie and the browser's own EventSource, for which `types` is needed: it hears only those that it
 *                   is told. Otherwise each request is signed, and read by this module.
 *     silence       milliseconds without a word after which a connection is taken for dead
 */
export function connect(url, options) {
  return new Stream(url, options);
}

/**
 * Dispatches what comes as EventSource does: a MessageEvent of the event's type, with `data` and `lastEventId`.
 *
 * lastEventId: the position up to which everything was dispatched. state: "connecting", "open", "waiting" or "closed".
 * onstate({state, error}): called when that changes; error: why it waits, or why it was closed; null where nothing went wrong.
 */
class Stream extends EventTarget {
  #url;
  #options;
  #pace = new Pace();
  #connection = new AbortController();
  #quiet; // the timer that takes a silent connection for dead
  #refresh; // the timer of the next session
  #sessionUntil = 0; // by performance.now()
  #wake = () => {};

  constructor(url, { key, types = [], topics = [], lastEventId = "", session = false, silence = SILENCE }) {
    super();
    if (!(key instanceof Key)) throw new TypeError("`key` comes from openKey");
    if (session && !types.length) throw new TypeError("an EventSource hears only the types that it is told: `types` is needed");
    this.#options = { key, types, session, silence };
    this.#url = new URL(url, location.href);
    this.#url.hash = "";
    const query = { heartbeat: "event", types: types.join(","), topics: topics.join(",") };
    for (const [name, value] of Object.entries(query)) if (value) this.#url.searchParams.set(name, value);
    this.lastEventId = lastEventId;
    this.state = "connecting";
    this.onstate = null;
    // Later: whoever has just made it has still to say what it listens to.
    queueMicrotask(() => this.#run());
  }

  /** Ends it. Twice is fine. */
  close() {
    if (this.state !== "closed") this.#end(null);
  }

  async #run() {
    while (this.state !== "closed") {
      const error = await this.#once();
      if (this.state === "closed") return;
      if (error instanceof Refused && !error.passing) return this.#end(error);
      this.#tell("waiting", error);
      await this.#sleep(this.#pace.lost(error?.retryAfter));
      if (this.state !== "closed") this.#tell("connecting");
    }
  }

  /** One connection, from its beginning to its end; the error that ended it, or null. */
  async #once() {
    this.#connection = new AbortController();
    this.#heard();
    try {
      await (this.#options.session ? this.#listen() : this.#read());
      return null;
    } catch (error) {
      return error;
    } finally {
      clearTimeout(this.#quiet);
      this.#connection.abort();
    }
  }

  #end(error) {
    this.#tell("closed", error);
    this.#connection.abort();
    clearTimeout(this.#refresh);
    this.#wake();
  }

  #tell(state, error = null) {
    this.state = state;
    try {
      this.onstate?.({ state, error });
    } catch (defect) {
      reportError(defect); // the page's, and as with its listeners no reason to end a stream
    }
  }

  /** Something came: from now on the connection may be silent for a while again. */
  #heard() {
    clearTimeout(this.#quiet);
    const connection = this.#connection;
    this.#quiet = setTimeout(() => connection.abort(new Error("the daemon fell silent")), this.#options.silence);
  }

  #take(type, data, id) {
    this.lastEventId = id;
    this.dispatchEvent(new MessageEvent(type, { data, lastEventId: id, origin: this.#url.origin }));
  }

  #sleep(milliseconds) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, milliseconds);
    });
  }

  // By signed requests.

  async #read() {
    const { key } = this.#options;
    const init = { headers: { Accept: "text/event-stream" }, signal: this.#connection.signal };
    const response = await signedFetch(key, "GET", this.#url, init, this.lastEventId);
    checkType(response);
    this.#tell("open");
    const texts = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new Parser(this.lastEventId);
    for (let read = await texts.read(); !read.done; read = await texts.read()) {
      this.#heard();
      for (const block of parser.feed(read.value)) {
        if (this.state === "closed") return; // a listener has closed it
        this.#pace.heard(block.retry);
        this.lastEventId = block.id;
        if (block.data !== null) this.#take(block.type, block.data, block.id);
      }
    }
  }

  // By a session and an EventSource.

  async #listen() {
    const fresh = performance.now() >= this.#sessionUntil;
    if (fresh) await this.#renew();
    if ((await this.#watch()) || !fresh) return;
    // Not even the session that was just opened helps, and an EventSource does not say why.
    const init = { headers: { Accept: "text/event-stream" }, credentials: "include", signal: this.#connection.signal };
    const response = await fetch(this.#source(), init);
    if (response.ok) return checkType(response);
    const refused = await refusal(response);
    // Another tab may have put another key's session in the place of ours.
    throw ANOTHER_SESSION.includes(refused.code) ? new Error(refused.message) : refused;
  }

  /** The URL with what an EventSource cannot put into headers. The key is there so that no cookie can speak for another one. */
  #source() {
    const url = new URL(this.#url);
    url.searchParams.set("public_key", this.#options.key.publicKey);
    if (this.lastEventId) url.searchParams.set("last_event_id", this.lastEventId);
    return url;
  }

  /** Listens until the EventSource gives up, or falls silent; whether it was ever open. */
  #watch() {
    return new Promise((resolve, reject) => {
      const { signal } = this.#connection;
      if (signal.aborted) return reject(signal.reason);
      const source = new EventSource(this.#source(), { withCredentials: true });
      let open = false;
      source.onopen = () => {
        open = true;
        this.#tell("open");
      };
      source.onerror = () => {
        if (source.readyState === EventSource.CONNECTING) return this.#tell("waiting"); // it comes back by itself
        this.#sessionUntil = 0;
        resolve(open);
      };
      for (const type of new Set([...this.#options.types, ...OWN_TYPES])) {
        source.addEventListener(type, (event) => this.#dispatched(event));
      }
      signal.addEventListener("abort", () => (source.close(), reject(signal.reason)));
    });
  }

  #dispatched(event) {
    if (!(event instanceof MessageEvent)) return; // the EventSource's own "error" or "open", where a producer's type has that name
    this.#heard();
    this.#pace.heard();
    this.#take(event.type, event.data, event.lastEventId);
  }

  /** Opens the next session, and sees to the one after it. */
  async #renew() {
    const lasts = await this.#sessionLasts();
    this.#sessionUntil = performance.now() + lasts;
    clearTimeout(this.#refresh);
    // If it fails, the stream goes on until its session is over, and then tries for as long as it takes.
    const again = () => this.#renew().catch(() => {});
    if (lasts !== Infinity && this.state !== "closed") this.#refresh = setTimeout(again, lasts * between(0.5, 0.8));
  }

  async #sessionLasts() {
    try {
      return (await openSession(this.#options.key, this.#url)).seconds * 1000;
    } catch (error) {
      // A daemon that believes its clients (`--dev`) has no sessions, and takes the key in the URL.
      if (error.code === "not_found") return Infinity;
      throw error;
    }
  }
}

/** The blocks of a stream, by the WHATWG's rules. id: the position that the connection begins with. */
class Parser {
  #rest = "";
  #size = 0;
  #block;

  constructor(id) {
    this.#block = { id };
  }

  /** The blocks that this text completes: {id, type, data, retry}; data is null where a block has none. */
  *feed(text) {
    // A CR at the very end may be the first half of a CRLF.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line) this.#field(line);
      else yield this.#complete();
    }
    if (this.#size + this.#rest.length > MAX_BLOCK) throw new Refused(200, "not_an_event_stream", "an event is too long");
  }

  #field(line) {
    this.#size += line.length;
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    const block = this.#block;
    if (name === "data") (block.lines ??= []).push(value);
    else if (name === "event") block.type = value;
    else if (name === "id" && !value.includes("\0")) block.id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) block.retry = Number(value);
  }

  #complete() {
    const { id, type, lines, retry } = this.#block;
    this.#block = { id };
    this.#size = 0;
    return { id, type: type || "message", data: lines ? lines.join("\n") : null, retry };
  }
}

/** When to come back: what the daemon asked for, and longer while attempts bring nothing. Milliseconds. */
class Pace {
  #base = LEAST;
  #failures = 0;

  heard(retry) {
    this.#failures = 0;
    if (retry !== undefined) this.#base = Math.max(LEAST, Math.min(retry, MOST_ASKED));
  }

  lost(asked = 0) {
    const base = Math.max(this.#base, Math.min(asked, MOST_ASKED));
    const top = Math.max(base, Math.min(MOST, base * 2 ** this.#failures++));
    // Only upwards, and some even at first: those who lost their connection together come back apart, and nobody before the time.
    return between(base, top) + base * between(0, 0.1);
  }
}

function between(low, high) {
  return low + Math.random() * (high - low);
}

function base64(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes)));
}

function base64url(bytes) {
  return base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
