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
//! For the items see [`item`](super::item). A status of 200 to 299 says that the proxy accepted the items, not that a subscriber
//! got them. Source: <https://pushpin.org/docs/protocols/grip/#control> and Fastly's publishing API.

mod authorization;
mod error;

use std::fmt;

use http::{
    HeaderValue,
    header::{AUTHORIZATION, CONTENT_TYPE},
};

pub use self::{
    authorization::Authorization,
    error::{PublishError, SendError, TooLarge},
};

use super::Item;

/// The longest body of a publish request, in bytes: the limit of Fanout and of the Fastly CLI's Pushpin.
pub const MAX_BODY: usize = 65_536;

const HEAD: &[u8] = b"{\"items\":[";
const TAIL: &[u8] = b"]}";

/// Where to publish, and with which credentials.
///
/// ```
/// use fanout_edge::grip::{
///     Channel, Formats, Item, Publisher, WsMessage,
///     publish::{Authorization, PublishRequest, SendError, Sender},
/// };
///
/// struct Print;
/// impl Sender for Print {
///     fn send(&mut self, request: PublishRequest) -> Result<u16, SendError> {
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
    /// Returns a publisher for the proxy with that control URI, with or without a slash at its end.
    pub fn new(control_uri: &str, authorization: Authorization) -> Self {
        Self { url: format!("{}/publish/", control_uri.trim_end_matches('/')), authorization }
    }

    #[cfg(feature = "tickets")]
    pub(super) const fn authorization(&self) -> &Authorization {
        &self.authorization
    }

    /// Publishes the items in one request, at a time in seconds since 1970.
    ///
    /// # Errors
    /// [`PublishError`]. The proxy accepted the items only if there is none.
    pub fn publish(&self, sender: &mut impl Sender, items: &[Item<'_>], now: u64) -> Result<(), PublishError> {
        self.request(items, now)?.send(sender)
    }

    /// The request that publishes the items, at a time in seconds since 1970.
    ///
    /// # Errors
    /// [`TooLarge`] if its body would be longer than [`MAX_BODY`]: the proxy would refuse it.
    pub fn request(&self, items: &[Item<'_>], now: u64) -> Result<PublishRequest, TooLarge> {
        let mut body = HEAD.to_vec();
        for item in items {
            write_item(&mut body, item);
        }
        body.extend_from_slice(TAIL);
        if body.len() > MAX_BODY {
            return Err(TooLarge { length: body.len() });
        }
        Ok(self.request_with(body, now))
    }

    /// Returns a packer, which fills requests with items, at a time in seconds since 1970.
    pub const fn packer(&self, now: u64) -> Packer<'_> {
        Packer { publisher: self, now, body: Vec::new(), full: Vec::new() }
    }

    fn request_with(&self, body: Vec<u8>, now: u64) -> PublishRequest {
        PublishRequest { url: self.url.clone(), authorization: self.authorization.header(now), body }
    }
}

/// Packs items, in their order, into as few publish requests as they fit into.
///
/// ```
/// use fanout_edge::grip::{
///     Channel, Formats, Item, Publisher, WsMessage,
///     publish::{Authorization, TooLarge},
/// };
///
/// let channel = Channel::from_static("room");
/// let text = "x".repeat(30_000);
/// let formats = Formats { ws_message: Some(WsMessage::text(&text)), ..Formats::default() };
/// let publisher = Publisher::new("http://127.0.0.1:5561", Authorization::none());
/// let mut packer = publisher.packer(1_800_000_000);
/// for _ in 0..3 {
///     packer.push(&[Item::new(&channel, formats.clone())])?;
/// }
/// assert_eq!(packer.finish().iter().map(|request| request.body.len()).collect::<Vec<_>>(), [60_129, 30_070]);
/// # Ok::<(), TooLarge>(())
/// ```
pub struct Packer<'p> {
    publisher: &'p Publisher,
    now: u64,
    /// The body of the request that is being filled, without its end; empty if there is none.
    body: Vec<u8>,
    full: Vec<PublishRequest>,
}

impl Packer<'_> {
    /// Adds items, which stay together, to the request that is being filled, or to a new one if they do not fit.
    ///
    /// # Errors
    /// [`TooLarge`] if they do not fit into one request alone. Then nothing is added.
    pub fn push(&mut self, items: &[Item<'_>]) -> Result<(), TooLarge> {
        let end = self.body.len();
        if self.body.is_empty() {
            self.body.extend_from_slice(HEAD);
        }
        for item in items {
            write_item(&mut self.body, item);
        }
        if self.body.len() + TAIL.len() <= MAX_BODY {
            return Ok(());
        }
        // What follows the earlier items, without the comma that separates it from them.
        let alone = if end > 0 { HEAD.len() + self.body.len() - end - 1 } else { self.body.len() } + TAIL.len();
        if alone > MAX_BODY {
            self.body.truncate(end);
            return Err(TooLarge { length: alone });
        }
        let mut next = HEAD.to_vec();
        next.extend_from_slice(&self.body[end + 1..]);
        self.body.truncate(end);
        self.close();
        self.body = next;
        Ok(())
    }

    /// Returns where it stands, for [`rewind`](Self::rewind).
    pub const fn mark(&self) -> Mark {
        Mark { full: self.full.len(), length: self.body.len() }
    }

    /// Removes what was added since a mark of this packer.
    pub fn rewind(&mut self, mark: Mark) {
        if let Some(filled) = self.full.drain(mark.full.min(self.full.len())..).next() {
            self.body = filled.body;
        }
        self.body.truncate(mark.length);
    }

    /// How many requests there are.
    pub const fn len(&self) -> usize {
        self.full.len() + !self.body.is_empty() as usize
    }

    /// Whether there is no request.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The requests, in the order in which they are to be sent.
    pub fn finish(mut self) -> Vec<PublishRequest> {
        if !self.body.is_empty() {
            self.close();
        }
        self.full
    }

    fn close(&mut self) {
        let mut body = std::mem::take(&mut self.body);
        body.extend_from_slice(TAIL);
        self.full.push(self.publisher.request_with(body, self.now));
    }
}

