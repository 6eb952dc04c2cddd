/** How messages arrive: by a WebSocket, Server-Sent Events or long polling. */
export type Transport = 'websocket' | 'events' | 'poll';

/** `connecting`; `connected`; `waiting`, until it connects again; `closed`, for good. */
export type Status = 'connecting' | 'connected' | 'waiting' | 'closed';

export interface Options {
  /** The channels, 1 to 20; 19 with a token, 18 if it names a user: an event stream takes no more. Default: `test`. */
  channels?: string[];
  /**
   * The access token, or a function that gets one: it is called for each connection, and if the service says that the old one
   * has expired. If it returns nothing, the client stops; if it throws, or returns no JWT, the client tries again later.
   */
  token?: string | (() => string | null | undefined | Promise<string | null | undefined>);
  /** Where to go on: the `since` of an earlier client, or a time, `2026-01-31T08:00:00Z`. */
  since?: string;
  /** More for the query: `{ mode: 'publish', echo: 'off' }`, or what your handler reads. */
  params?: Record<string, string>;
  /** The transports to try, the best one first. Default: all three. */
  transports?: Transport[];
  /** How many messages `send` keeps while there is no connection. Default: 100. */
  buffer?: number;
  /** The longest pause between two tries to connect, in seconds. Default: 20. */
  reconnect?: { longest?: number };
  /**
   * After how many seconds the client asks a WebSocket's service whether all messages have arrived, while some do: the proxy
   * drops some if the connection is slow. 0: never. Default: 60, which is the most.
   */
  verify?: number;
  /** A WebSocket class, for Node.js 20: that of the package `ws`. */
  WebSocket?: new (url: string, protocols?: string[]) => unknown;
}

/** What is sent: text, or bytes, which are copied at once. */
export type Sendable = string | ArrayBuffer | ArrayBufferView | Blob;

/** What became of a message: it was handled, and what the handler published of it was accepted. */
export interface Ack {
  /** The id of what was published first, if something was. */
  id?: string;
  /** What the handler acknowledged it with. */
  value?: unknown;
}

export interface Message {
  /** Missing if the handler sent it to this client alone. */
  id?: string;
  channel?: string;
  /** `user` if it was sent to the user. */
  to?: string;
  /** Bytes if it was published as bytes. */
  data: string | Uint8Array;
  /** The user who sent it, if a verified token named one. */
  from?: string;
}

/** A `CustomEvent`, whose type is not in every environment. */
export type Detailed<T> = Event & { readonly detail: T };

export interface ListenerOptions {
  capture?: boolean;
  once?: boolean;
  passive?: boolean;
  signal?: AbortSignal;
}

export interface Events {
  /** A message, once; after a reload with `since`, those of the last seconds again. */
  message: Detailed<Message>;
  /**
   * After a reconnect: whether everything that was missed has arrived. If not, load your state anew. Also after the first
   * connection, if something was missed while it opened.
   */
  recovered: Detailed<{ recovered: boolean; reason?: string }>;
  /** The status has changed. `delay`, in milliseconds, and `until` are missing while the browser is offline. */
  status: Detailed<{ status: Status; transport: Transport; delay?: number; until?: Date; reason?: string; code?: number }>;
  /** The service, or the client, says what is wrong. `unsent`: what was sent and not acknowledged when the client stopped. */
  error: Detailed<{ message: string; unsent?: Sendable[] }>;
}

export interface Live extends Omit<EventTarget, 'addEventListener' | 'removeEventListener'> {
  readonly status: Status;
  readonly transport: Transport;
  /** The id of the WebSocket connection. */
  readonly connection: string | undefined;
  /** The user of the access token. */
  readonly user: string | undefined;
  /** The cursor, to go on from after a reload. `undefined` until there is one. */
  readonly since: string | undefined;
  /** Set it to change the channels: a new connection opens first, then the old one closes. */
  channels: string[];
  /**
   * Sends a message on the WebSocket, in its order, again on the next connection until it is acknowledged. Rejects with the reason if
   * the service refuses it, if the client stops, if there is no connection and the buffer is full, if the transport is another one, if it was sent
   * five times in vain, or when `signal` or `timeout` (milliseconds) says so. Throws a TypeError for what is neither text nor bytes.
   */
  send(message: Sendable, options?: { signal?: AbortSignal; timeout?: number }): Promise<Ack>;
  /** Connects again now: to a new connection, or without the rest of a pause. */
  reconnect(): void;
  /** Closes the connection, for good. */
  close(): void;
  addEventListener<K extends keyof Events>(
    type: K,
    listener: ((event: Events[K]) => void) | null,
    options?: boolean | ListenerOptions,
  ): void;
  removeEventListener<K extends keyof Events>(
    type: K,
    listener: ((event: Events[K]) => void) | null,
    options?: boolean | ListenerOptions,
  ): void;
}

/** Connects to a service, and stays connected until `close()`. */
export function connect(url: string | URL, options?: Options): Live;
