//! `/api/websocket`: GET is a client that connects, POST is the GRIP proxy that says what the client did.

use std::{error::Error, fmt};

use super::{
    Action, Reply, Request, Settings,
    access::{self, Right},
    channels::{self, ChannelError},
    echo::echo,
    guard,
    http::{BodyError, Counter},
    message::{Broadcast, Content, requests},
    proxied::{self, SELF_BACKEND},
};
use crate::grip::{
    Channel, CloseCode, Control, Filter, GripStatus, Header, Message, WebSocket,
    publish::PublishError,
    signature::LEEWAY,
    websocket::{Answer, is_websocket_over_http},
};

/// The longest body of a request from the proxy, in bytes. Pushpin puts at most 200,000 bytes of messages into one,
/// but does not count the framing: 200,000 messages of one byte make 2.2 MB.
const MAX_BODY: usize = 4_000_000;

/// The most that one batch of messages may publish: messages, each counted for each of its channels, and requests.
/// Fastly lets a sandbox send 32 requests to backends for each of its own.
const MAX_PUBLISHED: usize = 1000;
const MAX_PUBLISH_REQUESTS: usize = 32;

const UNPUBLISHED: &str = "the message could not be published";

const HOW_TO_CONNECT: &str = "This is a WebSocket endpoint. Connect with a WebSocket client: npx wscat -c ws://HOST/api/websocket (wss:// on Fastly)";

/// What the query of a connection says.
///
/// # Format
/// `?channel=a&channel=b`, `&echo=off`, `&mode=publish`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the client is subscribed to.
    pub channels: Vec<Channel>,
    /// The client gets its own messages, too.
    pub echoes: bool,
    /// Its messages go to all subscribers of its channels.
    pub publishes: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { channels: vec![channels::DEFAULT], echoes: true, publishes: false }
    }
}

impl Options {
    /// # Errors
    /// [`OptionsError`].
    pub(super) fn of(request: &(impl Request + ?Sized)) -> Result<Self, OptionsError> {
        let channels = channels::subscribed(request).map_err(OptionsError::Channels)?;
        let (mut echoes, mut publishes) = (true, false);
        for (name, value) in url::form_urlencoded::parse(request.query().as_bytes()) {
            match (&*name, &*value) {
                ("echo", "on") => echoes = true,
                ("echo", "off") => echoes = false,
                ("mode", "echo") => publishes = false,
                ("mode", "publish") => publishes = true,
                ("echo", _) => return Err(OptionsError::Echo),
                ("mode", _) => return Err(OptionsError::Mode),
                _ => {}
            }
        }
        Ok(Self { channels, echoes, publishes })
    }

    /// What a client needs for it.
    const fn rights(&self) -> &'static [Right] {
        if self.publishes { &[Right::Read, Right::Write] } else { &[Right::Read] }
    }

    /// Subscribes an opening connection. One that publishes and wants no echo is left out of what it sends itself.
    pub fn subscribe(&self, ws: &mut WebSocket<'_>) {
        let mut filters: &[Filter] = &[];
        if self.publishes && !self.echoes {
            let user = Control::SetMeta { name: "user", value: ws.connection_id() };
            if ws.control(&user).is_err() {
                ws.close_with_reason(CloseCode::PROTOCOL_ERROR, "the Connection-Id is too long");
            }
            filters = &[Filter::SkipSelf];
        }
        for channel in &self.channels {
            ws.subscribe_filtered(channel, filters);
        }
    }
}

/// A query that says nothing that can be done; the text is the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionsError {
    /// Something is wrong with the channels.
    Channels(ChannelError),
    /// An `echo` that is neither on nor off.
    Echo,
    /// A `mode` that is neither echo nor publish.
    Mode,
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channels(error) => error.fmt(f),
            Self::Echo => f.write_str("echo is on or off: ?echo=off"),
            Self::Mode => f.write_str("mode is echo or publish: ?mode=publish"),
        }
    }
}

