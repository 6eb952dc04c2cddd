//! The text of every error: what is wrong and what to do, in one line.

use std::fmt;

use super::{Error, Right, counted, in_one_line};
use crate::{
    app::{
        bounds::{
            MAX_ACK_LENGTH, MAX_BACKEND_REQUESTS, MAX_CHANNEL_LENGTH, MAX_CONNECTION_ID_LENGTH, MAX_ID_AGE,
            MAX_PUBLISHED, MAX_QUERY, MAX_SECRET_READS, MAX_SETTING_READS, MAX_STATE_LENGTH, MAX_USER_LENGTH,
        },
        platform::{BackendError, StoreError},
        settings::SECRET_STORE,
        state::EntryError,
    },
    grip::publish::{MAX_BODY, PublishError},
};

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const REJECTED: &str = "Access token rejected";
        match self {
            Self::NotFound => f.write_str(
                "Not found: use /api/websocket, /api/events, /api/poll, /api/broadcast, /api/disconnect, /api/history or /api/health",
            ),
            Self::MethodNotAllowed { allowed } => write!(f, "Method not allowed: use {allowed}"),
            Self::QueryTooLong => write!(f, "Query too long: use at most {MAX_QUERY} bytes, percent-encoded"),
            Self::ChannelName => {
                write!(f, "Invalid channel name: use 1 to {MAX_CHANNEL_LENGTH} of A-Z a-z 0-9 - . _ ~")
            }
            Self::TooManyChannels { limit } => write!(f, "Too many channels: use at most {limit}"),
            Self::ChannelAndUser => f.write_str("Channel and user: send to a channel, ?channel=NAME, or to one user, ?user=ID"),
            Self::UnknownParameter { name, known } => {
                write!(f, "Unknown parameter `{}`: use only {}", in_one_line(name), known.join(", "))
            }
            Self::Repeated { name } => write!(f, "Repeated parameter: use {name} once, and send a request for each"),
            Self::Unescaped { name } => write!(f, "Invalid {name}: write ; as %3B, and in the id of a user + as %2B"),
            Self::Except => {
                write!(f, "Invalid except: use the id of a connection, 1 to {MAX_CONNECTION_ID_LENGTH} bytes, ?except=ID")
            }
            Self::User => write!(f, "Invalid user: use 1 to {MAX_USER_LENGTH} characters, ?user=ID"),
            Self::NoUser => f.write_str("Missing user: add ?user= and the id of the user"),
            Self::CloseFrame => {
                f.write_str("Invalid code or reason: use code=4000 to code=4999, and a reason of at most 123 bytes")
            }
            Self::Parameter { name, values: [one, other] } => {
                write!(f, "Invalid {name}: use {name}={one} or {name}={other}")
            }
            Self::LookAlike { known } => write!(f, "Misspelled parameter: write it exactly so, ?{known}="),
            Self::MessageId => write!(
                f,
                "Invalid id: use the Message-Id of the first try, a UUID version 7 that was made within the last {MAX_ID_AGE} seconds"
            ),
            Self::UpgradeRequired => f.write_str(
                "This is a WebSocket endpoint: connect with a WebSocket client, npx wscat -c ws://HOST/api/websocket (wss:// on Fastly)",
            ),
            Self::UpgradeSpelling => f.write_str(
                "Invalid Upgrade: send `Upgrade: websocket` once, in exactly this spelling, as the GRIP proxy takes no other",
            ),
            Self::NotEvents => f.write_str(
                "[not a websocket request] Send the header `Content-Type: application/websocket-events` once, in exactly this spelling",
            ),
            Self::Events(error) => write!(f, "Invalid WebSocket-over-HTTP request: {error}"),
            Self::MediaType => f.write_str(
                "Unsupported Content-Type: add the header `Content-Type: text/plain` (curl -H 'Content-Type: text/plain' -d …) or application/octet-stream, once",
            ),
            Self::Charset => f.write_str("Unsupported charset: send text in UTF-8, Content-Type: text/plain; charset=utf-8"),
            Self::ContentCoding => {
                f.write_str("Unsupported Content-Encoding: send the body as it is, not compressed, without this header")
            }
            Self::NotUtf8 { at } => {
                write!(f, "Invalid UTF-8 at byte {at}: send text as UTF-8, or bytes as application/octet-stream")
            }
            Self::BodyTooLarge { limit } => write!(f, "Body too large: send at most {limit} bytes"),
            Self::BodyIncomplete => f.write_str("Incomplete body: send the request again"),
            Self::NotProxied | Self::Signature(_) => {
                f.write_str("[not proxied] Only the GRIP proxy may send this: connect with a WebSocket client")
            }
            Self::Origin => f.write_str("Origin not allowed: add it to the setting ALLOWED_ORIGINS"),
            Self::NoToken => f.write_str(
                "Access token required: send the header `Authorization: Bearer TOKEN`, ?token=TOKEN, or the WebSocket subprotocols `bearer, TOKEN`",
            ),
            Self::FastlyKey => {
                f.write_str("Fastly-Key rejected: use a Fastly API token of this service, or an access token")
            }
            Self::Token(error) => write!(f, "{REJECTED}: {error}. Get a new one"),
            Self::NoKeyId => write!(f, "{REJECTED}: no key ID (kid), and there are several keys. Add it to the token"),
            Self::UnknownKeyId => write!(f, "{REJECTED}: unknown key ID (kid). Use that of a key in ACCESS_KEY"),
            Self::Audience { is_set: false, .. } => {
                write!(f, "{REJECTED}: it has an audience (aud), and the setting ACCESS_AUDIENCE is missing. Add it")
            }
            Self::Audience { is_there: false, .. } => {
                write!(f, "{REJECTED}: no audience (aud), and the setting ACCESS_AUDIENCE asks for one. Get another one")
            }
            Self::Audience { .. } => write!(f, "{REJECTED}: for another audience (aud). Get one for this service"),
            Self::Subject => write!(f, "{REJECTED}: sub must be a string of 1 to {MAX_USER_LENGTH} characters"),
            Self::Claim(right) => write!(f, "{REJECTED}: {} must be a list of strings", right.claim()),
            Self::Forbidden(right, channel) => {
                write!(f, "The access token does not allow {} `{channel}` (claim {})", verb(*right), right.claim())
            }
            Self::ForbiddenUser(right) => {
                write!(f, "The access token does not allow {} this user (claim {})", verb(*right), right.claim())
            }
            Self::TooMany { counter, limit } => {
                let (per, wait) = if counter.seconds() == 1 { ("second", "1 second") } else { ("minute", "60 seconds") };
                write!(f, "Too many {}: at most {limit} per {per}, wait {wait}", counted(*counter))
            }
            Self::MessageTooLarge { limit } => {
                write!(f, "Message too large: at most {limit} bytes like these can be published, send less")
            }
            Self::BatchTooLarge => write!(
                f,
                "Too much to publish at once: at most {MAX_PUBLISHED} messages in {MAX_BACKEND_REQUESTS} publish requests of {MAX_BODY} bytes; send less, then wait"
            ),
            Self::Publish(PublishError::TimedOut) => {
                f.write_str("The message may or may not be published: the GRIP proxy did not respond in time")
            }
            Self::Publish(PublishError::Unreachable) => {
                f.write_str("The message is probably not published: the GRIP proxy could not be reached, try again")
            }
            Self::Publish(error @ PublishError::Rejected { status: 401 | 403 }) => {
                write!(f, "The message is not published: {error}; correct FANOUT_API_TOKEN or GRIP_URL")
            }
            Self::Publish(error) => write!(f, "The message is not published: {error}"),
            Self::PartlyPublished { total: 1, error, .. } => {
                write!(f, "The message is published for some transports only: {error}")
            }
            Self::PartlyPublished { published, total, error } => {
                // What was not rejected may be published all the same.
                let least = if matches!(error, PublishError::Rejected { .. }) { "" } else { "At least " };
                write!(f, "{least}{published} of {total} messages are published: {error}")
            }
            Self::OnlyKept(error) => write!(f, "{error}; clients that reconnect may get it"),
            Self::NotKept { published, error } => {
                let problem = match error {
                    StoreError::Missing => "there is no KV store `fanout_history`",
                    StoreError::TooMany => "the KV store is too busy",
                    StoreError::TooLarge => "it is too large",
                    StoreError::TooSlow => "that took too long",
                    StoreError::Failed => "the KV store failed",
                };
                match published {
                    None => {
                        write!(f, "The message is published, but not kept: {problem}; send it again with its Message-Id")
                    }
                    Some(error) => write!(f, "{error}. Nor is it kept: {problem}"),
                }
            }
            Self::Since => f.write_str(
                "Invalid since: use the id of the last message, or a time that has passed, 2026-01-31T08:00:00Z",
            ),
            Self::SinceFormat => f.write_str("Invalid since: add format=json, or use /api/events"),
            Self::SyncTooOften => f.write_str("Too many syncs: send one, then wait for its response"),
            Self::NoSince => {
                f.write_str("Missing since: add ?since= and the id of the last message, or a time, 2026-01-31T08:00:00Z")
            }
            Self::NoAccessKey => {
                f.write_str("Without an access key no client is a user: add ACCESS_KEY to the secret store `fanout`")
            }
            Self::Setting(error) => error.fmt(f),
            Self::HandOff { backend, cause } => write!(
                f,
                "Cannot hand off to Fanout through the backend `{backend}`: {cause}. Is Fanout enabled for the service?"
            ),
            Self::Backend { name, error } => {
                let problem = match error {
                    BackendError::Missing => "does not exist: add it to the service",
                    BackendError::Url => "was not called: use an absolute URL, http://HOST/PATH",
                    BackendError::Unreachable => "could not be reached: try again later",
                    BackendError::TimedOut => "did not respond in time: try again later",
                    BackendError::TooMany => {
                        return write!(
                            f,
                            "The backend `{name}` was not called: use at most {MAX_BACKEND_REQUESTS} requests to backends for each batch"
                        );
                    }
                    BackendError::TooLarge => "sent too large a response: at most 100000 bytes are accepted",
                };
                write!(f, "The backend `{name}` {problem}")
            }
            Self::Entry { store, name, error } => {
                let kind = if *store == SECRET_STORE { "secret" } else { "config" };
                let problem = match error {
                    EntryError::Missing => "is missing: add it".to_owned(),
                    EntryError::Unreadable => "cannot be read as text: correct it".to_owned(),
                    EntryError::TooMany => format!(
                        "was not read: read at most {MAX_SECRET_READS} new secrets in one batch, and {MAX_SETTING_READS} settings in all"
                    ),
                };
                write!(f, "The entry {name} of the {kind} store `{store}` {problem}")
            }
            Self::State => write!(
                f,
                "Invalid connection state: use a name of letters, digits, - and _, and a value of at most {MAX_STATE_LENGTH} bytes, as percent-encoded JSON"
            ),
            Self::AckValue => write!(f, "Invalid value of an acknowledgement: use at most {MAX_ACK_LENGTH} bytes of JSON"),
            Self::Subprotocol => f.write_str("Missing subprotocol: offer the one that this service requires"),
            Self::NotAccepted => f.write_str("The handler did not accept the connection: call connection.accept()"),
            Self::Handler { .. } => f.write_str("The handler failed: try again later, the log of the service says why"),
            Self::Rejected { text, .. } => f.write_str(text),
        }
    }
}

const fn verb(right: Right) -> &'static str {
    match right {
        Right::Read => "subscribing to",
        Right::Write => "publishing to",
        Right::Disconnect => "disconnecting",
    }
}
