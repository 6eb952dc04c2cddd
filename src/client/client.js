/**
 * The client of a fanout-edge service, for browsers and Node.js 20 or later: a connection that stays. See /client.d.ts.
 * @import { Options, Transport, Status, Live as Client } from './client.d.ts'
 * @typedef {Record<string, any>} Envelope A message of the service: docs/api.md
 * @typedef {(url: URL) => Promise<Response>} Request
 * @typedef {{ status?: number, code?: number, reason?: string, blocked?: boolean }} End Why a link ended: the status of a
 *   response, or a close code; blocked if the service can be reached, but not by this transport
 */

// All times are in milliseconds.
const SILENCE = 35_000; // The proxy sends something at least every 25 s.
const OPENING = 10_000;
const STABLE = 5_000;
const BACKOFF = { first: 500, longest: 20_000 };
const SUBSCRIBED = 2_000; // After so long, the proxy has the subscription, and what was published before can be read.
const GAP = 4_000; // After so long, an event stream has it.
const OVERLAP = 5_000; // A cursor says nothing of what was published so long before it.
const VERIFY = 60; // seconds
const RETRY = 30_000;
// The proxy drops messages for a connection that is slow to take them. Then many come at once, or late.
const BURST = { bytes: 6_000, within: 100 };
const LATE = 2_000;
const DOUBT = { first: 3_000, longest: 60_000 };
const REMEMBERED = 2_000; // ids
const OLDEST = 70_000; // The id of a message that was sent again may be a minute old.
const PROBE = 500; // After so long without a frame, a WebSocket asks for one.
// What is on its way at once: the service publishes at most 200 messages in a batch, in 6 requests of 65,536 bytes, and for each of its
// channels a message takes about 1,400 bytes there, and up to six times its length.
const FLIGHT = { messages: 50, bytes: 300_000 };
const ACK = 10_000; // After so long without an acknowledgement, a message is sent again.
const TRIES = 5;
const LONGEST = 150_000; // characters of JSON: the proxy takes no more.
const BUFFER = 100; // messages

/** @param {string | URL} url @param {Options} [options] @returns {Client} */
export function connect(url, options = {}) {
  return /** @type {any} */ (new Live(url, options));
}

const now = () => performance.now();

/** The time of a cursor, which may be the id of a message, or a time. @param {string} cursor */
const timeOf = (cursor) => cursor.includes('T') ? Date.parse(cursor) : parseInt(cursor.slice(0, 8) + cursor.slice(9, 13), 16);

/** A UUID of version 7, of a time and what stands for the order within a millisecond. @param {number} time @param {number} count */
function uuid(time, count) {
  const hex = (/** @type {number} */ number, /** @type {number} */ digits) => number.toString(16).padStart(digits, '0');
  const random = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => hex(byte, 2)).join('');
  const [start, order] = [hex(time, 12), hex(count & 0xfff, 3)];
  return `${start.slice(0, 8)}-${start.slice(8)}-7${order}-8${random.slice(1, 4)}-${random.slice(4)}`;
}

const toBase64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));

/**
 * What is sent of a message, copied, as it may change: its content, or a promise of it.
 * @param {any} message
 */
function contentOf(message) {
  // Half a surrogate pair is no text.
  if (typeof message === 'string') return { data: new TextDecoder().decode(new TextEncoder().encode(message)) };
  if (message instanceof ArrayBuffer) return { base64: toBase64(new Uint8Array(message)) };
  if (ArrayBuffer.isView(message)) return { base64: toBase64(new Uint8Array(message.buffer, message.byteOffset, message.byteLength)) };
  if (message instanceof Blob) return message.arrayBuffer().then(contentOf);
  const what = message === null ? 'null' : Array.isArray(message) ? 'a list' : typeof message === 'object' ? 'an object' : typeof message;
  throw new TypeError(`Cannot send ${what}: use JSON.stringify(message), a string, an ArrayBuffer, a typed array or a Blob`);
}

const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/** @implements {Omit<Client, 'addEventListener' | 'removeEventListener'>} */
class Live extends EventTarget {
  /** @type {Status} */
  status = 'connecting';
  /** @type {string | undefined} */
  connection;
  /** @type {string | undefined} */
  user;

