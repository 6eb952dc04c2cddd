//! How much a request may ask for.

/// The longest query that is handed off, in bytes as the proxy writes them. Pushpin accepts URLs of up to 4096 bytes,
/// and responds with 500 to longer ones.
pub const MAX_QUERY: usize = 3500;

/// The longest name of a channel, in bytes.
pub const MAX_CHANNEL_LENGTH: usize = 64;

/// The most channels of one connection: the proxy silently ignores more.
pub const MAX_CHANNELS: usize = 20;

/// The longest user id, in characters.
pub const MAX_USER_LENGTH: usize = 128;

/// The longest id of a connection, in bytes. Those of Pushpin have 36.
pub const MAX_CONNECTION_ID_LENGTH: usize = 128;

/// What a client calls a message that is to be acknowledged has at most so many bytes.
pub const MAX_REF_LENGTH: usize = 64;

/// The longest value of an acknowledgement, in bytes of JSON.
pub const MAX_ACK_LENGTH: usize = 1000;

/// The longest name of a connection's state, in bytes.
pub const MAX_STATE_NAME_LENGTH: usize = 64;

/// The longest value of a connection's state, in bytes as the proxy stores it.
pub const MAX_STATE_LENGTH: usize = 512;

/// The longest message that is published, in bytes. It fits into one publish request for each transport if JSON needs no
/// escapes for it: else it may be shorter.
pub const MAX_MESSAGE: usize = 64_000;

/// How old the id of a message may be that is sent again, in seconds: so long the proxy remembers it.
pub const MAX_ID_AGE: u64 = 60;

/// How far the clock of who made an id may be ahead, in seconds.
pub const LEEWAY: u64 = 1;

/// The most operations on the KV Store for each request: some say that Fastly counts them among the 32 requests to backends.
pub const MAX_OPERATIONS: usize = 30;

/// The most of them that read: some are left to keep what is published in the same request.
pub const MAX_READS: usize = 28;

/// The most of those that list keys, unless there are more channels: some are left for messages that are too long to stand in
/// their keys.
pub const MAX_LISTS: usize = 14;

/// The most bytes of keys that one request lists: what they take of the CPU.
pub const MAX_LISTED_BYTES: usize = 1_200_000;

/// The most messages of one page of what a client missed.
pub const MAX_REPLAYED: usize = 1000;

/// The most bytes of one page, about.
pub const MAX_REPLAYED_BYTES: usize = 500_000;

/// The most messages that one batch of a client's messages may publish, each counted for each of its channels. They also have
/// to fit into [`MAX_BACKEND_REQUESTS`] publish requests: each takes about 1,300 bytes there, and six times its own length.
pub const MAX_PUBLISHED: usize = 200;

/// The most requests to backends for each request to the service, to publish and by the handler: a message of the largest
/// size takes all of them. Fastly allows 10 on trial accounts, perhaps for all requests of a [sandbox](super::sandbox).
pub const MAX_BACKEND_REQUESTS: usize = 6;

/// The longest body of a request from the proxy, in bytes. Pushpin puts at most 200,000 bytes of messages into one, but
/// does not count the framing: 200,000 messages of one byte make 2.2 MB.
pub const MAX_EVENTS_BODY: usize = 4_000_000;

/// The most secrets of an application's own that one request reads: Fastly allows five "per request", and a request that begins
/// a sandbox reads three for the service.
pub const MAX_SECRET_READS: usize = 2;

/// The most settings of an application's own that one [sandbox](super::sandbox) reads: Fastly allows 32, and the service reads
/// fourteen.
pub const MAX_SETTING_READS: usize = 16;

/// The longest body of a response that a handler fetches, in bytes.
pub const MAX_FETCHED_BODY: usize = 100_000;
