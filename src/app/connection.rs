//! What a WebSocket handler is given: the messages of a client, who it is, what it requested, and how to respond.

mod acks;
mod publish;
mod state;
mod subscriptions;
mod sync;

use std::{borrow::Cow, cell::OnceCell, net::IpAddr, slice};

use serde_json::Value;

use self::{acks::Acks, sync::Sync};
use super::{
    access::{
        limits,
        right::Right,
        token::{self, Identity},
    },
    bounds::{MAX_BACKEND_REQUESTS, MAX_FETCHED_BODY},
    entries,
    error::Error,
    messages::{
        channels::IntoChannel,
        envelope::{self, Decoded, Envelope},
        format::Format,
    },
    outbox::Outbox,
    platform::{BackendError, Platform},
    query::Query,
    rejection::Rejection,
    settings::Settings,
    web::{CLIENT, Request},
};
pub use super::{
    messages::{
        channels::Channels,
        content::{Content, Reply},
    },
    query::Mode,
};
use crate::grip::{
    Channel, CloseCode, Control, Filter, Message, WebSocket,
    control::{Content as KeepAlive, KeepAliveMode},
};

/// How long a connection may be silent, in seconds, before the proxy sends a heartbeat: proxies and load balancers between
/// it and the client often wait for 60.
const HEARTBEAT: u32 = 30;

/// The same for a client that gets envelopes, and the most for it: its script takes 35 seconds of silence for a lost connection.
const JSON_HEARTBEAT: u32 = 25;

/// What the texts of a batch say, in their order.
pub(super) type Inbox<'a> = slice::Iter<'a, Decoded>;

/// One batch of a client's messages, and the connection that it came on.
pub struct Connection<'a> {
    ws: WebSocket<'a>,
    /// What the texts of the batch say, if they are envelopes.
    inbox: Option<Inbox<'a>>,
    request: &'a dyn Request,
    query: &'a Query,
    client: &'a Client,
    settings: &'a Settings,
    platform: &'a mut dyn Platform,
    outbox: Outbox<'a>,
    /// The channels that the client is subscribed to.
    subscribed: Vec<Channel>,
    fetched: usize,
    acks: Acks<'a>,
    /// In seconds since 1970.
    now: u64,
    /// With which cursor the client asks for what it missed, if it does.
    sync: Option<Option<&'a str>>,
}

/// What a batch came with.
pub(super) struct Context<'a> {
    pub(super) request: &'a dyn Request,
    pub(super) settings: &'a Settings,
    pub(super) platform: &'a mut dyn Platform,
    /// In seconds since 1970.
    pub(super) now: u64,
}

/// What is left to do when a handler has returned.
pub(super) struct Batch<'a> {
    pub(super) ws: WebSocket<'a>,
    pub(super) platform: &'a mut dyn Platform,
    /// What is to be published.
    pub(super) outbox: Outbox<'a>,
    /// How many operations on the KV Store were made.
    pub(super) operations: usize,
    acks: Acks<'a>,
    /// What the client asks for, if it wants to know what it missed.
    pub(super) sync: Option<Sync<'a>>,
}

