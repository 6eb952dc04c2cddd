//! A client of a service in memory.

use std::fmt;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Closed, Test, signature, text_of};
use crate::{
    Content,
    app::{messages::channels, state::State, web::CLIENT},
    grip::{
        Event, Events,
        event::{CONTENT_TYPE, CloseFrame},
    },
};

const CONNECTION: &str = "connection-in-memory";

/// A message that a handler published.
///
/// It equals a channel and its content, `("room1", "hi")`, where `"user:alice"` is a user.
#[derive(Clone, PartialEq, Eq)]
pub struct Published {
    /// The channel; for a user `user:` and a hash.
    pub channel: String,
    /// What it says.
    pub content: Content<'static>,
    /// Whether the client itself does not get it.
    pub to_others: bool,
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (&self.channel, &self.content).fmt(f)
    }
}

impl PartialEq<(&str, &str)> for Published {
    fn eq(&self, (channel, text): &(&str, &str)) -> bool {
        let is_text = matches!(&self.content, Content::Text(content) if content == text);
        is_text && is_same(&self.channel, channel)
    }
}

impl PartialEq<(&str, &[u8])> for Published {
    fn eq(&self, (channel, bytes): &(&str, &[u8])) -> bool {
        let is_binary = matches!(&self.content, Content::Binary(content) if content == bytes);
        is_binary && is_same(&self.channel, channel)
    }
}

fn is_same(at_proxy: &str, name: &str) -> bool {
    match name.strip_prefix(channels::USER) {
        Some(user) => at_proxy == channels::of_user(user).as_str(),
        None => at_proxy == name,
    }
}

/// A client of a service in memory, and what the handler did with it.
pub struct Client<'h> {
    test: Test<'h>,
    query: String,
    /// What the proxy sends along: meta values, by the name of the header.
    meta: Vec<(String, String)>,
    rejected: Option<(u16, String)>,
    protocol: Option<String>,
    received: Vec<Content<'static>>,
    acknowledged: Vec<Result<Option<Value>, String>>,
    subscriptions: Vec<String>,
    closed: Option<(Option<u16>, String)>,
    heartbeat: u32,
    log: Vec<String>,
}

/// A control message for the proxy.
#[derive(Deserialize)]
struct Control {
    #[serde(rename = "type")]
    kind: String,
    channel: Option<String>,
    content: Option<String>,
    timeout: Option<u32>,
    name: Option<String>,
    value: Option<String>,
}

/// An envelope for the client.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    data: Option<String>,
    base64: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    value: Option<Value>,
    error: Option<String>,
}

impl<'h> Client<'h> {
    pub(super) fn connect(test: Test<'h>, query: &str) -> Self {
        let mut client = Self {
            test,
            query: query.to_owned(),
            meta: Vec::new(),
            rejected: None,
            protocol: None,
            received: Vec::new(),
            acknowledged: Vec::new(),
            subscriptions: Vec::new(),
            closed: None,
            heartbeat: 0,
            log: Vec::new(),
        };
        client.batch(&[Event::Open]);
        client
    }

    /// The status and the text with which the connection was rejected; `None` if it was accepted.
    pub fn rejected(&self) -> Option<(u16, &str)> {
        self.rejected.as_ref().map(|(status, text)| (*status, &**text))
    }

    /// The code, if it has one, and the reason with which the connection was closed; `None` while it is open.
    pub fn closed(&self) -> Option<(Option<u16>, &str)> {
        self.closed.as_ref().map(|(code, reason)| (*code, &**reason))
    }

    /// Whether messages can be sent.
    pub const fn is_open(&self) -> bool {
        self.rejected.is_none() && self.closed.is_none()
    }

