//! Publishing: messages to all subscribers of a channel, through the proxy's publish API.
//!
//! # Format
//! ```text
//! POST {control URI}/publish/
//! Authorization: …
//! Content-Type: application/json
//!
//! {"items":[{"channel":"test","formats":{"ws-message":{"content":"Hello"}}}]}
//! ```
//! The items are those of [`item`](super::item). 200 says that the proxy accepted the items, not that a subscriber got them.
//! Source: <https://pushpin.org/docs/protocols/grip/#control> and Fastly's publishing API.

mod authorization;

use std::{error::Error, fmt};

use serde::Serialize;

pub use self::authorization::Authorization;

use super::Item;

/// The longest body of a publish request, in bytes: Fanout's limit, and that of the Fastly CLI's Pushpin.
///
/// ```
/// use fanout_edge::grip::{
///     Channel, Formats, Item, Publisher, WsMessage,
///     publish::{Authorization, MAX_BODY},
/// };
///
/// let channel = Channel::from_static("a");
/// let text = "x".repeat(MAX_BODY);
/// let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::text(&text)), ..Formats::default() });
/// let publisher = Publisher::new("http://127.0.0.1:5561", Authorization::none());
/// assert!(publisher.request(&[item], 1_800_000_000).is_err());
/// ```
pub const MAX_BODY: usize = 65_536;

/// Where to publish, and how to prove that one may.
///
/// ```
/// use fanout_edge::grip::{
///     Channel, Formats, Item, Publisher, WsMessage,
///     publish::{Authorization, PublishRequest, Transport, TransportError},
/// };
///
/// struct Print;
/// impl Transport for Print {
///     fn send(&mut self, request: PublishRequest) -> Result<u16, TransportError> {
///         println!("POST {} {}", request.url, String::from_utf8_lossy(&request.body));
///         Ok(200)
///     }
/// }
///
/// let channel = Channel::from_static("room");
/// let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::text("Hello")), ..Formats::default() });
/// let publisher = Publisher::new("http://127.0.0.1:5561", Authorization::none());
/// publisher.publish(&mut Print, &[item], 1_800_000_000)?;
/// # Ok::<(), fanout_edge::grip::publish::PublishError>(())
/// ```
#[derive(Clone)]
pub struct Publisher {
    url: String,
    authorization: Authorization,
}

impl Publisher {
    /// A publisher for the proxy with that control URI, with or without a slash at its end.
    ///
    /// ```
    /// use fanout_edge::grip::{Publisher, publish::Authorization};
    ///
    /// let publisher = Publisher::new("http://127.0.0.1:5561", Authorization::none());
    /// assert_eq!(format!("{publisher:?}"), r#"Publisher { url: "http://127.0.0.1:5561/publish/", .. }"#);
    /// ```
    pub fn new(control_uri: &str, authorization: Authorization) -> Self {
        Self { url: format!("{}/publish/", control_uri.trim_end_matches('/')), authorization }
    }

    pub(super) const fn authorization(&self) -> &Authorization {
        &self.authorization
    }

