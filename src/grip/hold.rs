//! Holds: an HTTP answer that the proxy keeps open, and fills with what is published.
//!
//! # Format
//! Headers of the answer, which the proxy removes:
//! ```text
//! Grip-Hold: stream                                      ; or response: long-polling
//! Grip-Channel: room; prev-id=4; filter=skip-self, other
//! Grip-Timeout: 55                                       ; of a response hold, in seconds, at least 5
//! Grip-Keep-Alive: \n; format=cstring; timeout=20        ; of a stream hold
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
//! let hold = Hold::stream(&Channel::from_static("room")).with_keep_alive(b"\n", 20)?;
//! assert_eq!(hold.headers(), [
//!     ("grip-hold", "stream".to_owned()),
//!     ("grip-channel", "room".to_owned()),
//!     ("grip-keep-alive", r"\n; format=cstring; timeout=20".to_owned()),
//! ]);
//! # Ok::<(), fanout_edge::grip::hold::InvalidHold>(())
//! ```

use std::{error::Error, fmt};

use base64::prelude::{BASE64_STANDARD, Engine};

use super::{Channel, Filter, ItemId, control::KeepAliveMode, headers::is_printable};

/// An answer that is held open.
///
/// ```
/// use fanout_edge::grip::{Channel, Hold};
///
/// let hold = Hold::response(&Channel::from_static("a")).with_channel(&Channel::from_static("b"));
/// assert_eq!(hold.headers(), [("grip-hold", "response".to_owned()), ("grip-channel", "a, b".to_owned())]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    mode: Mode,
    channels: Vec<String>,
    more: Vec<(&'static str, String)>,
    links: Vec<String>,
    meta: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Response,
    Stream,
}

impl Hold {
    /// The answer's body is sent, then all that is published to the channel as `http-stream`.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold};
    ///
    /// assert_eq!(Hold::stream(&Channel::from_static("a")).headers()[0], ("grip-hold", "stream".to_owned()));
    /// ```
    pub fn stream(channel: &Channel) -> Self {
        Self::new(Mode::Stream, channel)
    }

    /// Long-polling: the first thing that is published to the channel as `http-response` is the answer, or, after a
    /// time, the answer itself is.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold};
    ///
    /// let hold = Hold::response(&Channel::from_static("a")).with_timeout(30);
    /// assert_eq!(hold.headers()[0], ("grip-hold", "response".to_owned()));
    /// ```
    pub fn response(channel: &Channel) -> Self {
        Self::new(Mode::Response, channel)
    }

    fn new(mode: Mode, channel: &Channel) -> Self {
        let (more, links, meta) = Default::default();
        Self { mode, channels: vec![channel.to_string()], more, links, meta }
    }

    /// One more channel.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold};
    ///
    /// let hold = Hold::stream(&Channel::from_static("a")).with_channel(&Channel::from_static("b"));
    /// assert!(hold.headers().contains(&("grip-channel", "a, b".to_owned())));
    /// ```
    pub fn with_channel(mut self, channel: &Channel) -> Self {
        self.channels.push(channel.to_string());
        self
    }

    /// Of the channel named last: the id of the last item that the client has. The proxy then notices what it missed:
    /// it asks the next link of a stream, without which it ends the stream, or sends the request of a response hold again.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold, ItemId};
    ///
    /// let id = ItemId::new("4").expect("a valid id");
    /// let hold = Hold::stream(&Channel::from_static("a")).with_prev_id(id);
    /// assert!(hold.headers().contains(&("grip-channel", "a; prev-id=4".to_owned())));
    /// ```
    pub fn with_prev_id(self, id: ItemId<'_>) -> Self {
        self.with_parameter(&format!("prev-id={}", id.as_str()))
    }

    /// Of the channel named last: a filter.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Filter, Hold};
    ///
    /// let hold = Hold::stream(&Channel::from_static("a")).with_filter(Filter::SkipSelf);
    /// assert!(hold.headers().contains(&("grip-channel", "a; filter=skip-self".to_owned())));
    /// ```
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

