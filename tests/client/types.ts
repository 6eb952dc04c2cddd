// What an application writes, for the TypeScript compiler.
import { connect, type Ack, type Live, type Message } from '../../src/client/client.js';

const live: Live = connect('https://example.com', { channels: ['room1'], token: async () => 'TOKEN', buffer: 10 });
live.addEventListener('message', ({ detail }) => {
  const { id, channel, data, from }: Message = detail;
  console.log(id, channel, typeof data === 'string' ? data.length : data.byteLength, from);
});
live.addEventListener('recovered', ({ detail }) => console.log(detail.recovered, detail.reason));
live.addEventListener('status', ({ detail }) => console.log(detail.status === 'waiting' && detail.delay));
live.addEventListener('error', ({ detail }) => console.log(detail.message, detail.unsent?.length));
live.channels = [...live.channels, 'room2'];
const { id, value }: Ack = await live.send(new Uint8Array([0, 1]), { timeout: 1_000 });
live.send(new Blob(['hi']), { signal: new AbortController().signal }).catch((error) => console.log(error));
live.reconnect();
const cursor: string | undefined = live.since;
console.log(id, value, cursor);
live.close();
// @ts-expect-error: channels are names.
connect('https://example.com', { channels: [1] });
// @ts-expect-error: there is no such event.
live.addEventListener('mesage', () => {});
// @ts-expect-error: an object is neither text nor bytes.
live.send({ a: 1 });
