//! Holds: HTTP responses that the proxy holds open until items are published.
//!
//! # Format
//! Response headers, which the proxy removes:
//! ```text
//! Grip-Hold: stream                                      ; or response: long-polling
//! Grip-Channel: room; prev-id=4; filter=skip-self, other
//! Grip-Timeout: 55                                       ; response hold: seconds, at least 5
//! Grip-Keep-Alive: \n; format=cstring; timeout=20        ; stream hold
//! Grip-Link: </next>; rel=next; timeout=120, </gone>; rel=gone
//! Grip-Status: 404 Not Here
//! Grip-Set-Meta: user="alice"
//! Grip-Expose-Headers: X-A, X-B
//! ```
//! Source: <https://pushpin.org/docs/protocols/grip/#grip-instructions>, and Pushpin 1.41.
//!
//! ```
//! use fanout_edge::grip::{Channel, Hold};
//!
//! let headers = Hold::stream(&Channel::from_static("room")).with_keep_alive(b"\n", 20)?.headers();
//! assert_eq!(headers["grip-hold"], "stream");
//! assert_eq!(headers["grip-channel"], "room");
//! assert_eq!(headers["grip-keep-alive"], r"\n; format=cstring; timeout=20");
//! # Ok::<(), fanout_edge::grip::hold::InvalidHold>(())
//! ```

use std::{error::Error, fmt};

use base64::prelude::{BASE64_STANDARD, Engine};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Channel, Filter, ItemId, control::KeepAliveMode, headers::printable};

const GRIP_HOLD: HeaderName = HeaderName::from_static("grip-hold");
const GRIP_CHANNEL: HeaderName = HeaderName::from_static("grip-channel");
const GRIP_TIMEOUT: HeaderName = HeaderName::from_static("grip-timeout");
const GRIP_KEEP_ALIVE: HeaderName = HeaderName::from_static("grip-keep-alive");
const GRIP_LINK: HeaderName = HeaderName::from_static("grip-link");
const GRIP_STATUS: HeaderName = HeaderName::from_static("grip-status");
const GRIP_SET_META: HeaderName = HeaderName::from_static("grip-set-meta");
const GRIP_EXPOSE_HEADERS: HeaderName = HeaderName::from_static("grip-expose-headers");

/// A response that the proxy holds open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    mode: &'static str,
    channels: Vec<String>,
    /// Headers that have one value.
    more: HeaderMap,
    links: Vec<String>,
    meta: Vec<String>,
}

impl Hold {
    /// Streaming: the client receives the body of the response, then each item of the channel as `http-stream`.
    pub fn stream(channel: &Channel) -> Self {
        Self::new("stream", channel)
    }

    /// Long-polling: the client receives the next item of the channel as `http-response`, or the response itself after
    /// the timeout.
    pub fn response(channel: &Channel) -> Self {
        Self::new("response", channel)
    }

    fn new(mode: &'static str, channel: &Channel) -> Self {
        let (more, links, meta) = Default::default();
        Self { mode, channels: vec![channel.to_string()], more, links, meta }
    }

    /// Returns self with another channel.
    pub fn with_channel(mut self, channel: &Channel) -> Self {
        self.channels.push(channel.to_string());
        self
    }

    /// Returns self with the id of the last item that the client received on the channel added last. If the client
    /// missed items, the proxy requests the next link of a stream (or ends the stream if it has none), or sends the
    /// request of a response hold again.
    pub fn with_prev_id(self, id: ItemId<'_>) -> Self {
        self.with_parameter(&format!("prev-id={}", id.as_str()))
    }

    /// Returns self with a filter for the channel added last.
    pub fn with_filter(self, filter: Filter) -> Self {
        self.with_parameter(&format!("filter={}", filter.as_str()))
    }

    fn with_parameter(mut self, parameter: &str) -> Self {
        if let Some(channel) = self.channels.last_mut() {
            channel.push_str("; ");
            channel.push_str(parameter);
        }
        self
    }

    /// Returns self with the timeout of a response hold, in seconds: at least 5, by default 55. A stream has none.
    pub fn with_timeout(self, seconds: u32) -> Self {
        self.with(GRIP_TIMEOUT, HeaderValue::from(seconds))
    }

    /// Returns self with content that is sent on a stream hold after `seconds` of silence, less up to 1 s of jitter.
    ///
    /// # Errors
    /// [`InvalidHold`] if the content is empty, which the proxy treats as an error.
    pub fn with_keep_alive(self, content: &[u8], seconds: u32) -> Result<Self, InvalidHold> {
        self.with_keep_alive_mode(content, seconds, KeepAliveMode::Idle)
    }

    /// Returns self with a keep-alive of that mode, see [`with_keep_alive`](Self::with_keep_alive).
    ///
    /// # Errors
    /// [`InvalidHold`] if the content is empty.
    pub fn with_keep_alive_mode(self, content: &[u8], seconds: u32, mode: KeepAliveMode) -> Result<Self, InvalidHold> {
        if content.is_empty() {
            return Err(InvalidHold::KeepAlive);
        }
        let (content, format) = keep_alive(content);
        let mode = if mode.is_default() { "" } else { "; mode=interval" };
        let value = HeaderValue::try_from(format!("{content}; format={format}; timeout={seconds}{mode}"));
        Ok(self.with(GRIP_KEEP_ALIVE, value.expect("the content is encoded as printable ASCII")))
    }

