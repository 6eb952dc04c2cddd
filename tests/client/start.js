// What the tests of real connections run in Node.js and on a page: a client whose events are kept.
globalThis.start = (/** @type {typeof import('../../src/client/client.js').connect} */ connect, /** @type {string} */ url, /** @type {any} */ options) => {
  const log = globalThis.log = /** @type {object[]} */ ([]);
  const live = globalThis.live = connect(url, options);
  for (const type of /** @type {const} */ (['message', 'recovered', 'status', 'error'])) {
    live.addEventListener(type, (/** @type {any} */ { detail }) => {
      const data = detail.data instanceof Uint8Array ? [...detail.data] : detail.data;
      log.push({ type, at: Date.now(), ...detail, data });
    });
  }
};
/** Many clients: when each connected, which messages it has, and whether it was told that some are missing. */
globalThis.crowd = (/** @type {typeof import('../../src/client/client.js').connect} */ connect, /** @type {string} */ url, /** @type {any} */ options, /** @type {number} */ count) => {
  const clients = Array.from({ length: count }, () => {
    const client = { live: connect(url, options), connected: /** @type {number[]} */ ([]), messages: /** @type {string[]} */ ([]), recovered: /** @type {any[]} */ ([]), last: /** @type {any} */ ({}), before: 0 };
    client.live.addEventListener('status', ({ detail }) => {
      client.last = detail;
      if (detail.status === 'connected') client.connected.push(Date.now());
    });
    client.live.addEventListener('message', ({ detail }) => client.messages.push(detail.id ?? ''));
    client.live.addEventListener('recovered', ({ detail }) => client.recovered.push(detail.reason ?? 'all'));
    return client;
  });
  return clients;
};