/// Where a [`Packer`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    full: usize,
    /// In bytes.
    length: usize,
}

fn write_item(body: &mut Vec<u8>, item: &Item<'_>) {
    if body.len() > HEAD.len() {
        body.push(b',');
    }
    serde_json::to_writer(body, item).expect("strings and numbers under known keys are JSON");
}

/// A publish request, to be sent with the method POST and `Content-Type: application/json`.
///
/// ```
/// use fanout_edge::grip::{Publisher, publish::{Authorization, TooLarge}};
///
/// let token = Authorization::bearer("s3cret").expect("a valid token");
/// let request = Publisher::new("https://proxy.example", token).request(&[], 1_800_000_000)?;
/// assert_eq!(request.authorization.as_ref().map(|value| value.as_bytes()), Some(&b"Bearer s3cret"[..]));
/// assert_eq!(format!("{request:?}"), r#"PublishRequest { url: "https://proxy.example/publish/", .. }"#);
/// # Ok::<(), TooLarge>(())
/// ```
pub struct PublishRequest {
    /// The absolute URL. Fastly requires the slash at its end.
    pub url: String,
    /// The value of `Authorization`, marked as sensitive.
    pub authorization: Option<HeaderValue>,
    /// JSON.
    pub body: Vec<u8>,
}

impl PublishRequest {
    /// Sends the request.
    ///
    /// # Errors
    /// [`PublishError`], except that it is too large.
    pub fn send(self, sender: &mut (impl Sender + ?Sized)) -> Result<(), PublishError> {
        match sender.send(self) {
            Ok(status) => accepted(status),
            Err(SendError::Unreachable) => Err(PublishError::Unreachable),
            Err(SendError::TimedOut) => Err(PublishError::TimedOut),
        }
    }

    /// The request for an HTTP client, whose response [`accepted`] judges.
    ///
    /// # Errors
    /// [`http::Error`] if the control URI was not a URI.
    ///
    /// ```
    /// use fanout_edge::grip::{Publisher, publish::{Authorization, accepted}};
    ///
    /// let publisher = Publisher::new("http://127.0.0.1:5561", Authorization::none());
    /// let request = publisher.request(&[], 1_800_000_000).expect("it fits").into_http()?;
    /// assert_eq!((request.method().as_str(), &*request.uri().to_string()), ("POST", "http://127.0.0.1:5561/publish/"));
    /// // let status = client.request(request).await?.status().as_u16();
    /// assert!(accepted(200).is_ok() && accepted(403).is_err());
    /// # Ok::<(), http::Error>(())
    /// ```
    pub fn into_http(self) -> Result<http::Request<Vec<u8>>, http::Error> {
        let Self { url, authorization, body } = self;
        let mut request = http::Request::post(url).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.body(body)
    }
}

/// Whether the proxy accepted what was published, by the status of its response.
///
/// # Errors
/// [`PublishError::Rejected`].
pub const fn accepted(status: u16) -> Result<(), PublishError> {
    match status {
        200..=299 => Ok(()),
        status => Err(PublishError::Rejected { status }),
    }
}

/// Sends a publish request to the proxy: Fastly's SDK, an HTTP client, a test. Who sends asynchronously has
/// [`PublishRequest::into_http`] and [`accepted`].
pub trait Sender {
    /// Sends the request and returns the status of the response.
    ///
    /// # Errors
    /// [`SendError`] if there is no response.
    fn send(&mut self, request: PublishRequest) -> Result<u16, SendError>;
}

/// Publishes the items through several proxies, and returns the results in their order.
///
/// ```
/// use fanout_edge::grip::{
///     Publisher,
///     publish::{Authorization, PublishRequest, SendError, Sender, publish_to_all},
/// };
///
/// /// The first of two proxies is gone.
/// struct Loopback;
/// impl Sender for Loopback {
///     fn send(&mut self, request: PublishRequest) -> Result<u16, SendError> {
///         if request.url.contains(":1/") { Err(SendError::Unreachable) } else { Ok(200) }
///     }
/// }
///
/// let proxies = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(|uri| Publisher::new(uri, Authorization::none()));
/// let published = publish_to_all(&proxies, &mut Loopback, &[], 1_800_000_000);
/// assert_eq!(published.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
/// ```
pub fn publish_to_all(
    publishers: &[Publisher],
    sender: &mut impl Sender,
    items: &[Item<'_>],
    now: u64,
) -> Vec<Result<(), PublishError>> {
    publishers.iter().map(|publisher| publisher.publish(sender, items, now)).collect()
}

/// Prints the address and no credential.
impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Prints the address, and neither a credential nor a message.
impl fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishRequest").field("url", &self.url).finish_non_exhaustive()
    }
}
