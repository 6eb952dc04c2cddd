//! `GET /api/events/next/…`: the proxy asks whether an event stream goes on. It does as long as its access token is valid.
//!
//! The proxy asks by the next link of the stream, and sends nothing of the client's request along. So such a stream has one
//! channel more, to which nothing is published: what stands there as the id of the last item comes back in `Grip-Last`. It
//! describes the stream.
//!
//! # Format
//! In base64url, separated by spaces: when the stream ends, in seconds since 1970; the fingerprint of the key and the rules that accepted its token;
//! the form of messages; the channels at the proxy.
//!
//! # How often the proxy asks
//! When the time of a link is over, and one second after a stream was the first one on a channel, for instance on that of its
//! user. Until it has the response, the stream gets nothing: up to 100 messages wait. The proxy follows ten links a second, each
//! for up to 100 streams at once. With a link for each of 200 streams that opened in the same second, that took 20 seconds.
//! With the same link for all of them, there are 100 requests in one instant: the proxy cannot make more, another one fails, and
//! a WebSocket whose request fails breaks. So there are [`LINKS`].
//!
//! Streams with the same link and the same time are asked for together. So the time is shorter by up to an eighth: the streams
//! of tokens that are valid for an hour do not all come in one instant. Source: Pushpin 1.41, `httpsession.cpp`,
//! `httpsessionupdatemanager.cpp` and `zhttpmanager.cpp` (`OUT_HWM`), and `tests/pushpin.rs`.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};

use crate::{
    app::{
        access::{admit::admit_proxy, token::Rules},
        error::Error,
        exchange::Exchange,
        messages::{channels::STREAM, format::Format, forms::close_event},
        web::{Outcome, Response},
    },
    grip::{
        Channel, Hold, ItemId,
        headers::last_ids,
        signature::{LEEWAY, SignatureError},
    },
};

/// The path of the links, without a slash and a number.
pub(crate) const PATH: &str = "/api/events/next";

/// How many links there are.
const LINKS: u64 = 16;

/// After how many seconds the proxy asks at the latest: the keys of access tokens may have been changed.
const LONGEST: u64 = 3600;

/// By what part of the time the proxy asks earlier, at most.
const EARLIER: u64 = 8;

/// How long a stream may be silent, in seconds: proxies between it and the client often wait for 30 to 60.
const KEEP_ALIVE: u32 = 20;

/// Holds a stream again, or ends it.
///
/// # Errors
/// [`Error::NotFound`] for a client; [`Error::Setting`], or as [`admit_proxy`]: the proxy asks again, up to five times
/// in half a minute, and then ends the stream.
pub(crate) fn next(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    admit_proxy(exchange).map_err(|error| if error == Error::NotProxied { Error::NotFound } else { error })?;
    let rules = exchange.settings.access.as_ref()?.as_ref();
    let mut ids = exchange.request.list("grip-last").into_iter().flat_map(last_ids);
    let stream = ids.find(|(channel, _)| *channel == STREAM.as_str()).and_then(|(_, id)| Stream::parse(id));
    // Without a hold, the proxy ends the stream.
    let response = |body: &str| Response::new(200, "text/event-stream", body);
    let Some(stream) = stream else { return Ok(response("").into()) };
    Ok(match stream.check(rules, exchange.now) {
        Ok(()) => response("").held(&stream.hold(exchange.now)),
        Err(error) if stream.format.is_json() => {
            let (code, reason) = error.close();
            response(&close_event(code, &reason))
        }
        Err(_) => response(""),
    }
    .into())
}

/// The same keep-alive for each stream.
pub(crate) fn kept_alive(hold: Hold) -> Hold {
    hold.with_keep_alive(b":\n\n", KEEP_ALIVE).expect("the content is not empty")
}

/// An event stream of a client with an access token.
pub(crate) struct Stream {
    /// In seconds since 1970.
    ends_at: u64,
    /// The fingerprint of the key and the rules.
    key: String,
    format: Format,
    /// As the proxy names them.
    channels: Vec<Channel>,
}

impl Stream {
    /// A stream with these channels at the proxy, and a token that expires then, in seconds since 1970, and has that
    /// [fingerprint](super::super::access::token::Verified::fingerprint).
    pub(crate) fn new(expires_at: u64, key: String, format: Format, channels: Vec<Channel>) -> Self {
        Self { ends_at: expires_at.saturating_add(LEEWAY), key, format, channels }
    }

    /// Its hold, at a time in seconds since 1970.
    pub(crate) fn hold(&self, now: u64) -> Hold {
        let id = self.id();
        let number: u64 = id.bytes().map(u64::from).sum();
        let id = ItemId::new(&id).expect("base64url has characters of an id");
        let hold = self.channels.iter().fold(Hold::stream(&STREAM).with_prev_id(id), Hold::with_channel);
        let left = self.ends_at.saturating_sub(now).clamp(1, LONGEST);
        let seconds = (left - number % (left / EARLIER + 1)) as u32;
        let link = format!("{PATH}/{}", number % LINKS);
        kept_alive(hold).with_next(&link, Some(seconds)).expect("the URI is printable ASCII")
    }

    fn check(&self, rules: Option<&Rules>, now: u64) -> Result<(), Error> {
        if self.ends_at <= now {
            return Err(Error::Token(SignatureError::Expired));
        }
        if rules.is_some_and(|rules| rules.accept(&self.key)) {
            Ok(())
        } else {
            Err(Error::Token(SignatureError::Signature))
        }
    }

    fn id(&self) -> String {
        let mut text = format!("{} {} {}", self.ends_at, self.key, self.format.name());
        for channel in &self.channels {
            text.push(' ');
            text.push_str(channel.as_str());
        }
        BASE64_URL_SAFE_NO_PAD.encode(text)
    }

    fn parse(id: &str) -> Option<Self> {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(id).ok()?).ok()?;
        let mut words = text.split(' ');
        let (ends_at, key) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        let format = Format::parse(words.next()?)?;
        let channels = words.map(|name| Channel::new(name).ok()).collect::<Option<_>>()?;
        Some(Self { ends_at, key, format, channels })
    }
}
