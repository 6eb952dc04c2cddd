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
  /** How many messages `send` keeps while there is no connection. Default: 0. */
  buffer?: number;
  /**
   * After how many seconds the client asks a WebSocket's service whether all messages have arrived, while some do: the proxy
   * drops some if the connection is slow. 0: never. Default: 60, which is the most.
   */
  verify?: number;
  /** A WebSocket class, for Node.js 20: that of the package `ws`. */
  WebSocket?: new (url: string, protocols?: string[]) => unknown;
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
  /** The status has changed. `delay`, in milliseconds, is missing while the browser is offline. */
  status: Detailed<{ status: Status; transport: Transport; delay?: number; reason?: string; code?: number }>;
  /** The service, or the client, says what is wrong. `unsent`: what `send` kept and the client did not send. */
  error: Detailed<{ message: string; unsent?: (string | ArrayBuffer | Uint8Array)[] }>;
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
   * Sends a message on the WebSocket. Returns whether it was sent, or is kept to be sent (`buffer`). Not by the other
   * transports.
   */
  send(message: string | ArrayBuffer | Uint8Array): boolean;
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