  #url;
  #options;
  /** @type {string[]} */
  #channels;
  #transports;
  #transport = 0;
  /** How often in a row the transport was blocked. */
  #blocked = 0;
  /** How often in a row a connection failed, or did not last. */
  #failures = 0;
  #hasNewToken = false;
  #hasSettled = false;
  /** @type {Link | undefined} */
  #link;
  /** The one before, until the new one has its channels. @type {Link | undefined} */
  #previous;
  /** @type {any} */
  #timer;
  #outbox = new Outbox();
  /** The channels of the link before. @type {string[]} */
  #left = [];
  /** The ids of messages that may come again. @type {Set<string>} */
  #seen = new Set();
  #remembered = REMEMBERED;
  /** Up to where everything has arrived, when that was known, and the last sign of life after that while nothing arrived.
   * @type {{ since: string, at: number, alive: number } | undefined} */
  #cursor;
  #verify;
  /** How long to wait before the next check, if messages may have been dropped. */
  #doubt = DOUBT.first;
  /** The least time that messages took, by two clocks that may differ. */
  #least = Infinity;
  /** Why messages were lost, until that has been told. @type {string | undefined} */
  #lost;
  /** The first cursor: what was published before it is not for this client. @type {string | undefined} */
  #first;

  /** @param {string | URL} url @param {Options} options */
  constructor(url, options) {
    super();
    this.#url = serviceOf(url);
    this.#options = options;
    this.#verify = Math.min(options.verify ?? VERIFY, VERIFY) * 1_000;
    this.#channels = checked(options.channels ?? ['test']);
    this.#transports = options.transports ?? /** @type {Transport[]} */ (Object.keys(transports));
    if (options.since) this.#cursor = { since: options.since, at: now(), alive: now() };
    globalThis.addEventListener?.('online', this.#wake);
    globalThis.document?.addEventListener('visibilitychange', this.#wake);
    this.#timer = setTimeout(() => this.#open(), 0);
  }

  get channels() {
    return [...this.#channels];
  }

  set channels(channels) {
    this.#left = this.#channels;
    this.#channels = checked(channels);
    if (this.status === 'closed') return;
    if (this.#link?.isOpen && !this.#previous) this.#previous = this.#link;
    else this.#link?.close();
    this.#link = undefined;
    clearTimeout(this.#timer);
    this.#open();
  }

  get since() {
    if (!this.#cursor) return undefined;
    const { since, at, alive } = this.#cursor;
    // On a quiet channel the cursor grows old, although nothing was missed.
    return alive - at > 2 * OVERLAP ? new Date(timeOf(since) + alive - at - OVERLAP).toISOString() : since;
  }

  /** The longest pause between two tries. */
  get #longest() {
    return (this.#options.reconnect?.longest ?? BACKOFF.longest / 1_000) * 1_000;
  }

  get transport() {
    return /** @type {Transport} */ (this.#transports[this.#transport]);
  }

  /** @param {any} message @param {{ signal?: AbortSignal, timeout?: number }} [options] */
  send(message, { signal, timeout } = {}) {
    const content = contentOf(message);
    const isOpen = Boolean(this.#link?.send && this.#link.isOpen);
    const reason = this.status === 'closed' ? 'The connection is closed'
      : this.transport !== 'websocket' ? `Only a WebSocket sends: this is ${this.transport}`
      : !isOpen && this.#outbox.size >= (this.#options.buffer ?? BUFFER) ? 'There is no connection, and the buffer is full'
      : undefined;
    const aborted = timeout === undefined ? signal : AbortSignal.any([AbortSignal.timeout(timeout), ...(signal ? [signal] : [])]);
    const sent = reason ? Promise.reject(new Error(reason)) : this.#outbox.add(message, content, () => this.#flush(), aborted);
    // Whoever does not want to know is not told by an unhandled rejection.
    sent.catch(() => {});
    this.#flush();
    return sent;
  }

  reconnect() {
    if (this.status === 'closed') return;
    this.#failures = 0;
    if (this.#link) return this.#link.end({ reason: 'Reconnecting', code: 4200 });
    clearTimeout(this.#timer);
    this.#open();
  }

  close() {
    this.#stop('Closed');
  }

  /** Sends what waits, as far as there is room. */
  #flush() {
    const link = this.#link;
    if (!link?.send || !link.isOpen) return;
    // The service's time, if it is known: the ids are compared with its clock.
    const time = Date.now() - (Number.isFinite(this.#least) ? this.#least : 0);
    this.#outbox.flush(link, this.#channels.length, time);
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** @param {Status} status @param {object} [more] */
  #change(status, more) {
    this.status = status;
    this.#dispatch('status', { status, transport: this.transport, ...more });
  }

  async #open() {
    const link = this.#link = new Link(this.transport);
    if (!this.#previous) this.#change('connecting');
    link.on = {
      open: () => this.#opened(link),
      alive: () => {
        if (link.transport === 'events') this.#quiet(link, now());
      },
      envelope: (envelope) => this.#receive(link, envelope),
      frame: (size) => this.#arrived(link, size),
      cursor: (since) => this.#advance(link, since),
      settle: () => this.#settle(link),
      end: (end) => this.#ended(link, end),
    };
    const { token: option } = this.#options;
    let token;
    try {
      token = typeof option === 'function' ? (await option())?.trim() : option;
    } catch (error) {
      return link.end({ reason: `No access token: ${error}` });
    }
    if (link !== this.#link) return;
    if (option !== undefined && !token) return this.#fail('No access token');
    if (token && !/^[\w.-]+$/.test(token)) {
      const reason = 'Invalid access token';
      // It may be an error of another server.
      return typeof option === 'string' ? this.#fail(reason) : link.end({ reason });
    }
    const query = new URLSearchParams(this.#options.params);
    for (const channel of this.#channels) query.append('channel', channel);
    query.set('format', 'json');
    const since = link.since = this.since;
    link.resumes = since !== undefined;
    // A WebSocket asks when it has its subscription.
    if (since && link.transport !== 'websocket') query.set('since', since);
    const url = new URL(`/api/${link.transport}?${query}`, this.#url);
    link.open(url, token, this.#options.WebSocket ?? globalThis.WebSocket);
  }

  /** @param {Link} link */
  #opened(link) {
    // Later it is not the transport that is at fault.
    this.#blocked = -Infinity;
    link.after(STABLE, () => {
      this.#failures = 0;
      this.#hasNewToken = false;
    });
    if (link.send) {
      link.after(SUBSCRIBED, () => {
        if (link.isKept) this.#sync(link);
        else this.#settle(link);
      });
    } else if (link.transport === 'events') link.after(GAP, () => link.isMore || this.#settle(link));
    this.#change('connected');
    this.#flush();
  }

  /** Asks for what was missed. @param {Link} link */
  #sync(link) {
    link.hasNews = link.hasDropped = false;
    link.isAsking = true;
    link.wasDoubtful = link.isDoubtful;
    link.isDoubtful = false;
    link.asked = now();
    link.since = this.since;
    link.send?.({ type: 'sync', since: link.since });
  }

  /** Asks after a time, or earlier if that was due already. @param {Link} link @param {number} delay */
  #syncAfter(link, delay) {
    const due = now() + delay;
    if (link.due <= due) return;
    link.due = due;
    link.after(delay, () => {
      if (link.due !== due) return;
      link.due = Infinity;
      this.#sync(link);
    });
  }

  /** There was nothing until then. @param {Link} link @param {number} at */
  #quiet(link, at) {
    if (this.#cursor && link.isSettled && link === this.#link) this.#cursor.alive = Math.max(this.#cursor.at, at);
  }

  /** @param {Link} link @param {Envelope} envelope */
  #synced(link, { since, more, recovered, reason = 'unknown', error }) {
    link.isAsking = false;
    if (error) {
      this.#dispatch('error', { message: error });
      if (error.startsWith('Invalid since')) {
        // It may be the cursor of an earlier page.
        this.#cursor = undefined;
        this.#lost = error;
        return this.#sync(link);
      }
      return this.#syncAfter(link, RETRY);
    }
    if (more) {
      const isAhead = link.hasNews || (this.#cursor && timeOf(since) - timeOf(this.#cursor.since) >= 1_000);
      if (since) this.#advance(link, since);
      return this.#syncAfter(link, isAhead ? 0 : 1_000);
    }
    // The same cursor again: the store could not be read. What it has will follow.
    const isUnread = recovered === false && since && link.since && timeOf(since) <= timeOf(link.since);
    if (isUnread) this.#syncAfter(link, RETRY);
    if (isUnread && link.isSettled) return;
    // A first connection has missed nothing, as far as that is known.
    const isFirst = !this.#hasSettled && !link.resumes;
    if (recovered === false && (isUnread || !isFirst)) this.#lost = reason;
    if (since) {
      this.#least = Math.min(this.#least, Date.now() - timeOf(since));
      this.#advance(link, since);
    } else this.#cursor = undefined;
    link.isKept = since !== undefined;
    link.isVerified = !link.hasNews && !isUnread;
    // What is checked in vain is checked less often.
    if (link.wasDoubtful) this.#doubt = link.hasDropped ? DOUBT.first : Math.min(2 * this.#doubt, DOUBT.longest);
    // What arrived since it asked is not verified yet.
    if (link.hasNews && this.#verify) this.#syncAfter(link, this.#verify);
    this.#settle(link);
  }

  /** A frame arrived on a WebSocket. @param {Link} link @param {number} size */
  #arrived(link, size) {
    const time = now();
    if (time - link.burst.from > BURST.within) link.burst = { from: time, bytes: 0 };
    link.burst.bytes += size;
    if (link.burst.bytes > BURST.bytes) this.#doubted(link);
  }

  /** Messages may have been dropped. @param {Link} link */
  #doubted(link) {
    if (!link.isSettled || !link.isKept || !this.#verify || link.isDoubtful) return;
    link.isDoubtful = true;
    this.#syncAfter(link, Math.max(DOUBT.first, link.asked + this.#doubt - now()));
  }

  /** A new message arrived on a WebSocket. @param {Link} link @param {string} id */
  #news(link, id) {
    link.isVerified = false;
    const took = Date.now() - timeOf(id);
    if (link.isAsking) {
      // It may have been on its way.
      if (took - this.#least > LATE) link.hasDropped = true;
      return;
    }
    this.#least = Math.min(this.#least, took);
    if (!link.isSettled || !link.isKept) return;
    if (!this.#verify) this.#advance(link, id);
    else this.#syncAfter(link, this.#verify);
    if (took - this.#least > LATE) this.#doubted(link);
  }

  /** @param {Link} link @param {Envelope} envelope */
  #receive(link, envelope) {
    const { type, id, channel, to, data, base64, from, since, recovered, reason = 'unknown' } = envelope;
    if (envelope.ref !== undefined) {
      if (this.#outbox.settle(envelope)) this.#flush();
      return;
    }
    // The link before only delivers, and only what is still wanted.
    if (link !== this.#link && type !== 'message' && type !== 'close') return;
    if (link !== this.#link && this.#left.includes(channel) && !this.#channels.includes(channel)) return;
    switch (type) {
      case 'welcome':
        this.connection = envelope.connection;
        this.user = envelope.user;
        // The same cursor again: the store could not be read, and will be asked again.
        if (recovered === false && !(link.isSettled && since === this.#cursor?.since)) this.#lost = reason;
        if (link.send) {
          link.isKept = since !== undefined;
          if (!link.isKept) {
            this.#cursor = undefined;
            if (link.resumes) this.#lost = 'The service keeps no messages';
          }
          if (!this.#cursor) this.#first = since;
        }
        // That of the last connection is still to be followed up.
        if (since && !(link.send && this.#cursor)) this.#advance(link, since);
        link.isMore = Boolean(envelope.more);
        break;
      case 'ping':
        // This one may be late, but not that before it. A check that is due is due for a time before.
        if (link.due === Infinity && (link.isVerified || !this.#verify)) this.#quiet(link, link.pinged);
        link.pinged = now();
        break;
      case 'synced':
        this.connection = envelope.connection;
        this.user = envelope.user;
        this.#synced(link, envelope);
        break;
      case 'message': {
        if (id && !this.#isNew(id)) break;
        // What was published before the first connection is not for it.
        if (id && link.isAsking && this.#first && timeOf(id) < timeOf(this.#first) - 1_000) break;
        const content = base64 === undefined ? data : fromBase64(base64);
        link.hasNews = true;
        if (id && link.send) this.#news(link, id);
        this.#dispatch('message', { id, channel, to, data: content, from });
        break;
      }
      case 'error':
        this.#dispatch('error', { message: envelope.error });
        break;
      case 'reset':
        this.#lost = reason;
        if (link.isSettled) this.#settle(link);
        break;
      case 'close':
        link.end(envelope);
    }
  }

  #isNew(id) {
    if (this.#seen.has(id)) return false;
    this.#seen.add(id);
    if (this.#seen.size > this.#remembered) {
      // What is older than the cursor does not come again. Without one there is no replay.
      const oldest = this.#cursor ? timeOf(this.#cursor.since) - OLDEST : timeOf(id) - OLDEST;
      for (const id of this.#seen) if (timeOf(id) < oldest) this.#seen.delete(id);
      this.#remembered = Math.max(REMEMBERED, 2 * this.#seen.size);
    }
    return true;
  }

  /** @param {Link} link @param {string} since */
  #advance(link, since) {
    // An old link says nothing of the channels of the new one, and the id of a message may be older than its arrival.
    const isOlder = this.#cursor && timeOf(since) < timeOf(this.#cursor.since);
    if (link === this.#link && !isOlder) this.#cursor = { since, at: now(), alive: now() };
  }

  /** The link has its subscription, and it is known whether something was missed. @param {Link} link */
  #settle(link) {
    if (link !== this.#link) return;
    if (!link.isSettled) {
      link.isSettled = true;
      if (link.last) this.#advance(link, link.last);
      if (this.#hasSettled && !link.resumes) this.#lost ??= 'There was no cursor';
      this.#hasSettled = true;
      this.#previous?.close();
      this.#previous = undefined;
      if (link.resumes && this.#lost === undefined) this.#dispatch('recovered', { recovered: true });
    }
    if (this.#lost !== undefined) this.#dispatch('recovered', { recovered: false, reason: this.#lost });
    this.#lost = undefined;
  }

  /** @param {Link} link @param {End} end */
  #ended(link, { status, code = 0, reason = '', blocked }) {
    this.#outbox.lost(link);
    if (link === this.#previous) {
      this.#flush();
      this.#previous = undefined;
      if (!this.#link?.isOpen) this.#change(this.#link ? 'connecting' : 'waiting');
    }
    if (link !== this.#link) return;
    if (link.isMore && link.since !== this.since) {
      // The next page.
      this.#link = undefined;
      return void this.#open();
    }
    const line = reason || (status ? `Status ${status}` : code > 1006 ? `Closed: ${code}` : 'The connection was lost');
    // 4000 to 4099 stop, 4200 to 4299 reconnect at once, others back off.
    const isExpired = code === 1008 || (status === 401 && link.isSettled);
    if (status === 400 && link.resumes && !this.#hasSettled) {
      // It may be the cursor of an earlier page.
      this.#cursor = undefined;
      this.#lost = line;
      return this.#retry(line, 0);
    }
    if (status && [400, 401, 403].includes(status) && !isExpired) return this.#fail(line);
    if (code >= 4000 && code < 4100) return this.#stop(line, code);
    if (!isExpired && (status || (code > 1006 && code < 4000))) this.#dispatch('error', { message: line });
    if (status === 429) this.#failures = 10;
    let delay = code >= 4200 && code < 4300 && !this.#failures ? 0 : undefined;
    if (blocked && ++this.#blocked === 2 && this.#transport < this.#transports.length - 1) {
      this.#blocked = delay = 0;
      this.#transport++;
    } else if (isExpired && !this.#hasNewToken) {
      this.#hasNewToken = true;
      delay = 0;
    }
    this.#retry(line, delay);
  }

  /** Connects again, with exponential backoff and full jitter. @param {string} reason */
  #retry(reason, delay = Math.random() * Math.min(this.#longest, BACKOFF.first * 2 ** this.#failures)) {
    if (this.status === 'closed') return;
    this.#link = undefined;
    this.#failures++;
    clearTimeout(this.#timer);
    const isOffline = globalThis.navigator?.onLine === false;
    if (!isOffline) this.#timer = setTimeout(() => this.#open(), delay);
    const until = isOffline ? undefined : new Date(Date.now() + delay);
    if (!this.#previous) this.#change('waiting', { reason, delay: isOffline ? undefined : delay, until });
  }

  /** The page is visible, or the network is back. @param {Event} event */
  #wake = (event) => {
    if (event.type !== 'online' && document.visibilityState === 'hidden') return;
    if (this.#link) return this.#link.checkSilence();
    if (this.status === 'closed' || navigator.onLine === false) return;
    if (event.type === 'online') this.#transport = this.#blocked = 0;
    clearTimeout(this.#timer);
    this.#open();
  };

  #fail(message) {
    this.#dispatch('error', { message });
    this.#stop(message);
  }

  /** @param {string} reason @param {number} [code] */
  #stop(reason, code) {
    if (this.status === 'closed') return;
    this.status = 'closed';
    for (const link of [this.#link, this.#previous]) link?.close();
    this.#link = this.#previous = undefined;
    clearTimeout(this.#timer);
    globalThis.removeEventListener?.('online', this.#wake);
    globalThis.document?.removeEventListener('visibilitychange', this.#wake);
    const unsent = this.#outbox.end(reason);
    if (unsent.length) this.#dispatch('error', { message: `${unsent.length} messages were not sent`, unsent });
    this.#change('closed', { reason, code });
  }
}

function checked(channels) {
  if (!Array.isArray(channels) || !channels.length) throw new TypeError('channels must be a list of names');
  return [...channels];
}

/** @param {string | URL} url */
function serviceOf(url) {
  const service = new URL(url, globalThis.location?.origin);
  service.protocol = service.protocol.replace(/^ws/, 'http');
  if (!service.protocol.startsWith('http')) throw new TypeError('The URL of a service is one of http or https');
  if (service.pathname !== '/' || service.search) throw new TypeError(`The URL of a service has no path: use ${service.origin}`);
  return service;
}

/**
 * What is to be sent, in its order.
 * @typedef {{ message: any, content: any, ref?: string, json?: string, cost: number, tries: number, link?: Link, resolve: (ack: object) => void, reject: (error: unknown) => void }} Entry
 */
class Outbox {
  /** @type {Entry[]} */
  #waiting = [];
  /** What is not acknowledged, by its ref, in the order in which it was sent. @type {Map<string, Entry>} */
  #flying = new Map();
  /** The time of the last id, and how many there are of it. */
  #time = 0;
  #count = 0;

  get size() {
    return this.#waiting.length + this.#flying.size;
  }

  /** @param {any} message @param {any} content @param {() => void} flush @param {AbortSignal} [signal] @returns {Promise<object>} */
  add(message, content, flush, signal) {
    /** @type {() => void} */
    let abort = () => {};
    /** @type {Promise<object>} */
    const sent = new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const entry = { message, content, cost: 0, tries: 0, resolve, reject };
      this.#waiting.push(entry);
      abort = () => {
        this.#drop(entry, signal?.reason);
        flush();
      };
      signal?.addEventListener('abort', abort);
      if (!(content instanceof Promise)) return;
      content.then((content) => { entry.content = content; }, (error) => this.#drop(entry, error)).then(flush);
    });
    const forget = () => signal?.removeEventListener('abort', abort);
    sent.then(forget, forget);
    return sent;
  }

  /** @param {Entry} entry */
  #drop(entry, error) {
    this.#waiting = this.#waiting.filter((other) => other !== entry);
    if (entry.ref) this.#flying.delete(entry.ref);
    entry.reject(error);
  }

  /** @param {Link} link @param {number} channels @param {number} time For ids, in milliseconds since 1970. */
  flush(link, channels, time) {
    const flying = [...this.#flying.values()];
    let cost = flying.reduce((sum, entry) => sum + entry.cost, 0);
    let entry;
    while ((entry = this.#waiting[0]) && !(entry.content instanceof Promise)) {
      entry.ref ??= this.#next(time);
      entry.json ??= JSON.stringify({ type: 'message', ...entry.content, ref: entry.ref });
      entry.cost = channels * (1_400 + 6 * entry.json.length);
      const isFull = this.#flying.size * channels >= FLIGHT.messages || cost + entry.cost > FLIGHT.bytes;
      if (this.#flying.size && isFull) return;
      this.#waiting.shift();
      if (entry.json.length > LONGEST) entry.reject(new RangeError(`The message is too long: ${LONGEST} characters of JSON can be sent`));
      else if (entry.tries === TRIES) entry.reject(new Error(`Not acknowledged, although it was sent ${TRIES} times`));
      else {
        cost += entry.cost;
        this.#flying.set(entry.ref, entry);
        this.#send(entry, link);
      }
    }
  }

  /** An id that is greater than those before. @param {number} time */
  #next(time) {
    const isNew = Math.floor(time) > this.#time;
    this.#count = isNew ? 0 : this.#count + 1;
    if (isNew) this.#time = Math.floor(time);
    return uuid(this.#time, this.#count);
  }

  /** @param {Entry} entry @param {Link} link */
  #send(entry, link) {
    entry.link = link;
    entry.tries++;
    link.send?.(entry.json);
    link.after(ACK, () => {
      const { ref, tries } = entry;
      if (!ref || this.#flying.get(ref) !== entry || entry.link !== link) return;
      if (tries < TRIES) this.#send(entry, link);
      else this.#drop(entry, new Error(`Not acknowledged, although it was sent ${TRIES} times`));
    });
  }

  /** The service says what became of a message. Returns whether it was one of these. @param {Envelope} envelope */
  settle({ type, ref, id, value, error }) {
    const entry = this.#flying.get(ref);
    if (!entry) return false;
    this.#flying.delete(ref);
    if (type === 'ack') entry.resolve({ id, value });
    else entry.reject(new Error(error));
    return true;
  }

  /** What was on its way by a link comes before what is new. @param {Link} link */
  lost(link) {
    const lost = [...this.#flying.values()].filter((entry) => entry.link === link);
    for (const { ref } of lost) this.#flying.delete(/** @type {string} */ (ref));
    this.#waiting.unshift(...lost);
  }

  /** Nothing more is sent. Returns what was not acknowledged. @param {string} reason */
  end(reason) {
    const entries = [...this.#flying.values(), ...this.#waiting];
    this.#waiting = [];
    this.#flying.clear();
    for (const { reject } of entries) reject(new Error(reason));
    return entries.map(({ message }) => message);
  }
}

/** One connection by one transport. */
class Link {
  isOpen = false;
  isSettled = false;
  /** Whether what is published is kept, as far as it is known. */
  isKept = true;
  /** Whether it ends with a page of what was missed, which another one follows. */
  isMore = false;
  /** Whether messages may have been dropped, and whether that was so before it asked last. */
  isDoubtful = false;
  wasDoubtful = false;
  /** Whether the last check found that everything has arrived, and nothing has arrived since. */
  isVerified = false;
  /** Whether it asks what was missed, since when, when it asked last, and when it will ask. */
  isAsking = false;
  /** @type {string | undefined} */
  since;
  asked = 0;
  due = Infinity;
  /** Whether it was told of messages that had not arrived. */
  hasDropped = false;
  /** How much arrived at once. */
  burst = { from: 0, bytes: 0 };
  /** When the last ping came. */
  pinged = 0;
  /** Whether it was opened with a cursor. */
  resumes = false;
  /** Whether it had a new message, since it asked. */
  hasNews = false;
  /** The id of the last message, while it is no cursor. @type {string | undefined} */
  last;
  /** @type {((envelope: Envelope | string | undefined) => void) | undefined} */
  send;
  /** What is called. @type {Record<string, (what: any) => void>} */
  on = {};

  #abort = new AbortController();
  signal = this.#abort.signal;
  #heard = now();
  #timers = new Set();

  constructor(transport) {
    this.transport = transport;
    this.#watch();
  }

  /** @param {URL} url @param {string | undefined} token @param {any} WebSocket */
  open(url, token, WebSocket) {
    const headers = token ? { Authorization: `Bearer ${token}` } : undefined;
    const request = (url) => fetch(url, { headers, signal: this.signal, cache: 'no-store' });
    const run = transports[this.transport];
    run(this, url, request, token, WebSocket).catch((error) => this.end({ reason: String(error) }));
  }

  after(delay, what) {
    if (this.isClosed) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      what();
    }, delay);
    this.#timers.add(timer);
  }

  /** @param {number} delay @returns {Promise<void>} */
  pause(delay) {
    return new Promise((resolve) => this.after(delay, resolve));
  }

  get isClosed() {
    return this.signal.aborted;
  }

  /** There was a sign of life. */
  alive() {
    // What comes after a long silence is older: the page was frozen.
    this.checkSilence();
    if (this.isClosed) return;
    this.#heard = now();
    if (!this.isOpen) {
      this.isOpen = true;
      this.on.open?.(this);
    }
    this.on.alive?.(this);
  }

  /** @param {Envelope} envelope */
  receive(envelope) {
    this.alive();
    if (!this.isClosed) this.on.envelope?.(envelope);
  }

  checkSilence() {
    if (now() - this.#heard >= SILENCE) this.end({ reason: 'The connection was silent' });
  }

  #watch() {
    this.after(SILENCE - (now() - this.#heard) + 1, () => {
      this.checkSilence();
      if (!this.isClosed) this.#watch();
    });
  }

  /** @param {End} end */
  end(end) {
    if (this.isClosed) return;
    this.close();
    this.on.end?.(end);
  }

  close() {
    this.#timers.forEach(clearTimeout);
    this.#timers.clear();
    this.#abort.abort();
  }
}

/** Whether something between here and the service responds in its place: a captive portal, a proxy. */
const isForeign = (response, ...types) => !types.some((type) => response.headers.get('content-type')?.startsWith(type));

const foreign = ({ status, headers }) => ({ reason: `Not a response of the service: status ${status}, ${headers.get('content-type') ?? 'no type'}` });

async function refusal(response) {
  if (response.status === 426) return { blocked: true, reason: 'There is no WebSocket' };
  // To a poll that it holds, the proxy responds with the type that was announced.
  if (response.ok || isForeign(response, 'text/plain', 'application/json')) return foreign(response);
  const text = (await response.text()).trim().split('\n')[0] ?? '';
  return { status: response.status, reason: text.slice(0, 300) };
}

/** @type {Record<Transport, (link: Link, url: URL, request: Request, token?: string, WebSocket?: any) => Promise<void>>} */
const transports = {
  async websocket(link, url, request, token, WebSocket) {
    if (!WebSocket) return link.end({ blocked: true, reason: 'Missing option: WebSocket' });
    const socket = new WebSocket(url.href.replace(/^http/, 'ws'), token ? ['bearer', token] : []);
    link.signal.addEventListener('abort', () => socket.close(1000));
    link.after(OPENING, () => link.isOpen || socket.close());
    // It works when something has arrived: some networks let only the handshake pass.
    socket.onopen = () => {
      link.send = (envelope) => socket.send(typeof envelope === 'string' ? envelope : JSON.stringify(envelope));
      link.after(PROBE, () => link.isOpen || link.send?.({ type: 'ping' }));
    };
    socket.onmessage = ({ data }) => {
      try {
        link.on.frame?.(data.length);
        link.receive(JSON.parse(data));
      } catch (error) {
        link.end({ reason: String(error) });
      }
    };
    // Without this, `ws` of Node.js throws. What follows is a close.
    socket.onerror = () => {};
    socket.onclose = async ({ code, reason }) => {
      if (link.isOpen || link.isClosed) return link.end({ code, reason });
      // Browsers hide why a handshake failed. The service says it over plain HTTP.
      link.after(OPENING, () => link.end({}));
      link.end(await request(url).then(refusal).catch(() => ({})));
    };
  },

  /** By `fetch`: an EventSource hides why it failed, and sends no headers. */
  async events(link, url, request) {
    // A proxy may wait for the end of the response.
    link.after(OPENING, () => link.isOpen || link.end({ blocked: true, reason: 'The connection was silent' }));
    const response = await request(url);
    if (!response.ok) return link.end(await refusal(response));
    if (!response.body || isForeign(response, 'text/event-stream')) return link.end(foreign(response));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ;) {
      const { value, done } = await reader.read();
      if (done) return link.end({ reason: 'The connection was lost' });
      const blocks = (rest + value).split('\n\n');
      rest = blocks.pop() ?? '';
      link.alive();
      for (const block of blocks) {
        // An envelope is one line.
        const field = (name) => block.split('\n').find((line) => line.startsWith(name))?.slice(name.length);
        const [id, data] = [field('id: '), field('data: ')];
        const envelope = data && JSON.parse(data);
        if (data) link.receive(envelope);
        if (id && (link.isSettled || envelope?.type !== 'message')) link.on.cursor?.(id);
        else link.last = id ?? link.last;
      }
    }
  },

  async poll(link, url, request) {
    // A poll that is not refused waits.
    link.after(1_000, () => link.alive());
    while (!link.isClosed) {
      const start = now();
      const response = await request(url);
      if (!response.ok) return link.end(await refusal(response));
      if (response.status !== 204 && isForeign(response, 'application/json')) return link.end(foreign(response));
      const envelopes = response.status === 204 ? [] : await response.json();
      link.hasNews = false;
      link.alive();
      for (const envelope of envelopes) link.receive(envelope);
      const welcome = envelopes.find(({ type }) => type === 'welcome');
      if (!welcome?.more) link.on.settle?.(link);
      const before = url.searchParams.get('since');
      if (welcome?.since) url.searchParams.set('since', welcome.since);
      else if (welcome) {
        // It is not kept, or cannot be read.
        url.searchParams.delete('since');
        await link.pause(OPENING / 2);
      }
      const isNew = link.hasNews || url.searchParams.get('since') !== before;
      if (!isNew && now() - start < 1_000) await link.pause(1_000);
    }
  },
};
