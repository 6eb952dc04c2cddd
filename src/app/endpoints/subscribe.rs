//! What the paths of subscribers over plain HTTP share: the proxy holds the response.

use http::{
    HeaderName,
    header::{CACHE_CONTROL, HeaderValue},
};

use super::hand_off::hand_off;
use crate::{
    app::{
        access::{
            admit::{Ask, admit},
            limits,
            token::{Identity, Verified},
        },
        bounds::{MAX_CHANNELS, MAX_READS},
        error::Error,
        exchange::{Exchange, Later},
        history::{
            History,
            cursor::Cursor,
            gap::Gap,
            replay::{Replay, replay},
        },
        messages::{channels::Channels, envelope::Envelope, format::Format},
        query::Query,
        web::{Outcome, Response},
    },
    grip::{Channel, Hold},
};

/// A client that the proxy asks for: its checks are done.
pub(crate) struct Subscriber<'a> {
    pub(crate) format: Format,
    channels: Channels,
    identity: Option<&'a Identity>,
    /// Its access token, if it needs one.
    pub(crate) token: Option<&'a Verified<'a>>,
    /// The time, in seconds since 1970.
    pub(crate) now: u64,
    /// Whether the messages of all its channels are kept.
    pub(crate) is_kept: bool,
    /// Its cursor: its own, or that of this moment.
    cursor: Cursor,
    /// What it missed, if it has a cursor.
    pub(crate) replay: Option<Replay>,
    /// Whether some of that was stored after its cursor.
    pub(crate) has_news: bool,
    /// What it will have missed when the proxy has its subscription, if it is an event stream with a cursor.
    pub(crate) gap: Option<Gap>,
}

/// What kind of subscriber it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An event stream. Its cursor is the header `Last-Event-ID`, or else in the query. Source: HTML, section 9.2.4.
    Events,
    /// A poll. Its cursor is in the query, and only of use with envelopes.
    Poll,
}

/// Hands a client off to the proxy, and responds to the proxy when it asks for the client.
///
/// # Errors
/// As [`admit`] and [`hand_off`]; [`Error::Since`], [`Error::SinceFormat`].
pub(crate) fn subscribe(
    exchange: &mut Exchange<'_>,
    kind: Kind,
    respond: impl FnOnce(&Subscriber<'_>) -> Response,
) -> Result<Outcome, Error> {
    let query = Query::of(exchange.request)?;
    let asked = cursor(exchange, kind, &query)?;
    let Query { channels, format, .. } = query;
    let client = admit(exchange, Ask::Subscribe(&channels))?;
    let verified = client.sender().token();
    // A stream with a token has one channel more: see `next`.
    let more = usize::from(kind == Kind::Events && verified.is_some());
    let limit = verified.map_or(MAX_CHANNELS, |verified| verified.identity.most_channels()) - more;
    if channels.iter().count() > limit {
        return Err(Error::TooManyChannels { limit });
    }
    if !client.is_proxied() {
        return hand_off(exchange, &client);
    }
    let identity = verified.map(|verified| &verified.identity);
    let covered = History::cover(
        exchange.settings.history.as_ref()?.as_ref(),
        channels.iter(),
        identity.and_then(Identity::channel),
    );
    let kept = covered.as_ref().ok().cloned();
    let replay = asked.map(|cursor| replay(covered, cursor, MAX_READS, exchange.platform));
    if let Some(replay) = &replay {
        let limits = exchange.settings.limits.as_ref()?;
        if let Some(client) = limits::handed_off(exchange.request) {
            limits.count_reads(exchange.platform, &limits::network(client), replay.reads);
        }
    }
    let cursor = asked.unwrap_or_else(|| Cursor::now(exchange.platform));
    let has_news = replay.as_ref().is_some_and(|replay| replay.is_news(cursor));
    let is_kept = kept.is_some();
    // What it is told to be the next cursor is of use from now on.
    let begins = kept.is_some() && History::operations_to_begin(exchange.platform) > 0;
    let gap = match (&replay, kept) {
        (Some(replay), Some((_, covered)))
            if kind == Kind::Events && !replay.more && channels.iter().count() < limit =>
        {
            let client = limits::handed_off(exchange.request).map(limits::network);
            Some(Gap::new(format, covered, replay, client, exchange.platform))
        }
        _ => None,
    };
    let now = exchange.now;
    let subscriber =
        Subscriber { format, channels, identity, token: verified, now, is_kept, cursor, replay, has_news, gap };
    // Nothing between the proxy and the client is to store, change or buffer it.
    let response = respond(&subscriber)
        .with_header(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"))
        .with_header(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    exchange.later = subscriber.gap.map(Later::Gap).or_else(|| begins.then_some(Later::BeginHistory));
    Ok(response.into())
}

/// From where on a subscriber wants what it missed.
fn cursor(exchange: &mut Exchange<'_>, kind: Kind, query: &Query) -> Result<Option<Cursor>, Error> {
    let header = |name| exchange.request.header(name).value().filter(|value| !value.is_empty());
    let text = match (kind, header("last-event-id")) {
        (Kind::Events, Some(id)) => Some(id),
        (Kind::Events, None) => query.since.as_deref(),
        (Kind::Poll, _) if query.since.is_some() && query.format != Format::Json => return Err(Error::SinceFormat),
        (Kind::Poll, _) => query.since.as_deref(),
    };
    text.map(|text| Cursor::parse(text, exchange.platform)).transpose()
}

impl Subscriber<'_> {
    /// A cursor that is true before it has what it missed.
    pub(crate) fn first_since(&self) -> Cursor {
        match &self.replay {
            Some(replay) if replay.messages.is_empty() => replay.since,
            _ => self.cursor,
        }
    }

    /// The cursor once it has what it missed.
    pub(crate) fn since(&self) -> Cursor {
        self.replay.as_ref().map_or(self.cursor, |replay| replay.since)
    }

    /// The envelope that it gets first.
    pub(crate) fn welcome(&self, since: Option<Cursor>) -> Envelope<'_> {
        let welcome = Envelope::welcome(None, self.identity.and_then(Identity::user), since);
        self.replay.iter().fold(welcome, |welcome, replay| welcome.with_recovered(replay.more, replay.reason()))
    }

    /// All of its channels, as the proxy names them.
    pub(crate) fn channels_at_proxy(&self) -> impl Iterator<Item = Channel> {
        let user = self.identity.and_then(Identity::channel);
        self.channels.iter().cloned().chain(user).map(|channel| self.format.at_proxy(&channel))
    }

    /// Returns a hold of that kind on all of its channels.
    pub(crate) fn hold(&self, kind: fn(&Channel) -> Hold) -> Hold {
        let mut channels = self.channels_at_proxy();
        let first = channels.next().expect("there is always one");
        channels.fold(kind(&first), |hold, channel| hold.with_channel(&channel))
    }
}