    /// Publishes the items in one request, at a time in seconds since 1970.
    ///
    /// # Errors
    /// [`PublishError`]. Only without one did the proxy accept them.
    ///
    /// ```
    /// use fanout_edge::grip::{
    ///     Channel, Formats, Item, Publisher, WsMessage,
    ///     publish::{Authorization, PublishError, PublishRequest, Transport, TransportError},
    /// };
    ///
    /// struct Gone;
    /// impl Transport for Gone {
    ///     fn send(&mut self, _: PublishRequest) -> Result<u16, TransportError> {
    ///         Err(TransportError::Unreachable)
    ///     }
    /// }
    ///
    /// let channel = Channel::from_static("a");
    /// let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::Hint), ..Formats::default() });
    /// let publisher = Publisher::new("http://127.0.0.1:5561", Authorization::none());
    /// assert_eq!(publisher.publish(&mut Gone, &[item], 1_800_000_000), Err(PublishError::Unreachable));
    /// ```
    pub fn publish(&self, transport: &mut impl Transport, items: &[Item<'_>], now: u64) -> Result<(), PublishError> {
        self.request(items, now).map_err(PublishError::TooLarge)?.send(transport)
    }

    /// The request that publishes the items, at a time in seconds since 1970.
    ///
    /// # Errors
    /// [`TooLarge`] where its body would be longer than [`MAX_BODY`]: the proxy would refuse it.
    ///
    /// ```
    /// use fanout_edge::grip::{Channel, Formats, Item, Publisher, WsMessage, publish::Authorization};
    ///
    /// let channel = Channel::from_static("a");
    /// let item = Item::new(&channel, Formats { ws_message: Some(WsMessage::text("x")), ..Formats::default() });
    /// let publisher = Publisher::new("http://127.0.0.1:5561/", Authorization::none());
    /// let request = publisher.request(&[item], 1_800_000_000)?;
    /// assert_eq!(request.url, "http://127.0.0.1:5561/publish/");
    /// # Ok::<(), fanout_edge::grip::publish::TooLarge>(())
    /// ```
    pub fn request(&self, items: &[Item<'_>], now: u64) -> Result<PublishRequest, TooLarge> {
        #[derive(Serialize)]
        struct Body<'a> {
            items: &'a [Item<'a>],
        }
        let body = serde_json::to_vec(&Body { items }).expect("strings and numbers under known keys are JSON");
        if body.len() > MAX_BODY {
            return Err(TooLarge { length: body.len() });
        }
        Ok(PublishRequest { url: self.url.clone(), authorization: self.authorization.header(now), body })
    }
}

/// A publish request, ready to be sent with the method POST and `Content-Type: application/json`.
///
/// ```
/// use fanout_edge::grip::{Publisher, publish::{Authorization, TooLarge}};
///
/// let token = Authorization::bearer("s3cret").expect("a valid token");
/// let request = Publisher::new("https://proxy.example", token).request(&[], 1_800_000_000)?;
/// assert_eq!(request.authorization.as_deref(), Some("Bearer s3cret"));
/// assert_eq!(format!("{request:?}"), r#"PublishRequest { url: "https://proxy.example/publish/", .. }"#);
/// # Ok::<(), TooLarge>(())
/// ```
pub struct PublishRequest {
    /// The absolute URL. Its slash at the end matters to Fastly.
    pub url: String,
    /// The value of `Authorization`, a secret.
    pub authorization: Option<String>,
    /// JSON.
    pub body: Vec<u8>,
}

impl PublishRequest {
    /// Sends the request.
    ///
    /// # Errors
    /// [`PublishError`], but not that it is too large.
    ///
    /// ```
    /// use fanout_edge::grip::{
    ///     Publisher,
    ///     publish::{Authorization, PublishError, PublishRequest, Transport, TransportError},
    /// };
    ///
    /// struct Full;
    /// impl Transport for Full {
    ///     fn send(&mut self, _: PublishRequest) -> Result<u16, TransportError> {
    ///         Ok(429)
    ///     }
    /// }
    ///
    /// let request = Publisher::new("http://127.0.0.1:5561", Authorization::none()).request(&[], 1_800_000_000)?;
    /// assert_eq!(request.send(&mut Full), Err(PublishError::Refused { status: 429 }));
    /// # Ok::<(), fanout_edge::grip::publish::TooLarge>(())
    /// ```
    pub fn send(self, transport: &mut impl Transport) -> Result<(), PublishError> {
        match transport.send(self) {
            Ok(200) => Ok(()),
            Ok(status) => Err(PublishError::Refused { status }),
            Err(TransportError::Unreachable) => Err(PublishError::Unreachable),
            Err(TransportError::TimedOut) => Err(PublishError::TimedOut),
        }
    }
}