/// Who a client is.
pub(super) enum Client {
    /// The service requires no access token.
    Anonymous,
    /// A client whose token this request verified.
    Verified(Identity),
    /// A client whose token an earlier request verified. Its claims are parsed when they are needed.
    Ticketed(OnceCell<Option<Identity>>),
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        ws: WebSocket<'a>,
        inbox: Option<Inbox<'a>>,
        query: &'a Query,
        client: &'a Client,
        context: Context<'a>,
    ) -> Self {
        let Context { request, settings, platform, now } = context;
        let subscribed = subscriptions::of(&ws, &query.channels);
        Self {
            ws,
            inbox,
            request,
            query,
            client,
            settings,
            platform,
            outbox: Outbox::new(settings, now),
            subscribed,
            fetched: 0,
            acks: Acks::default(),
            now,
            sync: None,
        }
    }

    /// Whether there is something that the handler has not received.
    pub(super) fn has_more(&self) -> bool {
        self.ws.events().next().is_some() && !self.ws.is_closed() && !self.ws.is_closing()
    }

    /// Responds to the pings and the close that the handler did not receive, or did not answer.
    pub(super) fn finish(mut self) -> Batch<'a> {
        self.acks.settle();
        while let Some((message, reference)) = self.next() {
            if let Message::Close(code) = message {
                self.ws.close(code);
            }
            if let Some(reference) = reference {
                self.acks.skip(reference);
            }
        }
        if self.ws.is_closing() {
            self.ws.close(None);
        }
        self.remember_subscriptions();
        let (identity, user) = (self.identity(), self.user());
        let of_url = self.channels();
        let Self { ws, platform, outbox, subscribed: channels, sync, acks, .. } = self;
        let user_channel = identity.and_then(Identity::channel);
        let sync = sync.map(|since| Sync { since, channels, of_url, user, user_channel });
        Batch { ws, platform, outbox, operations: 0, acks, sync }
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

    /// Whether the client may publish to a channel: its access token grants it (`x-fastly-write`), or the service is open.
    /// A handler may publish to any channel and has to decide on whose behalf.
    pub fn may_publish(&self, channel: impl IntoChannel) -> bool {
        self.has_right(Right::Write, channel)
    }

    /// Whether the client may subscribe to a channel: its access token grants it (`x-fastly-read`), or the service is open.
    /// For those of [`channels`](Self::channels) this is so.
    pub fn may_subscribe(&self, channel: impl IntoChannel) -> bool {
        self.has_right(Right::Read, channel)
    }

    fn has_right(&self, right: Right, channel: impl IntoChannel) -> bool {
        let is_open = matches!(self.client, Client::Anonymous);
        let grants = |channel| self.identity().is_some_and(|identity| identity.grants(right, &channel));
        channel.into_channel().is_ok_and(|channel| is_open || grants(channel))
    }

    /// A parameter of the URL that the client connected to. The client chose it.
    pub fn query(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut query = url::form_urlencoded::parse(self.request.query().as_bytes());
        query.find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// A header of the client's handshake, if it was sent once, as text. The client chose it. Those of the proxy are left
    /// out: `Grip-*`, `Meta-*` and `Connection-Id`; and so is the service's own, [`CLIENT`].
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let name = name.to_ascii_lowercase();
        let is_reserved =
            name.starts_with("grip-") || name.starts_with("meta-") || name == "connection-id" || name == CLIENT;
        self.request.header(&name).value().filter(|_| !is_reserved)
    }

    /// The address of the client, as the service saw it when the client connected. `None` if the platform does not know it.
    pub fn address(&self) -> Option<IpAddr> {
        limits::handed_off(self.request)
    }

    /// An entry of the service's Config Store `fanout_config`; `None` if there is none. A sandbox reads each once, when it is asked
    /// for: 16 in all.
    ///
    /// # Errors
    /// Rejects with 503 if the store cannot be read, and with 500 if that are too many.
    pub fn setting(&mut self, name: &str) -> Result<Option<String>, Rejection> {
        Ok(entries::setting(self.platform, name)?)
    }

    /// An entry of the service's Secret Store `fanout`. A sandbox reads each once, when it is asked for: two in one batch, as
    /// Fastly allows five reads for each request.
    ///
    /// # Errors
    /// Rejects with 503 if there is none or the store cannot be read, and with 500 if that are too many.
    pub fn secret(&mut self, name: &str) -> Result<String, Rejection> {
        Ok(entries::secret(self.platform, name)?)
    }

    /// The subprotocols that the client offers, the preferred one first.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> {
        self.ws.protocols()
    }

    /// The channels that the client asks for: `?channel=NAME`, else `test`.
    pub const fn channels(&self) -> &'a Channels {
        &self.query.channels
    }

    /// What the client asks to do with its messages: `?mode=publish`, `?echo=off`.
    pub const fn mode(&self) -> Mode {
        self.query.mode
    }

    /// Whether this is the first batch of the connection, which waits for [`accept`](Self::accept).
    pub const fn is_opening(&self) -> bool {
        self.ws.is_opening()
    }

    /// Accepts an opening connection, once; of the subprotocols that the client offers only with `bearer`, which carries its
    /// token. To reject the connection, return a [`Rejection`].
    pub fn accept(&mut self) {
        if self.ws.is_accepted() {
            return;
        }
        // A browser gives up if none of the subprotocols that it offers is chosen.
        if self.ws.accept_with_protocol(token::PROTOCOL).is_err() {
            self.ws.accept();
        }
        self.set_up();
    }

    /// Accepts an opening connection, once, with one of the [subprotocols](Self::protocols) that the client offers.
    ///
    /// # Errors
    /// Rejects with 400 if it does not offer that one.
    pub fn accept_with_protocol(&mut self, protocol: &str) -> Result<(), Rejection> {
        if !self.ws.is_accepted() {
            self.ws.accept_with_protocol(protocol).map_err(|_| Error::Subprotocol)?;
            self.set_up();
        }
        Ok(())
    }

    /// Tells the proxy what it has to know of each connection, and the client who it is.
    fn set_up(&mut self) {
        let id = Control::SetMeta { name: "user", value: self.ws.connection_id() };
        if self.ws.control(&id).is_err() {
            self.ws.close_with_reason(CloseCode::PROTOCOL_ERROR, "the Connection-Id is too long");
        }
        match self.query.format {
            Format::Raw => self.heartbeat(HEARTBEAT),
            Format::Json => {
                self.heartbeat(JSON_HEARTBEAT);
                self.welcome();
            }
        }
        if let Some(channel) = self.identity().and_then(Identity::channel) {
            self.ws.subscribe_filtered(&self.query.format.at_proxy(&channel), &[Filter::SkipSelf]);
        }
    }

    /// Has the proxy send a heartbeat: a pong after `seconds` of silence, 0 for none. Accepting a connection sets it to 30. A client
    /// that gets envelopes gets `{"type":"ping"}` every `seconds`, of which 0 and more than 25 become 25: it takes silence for a lost
    /// connection. No client answers a heartbeat, so it costs no request.
    pub fn heartbeat(&mut self, seconds: u32) {
        // A script waits for the text, whatever the client itself sends in between.
        let (heartbeat, mode) = match self.query.format {
            Format::Raw => (KeepAlive::Pong(b""), KeepAliveMode::Idle),
            Format::Json => (KeepAlive::Text(envelope::PING), KeepAliveMode::Interval),
        };
        let seconds = match self.query.format {
            Format::Json if seconds == 0 => JSON_HEARTBEAT,
            Format::Json => seconds.min(JSON_HEARTBEAT),
            Format::Raw => seconds,
        };
        let content = (seconds > 0).then_some(heartbeat);
        let timeout = seconds.clamp(1, crate::grip::control::MAX_TIMEOUT);
        let control = Control::KeepAlive { content, timeout, mode };
        // It is short, and the time is in range.
        let _ = self.ws.control(&control);
    }

    /// The next message of the batch; `None` after the last one. Pings are answered on the way, and what is not a valid
    /// envelope from a client that has to send envelopes.
    pub fn receive(&mut self) -> Option<Message<'a>> {
        let next = self.next();
        let reference = next.and_then(|(_, reference)| reference);
        self.acks.begin(reference, self.outbox.mark(), self.now);
        next.map(|(message, _)| message)
    }

    /// The next message, and what the client calls it if it is to be acknowledged.
    fn next(&mut self) -> Option<(Message<'a>, Option<&'a str>)> {
        loop {
            let message = self.ws.receive()?;
            let decoded = match (&mut self.inbox, message) {
                (Some(inbox), Message::Text(_)) => inbox.next()?,
                (Some(_), Message::Binary(_)) => &Decoded::Invalid(None),
                _ => return Some((message, None)),
            };
            match decoded {
                Decoded::Message(Content::Text(text), reference) => {
                    return Some((Message::Text(text), reference.as_deref()));
                }
                Decoded::Message(Content::Binary(bytes), reference) => {
                    return Some((Message::Binary(bytes), reference.as_deref()));
                }
                // When everything else is done: what is published has priority.
                Decoded::Sync(since) if self.sync.is_none() => self.sync = Some(since.as_deref()),
                Decoded::Ping => self.ws.send(envelope::PONG),
                Decoded::Sync(_) => self.send_error(&Error::SyncTooOften),
                Decoded::Invalid(reference) => {
                    self.ws.send(&Envelope::invalid().with_ref(reference.as_deref()).to_json());
                }
            }
        }
    }

    /// The reason that the client gave with the close that was received; empty if it gave none.
    pub const fn close_reason(&self) -> &'a str {
        self.ws.close_reason()
    }

    /// Sends a message to the client: text as text, bytes as binary, or either in an envelope if the client asks for that. A
    /// close that it received is answered.
    pub fn send<'m>(&mut self, message: impl Into<Reply<'m>>) {
        let reply = message.into();
        match (self.query.format, reply.as_message()) {
            (Format::Json, Message::Text(text)) => self.ws.send(&Envelope::text(text).to_json()),
            (Format::Json, Message::Binary(bytes)) => self.ws.send(&Envelope::binary(bytes).to_json()),
            (_, message) => self.ws.send(message),
        }
    }

    /// Closes the connection with a code, or answers the client's close. Without a code the client sees 1000.
    pub fn close(&mut self, code: Option<CloseCode>) {
        self.ws.close(code);
    }

    /// Closes the connection with a code and a reason, which is cut at 123 bytes.
    pub fn close_with_reason(&mut self, code: CloseCode, reason: &str) {
        self.ws.close_with_reason(code, reason);
    }

    /// Sends a request through a backend of the service, waits, and returns the response with its body, of at most
    /// 100,000 bytes. A batch may make 6 requests to backends, of which publishing takes at least one.
    ///
    /// # Errors
    /// Rejects with 502 to 504 if there is no such response, and with 500 if that was too many requests. An error status of the
    /// backend is a response.
    pub fn fetch(
        &mut self,
        backend: &str,
        request: http::Request<Vec<u8>>,
    ) -> Result<http::Response<Vec<u8>>, Rejection> {
        if self.fetched + self.outbox.requests() >= MAX_BACKEND_REQUESTS {
            return Err(Error::Backend { name: backend.to_owned(), error: BackendError::TooMany }.into());
        }
        self.fetched += 1;
        let response = self.platform.fetch(backend, request, MAX_FETCHED_BODY);
        response.map_err(|error| Error::Backend { name: backend.to_owned(), error }.into())
    }
}