impl Error for OptionsError {}

/// Hands a WebSocket client over to the proxy.
pub(super) fn connect(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    match proxied::status(request, settings, now) {
        Ok(GripStatus::NotProxied) => {
            if let Err(refusal) = may_connect(request, settings, now) {
                return refusal.into();
            }
            // Only the spelling that the proxy takes for a WebSocket: anything else it would send back as a plain GET.
            if request.header("upgrade") == Header::Value("websocket") {
                return Action::HandOff { backend: SELF_BACKEND };
            }
            how_to_connect()
        }
        // What has been through the proxy is never handed to it again: that could go on for ever.
        Ok(GripStatus::Signed { .. }) => how_to_connect(),
        Ok(status @ GripStatus::NeedsSignature(_)) => proxied::refused(status),
        Err(refusal) => refusal.into(),
    }
}

/// A WebSocket client shows nobody what it is refused for: the log says it, and an answer to the same without `Upgrade`.
fn may_connect(request: &dyn Request, settings: &Settings, now: u64) -> Result<(), Reply> {
    let options = Options::of(request).map_err(|error| Reply::text(400, error).with_log(error))?;
    guard::opening(request, settings, options.rights(), &options.channels, now)?;
    if options.publishes {
        settings.publisher.as_ref().map_err(proxied::unusable)?;
    }
    Ok(())
}

fn how_to_connect() -> Action {
    Reply::text(426, HOW_TO_CONNECT).with_header("upgrade", "websocket").into()
}

/// Answers the events of a WebSocket.
pub(super) fn events(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    let tickets = settings.tickets.as_ref();
    let mut signed_until = if tickets.is_some_and(|tickets| tickets.is_held_by(request, request.query(), now)) {
        None
    } else {
        match proxied::status(request, settings, now) {
            Ok(GripStatus::Signed { until }) => Some(until),
            Ok(status) => return proxied::refused(status),
            Err(refusal) => return refusal.into(),
        }
    };
    if !is_websocket_over_http(request) {
        return Reply::text(400, "[not a websocket request]").into();
    }
    let options = match Options::of(request) {
        Ok(options) => options,
        Err(error) => return Reply::text(400, error).into(),
    };
    let body = match request.body(MAX_BODY) {
        Ok(body) => body,
        Err(BodyError::TooLarge) => {
            return Reply::text(413, format_args!("The body must be at most {MAX_BODY} bytes")).into();
        }
        Err(BodyError::Incomplete) => return Reply::text(400, "The body did not arrive whole").into(),
    };
    match WebSocket::new(request, &body) {
        Ok(mut ws) => {
            // Where there is a ticket, all of it was checked when the connection got it.
            if let Some(until) = &mut signed_until {
                match guard::access(request, settings, options.rights(), &options.channels, now) {
                    Ok(None) => {}
                    Ok(Some(access_until)) => {
                        *until = access_until.min(*until);
                        ws.set_keep_alive_interval(check_again_after(access_until, now));
                    }
                    Err(refusal) if ws.is_opening() => return refusal.into(),
                    Err(refusal) => return no_longer_allowed(ws, refusal).into(),
                }
            }
            if ws.is_opening() && ws.protocols().any(|protocol| protocol == access::PROTOCOL) {
                // A browser gives up where none of those that it offers is taken.
                let _ = ws.accept_with_protocol(access::PROTOCOL);
            }
            let published = echo(&mut ws, &options);
            if let (Some(tickets), Some(until)) = (tickets, signed_until) {
                tickets.give(&mut ws, request.query(), until);
            }
            if published.is_empty() {
                return answer(ws.into_answer()).into();
            }
            publish(ws, request, &options, &published, settings, now)
        }
        Err(error) => Reply::text(400, format_args!("Bad WebSocket-over-HTTP request: {error}"))
            .with_log(format_args!("refused a WebSocket-over-HTTP request: {error}"))
            .into(),
    }
}