/// What carries a publish request to the proxy: Fastly's SDK, an HTTP client, a test.
///
/// ```
/// use fanout_edge::grip::publish::{PublishRequest, Transport, TransportError};
///
/// /// Keeps what would be sent.
/// struct Kept(Vec<PublishRequest>);
/// impl Transport for Kept {
///     fn send(&mut self, request: PublishRequest) -> Result<u16, TransportError> {
///         self.0.push(request);
///         Ok(200)
///     }
/// }
/// ```
pub trait Transport {
    /// Sends the request and returns the status of the answer.
    ///
    /// # Errors
    /// [`TransportError`] where there is none.
    ///
    /// ```
    /// use fanout_edge::grip::{
    ///     Publisher,
    ///     publish::{Authorization, PublishRequest, Transport, TransportError},
    /// };
    ///
    /// struct Refusing;
    /// impl Transport for Refusing {
    ///     fn send(&mut self, request: PublishRequest) -> Result<u16, TransportError> {
    ///         Ok(if request.authorization.is_some() { 200 } else { 401 })
    ///     }
    /// }
    ///
    /// let request = Publisher::new("http://127.0.0.1:5561", Authorization::none()).request(&[], 1_800_000_000)?;
    /// assert_eq!(Refusing.send(request), Ok(401));
    /// # Ok::<(), fanout_edge::grip::publish::TooLarge>(())
    /// ```
    fn send(&mut self, request: PublishRequest) -> Result<u16, TransportError>;
}

/// Why a publish request has no answer.
///
/// ```
/// use fanout_edge::grip::publish::TransportError;
///
/// let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
/// let error = match error.kind() {
///     std::io::ErrorKind::TimedOut => TransportError::TimedOut,
///     _ => TransportError::Unreachable,
/// };
/// assert_eq!(error, TransportError::TimedOut);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The proxy could not be reached, or broke off.
    Unreachable,
    /// The proxy did not answer in time.
    TimedOut,
}

/// Why items are not published, or perhaps not.
///
/// ```
/// use fanout_edge::grip::publish::PublishError;
///
/// let text = PublishError::Refused { status: 400 }.to_string();
/// assert_eq!(text, "The GRIP proxy refused the message: it answered with status 400");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// They are too large for one request; nothing was sent.
    TooLarge(TooLarge),
    /// The proxy refused them with this status: 400 something in them, 401 or 403 the authorization.
    Refused {
        /// The status. Only 200 is acceptance.
        status: u16,
    },
    /// The proxy could not be reached, or broke off: do not count on their being published.
    Unreachable,
    /// The proxy did not answer in time: they may or may not be published.
    TimedOut,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(error) => error.fmt(f),
            Self::Refused { status: 401 | 403 } => f.write_str(
                "The GRIP proxy refused the message: the token or key of the settings does not allow to publish",
            ),
            Self::Refused { status } => {
                write!(f, "The GRIP proxy refused the message: it answered with status {status}")
            }
            Self::Unreachable => f.write_str(
                "The GRIP proxy could not be reached, or broke off: do not count on the message being published",
            ),
            Self::TimedOut => {
                f.write_str("The GRIP proxy did not answer in time: the message may or may not be published")
            }
        }
    }
}

impl Error for PublishError {}

/// Publishes the items through several proxies, to all of them whatever becomes of one; the results are in their order.
///
/// ```
/// use fanout_edge::grip::{
///     Publisher,
///     publish::{Authorization, PublishRequest, Transport, TransportError, publish_to_all},
/// };
///
/// /// The first of two proxies is gone.
/// struct Loopback;
/// impl Transport for Loopback {
///     fn send(&mut self, request: PublishRequest) -> Result<u16, TransportError> {
///         if request.url.contains(":1/") { Err(TransportError::Unreachable) } else { Ok(200) }
///     }
/// }
///
/// let proxies = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(|uri| Publisher::new(uri, Authorization::none()));
/// let published = publish_to_all(&proxies, &mut Loopback, &[], 1_800_000_000);
/// assert_eq!(published.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
/// ```
pub fn publish_to_all(
    publishers: &[Publisher],
    transport: &mut impl Transport,
    items: &[Item<'_>],
    now: u64,
) -> Vec<Result<(), PublishError>> {
    publishers.iter().map(|publisher| publisher.publish(transport, items, now)).collect()
}

/// The address, and no credential.
impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The address, and neither credential nor message.
impl fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishRequest").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A publish request that the proxy would refuse for its size.
///
/// ```
/// use fanout_edge::grip::publish::TooLarge;
///
/// let text = "the publish request would be 65537 bytes of JSON; the proxy takes at most 65536";
/// assert_eq!(TooLarge { length: 65_537 }.to_string(), text);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// How long its body would be, in bytes.
    pub length: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the publish request would be {} bytes of JSON; the proxy takes at most {MAX_BODY}", self.length)
    }
}

impl Error for TooLarge {}
