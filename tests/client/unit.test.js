// The client with a WebSocket, a fetch and a clock that the tests control: what it does, and when.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { connect } from '../../src/client/client.js';

const ID = (/** @type {number} */ time, n = 0) => {
  const digits = time.toString(16).padStart(12, '0');
  return `${digits.slice(0, 8)}-${digits.slice(8)}-7000-8000-${n.toString(16).padStart(12, '0')}`;
};
const START = 1_800_000_000_000;

let clock = 0;
/** @type {FakeSocket[]} */
let sockets = [];
/** @type {{ url: URL, headers: Record<string, string> | undefined, signal: AbortSignal }[]} */
let requests = [];
/** What the service responds to each request over plain HTTP. @type {(url: URL, signal: AbortSignal) => Promise<Response>} */
let respond;
/** @type {any[]} */
let events = [];
/** @type {ReturnType<typeof connect> | undefined} */
let live;
/** How many timers wait. */
const timers = new Set();

class FakeSocket {
  sent = /** @type {any[]} */ ([]);
  isClosed = false;
  onopen = () => {};
  onmessage = (/** @type {any} */ _) => {};
  onclose = (/** @type {any} */ _) => {};
  onerror = () => {};
  constructor(/** @type {string} */ url, /** @type {string[]} */ protocols) {
    this.url = new URL(url);
    this.protocols = protocols;
    sockets.push(this);
  }
  send(/** @type {string} */ text) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    if (!this.isClosed) this.drop(1006);
  }
  drop(code = 1006, reason = '') {
    this.isClosed = true;
    this.onclose({ code, reason });
  }
  receive(/** @type {object} */ envelope) {
    this.onmessage({ data: JSON.stringify(envelope) });
  }
  open(/** @type {object} */ welcome = {}) {
    this.onopen();
    this.receive({ type: 'welcome', connection: 'c1', since: ID(START), ...welcome });
  }
}

/** Lets the time pass, in steps, and what waits for it run. */
async function pass(milliseconds = 0) {
  for (let rest = milliseconds; ; rest -= 100) {
    const step = Math.min(rest, 100);
    clock += step;
    mock.timers.tick(step);
    for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
    if (rest <= 100) return;
  }
}

async function start(/** @type {any} */ options = {}) {
  live = connect('https://service.example', { WebSocket: FakeSocket, ...options });
  for (const type of /** @type {const} */ (['message', 'recovered', 'status', 'error'])) {
    live.addEventListener(type, (/** @type {any} */ event) => events.push({ type, ...event.detail }));
  }
  await pass();
  return live;
}

const last = () => /** @type {FakeSocket} */ (sockets.at(-1));
const of = (/** @type {string} */ type) => events.filter((event) => event.type === type);
const statuses = () => of('status').map(({ status }) => status);
const text = (status = 426, line = '') => Promise.resolve(new Response(line, { status }));
const json = (/** @type {object[]} */ ...envelopes) => Promise.resolve(Response.json(envelopes));

/** A response that the proxy holds, until it is aborted. */
const held = (/** @type {AbortSignal} */ signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))));

function stream() {
  /** @type {ReadableStreamDefaultController<Uint8Array>} */
  let controller;
  const body = new ReadableStream({ start: (given) => { controller = given; } });
  const push = (/** @type {string} */ text) => controller.enqueue(new TextEncoder().encode(text));
  return { response: new Response(body, { headers: { 'content-type': 'text/event-stream' } }), push, end: () => controller.close() };
}

beforeEach(() => {
  [clock, sockets, requests, events] = [0, [], [], []];
  respond = () => text();
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: START });
  const { setTimeout, clearTimeout } = globalThis;
  mock.method(globalThis, 'setTimeout', (/** @type {() => void} */ what, /** @type {number} */ delay) => {
    const timer = setTimeout(() => { timers.delete(timer); what(); }, delay);
    timers.add(timer);
    return timer;
  });
  mock.method(globalThis, 'clearTimeout', (/** @type {any} */ timer) => { timers.delete(timer); clearTimeout(timer); });
  mock.method(performance, 'now', () => clock);
  mock.method(Math, 'random', () => 0.5);
  mock.method(globalThis, 'fetch', (/** @type {URL} */ url, /** @type {any} */ { headers, signal }) => {
    requests.push({ url: new URL(url), headers, signal });
    return respond(new URL(url), signal);
  });
});

afterEach(() => {
  live?.close();
  const left = timers.size;
  timers.clear();
  mock.timers.reset();
  mock.restoreAll();
  assert.equal(left, 0, 'timers that are left');
});

test('is at most 9 KB compressed', () => {
  const source = readFileSync(new URL('../../src/client/client.js', import.meta.url), 'utf8');
  // As src/client/build.rs leaves out the comments.
  const served = source.split('\n').map((line) => line.trim()).filter((line) => line && !/^(\/\/|\/\*|\*)/.test(line)).join('\n');
  const size = gzipSync(served, { level: 9 }).length;
  assert.ok(size <= 9_216, `${size} bytes`);
});

// --- WebSockets

test('connects with its channels, its parameters and its token', async () => {
  await start({ channels: ['a', 'b'], token: () => 'a.b.c', params: { mode: 'publish' } });
  assert.equal(last().url.href, 'wss://service.example/api/websocket?mode=publish&channel=a&channel=b&format=json');
  assert.deepEqual(last().protocols, ['bearer', 'a.b.c']);
  assert.deepEqual(statuses(), ['connecting']);
  last().open({ user: 'alice' });
  assert.deepEqual(of('status').at(-1), { type: 'status', status: 'connected', transport: 'websocket' });
  assert.deepEqual([live?.status, live?.connection, live?.user, live?.transport], ['connected', 'c1', 'alice', 'websocket']);
});

test('a message is there once, as text or as bytes', async () => {
  await start();
  last().open();
  const id = ID(START, 1);
  for (let turn = 0; turn < 2; turn++) last().receive({ type: 'message', id, channel: 'a', data: 'hi', from: 'bob' });
  last().receive({ type: 'message', to: 'user', base64: 'AAH/' });
  last().receive({ type: 'ping' });
  assert.deepEqual(of('message'), [
    { type: 'message', id, channel: 'a', to: undefined, data: 'hi', from: 'bob' },
    { type: 'message', id: undefined, channel: undefined, to: 'user', data: new Uint8Array([0, 1, 255]), from: undefined },
  ]);
});

/** What was sent on a socket, without the refs, and the refs. */
const contents = (/** @type {FakeSocket} */ socket) => socket.sent.filter(({ type }) => type === 'message').map(({ ref, type, ...content }) => content);
const refs = (/** @type {FakeSocket} */ socket) => socket.sent.filter(({ type }) => type === 'message').map(({ ref }) => ref);
/** The reason for which a promise is rejected. */
const reasonOf = (/** @type {Promise<any>} */ sent) => sent.then(() => 'acknowledged', (error) => error.message);

