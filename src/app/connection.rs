//! What a WebSocket handler is given: the messages of a client, who it is, what it requested, and how to respond.

use std::{borrow::Cow, cell::OnceCell};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use super::{
    access::token::{self, Identity},
    bounds::{MAX_CHANNELS, MAX_FETCHED_BODY, MAX_STATE_LENGTH},
    error::Error,
    http::Request,
    messages::{broadcast::Broadcast, channels},
    options::Options,
    platform::Platform,
};
pub use super::{
    messages::{broadcast::Content, channels::Channels},
    options::Mode,
};
use crate::grip::{
    CloseCode, Control, Filter, Message, WebSocket,
    control::{Content as KeepAlive, KeepAliveMode},
};

/// What happens on a WebSocket. It is called for each batch of a client's messages, which is a request of its own: what the
/// next one needs to know is the connection's [state](Connection::state).
///
/// # Errors
/// Rejects an opening connection, or closes an open one: see [`Error::reject`]. Then nothing of the batch is published; what
/// was sent to the client of an open connection before the error is delivered.
pub type Handler = fn(&mut Connection<'_>) -> Result<(), Error>;

/// How long a connection may be silent, in seconds, before the proxy sends a heartbeat: proxies and load balancers between
/// it and the client often wait for 60.
const HEARTBEAT: u32 = 30;

/// The characters that are percent-encoded in a header, which must not have a space at its start or end.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// One batch of a client's messages, and the connection that it came on.
pub struct Connection<'a> {
    ws: WebSocket<'a>,
    request: &'a dyn Request,
    options: &'a Options,
    client: &'a Client,
    platform: &'a mut dyn Platform,
    outbox: Vec<Broadcast<'a>>,
    subscribed: usize,
}

