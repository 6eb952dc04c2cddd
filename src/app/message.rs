//! A message as each transport gets it.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::channels::{of_events, of_lines};
use crate::grip::{
    Channel, Formats, Item, Publisher, WsMessage,
    item::{HttpAnswer, HttpResponse, HttpStream},
    publish::{PublishRequest, TooLarge},
};

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes. Transports of text get them in base64.
    Binary(&'a [u8]),
}

/// One message to the subscribers of one channel, on all transports.
///
/// # Format
/// Three items: for WebSockets and polls on the channel itself, for Server-Sent Events on `events:` and the channel, and
/// for lines on `lines:` and the channel.
pub struct Broadcast<'a> {
    channel: &'a Channel,
    events: Channel,
    lines: Channel,
    content: Content<'a>,
    event: String,
    line: String,
    /// Who is left out, where he asks for it.
    sender: Option<(&'a str, &'a str)>,
}

const TEXT: &[(&str, &str)] = &[("Content-Type", "text/plain; charset=utf-8")];
const BINARY: &[(&str, &str)] = &[("Content-Type", "application/octet-stream")];

impl<'a> Broadcast<'a> {
    /// The sender is the id of a connection.
    pub fn new(channel: &'a Channel, content: Content<'a>, sender: Option<&'a str>) -> Self {
        let (name, text) = match content {
            Content::Text(text) => ("message", Cow::Borrowed(text)),
            Content::Binary(bytes) => ("binary", Cow::Owned(BASE64_STANDARD.encode(bytes))),
        };
        Self {
            channel,
            events: of_events(channel),
            lines: of_lines(channel),
            content,
            event: event(name, &text),
            line: format!("{text}\n"),
            sender: sender.map(|id| ("sender", id)),
        }
    }

    fn items(&self) -> [Item<'_>; 3] {
        let (ws_message, (headers, body)) = match self.content {
            Content::Text(text) => (WsMessage::text(text), (TEXT, text.as_bytes())),
            Content::Binary(bytes) => (WsMessage::binary(bytes), (BINARY, bytes)),
        };
        let answer = HttpAnswer::new(200, headers, body).ok().map(HttpResponse::Answer);
        let direct = Formats { http_response: answer, ws_message: Some(ws_message), ..Formats::default() };
        [
            Item { meta: self.sender.as_slice(), ..Item::new(self.channel, direct) },
            Item::new(&self.events, streamed(&self.event)),
            Item::new(&self.lines, streamed(&self.line)),
        ]
    }
}

fn streamed(content: &str) -> Formats<'_> {
    Formats { http_stream: Some(HttpStream::Content(content.as_bytes())), ..Formats::default() }
}

/// The requests that publish the messages in their order: one where they fit into one.
///
/// # Errors
/// [`TooLarge`] where a message alone does not fit. Nothing is to be sent then.
pub fn requests(publisher: &Publisher, messages: &[Broadcast<'_>], now: u64) -> Result<Vec<PublishRequest>, TooLarge> {
    let items: Vec<_> = messages.iter().flat_map(Broadcast::items).collect();
    match publisher.request(&items, now) {
        Ok(request) => Ok(vec![request]),
        Err(error) if messages.len() < 2 => Err(error),
        Err(_) => {
            let (first, second) = messages.split_at(messages.len() / 2);
            let mut all = requests(publisher, first, now)?;
            all.append(&mut requests(publisher, second, now)?);
            Ok(all)
        }
    }
}

/// A text as a Server-Sent Event: a `data` field for each of its lines, wherever a browser sees one end.
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