    /// How long a response hold waits, in seconds: 55 where nothing is said, at least 5. A stream does not end by itself.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold};
    ///
    /// let hold = Hold::response(&Channel::from_static("a")).with_timeout(20);
    /// assert!(hold.headers().contains(&("grip-timeout", "20".to_owned())));
    /// ```
    pub fn with_timeout(self, seconds: u32) -> Self {
        self.with("grip-timeout", seconds.to_string())
    }

    /// What is sent on a stream hold after so many seconds of silence, less a random part of one.
    ///
    /// # Errors
    /// [`InvalidHold`] where the content is empty: the proxy takes that for an error.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold};
    ///
    /// let hold = Hold::stream(&Channel::from_static("a")).with_keep_alive(b"\n", 20)?;
    /// assert!(hold.headers().contains(&("grip-keep-alive", r"\n; format=cstring; timeout=20".to_owned())));
    /// # Ok::<(), fanout_edge::grip::hold::InvalidHold>(())
    /// ```
    pub fn with_keep_alive(self, content: &[u8], seconds: u32) -> Result<Self, InvalidHold> {
        self.with_keep_alive_mode(content, seconds, KeepAliveMode::Idle)
    }

    /// The same, and what the time counts from.
    ///
    /// # Errors
    /// [`InvalidHold`] where the content is empty.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold, control::KeepAliveMode};
    ///
    /// let hold = Hold::stream(&Channel::from_static("a")).with_keep_alive_mode(b"x", 20, KeepAliveMode::Interval)?;
    /// let value = "x; format=raw; timeout=20; mode=interval".to_owned();
    /// assert!(hold.headers().contains(&("grip-keep-alive", value)));
    /// # Ok::<(), fanout_edge::grip::hold::InvalidHold>(())
    /// ```
    pub fn with_keep_alive_mode(self, content: &[u8], seconds: u32, mode: KeepAliveMode) -> Result<Self, InvalidHold> {
        if content.is_empty() {
            return Err(InvalidHold::KeepAlive);
        }
        let (content, format) = keep_alive(content);
        let mode = if mode.is_default() { "" } else { "; mode=interval" };
        Ok(self.with("grip-keep-alive", format!("{content}; format={format}; timeout={seconds}{mode}")))
    }

    /// The status that the client sees, where it is not that of the answer.
    ///
    /// # Errors
    /// [`InvalidHold`] where the code is not 200 to 599, or the reason has other than printable ASCII characters.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold};
    ///
    /// let hold = Hold::stream(&Channel::from_static("a")).with_status(404, "Nobody")?;
    /// assert!(hold.headers().contains(&("grip-status", "404 Nobody".to_owned())));
    /// # Ok::<(), fanout_edge::grip::hold::InvalidHold>(())
    /// ```
    pub fn with_status(self, code: u16, reason: &str) -> Result<Self, InvalidHold> {
        if !(200..=599).contains(&code) || !is_printable(reason) {
            return Err(InvalidHold::Status);
        }
        Ok(self.with("grip-status", format!("{code} {reason}").trim_end().to_owned()))
    }

    /// Where the proxy asks for more, with `Grip-Last`, when it notices a gap or, in any case, after so many seconds
    /// (120 where nothing is said).
    ///
    /// # Errors
    /// [`InvalidHold`] where the URI has characters that must be percent-encoded.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold};
    ///
    /// let hold = Hold::stream(&Channel::from_static("a")).with_next("/more", None)?;
    /// assert!(hold.headers().contains(&("grip-link", "</more>; rel=next".to_owned())));
    /// # Ok::<(), fanout_edge::grip::hold::InvalidHold>(())
    /// ```
    pub fn with_next(self, uri: &str, seconds: Option<u32>) -> Result<Self, InvalidHold> {
        let timeout = seconds.map_or_else(String::new, |seconds| format!("; timeout={seconds}"));
        self.with_link(uri, &format!("next{timeout}"))
    }