    /// The subprotocol with which the connection was accepted.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Sends a message, text or bytes, in a batch of its own.
    ///
    /// # Panics
    /// If the connection is not open.
    #[track_caller]
    pub fn send<'c>(&mut self, message: impl Into<Content<'c>>) {
        self.send_all([message.into()]);
    }

    /// Sends several messages in one batch.
    ///
    /// # Panics
    /// If the connection is not open.
    #[track_caller]
    pub fn send_all<'c, C: Into<Content<'c>>>(&mut self, messages: impl IntoIterator<Item = C>) {
        let is_json = self.query.contains("format=json");
        let messages: Vec<_> = messages.into_iter().map(Into::into).collect();
        let envelopes = |message: &Content<'_>| match message {
            Content::Text(text) => json!({ "type": "message", "data": text, "ref": REF }).to_string(),
            Content::Binary(bytes) => json!({ "type": "message", "base64": encode(bytes), "ref": REF }).to_string(),
        };
        if is_json {
            let texts: Vec<_> = messages.iter().map(envelopes).collect();
            self.open_batch(&texts.iter().map(|text| Event::Text(text.as_bytes())).collect::<Vec<_>>());
        } else {
            let events = messages.iter().map(|message| match message {
                Content::Text(text) => Event::Text(text.as_bytes()),
                Content::Binary(bytes) => Event::Binary(bytes),
            });
            self.open_batch(&events.collect::<Vec<_>>());
        }
    }

    /// Closes the connection, as a browser does for a closed tab.
    ///
    /// # Panics
    /// If it is not open.
    #[track_caller]
    pub fn close(&mut self, code: u16, reason: &str) {
        self.open_batch(&[Event::Close(Some(CloseFrame { code, reason: reason.as_bytes() }))]);
    }

    /// Breaks the connection, so that the handler gets no close.
    ///
    /// # Panics
    /// If it is not open.
    #[track_caller]
    pub fn disconnect(&mut self) {
        self.open_batch(&[Event::Disconnect]);
        self.closed.get_or_insert((None, String::new()));
    }

    /// What the handler sent to the client itself since the last call, in its order. What it published to channels of the client is
    /// not among it: see [`published`](Self::published).
    pub fn received(&mut self) -> Vec<Content<'static>> {
        std::mem::take(&mut self.received)
    }

    /// What became of the messages that were sent since the last call, in their order, if the client asks for envelopes
    /// (`format=json`): acknowledged, with the [value](crate::Connection::ack) of the handler, or refused, and why.
    pub fn acknowledged(&mut self) -> Vec<Result<Option<Value>, String>> {
        std::mem::take(&mut self.acknowledged)
    }

    /// What the handler published since the last call, in its order.
    pub fn published(&mut self) -> Vec<Published> {
        self.test.published()
    }

    /// Whose connections the handler closed since the last call.
    pub fn closed_others(&mut self) -> Vec<Closed> {
        std::mem::take(&mut self.test.memory.closed)
    }

    /// The channels that the handler has subscribed the client to, in that order.
    pub fn subscriptions(&self) -> Vec<&str> {
        self.subscriptions.iter().map(String::as_str).collect()
    }

    /// A value that the handler has [stored](crate::Connection::set_state) for the connection.
    pub fn state<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let header = format!("meta-state-{}", name.to_ascii_lowercase());
        let value = self.meta.iter().find(|(known, _)| *known == header).map(|(_, value)| value)?;
        let json = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
        serde_json::from_str(&json).ok()
    }

    /// The time between heartbeats, in seconds; 0 if there are none.
    pub const fn heartbeat(&self) -> u32 {
        self.heartbeat
    }

    /// The lines in the log of the service since the last call.
    pub fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Returns self with a changed service, for the next batch: `client.with(|test| test.proxy_fails())`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(Test<'h>) -> Test<'h>) -> Self {
        self.test = change(self.test);
        // As another sandbox would: it reads the entries of the stores again.
        self.test.memory.state = State::default();
        self
    }

    #[track_caller]
    fn open_batch(&mut self, events: &[Event<'_>]) {
        assert!(self.is_open(), "the connection is not open: {:?} {:?}", self.rejected, self.closed);
        self.batch(events);
    }

    fn batch(&mut self, events: &[Event<'_>]) {
        let mut body = Vec::new();
        events.iter().for_each(|event| event.encode(&mut body));
        let mut request = self.test.request("/api/websocket", &self.query, body);
        let mut add = |name: &str, value: &str| request.headers.push((name.to_owned(), value.to_owned()));
        add("grip-sig", &signature());
        add("content-type", CONTENT_TYPE);
        add("connection-id", CONNECTION);
        if let Some(address) = self.test.address {
            add(CLIENT, &address.to_string());
        }
        self.meta.iter().for_each(|(name, value)| add(name, value));
        let response = self.test.respond(request);
        self.log.extend(response.log.clone());
        if response.status != 200 {
            self.rejected = Some((response.status, text_of(&response)));
            return;
        }
        for (name, value) in &response.headers {
            let Ok(value) = value.to_str() else { continue };
            if let Some(name) = name.as_str().strip_prefix("set-") {
                self.meta.retain(|(known, _)| known != name);
                self.meta.push((name.to_owned(), value.to_owned()));
            } else if name == "sec-websocket-protocol" {
                self.protocol = Some(value.to_owned());
            }
        }
        for event in Events::decode(&response.body).expect("the service responds with events") {
            match event {
                Event::Text(text) => self.text(&String::from_utf8_lossy(text)),
                Event::Binary(bytes) => self.received.push(Content::from(bytes[MESSAGE.len()..].to_vec())),
                Event::Close(frame) => {
                    let reason = frame.map_or(&[][..], |frame| frame.reason);
                    let reason = String::from_utf8_lossy(reason).into_owned();
                    self.closed = Some((frame.map(|frame| frame.code), reason));
                }
                Event::Open | Event::Ping(_) | Event::Pong(_) | Event::Disconnect => {}
            }
        }
    }

    /// A message for the client, or one for the proxy.
    fn text(&mut self, text: &str) {
        if let Some(json) = text.strip_prefix("c:") {
            return self.control(serde_json::from_str(json).expect("a control message is JSON"));
        }
        let text = text.strip_prefix(MESSAGE).unwrap_or(text);
        if !self.query.contains("format=json") {
            self.received.push(Content::from(text.to_owned()));
            return;
        }
        let Ok(Envelope { kind, data, base64, reference, value, error }) = serde_json::from_str(text) else { return };
        match (&*kind, reference, error) {
            ("message", ..) => {
                self.received.extend(data.map(Content::from).or_else(|| decode(&base64?).map(Content::from)));
            }
            ("ack", Some(_), _) => self.acknowledged.push(Ok(value)),
            ("error", Some(_), Some(error)) => self.acknowledged.push(Err(error)),
            _ => {}
        }
    }

    fn control(&mut self, control: Control) {
        let is_public = |channel: &String| !channel.starts_with(channels::USER);
        let channel = control.channel.map(|channel| channel.trim_start_matches("json:").to_owned()).filter(is_public);
        match (&*control.kind, channel) {
            ("subscribe", Some(channel)) if !self.subscriptions.contains(&channel) => self.subscriptions.push(channel),
            ("unsubscribe", Some(channel)) => self.subscriptions.retain(|known| *known != channel),
            ("keep-alive", _) => self.heartbeat = control.content.and(control.timeout).unwrap_or_default(),
            ("set-meta", _) => {
                if let (Some(name), Some(value)) = (control.name, control.value) {
                    self.meta.push((format!("meta-{name}"), value));
                }
            }
            _ => {}
        }
    }
}

/// What a client calls all of its messages: their order says which is which.
const REF: &str = "kit";

/// What the proxy removes from a message for the client.
const MESSAGE: &str = "m:";

fn encode(bytes: &[u8]) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine};
    BASE64_STANDARD.encode(bytes)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    use base64::prelude::{BASE64_STANDARD, Engine};
    BASE64_STANDARD.decode(text).ok()
}
