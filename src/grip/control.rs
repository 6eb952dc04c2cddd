//! Control messages: what the application tells the proxy on a WebSocket.
//!
//! # Format
//! A text message `c:` + JSON, at most [`MAX_LENGTH`] bytes. The proxy acts on it and does not pass it on to the
//! client. It ignores silently what it does not understand. Source:
//! <https://pushpin.org/docs/protocols/grip/#websocket-control-messages> and Pushpin 1.41.

use serde::Serialize;

use super::Channel;

/// The longest control message that the proxy acts on, in bytes, with its `c:`.
pub const MAX_LENGTH: usize = 16_384;

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Control<'a> {
    /// From now on the client receives what is published to the channel. At most 20 channels for each connection:
    /// the proxy ignores more. A publish within milliseconds of the subscription may still be missed.
    Subscribe {
        /// The channel.
        channel: &'a Channel,
    },
    /// The client no longer receives what is published to the channel.
    Unsubscribe {
        /// The channel.
        channel: &'a Channel,
    },
    /// The proxy keeps the connection to itself: the application gets a CLOSE and nothing after it, publishes still
    /// reach the client.
    Detach,
    /// The proxy sends a text to the client whenever the connection was silent for a time.
    KeepAlive {
        /// The text. `None` switches it off.
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<&'a str>,
        /// The time in seconds, less a random part of a second.
        timeout: u32,
    },
    /// Sets a value that filters compare with the `meta` of published items. It is no `Meta-*` header.
    SetMeta {
        /// The name, for instance `user` for the filter `skip-self`.
        name: &'a str,
        /// The value.
        value: &'a str,
    },
    /// The proxy sends a text to the client after a time; a second one sends the first at once.
    SendDelayed {
        /// The text.
        content: &'a str,
        /// The time in seconds.
        timeout: u32,
    },
    /// The proxy sends a delayed text now.
    FlushDelayed,
}
