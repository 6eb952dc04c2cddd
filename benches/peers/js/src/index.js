// The same service in JavaScript: what the documentation of @fanoutio/grip and @fastly/js-compute says to write.
import { createFanoutHandoff } from 'fastly:fanout';
import { SecretStore } from 'fastly:secret-store';
import {
  Publisher,
  WebSocketMessageFormat,
  encodeWebSocketEvents,
  getWebSocketContextFromReq,
  isWsOverHttp,
  parseGripUri,
} from '@fanoutio/grip';

const CHANNEL = 'test';

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname } = new URL(request.url);
  if (pathname === '/api/websocket') return websocket(request);
  if (pathname === '/api/broadcast' && request.method === 'POST') return broadcast(request);
  return text('Not found', 404);
}

async function websocket(request) {
  const publisher = await getPublisher();
  const { isProxied, isSigned, needsSigned } = await publisher.validateGripSig(request.headers.get('Grip-Sig'));
  if (!isProxied && request.headers.get('Upgrade') === 'websocket') return createFanoutHandoff(request, 'self');
  if (!isProxied || (needsSigned && !isSigned)) return text('[not proxied]', 403);
  if (!isWsOverHttp(request)) return text('[not a websocket request]', 400);

  const ws = await getWebSocketContextFromReq(request);
  if (ws.isOpening()) {
    ws.accept();
    ws.subscribe(CHANNEL);
  }
  while (ws.canRecv()) {
    const message = ws.recv();
    if (message === null) {
      ws.close();
      break;
    }
    ws.send(message);
  }
  return new Response(encodeWebSocketEvents(ws.getOutgoingEvents()), { headers: ws.toHeaders() });
}

async function broadcast(request) {
  const publisher = await getPublisher();
  await publisher.publishFormats(CHANNEL, new WebSocketMessageFormat(await request.text()));
  return text('Ok', 200);
}

async function getPublisher() {
  const store = new SecretStore('fanout');
  const entry = async (name) => (await store.get(name))?.plaintext();
  const config = parseGripUri(await entry('GRIP_URL'), { 'verify-key': await entry('GRIP_VERIFY_KEY') });
  return new Publisher(config, { fetch: (url, init) => fetch(url, { ...init, backend: 'publisher' }) });
}

function text(line, status) {
  return new Response(`${line}\n`, { status, headers: { 'Content-Type': 'text/plain' } });
}