    /// Returns self with the status that the client receives, if it is not that of the response.
    ///
    /// # Errors
    /// [`InvalidHold`] if the code is not 200 to 599, or the reason has other characters than printable ASCII.
    pub fn with_status(self, code: u16, reason: &str) -> Result<Self, InvalidHold> {
        let value = printable(format!("{code} {reason}").trim_end()).ok_or(InvalidHold::Status)?;
        if !(200..=599).contains(&code) {
            return Err(InvalidHold::Status);
        }
        Ok(self.with(GRIP_STATUS, value))
    }

    /// Returns self with the next link of a stream. The proxy requests it, with `Grip-Last`, if the client missed
    /// items, and in any case after `seconds` (by default 120).
    ///
    /// # Errors
    /// [`InvalidHold`] if the URI is empty or has characters that must be percent-encoded.
    pub fn with_next(self, uri: &str, seconds: Option<u32>) -> Result<Self, InvalidHold> {
        let timeout = seconds.map_or_else(String::new, |seconds| format!("; timeout={seconds}"));
        self.with_link(uri, &format!("next{timeout}"))
    }

    /// Returns self with the gone link: the proxy sends it an empty POST when the client disconnects.
    ///
    /// # Errors
    /// [`InvalidHold`] if the URI is empty or has characters that must be percent-encoded.
    pub fn with_gone(self, uri: &str) -> Result<Self, InvalidHold> {
        self.with_link(uri, "gone")
    }

    fn with_link(mut self, uri: &str, relation: &str) -> Result<Self, InvalidHold> {
        let is_valid = !uri.is_empty() && uri.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\",;".contains(&byte));
        if !is_valid {
            return Err(InvalidHold::Uri);
        }
        self.links.push(format!("<{uri}>; rel={relation}"));
        Ok(self)
    }

    /// Returns self with a meta value that filters compare with the `meta` of items.
    ///
    /// # Errors
    /// [`InvalidHold`] if the name is empty or has other characters than letters, digits and `-._~:`, or the value has
    /// a quotation mark, a backslash or other characters than printable ASCII.
    pub fn with_meta(mut self, name: &str, value: &str) -> Result<Self, InvalidHold> {
        if !is_token(name) || printable(value).is_none() || value.contains(['"', '\\']) {
            return Err(InvalidHold::Meta);
        }
        self.meta.push(format!("{name}=\"{value}\""));
        Ok(self)
    }

    /// Returns self with the names of the only response headers that the client receives.
    ///
    /// # Errors
    /// [`InvalidHold`] if there are none, or one is not a header name.
    pub fn with_exposed_headers(self, names: &[&str]) -> Result<Self, InvalidHold> {
        if names.is_empty() || names.iter().any(|name| HeaderName::try_from(*name).is_err()) {
            return Err(InvalidHold::HeaderName);
        }
        let value = HeaderValue::try_from(names.join(", ")).map_err(|_| InvalidHold::HeaderName)?;
        Ok(self.with(GRIP_EXPOSE_HEADERS, value))
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.more.insert(name, value);
        self
    }

    /// The headers to add to the response.
    pub fn headers(&self) -> HeaderMap {
        let list =
            |values: &[String]| HeaderValue::try_from(values.join(", ")).expect("each of them is printable ASCII");
        let mut headers = self.more.clone();
        headers.insert(GRIP_HOLD, HeaderValue::from_static(self.mode));
        headers.insert(GRIP_CHANNEL, list(&self.channels));
        for (name, values) in [(GRIP_LINK, &self.links), (GRIP_SET_META, &self.meta)] {
            if !values.is_empty() {
                headers.insert(name, list(values));
            }
        }
        headers
    }
}

/// A value that a hold cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidHold {
    /// The status.
    Status,
    /// The URI of a link.
    Uri,
    /// The content of a keep-alive.
    KeepAlive,
    /// The name or text of a meta value.
    Meta,
    /// A header name, or an empty list of them.
    HeaderName,
}

impl fmt::Display for InvalidHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "invalid status: use a code of 200 to 599 and a reason of printable ASCII",
            Self::Uri => "invalid URI: use printable ASCII, and percent-encode spaces and < > \" , ;",
            Self::KeepAlive => "the keep-alive is empty: use at least one byte",
            Self::Meta => {
                "invalid meta: use letters, digits and -._~: in the name, printable ASCII except \" and \\ in the value"
            }
            Self::HeaderName => "invalid header names: use at least one name, of letters, digits and !#$%&'*+-.^_`|~",
        })
    }
}

impl Error for InvalidHold {}

/// Encodes the content of a keep-alive in the first format that can hold it, and returns the format, too: `raw`,
/// `cstring` or `base64`. Pushpin decodes the escapes `\n` and `\r`, but not `\t`.
fn keep_alive(content: &[u8]) -> (String, &'static str) {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\\;,\"".contains(&byte);
    if content.iter().all(|byte| is_plain(*byte)) {
        return (content.iter().map(|byte| char::from(*byte)).collect(), "raw");
    }
    let escaped: Option<String> = content
        .iter()
        .map(|byte| match byte {
            b'\n' => Some("\\n".to_owned()),
            b'\r' => Some("\\r".to_owned()),
            byte if is_plain(*byte) => Some(char::from(*byte).to_string()),
            _ => None,
        })
        .collect();
    match escaped {
        Some(escaped) => (escaped, "cstring"),
        None => (BASE64_STANDARD.encode(content), "base64"),
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte))
}