test('a message is sent with a ref, and its promise has the ack or the reason', async () => {
  const live = await start();
  last().open();
  const sent = [live.send('1'), live.send(new Uint8Array([0, 255])), live.send('3')];
  assert.deepEqual(contents(last()), [{ data: '1' }, { base64: 'AP8=' }, { data: '3' }]);
  const [one, two, three] = refs(last());
  assert.match(one, /^01a3185c-5[0-9a-f]{3}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  last().receive({ type: 'error', ref: two, error: 'Too long' });
  last().receive({ type: 'ack', ref: one, id: ID(START, 7), value: { place: 3 } });
  last().receive({ type: 'ack', ref: three });
  // What nobody knows, and an answer that comes twice.
  last().receive({ type: 'ack', ref: one });
  last().receive({ type: 'error', ref: 'x', error: 'y' });
  assert.deepEqual(await sent[0], { id: ID(START, 7), value: { place: 3 } });
  assert.equal(await reasonOf(sent[1]), 'Too long');
  assert.deepEqual(await sent[2], { id: undefined, value: undefined });
  assert.equal(of('error').length, 0);
});

test('what is sent while there is no connection is kept, as far as the buffer goes', async () => {
  const live = await start({ buffer: 2 });
  const [one, two, three] = [live.send('1'), live.send('2'), live.send('3')];
  assert.equal(await reasonOf(three), 'There is no connection, and the buffer is full');
  last().onopen();
  assert.deepEqual(last().sent, [], 'the handshake alone is no connection');
  last().open();
  assert.deepEqual(contents(last()), [{ data: '1' }, { data: '2' }]);
  refs(last()).forEach((ref) => last().receive({ type: 'ack', ref }));
  await Promise.all([one, two]);
  const last_one = live.send('4');
  last().drop();
  await pass();
  live.send('5');
  live.close();
  assert.deepEqual(of('error').at(-1)?.unsent, ['4', '5']);
  assert.equal(await reasonOf(last_one), 'Closed');
  assert.equal(await reasonOf(live.send('6')), 'The connection is closed');
  assert.deepEqual(statuses(), ['connecting', 'connected', 'waiting', 'closed']);
  const none = await start({ buffer: 0 });
  assert.equal(await reasonOf(none.send('x')), 'There is no connection, and the buffer is full');
});

test('what was not acknowledged is sent again on the next connection, in its order, before what is new', async () => {
  const live = await start();
  last().open();
  const sent = ['1', '2', '3'].map((text) => live.send(text));
  const [, two, three] = refs(last());
  last().receive({ type: 'ack', ref: refs(last())[0] });
  last().drop();
  sent.push(live.send('4'));
  await pass(1_000);
  last().open();
  assert.deepEqual(contents(last()), [{ data: '2' }, { data: '3' }, { data: '4' }]);
  assert.deepEqual(refs(last()).slice(0, 2), [two, three], 'the same messages as before');
  refs(last()).forEach((ref) => last().receive({ type: 'ack', ref }));
  await Promise.all(sent);
  await pass(30_000);
  assert.equal(contents(last()).length, 3);
});

test('a message that is never acknowledged is sent five times', async () => {
  const live = await start();
  last().open();
  const sent = live.send('x');
  for (let turn = 0; turn < 6; turn++) {
    await pass(10_000);
    last().receive({ type: 'ping' });
  }
  assert.equal(await reasonOf(sent), 'Not acknowledged, although it was sent 5 times');
  assert.equal(new Set(refs(last())).size, 1);
  assert.equal(refs(last()).length, 5);
  // So is one that ends each connection.
  const poison = live.send('y');
  for (let turn = 0; turn < 5; turn++) {
    const before = sockets.length;
    last().drop();
    while (sockets.length === before) await pass(500);
    last().open();
  }
  assert.equal(await reasonOf(poison), 'Not acknowledged, although it was sent 5 times');
});

test('no loop overwhelms the service: so many are on their way at once, and no more bytes', async () => {
  const live = await start();
  last().open();
  const sent = Array.from({ length: 10_000 }, (_, number) => live.send(String(number)));
  assert.equal(refs(last()).length, 50);
  for (let turn = 0; refs(last()).length < 10_000; turn++) last().receive({ type: 'ack', ref: refs(last())[turn] });
  assert.deepEqual(contents(last()).map(({ data }) => Number(data)), sent.map((_, number) => number));
  refs(last()).slice(-50).forEach((ref) => last().receive({ type: 'ack', ref }));
  await Promise.all(sent);
  last().sent = [];
  for (let turn = 0; turn < 20; turn++) live.send('x'.repeat(5_000));
  assert.equal(refs(last()).length, 9);
  // One alone is sent whatever its size, up to what the proxy takes.
  live.close();
  const other = await start({ channels: Array.from({ length: 20 }, (_, number) => `c${number}`) });
  last().open();
  for (let turn = 0; turn < 5; turn++) other.send('x');
  assert.equal(refs(last()).length, 3, 'for each of its channels');
  other.close();
  const third = await start();
  last().open();
  third.send('x'.repeat(100_000));
  assert.equal(refs(last()).length, 1);
  const tooLong = third.send('x'.repeat(150_000));
  last().receive({ type: 'ack', ref: refs(last())[0] });
  assert.match(await reasonOf(tooLong), /^The message is too long/);
});

test('text and bytes of each kind are sent as they were, and nothing else is', async () => {
  const live = await start();
  last().open();
  const bytes = new Uint8Array([1, 2, 3, 4]);
  live.send('hello \u{1f600}'.slice(0, 7));
  live.send(bytes.subarray(1, 3));
  live.send(new Uint16Array([0x0201]));
  live.send(new DataView(bytes.buffer, 3));
  live.send(bytes.buffer);
  live.send(new Blob([bytes]));
  live.send('behind the blob');
  bytes.fill(0);
  await pass();
  assert.deepEqual(contents(last()), [
    { data: 'hello \ufffd' }, { base64: 'AgM=' }, { base64: 'AQI=' }, { base64: 'BA==' }, { base64: 'AQIDBA==' }, { base64: 'AQIDBA==' }, { data: 'behind the blob' },
  ]);
  for (const [wrong, what] of [[{ a: 1 }, 'an object'], [[1], 'a list'], [3, 'number'], [undefined, 'undefined'], [null, 'null'], [() => {}, 'function']]) {
    assert.throws(() => live.send(/** @type {any} */ (wrong)), new TypeError(`Cannot send ${what}: use JSON.stringify(message), a string, an ArrayBuffer, a typed array or a Blob`));
  }
});

test('a message can be given up', async () => {
  const live = await start();
  const stop = new AbortController();
  const given = live.send('1', { signal: stop.signal });
  const kept = live.send('2', { signal: new AbortController().signal });
  stop.abort(new Error('too late'));
  assert.equal(await reasonOf(given), 'too late');
  assert.equal(await reasonOf(live.send('3', { signal: AbortSignal.abort(new Error('before')) })), 'before');
  last().open();
  assert.deepEqual(contents(last()), [{ data: '2' }]);
  last().receive({ type: 'ack', ref: refs(last())[0] });
  await kept;
  // One that is on its way makes room for others, and its ack is ignored.
  const late = new AbortController(), gone = new AbortController();
  const sent = live.send('4', { signal: late.signal });
  late.abort(new Error('slow'));
  assert.equal(await reasonOf(sent), 'slow');
  // What is rejected at once takes no other message with it.
  live.close();
  const other = await start({ buffer: 1 });
  const first = other.send('5');
  assert.equal(await reasonOf(other.send('6', { signal: AbortSignal.abort(new Error('before')) })), 'There is no connection, and the buffer is full');
  last().open();
  assert.deepEqual(contents(last()), [{ data: '5' }]);
  last().receive({ type: 'ack', ref: refs(last())[0] });
  await first;
  // Room that is made is used.
  const many = Array.from({ length: 51 }, (_, number) => other.send(String(number), number ? {} : { signal: gone.signal }));
  assert.equal(refs(last()).length, 51);
  gone.abort(new Error('gone'));
  assert.equal(refs(last()).length, 52);
  assert.equal(await reasonOf(/** @type {any} */ (many[0])), 'gone');
  last().receive({ type: 'ack', ref: refs(last())[1] });
});

test('a network that lets only the handshake pass is no WebSocket', async () => {
  respond = (url) => url.pathname === '/api/events' ? Promise.resolve(stream().response) : text();
  const live = await start();
  for (let turn = 0; turn < 2; turn++) {
    last().onopen();
    await pass(600);
    assert.deepEqual(last().sent, [{ type: 'ping' }], 'it asks for a sign of life');
    assert.equal(live.status, 'connecting');
    last().drop();
    await pass(1_500);
  }
  assert.equal(live.transport, 'events');
});

test('a service is named by its origin', async () => {
  for (const [url, origin] of [['ws://a.example', 'http://a.example'], ['wss://a.example:8443', 'https://a.example:8443'], [new URL('https://a.example/'), 'https://a.example']]) {
    live = connect(/** @type {any} */ (url), { WebSocket: FakeSocket });
    await pass();
    assert.equal(last().url.origin.replace(/^ws/, 'http'), origin);
    live.close();
  }
  for (const url of ['https://a.example/app', 'https://a.example/?x=1']) {
    assert.throws(() => connect(url), new TypeError('The URL of a service has no path: use https://a.example'));
  }
  assert.throws(() => connect('ftp://a.example'), new TypeError('The URL of a service is one of http or https'));
});

test('reconnect() ends a pause, or a connection', async () => {
  const live = await start({ reconnect: { longest: 60 } });
  last().open();
  live.reconnect();
  await pass();
  assert.deepEqual([sockets.length, sockets[0]?.isClosed], [2, true]);
  for (let turn = 0; turn < 8; turn++) {
    last().drop();
    await pass(60_000);
  }
  last().drop();
  await pass();
  const { delay, until } = of('status').at(-1);
  assert.deepEqual([delay, until.getTime()], [30_000, Date.now() + 30_000], 'half of the longest, here');
  const before = sockets.length;
  live.reconnect();
  await pass();
  assert.equal(sockets.length, before + 1);
  live.close();
  live.reconnect();
  await pass();
  assert.equal(sockets.length, before + 1);
});

test('it asks for what it missed when the proxy has its subscription', async () => {
  await start();
  last().open();
  await pass(1_900);
  assert.deepEqual(last().sent, []);
  await pass(200);
  assert.deepEqual(last().sent, [{ type: 'sync', since: ID(START) }]);
  // What was published before it connected is not for it.
  last().receive({ type: 'message', id: ID(START - 2_000, 1), data: 'before' });
  last().receive({ type: 'message', id: ID(START, 1), data: 'in the gap' });
  last().receive({ type: 'synced', since: ID(START + 2_000), recovered: true });
  assert.deepEqual(of('message').map(({ data }) => data), ['in the gap']);
  assert.deepEqual(of('recovered'), [], 'it was not connected before');
  // If the gap cannot be closed, that is told, the first time, too.
  last().drop();
  await pass(1_000);
  last().open();
  await pass(2_100);
  last().receive({ type: 'synced', since: ID(START + 9_000), recovered: false, reason: 'why' });
  assert.deepEqual(of('recovered'), [{ type: 'recovered', recovered: false, reason: 'why' }]);
});

test('a first connection is told nothing, unless the store cannot be read', async () => {
  for (const [synced, told] of /** @type {const} */ ([
    [{ recovered: true, since: ID(START + 1_500) }, []],
    [{ recovered: false, reason: 'messages of `test` are not kept' }, []],
    [{ recovered: false, reason: 'the stored messages cannot be read', since: ID(START) }, ['the stored messages cannot be read']],
  ])) {
    events = [];
    await start();
    last().open();
    await pass(2_100);
    last().receive({ type: 'synced', ...synced });
    assert.deepEqual(of('recovered').map(({ reason }) => reason), told);
    live?.close();
  }
});

test('a service that keeps nothing is not asked, and each reconnect is a loss', async () => {
  await start();
  last().open({ since: undefined });
  await pass(70_000);
  for (let n = 0; n < 9; n++) last().receive({ type: 'message', id: ID(START + n, n), data: 'x'.repeat(5_000) });
  await pass(20_000);
  assert.deepEqual([last().sent, live?.since, of('recovered')], [[], undefined, []]);
  last().drop();
  await pass(1_000);
  last().open({ since: undefined });
  await pass(2_000);
  assert.deepEqual([last().sent, of('recovered').map(({ recovered }) => recovered)], [[], [false]]);
});

test('without a welcome, it asks without a cursor', async () => {
  await start();
  last().onopen();
  await pass(600);
  // It asks for a sign of life.
  last().receive({ type: 'pong' });
  assert.equal(live?.status, 'connected');
  await pass(2_100);
  assert.deepEqual(last().sent, [{ type: 'ping' }, { type: 'sync' }]);
  last().receive({ type: 'synced', connection: 'c1', user: 'alice', since: ID(START + 2_000), recovered: true });
  assert.deepEqual([live?.connection, live?.user, live?.since], ['c1', 'alice', ID(START + 2_000)]);
});

/** Connects, and has it verified. */
async function settle(/** @type {any} */ options = {}, time = START + 1_600) {
  await start(options);
  last().open();
  await pass(2_100);
  last().receive({ type: 'synced', since: ID(time), recovered: true });
}

test('resumes from its cursor and says whether everything has arrived', async () => {
  await settle();
  last().receive({ type: 'message', id: ID(START + 3_000, 1), data: 'seen' });
  // What arrives says nothing of what was dropped.
  assert.equal(live?.since, ID(START + 1_600));
  last().drop();
  await pass(600);
  assert.equal(last().url.searchParams.get('since'), null);
  last().open({ since: ID(START + 5_000) });
  last().receive({ type: 'message', id: ID(START + 6_000, 3), data: 'live' });
  assert.equal(live?.since, ID(START + 1_600));
  await pass(2_100);
  assert.deepEqual(last().sent, [{ type: 'sync', since: ID(START + 1_600) }]);
  last().receive({ type: 'message', id: ID(START + 3_000, 1), data: 'seen' });
  last().receive({ type: 'message', id: ID(START + 3_500, 2), data: 'missed' });
  assert.deepEqual(of('recovered'), [], 'before the end it is not known');
  last().receive({ type: 'synced', since: ID(START + 7_000), recovered: true });
  assert.deepEqual(of('recovered'), [{ type: 'recovered', recovered: true }]);
  assert.deepEqual(of('message').map(({ data }) => data), ['seen', 'live', 'missed']);
  assert.equal(live?.since, ID(START + 7_000));
});

test('gets page after page, and says at the end that it has everything', async () => {
  await settle();
  last().drop();
  await pass(600);
  last().open();
  await pass(2_100);
  for (let page = 0; page < 5; page++) {
    assert.deepEqual(last().sent.at(-1), { type: 'sync', since: page ? ID(START + 2_000 + page) : ID(START + 1_600) });
    for (let n = 0; n < 1_000; n++) last().receive({ type: 'message', id: ID(START + 2_000, 1_000 * page + n), data: 'x' });
    last().receive({ type: 'synced', since: ID(START + 2_001 + page), more: true });
    assert.deepEqual(of('recovered'), []);
    await pass(1);
  }
  // A page with nothing new, whose cursor hardly moves, is no reason to ask at once.
  last().receive({ type: 'synced', since: ID(START + 2_006), more: true });
  const count = last().sent.length;
  await pass(900);
  assert.equal(last().sent.length, count);
  await pass(200);
  assert.equal(last().sent.length, count + 1);
  last().receive({ type: 'synced', since: ID(START + 9_000), recovered: true });
  assert.deepEqual([of('recovered'), of('message').length, live?.since], [[{ type: 'recovered', recovered: true }], 5_000, ID(START + 9_000)]);
});

// --- What the proxy drops

const syncs = () => last().sent.filter(({ type }) => type === 'sync').length;
const message = (/** @type {number} */ at, n = 0, data = 'x') => last().receive({ type: 'message', id: ID(START + at, n), data });

/** Lets the time pass, with the pings of the proxy. */
async function quiet(/** @type {number} */ milliseconds) {
  for (let rest = milliseconds; rest > 0; rest -= 20_000) {
    await pass(Math.min(rest, 20_000));
    last().receive({ type: 'ping' });
  }
}

test('a quiet room costs nothing', async () => {
  await settle();
  await quiet(600_000);
  assert.equal(syncs(), 1);
});

test('what is dropped comes back within a minute, and a quiet room costs nothing more', async () => {
  await settle();
  message(1_700);
  await quiet(59_900);
  // A ping says nothing of what was dropped before it.
  assert.deepEqual([syncs(), live?.since], [1, ID(START + 1_600)]);
  await pass(200);
  assert.equal(syncs(), 2);
  message(1_700);
  message(1_900, 1, 'dropped');
  last().receive({ type: 'synced', since: ID(START + 62_000), recovered: true });
  assert.deepEqual(of('message').map(({ data }) => data), ['x', 'dropped']);
  assert.equal(live?.since, ID(START + 62_000));
  // There was one: so it looks again, once.
  await quiet(60_100);
  last().receive({ type: 'synced', since: ID(START + 122_000), recovered: true });
  await quiet(600_000);
  assert.equal(syncs(), 3);
  assert.deepEqual(of('recovered'), []);
});

test('verifies some seconds after a burst, at once or after a stall, and less often if that is in vain', async () => {
  await settle();
  // Slowly, as much is no burst.
  for (let n = 0; n < 10; n++) { message(1_700 + 200 * n, n, 'x'.repeat(2_000)); await pass(200); }
  await pass(4_000);
  assert.equal(syncs(), 1);
  const times = [];
  for (let second = 0; second < 300; second++) {
    const before = syncs(), at = clock;
    for (let n = 0; n < 5; n++) message(at, n, 'x'.repeat(2_000));
    await pass(1_000);
    if (syncs() > before) {
      times.push(clock);
      last().receive({ type: 'synced', since: ID(START + clock), recovered: true });
    }
  }
  const gaps = times.slice(1).map((time, n) => Math.round((time - (times[n] ?? 0)) / 1_000));
  assert.ok(gaps.length >= 6 && gaps.every((gap, n) => gap >= (gaps[n - 1] ?? 0) && gap <= 61), String(gaps));
  assert.ok((gaps[0] ?? 0) <= 8 && (gaps.at(-1) ?? 0) >= 55, String(gaps));
  // What was dropped makes it look soon again.
  message(clock, 1, 'x'.repeat(9_000));
  await quiet(60_000);
  message(clock - 70_000, 99, 'dropped');
  last().receive({ type: 'synced', since: ID(START + clock), recovered: true });
  const before = syncs();
  message(clock, 3, 'x'.repeat(9_000));
  await pass(3_100);
  assert.equal(syncs(), before + 1);
});

test('the clock of the device may be wrong, also if there is no welcome', async () => {
  for (const wrong of [3_600_000, -3_600_000]) {
    mock.timers.setTime(START + wrong);
    [clock, events] = [0, []];
    const live = await start();
    last().onopen();
    await pass(600);
    last().receive({ type: 'pong' });
    await pass(2_000);
    assert.deepEqual(last().sent.at(-1), { type: 'sync' });
    last().receive({ type: 'synced', since: ID(START + 2_600), recovered: true });
    // The service compares the ids with its own clock.
    live.send('x');
    assert.equal(parseInt(refs(last())[0].replace('-', '').slice(0, 12), 16), START + 2_600);
    last().drop();
    await pass(10_000);
    last().open({ since: ID(START + 12_000) });
    await pass(2_000);
    assert.deepEqual(last().sent.at(-1), { type: 'sync', since: ID(START + 2_600) });
    last().receive({ type: 'synced', since: ID(START + 14_000), recovered: true });
    assert.deepEqual([of('error').length, of('recovered').map(({ recovered }) => recovered)], [0, [true]]);
    live.close();
  }
});

test('verifies after messages that come late, whatever the clock of the device', async () => {
  for (const wrong of [0, 3_600_000, -3_600_000]) {
    mock.timers.setTime(START + wrong);
    clock = 0;
    await settle();
    for (let n = 0; n < 5; n++) { message(clock, n); await pass(1_000); }
    assert.equal(syncs(), 1);
    message(clock - 3_000, 9);
    await pass(3_100);
    assert.equal(syncs(), 2);
    live?.close();
  }
});

test('a stall in a quiet room moves no cursor past what was dropped', async () => {
  await settle();
  await quiet(60_000);
  const before = live?.since;
  // The pings of the stall come at its end, with one late message.
  await pass(30_000);
  last().receive({ type: 'ping' });
  message(61_000, 1);
  assert.ok(Date.parse(live?.since ?? '') <= START + 1_600 + 60_000, live?.since);
  await pass(3_100);
  assert.ok(Date.parse(last().sent.at(-1).since) >= Date.parse(before ?? '') && Date.parse(last().sent.at(-1).since) <= START + 61_000);
});

test('neither a refused check nor one without a response moves the cursor', async () => {
  await settle();
  message(3_000, 1);
  await quiet(60_000);
  assert.equal(syncs(), 2);
  last().receive({ type: 'synced', error: 'Too many connections' });
  await quiet(60_000);
  assert.deepEqual([syncs(), live?.since], [3, ID(START + 1_600)]);
  await quiet(60_000);
  last().drop();
  await pass(1_000);
  last().open();
  await pass(2_100);
  assert.equal(last().sent.at(-1).since, ID(START + 1_600));
});

test('a check that cannot be read is made again, and alarms nobody who has a cursor', async () => {
  await settle();
  message(3_000, 1);
  await quiet(60_100);
  last().receive({ type: 'synced', since: ID(START + 1_600), recovered: false, reason: 'the stored messages cannot be read' });
  assert.deepEqual(of('recovered'), []);
  await quiet(30_100);
  assert.deepEqual([syncs(), last().sent.at(-1).since], [3, ID(START + 1_600)]);
});

test('what was published before the first connection is not for it, later neither', async () => {
  await settle();
  message(3_000, 1);
  await quiet(60_100);
  message(-2_000, 7);
  message(1_000, 8, 'dropped');
  last().receive({ type: 'synced', since: ID(START + 62_000), recovered: true });
  assert.deepEqual(of('message').map(({ data }) => data), ['x', 'dropped']);
});

test('many short messages are a burst, and so is the response to a check', async () => {
  await settle();
  for (let n = 0; n < 100; n++) message(3_000, n, 'short');
  await pass(3_100);
  assert.equal(syncs(), 2);
  // What the proxy dropped meanwhile follows with another one, however often it says the same.
  for (let n = 0; n < 100; n++) message(3_000, n, 'short');
  last().receive({ type: 'synced', since: ID(START + 6_000), recovered: true });
  await pass(7_000);
  assert.equal(syncs(), 3);
  last().receive({ type: 'synced', since: ID(START + 13_000), recovered: true });
  await quiet(300_000);
  assert.equal(syncs(), 3);
});

test('a message that was sent again after a minute comes once', async () => {
  await settle();
  message(3_000, 1);
  for (let n = 0; n < 2_300; n++) message(4_000 + 20 * n, n);
  await quiet(60_100);
  last().receive({ type: 'synced', since: ID(START + 62_000), recovered: true });
  const count = of('message').length;
  message(64_000, 1);
  message(3_000, 1);
  assert.equal(of('message').length, count + 1);
});

test('a link that was replaced says nothing of the new one', async () => {
  await settle({ channels: ['a'] });
  const old = last();
  assert.ok(live);
  live.channels = ['b'];
  await pass();
  old.receive({ type: 'synced', connection: 'old', recovered: false, reason: 'why' });
  last().open({ connection: 'new' });
  await pass(2_100);
  old.receive({ type: 'synced', connection: 'old', recovered: false, reason: 'why' });
  last().receive({ type: 'synced', connection: 'new', since: ID(START + 9_000), recovered: true });
  assert.deepEqual([live.connection, of('recovered')], ['new', [{ type: 'recovered', recovered: true }]]);
});

test('verifies at least once a minute', async () => {
  await settle({ verify: 300 });
  message(3_000, 1);
  await quiet(60_100);
  assert.equal(syncs(), 2);
});

test('does not verify if that is off: then what arrives is its cursor', async () => {
  await settle({ verify: 0 });
  message(3_000, 1, 'x'.repeat(9_000));
  // An id that its publisher made earlier moves no cursor back.
  message(1_000, 2);
  await quiet(9_000);
  assert.deepEqual([syncs(), live?.since], [1, ID(START + 3_000, 1)]);
  // In a quiet room it does not grow old either.
  await quiet(300_000);
  assert.deepEqual([syncs(), live?.since], [1, new Date(START + 3_000 + 280_000 + 9_000 - 5_000).toISOString()]);
});

test('the cursor of an earlier page is that of the first connection', async () => {
  await start({ since: ID(START - 9_000) });
  last().open();
  assert.equal(live?.since, ID(START - 9_000));
  await pass(2_100);
  assert.deepEqual(last().sent, [{ type: 'sync', since: ID(START - 9_000) }]);
  last().receive({ type: 'message', id: ID(START - 8_000, 1), data: 'missed' });
  last().receive({ type: 'synced', since: ID(START + 2_000), recovered: true });
  assert.deepEqual([of('message').length, of('recovered')], [1, [{ type: 'recovered', recovered: true }]]);
});

test('a loss is told when the new subscription is there', async () => {
  await start({ since: ID(START - 999_000) });
  last().open();
  last().drop();
  await pass(600);
  last().open();
  await pass(2_100);
  assert.deepEqual(of('recovered'), []);
  last().receive({ type: 'synced', since: ID(START + 3_000), recovered: false, reason: 'too old' });
  assert.deepEqual(of('recovered'), [{ type: 'recovered', recovered: false, reason: 'too old' }]);
});

test('a check that is refused is made again later', async () => {
  await start();
  last().open();
  await pass(2_100);
  last().receive({ type: 'synced', error: 'Too many connections' });
  assert.deepEqual(of('error'), [{ type: 'error', message: 'Too many connections' }]);
  await pass(30_100);
  assert.deepEqual([of('recovered'), syncs(), last().sent.at(-1)], [[], 2, { type: 'sync', since: ID(START) }]);
  // Another error says nothing of it.
  last().receive({ type: 'error', error: 'Invalid message' });
  last().receive({ type: 'synced', since: ID(START + 32_000), recovered: true });
  assert.deepEqual(of('recovered'), []);
});

test('on a quiet channel the cursor does not grow old', async () => {
  await settle();
  for (let minute = 0; minute < 10; minute++) {
    await pass(25_000);
    last().receive({ type: 'ping' });
  }
  // The last ping may be late, but not the one before it.
  assert.equal(live?.since, new Date(START + 1_600 + 225_000 - 5_000).toISOString());
  assert.equal(syncs(), 1);
});

test('notices a dead connection after 35 s', async () => {
  await start();
  last().open();
  await pass(25_000);
  last().receive({ type: 'ping' });
  await pass(34_900);
  assert.equal(live?.status, 'connected');
  await pass(200);
  assert.equal(live?.status, 'waiting');
  assert.ok(sockets[0]?.isClosed);
});

test('a WebSocket that does not open is closed after 10 s', async () => {
  respond = (_, signal) => /** @type {Promise<Response>} */ (held(signal));
  await start();
  await pass(10_100);
  assert.ok(sockets[0]?.isClosed);
  await pass(10_100);
  assert.equal(live?.status, 'waiting');
});

// --- Reconnects

test('backs off exponentially with full jitter, and begins anew after 5 s', async () => {
  respond = () => Promise.reject(new TypeError('fetch failed'));
  await start();
  for (let turn = 0; turn < 9; turn++) {
    last().drop();
    await pass();
    await pass(of('status').at(-1).delay + 1);
  }
  const delays = () => of('status').flatMap(({ delay }) => delay === undefined ? [] : [delay]);
  assert.deepEqual(delays(), [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]);
  last().open();
  await pass(4_900);
  last().drop();
  await pass();
  assert.equal(delays().at(-1), 10_000, 'that was no stable connection');
  await pass(10_001);
  last().open();
  await pass(5_100);
  last().drop();
  await pass();
  assert.equal(delays().at(-1), 250);
  assert.equal(live?.transport, 'websocket', 'the network is at fault, not the transport');
});

test('reconnects at once when the network is back or the page is visible, never while offline', async () => {
  const page = new EventTarget();
  const document = { visibilityState: 'hidden', addEventListener: page.addEventListener.bind(page), removeEventListener: page.removeEventListener.bind(page) };
  const navigator = { onLine: false };
  const stubs = { document, navigator, addEventListener: document.addEventListener, removeEventListener: document.removeEventListener };
  const before = Object.keys(stubs).map((name) => /** @type {const} */ ([name, Object.getOwnPropertyDescriptor(globalThis, name)]));
  for (const [name, value] of Object.entries(stubs)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  try {
    await start();
    last().open();
    last().drop();
    await pass(60_000);
    assert.deepEqual([sockets.length, of('status').at(-1).delay], [1, undefined]);
    navigator.onLine = true;
    page.dispatchEvent(new Event('visibilitychange'));
    await pass();
    assert.equal(sockets.length, 1, 'the page is hidden');
    // It need not be seen for that.
    page.dispatchEvent(new Event('online'));
    document.visibilityState = 'visible';
    await pass();
    assert.equal(sockets.length, 2);
    last().open();
    last().drop();
    await pass();
    page.dispatchEvent(new Event('visibilitychange'));
    await pass();
    assert.equal(sockets.length, 3);
    // A connection that died while the machine slept.
    last().open();
    clock += 40_000;
    page.dispatchEvent(new Event('visibilitychange'));
    assert.equal(live?.status, 'waiting');
    live?.close();
    page.dispatchEvent(new Event('online'));
    await pass();
    assert.equal(sockets.length, 3);
  } finally {
    for (const [name, value] of before) {
      if (value) Object.defineProperty(globalThis, name, value);
      else delete (/** @type {any} */ (globalThis)[name]);
    }
  }
});

test('stops where the service says 400, 401 or 403, with its line', async () => {
  for (const status of [400, 401, 403]) {
    [sockets, requests, events] = [[], [], []];
    respond = () => text(status, 'what is wrong\n');
    const live = await start({ token: 'a.b.c' });
    last().drop();
    await pass();
    assert.deepEqual(of('error'), [{ type: 'error', message: 'what is wrong' }]);
    assert.deepEqual(of('status').at(-1), { type: 'status', status: 'closed', transport: 'websocket', reason: 'what is wrong', code: undefined });
    assert.equal(requests[0]?.url.href, last().url.href.replace('wss', 'https'));
    assert.deepEqual(requests[0]?.headers, { Authorization: 'Bearer a.b.c' });
    assert.equal(live.status, 'closed');
  }
});

test('goes on without the cursor of an earlier page that the service does not take', async () => {
  await start({ since: 'garbage' });
  last().open();
  await pass(2_100);
  last().receive({ type: 'synced', error: 'Invalid since' });
  assert.deepEqual(last().sent, [{ type: 'sync', since: 'garbage' }, { type: 'sync' }]);
  last().receive({ type: 'synced', since: ID(START), recovered: true });
  assert.deepEqual(of('recovered'), [{ type: 'recovered', recovered: false, reason: 'Invalid since' }]);
  live?.close();
  // The same by the other transports.
  const { response, push } = stream();
  respond = (url) => url.searchParams.has('since') ? text(400, 'Invalid since\n') : Promise.resolve(response);
  events = [];
  await start({ since: 'garbage', transports: ['events'] });
  await pass(100);
  push(`: subscribed\n\n`);
  await pass(4_100);
  assert.deepEqual(of('recovered'), [{ type: 'recovered', recovered: false, reason: 'Invalid since' }]);
  live?.close();
  // What is wrong without it, too, stops it.
  respond = (url) => url.searchParams.has('since') ? text(400, 'Invalid since\n') : text(400, 'Invalid channel name\n');
  const other = await start({ since: 'garbage', channels: ['no channel'], transports: ['events'] });
  await pass(100);
  assert.deepEqual([other.status, of('error').at(-1).message], ['closed', 'Invalid channel name']);
});

test('a close that says what is wrong is an error', async () => {
  await start();
  last().open();
  last().drop(1009, 'Message too large');
  assert.deepEqual(of('error'), [{ type: 'error', message: 'Message too large' }]);
  assert.equal(live?.status, 'waiting');
});

test('goes on where the service says something else, and tells it', async () => {
  respond = () => text(503, 'The entry X is missing\n');
  await start();
  last().drop();
  await pass();
  assert.deepEqual(of('error'), [{ type: 'error', message: 'The entry X is missing' }]);
  assert.equal(of('status').at(-1).delay, 250);
  respond = () => text(429, 'Too many\n');
  await pass(251);
  last().drop();
  await pass();
  assert.equal(of('status').at(-1).delay, 10_000);
});

test('after 1008 it gets one new token, then backs off', async () => {
  let count = 0;
  await start({ token: async () => `t.${++count}.x` });
  last().open();
  await pass(6_000);
  last().drop(1008, 'access token expired');
  await pass();
  await pass();
  assert.deepEqual(last().protocols, ['bearer', 't.2.x']);
  assert.equal(of('status').at(-2).delay, 0);
  last().open();
  last().drop(1008, 'access token expired');
  await pass();
  assert.deepEqual([sockets.length, of('status').at(-1).delay > 0], [2, true]);
});

test('stops without a token, and tries again if one cannot be had now', async () => {
  await start({ token: () => null });
  assert.deepEqual(of('error'), [{ type: 'error', message: 'No access token' }]);
  assert.equal(live?.status, 'closed');
  await start({ token: '<html>' });
  assert.equal(of('error').at(-1)?.message, 'Invalid access token');
  let fails = true;
  await start({ token: async () => { if (fails) throw new TypeError('fetch failed'); return 'a.b.c'; } });
  assert.deepEqual([live?.status, of('status').at(-1).reason], ['waiting', 'No access token: TypeError: fetch failed']);
  fails = false;
  await pass(300);
  assert.deepEqual(last().protocols, ['bearer', 'a.b.c']);
});

test('obeys close codes: 4000 stops, 4100 backs off, 4200 reconnects at once', async () => {
  for (const [code, status, delay] of /** @type {const} */ ([[4000, 'closed'], [4099, 'closed'], [4100, 'waiting', 250], [4200, 'waiting', 0]])) {
    const live = await start();
    last().open();
    await pass(5_100);
    last().drop(code, 'because');
    assert.deepEqual([live.status, of('status').at(-1).reason, of('status').at(-1).delay], [status, 'because', delay]);
    live.close();
  }
});

// --- Fallback

test('falls back to events, then to polls, if a transport cannot be opened twice in a row', async () => {
  const { response, push } = stream();
  respond = (url, signal) => url.pathname === '/api/websocket' ? text(426) : url.pathname === '/api/events' ? Promise.resolve(response) : /** @type {any} */ (held(signal));
  const live = await start();
  last().drop();
  await pass();
  await pass(300);
  last().drop();
  await pass();
  await pass(100);
  assert.deepEqual([live.transport, live.status], ['events', 'connecting']);
  // Something between holds the response back.
  await pass(10_000);
  assert.equal(live.status, 'waiting');
  respond = (url, signal) => url.pathname === '/api/events' ? Promise.resolve(stream().response) : /** @type {any} */ (held(signal));
  await pass(20_000);
  assert.equal(live.transport, 'poll');
  await pass(1_100);
  assert.equal(live.status, 'connected');
  assert.equal(await reasonOf(live.send('x')), 'Only a WebSocket sends: this is poll');
  push('');
});

test('without a WebSocket class it uses events', async () => {
  const { response, push } = stream();
  respond = () => Promise.resolve(response);
  const WebSocket = Object.getOwnPropertyDescriptor(globalThis, 'WebSocket');
  Reflect.deleteProperty(globalThis, 'WebSocket');
  const live = await start({ WebSocket: undefined });
  await pass(400);
  push(': subscribed\n\n');
  await pass();
  assert.deepEqual([live.transport, live.status], ['events', 'connected']);
  if (WebSocket) Object.defineProperty(globalThis, 'WebSocket', WebSocket);
});

// --- Events

test('reads events, in whatever pieces they arrive', async () => {
  const { response, push, end } = stream();
  respond = () => Promise.resolve(response);
  const live = await start({ transports: ['events'], token: 'a.b.c', since: ID(START - 1_000) });
  assert.equal(requests[0]?.url.href, `https://service.example/api/events?channel=test&format=json&since=${ID(START - 1_000)}`);
  assert.deepEqual(requests[0]?.headers, { Authorization: 'Bearer a.b.c' });
  const message = { type: 'message', id: ID(START, 1), channel: 'test', data: 'zwei\nZeilen ü' };
  const whole = `: subscribed\nid: ${ID(START - 1_000)}\n\nid: ${ID(START - 1_000)}\nevent: message\ndata: ${JSON.stringify({ type: 'welcome', recovered: true })}\n\n`
    + `id: ${ID(START, 1)}\nevent: message\ndata: ${JSON.stringify(message)}\n\n:\n\n`;
  for (const piece of whole.match(/[^]{1,7}/g) ?? []) push(piece);
  await pass();
  // An older message may still follow.
  assert.deepEqual([live.status, live.since], ['connected', ID(START - 1_000)]);
  assert.equal(of('message')[0]?.data, 'zwei\nZeilen ü');
  assert.deepEqual(of('recovered'), []);
  // What was published while it opened has come by now.
  await pass(4_100);
  assert.deepEqual(of('recovered'), [{ type: 'recovered', recovered: true }]);
  assert.equal(live.since, ID(START, 1));
  push(`id: ${ID(START + 5_000)}\nevent: reset\ndata: ${JSON.stringify({ type: 'reset', recovered: false, reason: 'why' })}\n\n`);
  await pass();
  assert.deepEqual(of('recovered').at(-1), { type: 'recovered', recovered: false, reason: 'why' });
  // Comments are signs of life.
  for (let turn = 0; turn < 3; turn++) { await pass(20_000); push(':\n\n'); }
  await pass();
  assert.equal(live.status, 'connected');
  end();
  await pass();
  assert.equal(of('status').at(-1).reason, 'The connection was lost');
});

test('a refused event stream or poll stops it', async () => {
  for (const transport of ['events', 'poll']) {
    respond = () => text(403, 'no right\n');
    await start({ transports: [transport] });
    assert.deepEqual([live?.status, of('error').at(-1)?.message], ['closed', 'no right']);
  }
});

test('an event stream is told with which code it ends', async () => {
  const { response, push } = stream();
  respond = () => Promise.resolve(response);
  await start({ transports: ['events'] });
  push(`event: message\ndata: ${JSON.stringify({ type: 'close', code: 4001, reason: 'signed out' })}\n\n`);
  await pass();
  assert.deepEqual(of('status').at(-1), { type: 'status', status: 'closed', transport: 'events', reason: 'signed out', code: 4001 });
});

test('an event stream that ends with a page of what was missed goes on with the next', async () => {
  const page = (/** @type {number} */ n, more = true) => {
    const { response, push, end } = stream();
    const welcome = { type: 'welcome', since: ID(START + n), ...(more ? { more } : { recovered: true }) };
    const message = { type: 'message', id: ID(START + n, 1), channel: 'test', data: String(n) };
    push(`: subscribed\n\nid: ${ID(START + n)}\nevent: message\ndata: ${JSON.stringify(welcome)}\n\n`);
    push(`id: ${message.id}\nevent: message\ndata: ${JSON.stringify(message)}\n\n`);
    if (!more) return response;
    push(`id: ${ID(START + n + 100)}\nretry: 100\n\n`);
    end();
    return response;
  };
  const pages = [page(0), page(100), page(200, false)];
  respond = () => Promise.resolve(/** @type {Response} */ (pages.shift()));
  await start({ transports: ['events'], since: ID(START - 5_000) });
  await pass(10);
  assert.deepEqual(requests.map(({ url }) => url.searchParams.get('since')), [ID(START - 5_000), ID(START + 100), ID(START + 200)]);
  await pass(4_100);
  assert.deepEqual([of('message').map(({ data }) => data), of('recovered')], [['0', '100', '200'], [{ type: 'recovered', recovered: true }]]);
  assert.ok(!statuses().includes('waiting'));
});

test('an event stream that ends before it has given a cursor is not asked again at once', async () => {
  respond = () => {
    const { response, push, end } = stream();
    push(`: subscribed\n\nevent: message\ndata: ${JSON.stringify({ type: 'welcome', more: true })}\n\n`);
    end();
    return Promise.resolve(response);
  };
  await start({ transports: ['events'], since: ID(START - 5_000) });
  await pass(1_000);
  assert.ok(requests.length < 5, `${requests.length} requests`);
});

// --- Polls

test('a poll whose store cannot be read keeps its cursor, and says so once', async () => {
  const unread = () => json({ type: 'welcome', since: ID(START), recovered: false, reason: 'the stored messages cannot be read' });
  const answers = [unread, unread, unread];
  respond = (_, signal) => /** @type {any} */ ((answers.shift() ?? (() => held(signal)))());
  await start({ transports: ['poll'], since: ID(START) });
  await pass(10_000);
  assert.deepEqual(requests.map(({ url }) => url.searchParams.get('since')), Array(4).fill(ID(START)));
  assert.equal(of('recovered').length, 1);
});

test('polls from cursor to cursor', async () => {
  const answers = [
    () => json({ type: 'welcome', since: ID(START) }),
    () => json({ type: 'message', id: ID(START, 1), data: 'one' }),
    () => json({ type: 'welcome', since: ID(START + 1, 2), recovered: true }, { type: 'message', id: ID(START, 1), data: 'one' }),
    () => json({ type: 'welcome', recovered: false, reason: 'not kept' }),
    () => Promise.resolve(new Response(null, { status: 204 })),
  ];
  respond = (_, signal) => (answers.shift() ?? (() => held(signal)))();
  await start({ transports: ['poll'] });
  await pass(10_000);
  const since = requests.map(({ url }) => url.searchParams.get('since'));
  assert.deepEqual(since, [null, ID(START), ID(START), ID(START + 1, 2), null, null]);
  assert.deepEqual(of('message').map(({ data }) => data), ['one']);
  assert.deepEqual(of('recovered'), [{ type: 'recovered', recovered: false, reason: 'not kept' }]);
  assert.equal(live?.status, 'connected');
});

test('a poll whose token has expired gets a new one', async () => {
  let count = 0;
  respond = (_, signal) => requests.at(-1)?.headers?.Authorization === 'Bearer t.1'
    ? (requests.length === 1 ? json({ type: 'welcome', since: ID(START) }) : text(401, 'expired\n'))
    : /** @type {any} */ (held(signal));
  await start({ transports: ['poll'], token: () => `t.${++count}` });
  await pass(2_000);
  assert.deepEqual([count, live?.status, requests.at(-1)?.url.searchParams.get('since')], [2, 'connected', ID(START)]);
  assert.equal(of('error').length, 0, 'a renewal is no error');
});

// --- Channels

test('a change of channels opens a new connection first, then closes the old one', async () => {
  const live = await start({ channels: ['a'] });
  last().open();
  await pass(2_100);
  last().receive({ type: 'synced', since: ID(START + 2_000), recovered: true });
  live.channels = ['a', 'b'];
  assert.deepEqual(live.channels, ['a', 'b']);
  await pass();
  const [old, next] = /** @type {[FakeSocket, FakeSocket]} */ (sockets);
  assert.equal(next.url.search, '?channel=a&channel=b&format=json');
  // The old one delivers meanwhile, but says nothing of the new channel, and sends nothing to the old ones.
  old.receive({ type: 'message', id: ID(START + 3_000, 1), channel: 'a', data: 'x' });
  const sent = live.send('to the new one');
  assert.equal(live.since, ID(START + 2_000));
  next.open({ recovered: true });
  next.receive({ type: 'message', id: ID(START + 3_000, 1), channel: 'a', data: 'x' });
  old.receive({ type: 'message', id: ID(START + 3_000, 2), channel: 'a', data: 'y' });
  next.receive({ type: 'ack', ref: refs(next)[0] });
  await sent;
  await pass(2_100);
  assert.ok(!old.isClosed);
  next.receive({ type: 'synced', since: ID(START + 4_000), recovered: true });
  assert.ok(old.isClosed);
  assert.equal(of('message').length, 2);
  assert.deepEqual(statuses(), ['connecting', 'connected', 'connected']);
  assert.deepEqual([old.sent.at(-1).type, next.sent[0].data], ['sync', 'to the new one']);
  assert.throws(() => { live.channels = []; }, TypeError);
});

test('what arrives of a channel that was left is not told, but what a handler subscribed to is', async () => {
  const live = await start({ channels: ['a'] });
  last().open();
  await pass(2_100);
  last().receive({ type: 'synced', since: ID(START + 2_000), recovered: true });
  live.channels = ['b'];
  await pass();
  const [old] = /** @type {[FakeSocket]} */ (sockets);
  old.receive({ type: 'message', id: ID(START + 3_000, 1), channel: 'a', data: 'left' });
  old.receive({ type: 'message', id: ID(START + 3_000, 2), channel: 'c', data: 'of the handler' });
  old.receive({ type: 'message', id: ID(START + 3_000, 3), to: 'user', data: 'to me' });
  assert.deepEqual(of('message').map(({ data }) => data), ['of the handler', 'to me']);
});

test('channels that change while it opens or waits are those of the next connection', async () => {
  const live = await start({ channels: ['a'] });
  live.channels = ['b'];
  await pass();
  assert.ok(sockets[0]?.isClosed);
  last().open();
  last().drop();
  live.channels = ['c'];
  await pass(1_000);
  assert.deepEqual(sockets.map(({ url }) => url.searchParams.get('channel')), ['a', 'b', 'c']);
});

// --- Order

test('close() at once, in a listener, or twice, closes for good', async () => {
  const at_once = connect('https://service.example', { WebSocket: FakeSocket });
  at_once.close();
  await pass(1_000);
  assert.deepEqual([sockets.length, at_once.status], [0, 'closed']);
  respond = () => text(503, 'missing\n');
  const live = await start({ buffer: 1 });
  live.send('kept');
  live.addEventListener('error', () => live.close());
  last().drop();
  await pass(5_000);
  assert.deepEqual([sockets.length, statuses().filter((status) => status === 'closed').length], [1, 1]);
  live.channels = ['b'];
  await pass(1_000);
  assert.equal(sockets.length, 1);
});

test('what arrives after a long freeze is older than it', async () => {
  await start();
  last().open();
  await pass(2_100);
  last().receive({ type: 'synced', since: ID(START + 2_000), recovered: true });
  await pass(25_000);
  last().receive({ type: 'ping' });
  const before = live?.since;
  clock += 90_000;
  last().receive({ type: 'ping' });
  assert.deepEqual([live?.status, live?.since], ['waiting', before]);
});

test('a token that comes late, or never, blocks nothing', async () => {
  const tokens = /** @type {((token: string) => void)[]} */ ([]);
  await start({ token: () => new Promise((resolve) => tokens.push(resolve)) });
  await pass(36_000);
  assert.equal(live?.status, 'connecting', 'a new one is asked for');
  assert.equal(tokens.length, 2);
  tokens[0]?.('old.t.x');
  await pass();
  assert.equal(sockets.length, 0);
  tokens[1]?.(' new.t.x\n');
  await pass();
  assert.deepEqual(last().protocols, ['bearer', 'new.t.x']);
  // What is no token, but an error page, is no reason to stop for good.
  live?.close();
  await start({ token: () => '<html>Bad gateway</html>' });
  assert.deepEqual([live?.status, of('status').at(-1).reason], ['waiting', 'Invalid access token']);
});

test('what a captive portal or a proxy says in place of the service neither connects nor stops it', async () => {
  const html = (/** @type {number} */ status) => Promise.resolve(new Response('<html>Log in', { status, headers: { 'content-type': 'text/html' } }));
  for (const transport of ['websocket', 'events', 'poll']) for (const status of [200, 400, 401, 403, 503]) {
    live?.close();
    respond = () => html(status);
    await start({ transports: [/** @type {any} */ (transport)] });
    if (transport === 'websocket') last().drop();
    await pass();
    assert.deepEqual([live?.status, of('status').at(-1).reason], ['waiting', `Not a response of the service: status ${status}, text/html`]);
    assert.equal(of('status').some(({ status }) => status === 'connected'), false);
    assert.equal(of('error').length, 0);
  }
});

test('an explanation that does not arrive whole is none', async () => {
  respond = () => Promise.resolve(new Response(new ReadableStream({ start: (body) => body.error(new Error('lost')) }), { status: 503, headers: { 'content-type': 'text/plain' } }));
  await start();
  last().drop();
  await pass();
  assert.equal(of('status').at(-1).reason, 'The connection was lost');
});

test('a transport that has worked is not given up for another', async () => {
  await start();
  last().open();
  last().drop();
  for (let turn = 0; turn < 4; turn++) {
    await pass(5_000);
    last().drop();
    await pass();
  }
  assert.equal(live?.transport, 'websocket');
});

test('a poll says nothing before the service does', async () => {
  respond = (_, signal) => /** @type {any} */ (held(signal));
  await start({ transports: ['poll'], since: ID(START) });
  await pass(30_000);
  assert.deepEqual([live?.status, of('recovered')], ['connected', []]);
  live?.close();
  // A first token that is rejected late is rejected.
  respond = () => new Promise((resolve) => setTimeout(() => resolve(new Response('expired\n', { status: 401 })), 2_000));
  await start({ transports: ['poll'], token: 'a.b.c' });
  await pass(3_000);
  assert.deepEqual([live?.status, of('error').at(-1)?.message], ['closed', 'expired']);
});

test('a second connection without a cursor may have missed something', async () => {
  respond = (_, signal) => requests.length === 2 ? Promise.reject(new TypeError('lost'))
    : requests.length < 5 ? Promise.resolve(new Response(null, { status: 204 })) : /** @type {any} */ (held(signal));
  await start({ transports: ['poll'] });
  await pass(5_000);
  assert.deepEqual(of('recovered'), [{ type: 'recovered', recovered: false, reason: 'There was no cursor' }]);
});

// --- Memory

test('an hour of messages, reconnects and changed channels leaves nothing behind', { timeout: 120_000 }, async () => {
  const live = await start();
  const size = () => { globalThis.gc?.(); return process.memoryUsage().heapUsed; };
  assert.ok(globalThis.gc, 'run this with --expose-gc');
  let [first, count] = [0, 0];
  for (let minute = 0; minute < 60; minute++) {
    last().open({ since: ID(START + clock) });
    for (let second = 0; second < 50; second++) {
      for (let n = 0; n < 10; n++) last().receive({ type: 'message', id: ID(START + clock, ++count), channel: 'a', data: `text ${count}` });
      clock += 1_000;
      mock.timers.tick(1_000);
    }
    last().receive({ type: 'synced', since: ID(START + clock), recovered: true });
    if (minute % 2) live.channels = [`room${minute}`];
    else last().drop();
    await pass(300);
    for (const socket of sockets.splice(0, sockets.length - 1)) socket.sent = [];
    assert.ok(timers.size < 20, `${timers.size} timers`);
    assert.equal(of('message').length, 500);
    events = [];
    // The mocks remember each call.
    for (const mocked of [setTimeout, clearTimeout, performance.now, Math.random, fetch]) /** @type {any} */ (mocked).mock.resetCalls();
    if (minute === 9) first = size();
  }
  assert.ok(size() < first + 1_000_000, `${first} bytes after 10 minutes, ${size()} after 60`);
});