/// Publishes what a client sent, and then answers it. A client whose messages could not be published is told so by a
/// close.
fn publish(
    ws: WebSocket<'_>,
    request: &dyn Request,
    options: &Options,
    messages: &[Message<'_>],
    settings: &Settings,
    now: u64,
) -> Action {
    let close = |mut ws: WebSocket<'_>, code, reason| {
        ws.close_with_reason(code, reason);
        answer(ws.into_answer())
    };
    let (publisher, limits) = match (&settings.publisher, &settings.limits) {
        (Ok(publisher), Ok(limits)) => (publisher, limits),
        (Err(error), _) | (_, Err(error)) => {
            return close(ws, CloseCode::INTERNAL_ERROR, UNPUBLISHED).with_log(error).into();
        }
    };
    let count = messages.len() * options.channels.len();
    if count > MAX_PUBLISHED {
        return close(ws, CloseCode::TOO_BIG, "too many messages at once to be published").into();
    }
    if !limits.allows(request, Counter::Broadcasts, ws.connection_id(), count as u32) {
        return close(ws, CloseCode::POLICY_VIOLATION, "too many messages in a minute").into();
    }
    let sender = (!options.echoes).then_some(ws.connection_id());
    let contents = messages.iter().filter_map(|message| match *message {
        Message::Text(text) => Some(Content::Text(text)),
        Message::Binary(bytes) => Some(Content::Binary(bytes)),
        Message::Close(_) | Message::Disconnect => None,
    });
    let broadcasts: Vec<_> = contents
        .flat_map(|content| options.channels.iter().map(move |channel| Broadcast::new(channel, content, sender)))
        .collect();
    let requests = match requests(publisher, &broadcasts, now) {
        Ok(requests) if requests.len() <= MAX_PUBLISH_REQUESTS => requests,
        Ok(_) => return close(ws, CloseCode::TOO_BIG, "too much at once to be published").into(),
        Err(_) => return close(ws, CloseCode::TOO_BIG, "the message is too large to be published").into(),
    };
    let gone = ws.is_closed();
    let answered = ws.into_answer();
    Action::publish(requests, move |published: Result<(), PublishError>| match published {
        Ok(()) => answer(answered),
        Err(error) if gone => answer(answered).with_log(error),
        Err(error) => answer(unpublished(answered)).with_log(error),
    })
}

/// After how many seconds of silence the proxy asks again for a connection whose token expires then: a client that only
/// listens is to be looked at, too.
fn check_again_after(expiry: u64, now: u64) -> u32 {
    const LONGEST: u64 = 3600;
    expiry.saturating_sub(now).saturating_add(LEEWAY + 1).min(LONGEST) as u32
}

/// Ends an open connection whose token was valid and is not any more, or cannot be checked any more.
fn no_longer_allowed(mut ws: WebSocket<'_>, refusal: Reply) -> Reply {
    let (code, reason) = match refusal.status {
        401 | 403 => (CloseCode::POLICY_VIOLATION, "the access token does not count any more: connect with another"),
        _ => (CloseCode::INTERNAL_ERROR, "the access token cannot be checked"),
    };
    match ws.receive() {
        Some(Message::Close(code)) => ws.close(code),
        Some(Message::Disconnect) => {}
        Some(Message::Text(_) | Message::Binary(_)) | None => {
            ws.close_with_reason(code, reason);
            return Reply { log: refusal.log, ..answer(ws.into_answer()) };
        }
    }
    answer(ws.into_answer())
}

fn answer(answer: Answer) -> Reply {
    Reply { status: 200, headers: answer.headers, body: answer.body, log: None }
}

/// The same with a close at its end.
fn unpublished(mut answered: Answer) -> Answer {
    let frame =
        crate::grip::event::CloseFrame { code: CloseCode::INTERNAL_ERROR.get(), reason: UNPUBLISHED.as_bytes() };
    crate::grip::Event::Close(Some(frame)).encode(&mut answered.body);
    answered
}
