//! `GET /api/events/next/…`: the proxy asks whether an event stream goes on. It does as long as its access token is valid.
//!
//! The proxy asks by the next link of the stream, without anything of the client's request. So such a stream has one channel
//! more, to which nothing is published: the id of its last item, which the proxy brings along in `Grip-Last`, says what the
//! stream is.
//!
//! # Format
//! That id, in base64url: when the token is no longer valid, in seconds since 1970, the rules under which it was, the form of
//! messages, and the channels at the proxy, separated by spaces.
//!
//! # Why the links are few
//! The proxy asks when the time of a link is over, and one second after a stream was the first one on a channel, as on that of
//! its user. It follows ten links a second, each for up to 100 streams at once, and until then a stream gets nothing: with a
//! link of its own for each of 200 streams that open in the same second, that took up to 20 seconds. With one link for all, the proxy
//! makes 100 requests in one instant, which is the most that it can: another one fails, and if it is that of a WebSocket, this
//! ends. So there are [`LINKS`].
//!
//! Streams with the same path and the same time left are asked for together, when the first one's is over: so the path changes
//! every ten minutes. Source: Pushpin 1.41, `httpsession.cpp`, `httpsessionupdatemanager.cpp`, `zhttpmanager.cpp` (`OUT_HWM`), and
//! `tests/pushpin.rs`.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};

use crate::{
    app::{
        access::{guard, proof::Source},
        error::Error,
        exchange::Exchange,
        http::{Outcome, Response},
        messages::forms::close_event,
        query::Format,
    },
    grip::{
        Channel, Hold, ItemId,
        headers::last_ids,
        signature::{LEEWAY, SignatureError},
    },
};

/// The path of the links, without what follows.
pub(crate) const PATH: &str = "/api/events/next";

/// The channel that carries what a stream is. No client can name it.
static CHANNEL: Channel = Channel::from_static("stream:next");

/// How many links there are at a time.
const LINKS: u32 = 16;

/// After how long the path changes, in seconds.
const PERIOD: u64 = 600;

/// After how many seconds the proxy asks at the latest: the keys of access tokens may have been changed.
const LONGEST: u64 = 3600;

/// How long a stream may be silent, in seconds: proxies between it and the client often wait for 30 to 60.
const KEEP_ALIVE: u32 = 20;

/// Holds a stream again, or ends it.
///
/// # Errors
/// [`Error::NotProxied`] for a client; [`Error::Setting`], or as [`guard::check_source`]: the proxy asks again, up to five times
/// in half a minute, and then ends the stream.
pub(crate) fn next(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    if guard::check_source(exchange)? == Source::Client {
        return Err(Error::NotProxied);
    }
    exchange.settings.access.as_ref()?;
    let mut ids = exchange.request.list("grip-last").into_iter().flat_map(last_ids);
    let stream = ids.find(|(channel, _)| *channel == CHANNEL.as_str()).and_then(|(_, id)| Stream::parse(id));
    // Without a hold, the proxy ends it.
    let ended = |body: &str| Response::new(200, "text/event-stream", body);
    let Some(stream) = stream else { return Ok(ended("").into()) };
    Ok(match stream.check(&exchange.settings.rules, exchange.now) {
        Ok(()) => ended("").held(&stream.hold(exchange.now)),
        Err(error) if stream.format.is_json() => {
            let (code, reason) = error.close();
            ended(&close_event(code, &reason))
        }
        Err(_) => ended(""),
    }
    .into())
}

/// The same keep-alive for each stream.
pub(crate) fn kept_alive(hold: Hold) -> Hold {
    hold.with_keep_alive(b":\n\n", KEEP_ALIVE).expect("the content is not empty")
}

/// An event stream of a client with an access token.
pub(crate) struct Stream {
    until: u64,
    rules: String,
    format: Format,
    channels: Vec<Channel>,
}

impl Stream {
    /// A stream with these channels at the proxy, and a token that expires then, in seconds since 1970, and was verified under
    /// those rules.
    pub(crate) fn new(expires_at: u64, rules: &str, format: Format, channels: Vec<Channel>) -> Self {
        Self { until: expires_at.saturating_add(LEEWAY), rules: rules.to_owned(), format, channels }
    }

    /// Its hold, at a time in seconds since 1970.
    pub(crate) fn hold(&self, now: u64) -> Hold {
        let id = self.id();
        let id = ItemId::new(&id).expect("base64url has characters of an id");
        let hold = self.channels.iter().fold(Hold::stream(&CHANNEL).with_prev_id(id), Hold::with_channel);
        let seconds = self.until.saturating_sub(now).clamp(1, LONGEST) as u32;
        let which = id.as_str().bytes().map(u32::from).sum::<u32>() % LINKS;
        let link = format!("{PATH}/{}/{which}", self.until / PERIOD);
        kept_alive(hold).with_next(&link, Some(seconds)).expect("the URI is printable ASCII")
    }

    fn check(&self, rules: &str, now: u64) -> Result<(), Error> {
        if self.rules != rules {
            return Err(Error::Token(SignatureError::Signature));
        }
        if self.until > now { Ok(()) } else { Err(Error::Token(SignatureError::Expired)) }
    }

    fn id(&self) -> String {
        let mut text = format!("{} {} {}", self.until, self.rules, self.format.name());
        for channel in &self.channels {
            text.push(' ');
            text.push_str(channel.as_str());
        }
        BASE64_URL_SAFE_NO_PAD.encode(text)
    }

    fn parse(id: &str) -> Option<Self> {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(id).ok()?).ok()?;
        let mut words = text.split(' ');
        let (until, rules, format) = (words.next()?.parse().ok()?, words.next()?.to_owned(), words.next()?);
        let format = Format::parse(format)?;
        let channels = words.map(|name| Channel::new(name).ok()).collect::<Option<_>>()?;
        Some(Self { until, rules, format, channels })
    }
}
