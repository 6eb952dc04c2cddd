//! A message in the form of each transport: what a WebSocket, a stream of events and a poll get.
//!
//! # Format
//! Two items with the same id, each with all three forms: one on the channel itself, and for clients that ask for
//! `format=json` one on `json:` and the channel, in which the message is an [`envelope`](super::envelope).

use std::{borrow::Cow, fmt};

use base64::prelude::{BASE64_STANDARD, Engine};
use http::{
    HeaderMap, HeaderName,
    header::{CONTENT_TYPE, HeaderValue},
};

use super::{channels, content::Content, envelope::Envelope, id::MessageId, published::Published};
use crate::grip::{
    Channel, CloseCode, Formats, Item, ItemId, WsMessage,
    item::{Body, HeldResponse, HttpResponse, HttpStream},
};

/// The header of a response that has the id of the message in it.
pub(crate) const MESSAGE_ID: HeaderName = HeaderName::from_static("message-id");

/// What a stream of envelopes gets before it ends.
pub(crate) fn close_event(code: CloseCode, reason: &str) -> String {
    format!("event: message\ndata: {}\n\n", Envelope::close(code.get(), reason).to_json())
}

/// The end of the connections of a channel: a WebSocket gets the code and the reason, so does a stream of envelopes before it
/// ends, other streams just end.
pub(crate) struct Closing<'a> {
    pub(crate) channel: Channel,
    pub(crate) code: CloseCode,
    pub(crate) reason: Cow<'a, str>,
    /// Whether polls end, too: they get 403.
    pub(crate) polls: bool,
}

impl Closing<'_> {
    /// Calls a function with the items.
    pub(crate) fn with_items<T>(&self, meta: &[(&str, &str)], push: impl FnOnce(&[Item<'_>]) -> T) -> T {
        let json = channels::for_json(&self.channel);
        let last = close_event(self.code, &self.reason);
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))]);
        let line = format!("Disconnected: {}\n", self.reason);
        let response = HeldResponse::ok(&headers, Body::Text(&line)).with_code(403).expect("it is a status");
        let formats = Formats {
            ws_message: Some(WsMessage::Close { code: self.code, reason: &self.reason }),
            http_stream: Some(HttpStream::Close),
            http_response: self.polls.then_some(HttpResponse::Response(response)),
        };
        let event = Formats { http_stream: Some(HttpStream::Content(Body::Text(&last))), ..Formats::default() };
        let item = |channel, formats| Item { meta, ..Item::new(channel, formats) };
        push(&[item(&self.channel, formats.clone()), item(&json, event), item(&json, formats)])
    }
}

/// A message in all of its forms.
pub(crate) struct Forms<'a> {
    content: &'a Content<'a>,
    ids: Ids,
    raw: Form<'a>,
    json: Form<'a>,
    envelope: String,
    meta: &'a [(&'a str, &'a str)],
}

/// What the items of one channel share.
struct Form<'a> {
    channel: Cow<'a, Channel>,
    /// As a Server-Sent Event.
    event: String,
    /// Of the response to a poll.
    headers: HeaderMap,
    /// The body of that response, if it is not the content.
    body: Option<String>,
}

/// The id of an item with all formats, and of those that have one each: the proxy would take several items with one id for
/// the same.
struct Ids {
    all: String,
    each: [String; 3],
}

impl<'a> Forms<'a> {
    /// The forms of a message, with meta values for filters.
    pub(crate) fn new(message: &'a Published<'_>, meta: &'a [(&'a str, &'a str)]) -> Self {
        let Published { id, channel, content, .. } = message;
        let id = *id;
        let content_type = match content {
            Content::Text(_) => "text/plain; charset=utf-8",
            Content::Binary(_) => "application/octet-stream",
        };
        let headers = |content_type| {
            let id = HeaderValue::try_from(id.to_string()).expect("a UUID is printable ASCII");
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type)), (MESSAGE_ID, id)])
        };
        let envelope = message.envelope();
        Self {
            content,
            ids: Ids {
                all: id.to_string(),
                each: ["http-response", "http-stream", "ws-message"].map(|format| format!("{id}:{format}")),
            },
            raw: Form {
                channel: Cow::Borrowed(channel),
                event: raw_event(id, content),
                headers: headers(content_type),
                body: None,
            },
            json: Form {
                channel: Cow::Owned(channels::for_json(channel)),
                event: event(id, "message", &envelope),
                headers: headers("application/json"),
                body: Some(format!("[{envelope}]")),
            },
            envelope,
            meta,
        }
    }

    /// The items on the channel itself and on that of the envelopes, each with all formats.
    pub(crate) fn items(&self) -> [Item<'_>; 2] {
        let item = |form, formats| self.item(form, &self.ids.all, formats);
        let (raw, json) = (self.formats(&self.raw), self.formats(&self.json));
        [item(&self.raw, raw), item(&self.json, json)]
    }

    /// The same as one item for each format.
    pub(crate) fn parts(&self) -> [[Item<'_>; 3]; 2] {
        [&self.raw, &self.json].map(|form| {
            let [response, stream, ws] = &self.ids.each;
            let Formats { http_response, http_stream, ws_message } = self.formats(form);
            [
                self.item(form, response, Formats { http_response, ..Formats::default() }),
                self.item(form, stream, Formats { http_stream, ..Formats::default() }),
                self.item(form, ws, Formats { ws_message, ..Formats::default() }),
            ]
        })
    }

    /// How long the longest of these is, as JSON.
    pub(crate) fn longest(&self) -> usize {
        self.parts().iter().flatten().map(|part| part.json_len()).max().unwrap_or_default()
    }

    fn item<'s>(&'s self, form: &'s Form<'_>, id: &'s str, formats: Formats<'s>) -> Item<'s> {
        Item { id: ItemId::new(id), no_seq: true, meta: self.meta, ..Item::new(&form.channel, formats) }
    }

    fn formats<'s>(&'s self, form: &'s Form<'_>) -> Formats<'s> {
        let (message, body) = match (&form.body, self.content) {
            (Some(body), _) => (WsMessage::text(&self.envelope), Body::Text(body)),
            (None, Content::Text(text)) => (WsMessage::text(text), Body::Text(text)),
            (None, Content::Binary(bytes)) => (WsMessage::binary(bytes), Body::Binary(bytes)),
        };
        Formats {
            http_response: Some(HttpResponse::Response(HeldResponse::ok(&form.headers, body))),
            http_stream: Some(HttpStream::Content(Body::Text(&form.event))),
            ws_message: Some(message),
        }
    }
}

/// A message as a Server-Sent Event of a stream without envelopes.
pub(crate) fn raw_event(id: MessageId, content: &Content<'_>) -> String {
    match content {
        Content::Text(text) => event(id, "message", text),
        Content::Binary(bytes) => event(id, "binary", &BASE64_STANDARD.encode(bytes)),
    }
}

/// A text as a Server-Sent Event: a `data` field for each of its lines, wherever a browser sees the end of one.
/// Source: HTML, section 9.2.6.
pub(crate) fn event(id: impl fmt::Display, name: &str, text: &str) -> String {
    let mut event = format!("id: {id}\nevent: {name}\n");
    for line in text.replace("\r\n", "\n").split(['\n', '\r']) {
        event.push_str("data: ");
        event.push_str(line);
        event.push('\n');
    }
    event.push('\n');
    event
}