    /// Where the proxy says, with an empty POST, that the client has left.
    ///
    /// # Errors
    /// [`InvalidHold`] where the URI has characters that must be percent-encoded.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold};
    ///
    /// let hold = Hold::stream(&Channel::from_static("a")).with_gone("/gone")?;
    /// assert!(hold.headers().contains(&("grip-link", "</gone>; rel=gone".to_owned())));
    /// # Ok::<(), fanout_edge::grip::hold::InvalidHold>(())
    /// ```
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

    /// A value of the connection that filters compare with the `meta` of published items.
    ///
    /// # Errors
    /// [`InvalidHold`] where the name is not letters, digits and `-._~:`, or the value has other than printable ASCII
    /// characters, or a quotation mark or a backslash.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold};
    ///
    /// let hold = Hold::stream(&Channel::from_static("a")).with_meta("user", "alice")?;
    /// assert!(hold.headers().contains(&("grip-set-meta", r#"user="alice""#.to_owned())));
    /// # Ok::<(), fanout_edge::grip::hold::InvalidHold>(())
    /// ```
    pub fn with_meta(mut self, name: &str, value: &str) -> Result<Self, InvalidHold> {
        if !is_token(name) || !is_printable(value) || value.contains(['"', '\\']) {
            return Err(InvalidHold::Meta);
        }
        self.meta.push(format!("{name}=\"{value}\""));
        Ok(self)
    }

    /// The only headers of the answer that the client sees.
    ///
    /// # Errors
    /// [`InvalidHold`] where one is not a header name.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold};
    ///
    /// let hold = Hold::stream(&Channel::from_static("a")).with_exposed_headers(&["X-A"])?;
    /// assert!(hold.headers().contains(&("grip-expose-headers", "X-A".to_owned())));
    /// # Ok::<(), fanout_edge::grip::hold::InvalidHold>(())
    /// ```
    pub fn with_exposed_headers(self, names: &[&str]) -> Result<Self, InvalidHold> {
        if names.is_empty() || !names.iter().all(|name| is_token(name) && !name.contains(':')) {
            return Err(InvalidHold::HeaderName);
        }
        Ok(self.with("grip-expose-headers", names.join(", ")))
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.more.retain(|(known, _)| *known != name);
        self.more.push((name, value));
        self
    }

    /// The headers to add to the answer, names in lower case.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Hold};
    ///
    /// for (name, value) in Hold::stream(&Channel::from_static("a")).headers() {
    ///     println!("{name}: {value}");
    /// }
    /// ```
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mode = match self.mode {
            Mode::Response => "response",
            Mode::Stream => "stream",
        };
        let mut headers = vec![("grip-hold", mode.to_owned()), ("grip-channel", self.channels.join(", "))];
        headers.extend(self.more.iter().cloned());
        for (name, values) in [("grip-link", &self.links), ("grip-set-meta", &self.meta)] {
            if !values.is_empty() {
                headers.push((name, values.join(", ")));
            }
        }
        headers
    }
}

/// Something that cannot be said in the headers of a hold.
///
/// ```
/// use fanout_edge::grip::{Channel, Hold, hold::InvalidHold};
///
/// let hold = Hold::stream(&Channel::from_static("a"));
/// assert_eq!(hold.with_next("/two words", None), Err(InvalidHold::Uri));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidHold {
    /// A status.
    Status,
    /// The URI of a link.
    Uri,
    /// The content of a keep-alive.
    KeepAlive,
    /// The name or value of a meta.
    Meta,
    /// A header name.
    HeaderName,
}

impl fmt::Display for InvalidHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "a status has a code of 200 to 599 and a reason of printable ASCII characters",
            Self::Uri => {
                "a URI has printable ASCII characters without blanks and < > \" , ; (which are percent-encoded)"
            }
            Self::KeepAlive => "a keep-alive has at least one byte",
            Self::Meta => "a meta name has letters, digits and - . _ ~ :, its value printable ASCII without \" and \\",
            Self::HeaderName => "a header name has letters, digits and - . _ ~",
        })
    }
}

impl Error for InvalidHold {}

/// The content of a keep-alive in the first form that can hold it: as it is, with escapes, in base64. Of the escapes
/// Pushpin knows those of line ends, not that of a tab.
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
