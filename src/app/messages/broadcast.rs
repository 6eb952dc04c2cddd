//! A message in the form of each transport, and how a list of them is published.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};
use http::{
    HeaderMap,
    header::{CONTENT_TYPE, HeaderValue},
};

use super::channels::{for_events, for_lines};
use crate::{
    app::{error::Error, platform::Platform},
    grip::{
        Channel, CloseCode, Formats, Item, Publisher, WsMessage,
        item::{HeldResponse, HttpResponse, HttpStream},
        publish::PublishRequest,
    },
};

/// What is published, borrowed or owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// Bytes. Transports of text get them in base64.
    Binary(Cow<'a, [u8]>),
}

impl<'a> From<&'a str> for Content<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Content<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a [u8]> for Content<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Vec<u8>> for Content<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

/// Something for the subscribers of one channel, on all transports.
///
/// # Format
/// Three items: for WebSockets and polls on the channel itself, for Server-Sent Events on `events:` and the channel, and
/// for lines on `lines:` and the channel.
pub(crate) struct Broadcast<'a> {
    channel: Channel,
    events: Channel,
    lines: Channel,
    action: Action<'a>,
    /// The meta `sender`, if somebody is left out: the id of that connection.
    sender: Option<[(&'static str, &'a str); 1]>,
}

enum Action<'a> {
    Message { content: Content<'a>, event: String, line: String, headers: HeaderMap },
    Close { code: CloseCode, reason: Cow<'a, str> },
}

impl<'a> Broadcast<'a> {
    /// A message.
    pub(crate) fn message(channel: Channel, content: Content<'a>) -> Self {
        let (name, content_type, text) = match &content {
            Content::Text(text) => ("message", "text/plain; charset=utf-8", Cow::Borrowed(&**text)),
            Content::Binary(bytes) => ("binary", "application/octet-stream", Cow::Owned(BASE64_STANDARD.encode(bytes))),
        };
        let (event, line) = (event(name, &text), format!("{text}\n"));
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Self::new(channel, Action::Message { content, event, line, headers })
    }

    /// The end of the connections: a WebSocket gets the code and the reason, a stream just ends.
    pub(crate) fn close(channel: Channel, code: CloseCode, reason: impl Into<Cow<'a, str>>) -> Self {
        Self::new(channel, Action::Close { code, reason: reason.into() })
    }

    fn new(channel: Channel, action: Action<'a>) -> Self {
        Self { events: for_events(&channel), lines: for_lines(&channel), channel, action, sender: None }
    }

    /// Returns self for all but one connection, by its id.
    pub(crate) fn except(mut self, connection_id: &'a str) -> Self {
        self.sender = Some([("sender", connection_id)]);
        self
    }

    fn items(&self) -> [Item<'_>; 3] {
        let (direct, events, lines) = match &self.action {
            Action::Message { content, event, line, headers } => {
                let (ws_message, body) = match content {
                    Content::Text(text) => (WsMessage::text(text), text.as_bytes()),
                    Content::Binary(bytes) => (WsMessage::binary(bytes), &**bytes),
                };
                let http_response = Some(HttpResponse::Response(HeldResponse::ok(headers, body)));
                let direct = Formats { http_response, ws_message: Some(ws_message), ..Formats::default() };
                (direct, HttpStream::Content(event.as_bytes()), HttpStream::Content(line.as_bytes()))
            }
            Action::Close { code, reason } => {
                let ws_message = Some(WsMessage::Close { code: *code, reason });
                (Formats { ws_message, ..Formats::default() }, HttpStream::Close, HttpStream::Close)
            }
        };
        let streamed = |stream| Formats { http_stream: Some(stream), ..Formats::default() };
        let meta = self.sender.as_ref().map_or(&[][..], |sender| &sender[..]);
        [
            Item { meta, ..Item::new(&self.channel, direct) },
            Item::new(&self.events, streamed(events)),
            Item::new(&self.lines, streamed(lines)),
        ]
    }
}

/// The requests that publish messages in their order, as few as they fit into, each with the number of its messages; at a
/// time in seconds since 1970.
///
/// # Errors
/// [`Error::MessageTooLarge`]; [`Error::BatchTooLarge`] if there would be more than `most` requests.
pub(crate) fn pack(
    messages: &[Broadcast<'_>],
    publisher: &Publisher,
    most: usize,
    now: u64,
) -> Result<Vec<(PublishRequest, usize)>, Error> {
    let requests = publisher.requests(messages.iter().map(Broadcast::items), now)?;
    if requests.len() <= most { Ok(requests) } else { Err(Error::BatchTooLarge) }
}

/// Sends the requests, one after the other.
///
/// # Errors
/// [`Error::Publish`] if the proxy did not accept the first one, [`Error::PartlyPublished`] if it did not accept a later
/// one. What follows is not sent.
pub(crate) fn send(requests: Vec<(PublishRequest, usize)>, platform: &mut dyn Platform) -> Result<(), Error> {
    let total = requests.iter().map(|(_, count)| count).sum();
    let mut published = 0;
    for (request, count) in requests {
        match request.send(platform) {
            Ok(()) => published += count,
            Err(error) if published == 0 => return Err(Error::Publish(error)),
            Err(error) => return Err(Error::PartlyPublished { published, total, error }),
        }
    }
    Ok(())
}

/// A text as a Server-Sent Event: a `data` field for each of its lines, wherever a browser sees the end of one.
/// Source: HTML, section 9.2.6.
fn event(name: &str, text: &str) -> String {
    let mut event = format!("event: {name}\n");
    for line in text.replace("\r\n", "\n").split(['\n', '\r']) {
        event.push_str("data: ");
        event.push_str(line);
        event.push('\n');
    }
    event.push('\n');
    event
}
