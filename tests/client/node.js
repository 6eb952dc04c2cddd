// Evaluates the lines of its standard input, and prints each result as JSON.
import { createInterface } from 'node:readline';
import WebSocket from 'ws';

import './start.js';

Object.assign(globalThis, { WebSocket, ...(await import('../../src/client/client.js')) });
for await (const line of createInterface({ input: process.stdin })) {
  try {
    console.log(JSON.stringify({ value: await (0, eval)(line) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
process.exit();