/// Who a client is.
pub(super) enum Client {
    /// Nobody known: the service is open.
    Anonymous,
    /// Whose token this request verified.
    Verified(Identity),
    /// Whose token an earlier request verified. Its claims are read when they are asked for.
    Ticketed(OnceCell<Option<Identity>>),
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        ws: WebSocket<'a>,
        request: &'a dyn Request,
        options: &'a Options,
        client: &'a Client,
        platform: &'a mut dyn Platform,
    ) -> Self {
        Self { ws, request, options, client, platform, outbox: Vec::new(), subscribed: 0 }
    }

    pub(super) fn finish(self) -> (WebSocket<'a>, Vec<Broadcast<'a>>, &'a mut dyn Platform) {
        (self.ws, self.outbox, self.platform)
    }

    /// The id of the connection, the same for all of its batches.
    pub const fn id(&self) -> &'a str {
        self.ws.connection_id()
    }

    /// The user: the claim `sub` of the verified access token. `None` if it has none, or the service is open.
    pub fn user(&self) -> Option<&'a str> {
        self.identity()?.user()
    }

    /// Another claim of the verified access token, except those that RFC 7519 registers.
    pub fn claim(&self, name: &str) -> Option<&'a Value> {
        self.identity()?.claim(name)
    }

    fn identity(&self) -> Option<&'a Identity> {
        match self.client {
            Client::Anonymous => None,
            Client::Verified(identity) => Some(identity),
            Client::Ticketed(identity) => {
                let read = || Identity::of_verified(&token::of_request(self.request).ok()?);
                identity.get_or_init(read).as_ref()
            }
        }
    }

    /// A parameter of the URL that the client connected to. The client chose it.
    pub fn query(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut query = url::form_urlencoded::parse(self.request.query().as_bytes());
        query.find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// A header of the client's handshake, if it was sent once, as text. The client chose it.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.request.header(name).value()
    }

    /// The channels that the client asks for: `?channel=NAME`, else `test`.
    pub const fn channels(&self) -> &'a Channels {
        &self.options.channels
    }

    /// What the client asks to do with its messages: `?mode=publish`, `?echo=off`.
    pub const fn mode(&self) -> Mode {
        self.options.mode
    }

    /// Whether this is the first batch of the connection, which waits for [`accept`](Self::accept).
    pub const fn is_opening(&self) -> bool {
        self.ws.is_opening()
    }

    /// Accepts an opening connection. To reject it, return [`Error::reject`].
    pub fn accept(&mut self) {
        // A browser gives up if none of the subprotocols that it offers is chosen, and this one carries its token.
        if self.ws.accept_with_protocol(token::PROTOCOL).is_err() {
            self.ws.accept();
        }
        self.prepare();
    }

    /// Accepts an opening connection with one of the subprotocols that the client offers.
    ///
    /// # Errors
    /// [`Error::Subprotocol`] if it does not offer that one.
    pub fn accept_with_protocol(&mut self, protocol: &str) -> Result<(), Error> {
        self.ws.accept_with_protocol(protocol).map_err(|_| Error::Subprotocol)?;
        self.prepare();
        Ok(())
    }

    /// What the proxy has to know of each connection.
    fn prepare(&mut self) {
        if self.is_opening() {
            let id = Control::SetMeta { name: "user", value: self.ws.connection_id() };
            if self.ws.control(&id).is_err() {
                self.ws.close_with_reason(CloseCode::PROTOCOL_ERROR, "the Connection-Id is too long");
            }
            self.heartbeat(HEARTBEAT);
        }
    }

    /// Lets the proxy send a heartbeat after that many seconds of silence: a pong, which no client answers, so it costs no
    /// request. Accepting a connection sets it to 30; 0 turns it off.
    pub fn heartbeat(&mut self, seconds: u32) {
        let content = (seconds > 0).then_some(KeepAlive::Pong(b""));
        let timeout = seconds.clamp(1, crate::grip::control::MAX_TIMEOUT);
        let control = Control::KeepAlive { content, timeout, mode: KeepAliveMode::Idle };
        // It is short, and the time is in range.
        let _ = self.ws.control(&control);
    }

    /// Subscribes the client to a channel. It gets what is published there from some milliseconds after it sees its
    /// connection open.
    ///
    /// # Errors
    /// [`Error::ChannelName`]; [`Error::TooManyChannels`] if this batch subscribes to more than the proxy allows.
    pub fn subscribe(&mut self, channel: &str) -> Result<(), Error> {
        let channel = channels::parse(channel)?;
        self.subscribed += 1;
        if self.subscribed > MAX_CHANNELS {
            return Err(Error::TooManyChannels);
        }
        self.ws.subscribe_filtered(&channel, &[Filter::SkipSelf]);
        Ok(())
    }

    /// Unsubscribes the client from a channel.
    ///
    /// # Errors
    /// [`Error::ChannelName`].
    pub fn unsubscribe(&mut self, channel: &str) -> Result<(), Error> {
        self.ws.unsubscribe(&channels::parse(channel)?);
        Ok(())
    }

    /// The next message of the batch; `None` after the last one. Pings are answered on the way.
    pub fn receive(&mut self) -> Option<Message<'a>> {
        self.ws.receive()
    }

    /// Sends a message to the client: text as text, bytes as binary.
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) {
        self.ws.send(message);
    }

    /// Closes the connection with a code, or answers the client's close. Without a code the client sees 1000.
    pub fn close(&mut self, code: Option<CloseCode>) {
        self.ws.close(code);
    }

    /// Closes the connection with a code and a reason, which is cut at 123 bytes.
    pub fn close_with_reason(&mut self, code: CloseCode, reason: &str) {
        self.ws.close_with_reason(code, reason);
    }

    /// Publishes a message to all subscribers of a channel, on every transport. All that a batch publishes goes out in as
    /// few requests as it fits into, after the handler returns. If the proxy does not accept it, the connection is closed
    /// with a code and a reason that says so.
    ///
    /// # Errors
    /// [`Error::ChannelName`].
    pub fn publish(&mut self, channel: &str, message: impl Into<Content<'a>>) -> Result<(), Error> {
        self.outbox.push(Broadcast::message(channels::parse(channel)?, message.into()));
        Ok(())
    }

    /// Publishes a message to all subscribers of a channel except this connection.
    ///
    /// # Errors
    /// [`Error::ChannelName`].
    pub fn publish_to_others(&mut self, channel: &str, message: impl Into<Content<'a>>) -> Result<(), Error> {
        self.outbox.push(Broadcast::message(channels::parse(channel)?, message.into()).except(self.id()));
        Ok(())
    }

    /// Publishes a message of the client as its [mode](Self::mode) asks: to each of its channels, to all subscribers or to
    /// all others.
    pub fn relay(&mut self, message: Message<'a>) {
        for channel in self.options.channels.iter() {
            let content = match message {
                Message::Text(text) => Content::from(text),
                Message::Binary(bytes) => Content::from(bytes),
                Message::Close(_) | Message::Disconnect => return,
            };
            let broadcast = Broadcast::message(channel.clone(), content);
            let to_others = self.options.mode == Mode::PublishToOthers;
            self.outbox.push(if to_others { broadcast.except(self.id()) } else { broadcast });
        }
    }

    /// Closes all other connections on a channel: WebSockets with the code and the reason, which is cut at 123 bytes, and
    /// streams without. It does not end a poll. Whether Fanout does this in production is not known.
    ///
    /// # Errors
    /// [`Error::ChannelName`].
    pub fn close_others(
        &mut self,
        channel: &str,
        code: CloseCode,
        reason: impl Into<Cow<'a, str>>,
    ) -> Result<(), Error> {
        self.outbox.push(Broadcast::close(channels::parse(channel)?, code, reason).except(self.id()));
        Ok(())
    }

    /// A value that was [stored](Self::set_state) for the connection. The proxy keeps it; no client can see or forge it.
    pub fn state(&self, name: &str) -> Option<String> {
        let value = self.ws.meta(&state_name(name)).filter(|value| !value.is_empty())?;
        percent_decode_str(value).decode_utf8().ok().map(Cow::into_owned)
    }

    /// Stores a value for the connection, which each later batch finds in its [state](Self::state). An empty one removes
    /// it. Names are not case-sensitive. The proxy sends all values with every request, as headers: keep them short, a
    /// kilobyte in all.
    ///
    /// # Errors
    /// [`Error::State`] if the name has other characters than letters, digits, `-` and `_`, or the value is longer than
    /// 512 bytes, percent-encoded.
    pub fn set_state(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let value = utf8_percent_encode(value, ENCODED).to_string();
        if name.is_empty() || value.len() > MAX_STATE_LENGTH {
            return Err(Error::State);
        }
        self.ws.set_meta(&state_name(name), &value).map_err(|_| Error::State)
    }

    /// Sends a request through a backend of the service, waits, and returns the response with its body, of at most
    /// 100,000 bytes. Fastly allows 32 requests to backends for each batch, of which publishing takes at least one.
    ///
    /// # Errors
    /// [`Error::Backend`] names the backend if there is no such response. An error status of the backend is a response.
    pub fn fetch(&mut self, backend: &str, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, Error> {
        let response = self.platform.fetch(backend, request, MAX_FETCHED_BODY);
        response.map_err(|error| Error::Backend { name: backend.to_owned(), error })
    }
}

fn state_name(name: &str) -> String {
    format!("state-{name}")
}
