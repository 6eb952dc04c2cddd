//! What the paths of subscribers over plain HTTP share: the proxy holds the response.

use http::{
    HeaderName,
    header::{CACHE_CONTROL, HeaderValue},
};

use super::hand_off::hand_off;
use crate::{
    app::{
        access::{guard, proof::Source, right::Right, token::Identity},
        error::Error,
        exchange::Exchange,
        history::{
            History,
            cursor::Cursor,
            link::Link,
            recovery::{IN_FLIGHT, Lost, Recovery, Stored, newest, recover, wait_for_news},
        },
        http::{Outcome, Response},
        messages::{channels::Channels, envelope::Envelope, id::MessageId},
        query::{Format, Query},
    },
    grip::{Channel, Headers, Hold, ItemId, headers::last_ids},
};

/// In a request that the proxy repeats, and in one for a next link: what the last hold named.
pub(crate) const GRIP_LAST: &str = "grip-last";

/// A client that the proxy asks for: its checks are done.
pub(crate) struct Subscriber<'a> {
    format: Format,
    channels: Channels,
    identity: Option<Identity>,
    /// What is kept, if that are the messages of all its channels.
    pub(crate) history: Option<&'a History>,
    /// Since when that has been kept, in milliseconds since 1970, if it is known.
    epoch: Option<u64>,
    /// The next cursor.
    pub(crate) since: MessageId,
    /// What it missed, if it asks for that.
    pub(crate) recovery: Option<Recovery>,
    /// The newest message of each channel that has one of the last seconds.
    pub(crate) newest: Vec<(Channel, MessageId)>,
}

/// How a subscriber says what it has seen.
#[derive(Clone, Copy)]
pub(crate) enum Seen {
    /// In the query, and in the header `Last-Event-ID`, which wins. Source: HTML, section 9.2.4.
    LastEventId,
    /// In the query of one that asks for envelopes, or in what the proxy says (`Grip-Last`) when it repeats a request.
    GripLast,
}

/// Hands a client off to the proxy, and responds to the proxy when it asks for the client.
///
/// # Errors
/// As [`guard::check_opening`], [`hand_off`] and [`guard::check_token`]; [`Error::Since`], [`Error::SinceFormat`].
pub(crate) fn subscribe(
    exchange: &mut Exchange<'_>,
    seen: Seen,
    respond: impl Fn(&Subscriber<'_>) -> Response,
) -> Result<Outcome, Error> {
    let source = guard::check_source(exchange)?;
    let query = Query::of(exchange.request)?;
    let cursor = cursor(exchange, seen, &query, source)?;
    let Query { channels, format, .. } = query;
    if source == Source::Client {
        guard::check_opening(exchange, &[Right::Read], &channels)?;
        return hand_off(exchange);
    }
    let rights = &[Right::Read];
    let verified = guard::check_token(exchange.request, exchange.settings, rights, channels.iter(), exchange.now)?;
    let identity = verified.map(|verified| verified.identity);
    let subscriber = Subscriber::new(exchange, (format, channels, identity), cursor)?;
    // Nothing between the proxy and the client is to store, change or buffer it.
    let response = respond(&subscriber)
        .with_header(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"))
        .with_header(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response.into())
}

/// From where on a subscriber wants what it missed.
fn cursor(exchange: &mut Exchange<'_>, seen: Seen, query: &Query, source: Source) -> Result<Option<Cursor>, Error> {
    let header = |name| exchange.request.header(name).value().filter(|value| !value.is_empty());
    let text = match seen {
        Seen::LastEventId => header("last-event-id").or(query.since.as_deref()),
        Seen::GripLast if query.since.is_some() && query.format != Format::Json => return Err(Error::SinceFormat),
        Seen::GripLast => query.since.as_deref(),
    };
    match text {
        Some(text) => Cursor::parse(text, exchange.platform).map(Some),
        // From the proxy: it removes a client's own.
        None if source != Source::Client => Ok(named_ids(exchange.request).into_iter().min().map(Cursor::from_id)),
        None => Ok(None),
    }
}

/// The ids in `Grip-Last`, which are those that a hold named.
fn named_ids(headers: &(impl Headers + ?Sized)) -> Vec<MessageId> {
    let ids = headers.list(GRIP_LAST).into_iter().flat_map(last_ids);
    ids.filter_map(|(_, id)| MessageId::parse_any(id)).collect()
}

impl<'a> Subscriber<'a> {
    pub(crate) fn new(
        exchange: &mut Exchange<'a>,
        (format, channels, identity): (Format, Channels, Option<Identity>),
        cursor: Option<Cursor>,
    ) -> Result<Self, Error> {
        let any = exchange.settings.history.as_ref()?.as_ref();
        let history = any.filter(|history| history.first_not_kept(&channels).is_none());
        let named = named_ids(exchange.request);
        let recovery = cursor.map(|cursor| {
            // The proxy knows of a message that the last hold does not name.
            let operations = if named.is_empty() { 0 } else { wait_for_news(&channels, &named, exchange.platform) };
            recover(any, &channels, cursor, exchange.platform, operations)
        });
        let epoch = history.and_then(|history| history.begin(exchange.platform));
        let since = recovery.as_ref().map_or_else(|| MessageId::new(exchange.platform), |recovery| recovery.since);
        let newest = match (&recovery, history) {
            (Some(recovery), _) => recovery.newest.clone(),
            (None, Some(_)) => newest(&channels, exchange.platform, &mut 0),
            (None, None) => Vec::new(),
        };
        Ok(Self { format, channels, identity, history, epoch, since, recovery, newest })
    }

    /// The envelope that it gets first.
    pub(crate) fn welcome(&self) -> Envelope<'_> {
        let user = self.identity.as_ref().and_then(Identity::user);
        let welcome = Envelope::welcome(None, user, self.since);
        self.recovery.iter().fold(welcome, |welcome, recovery| welcome.with(recovery))
    }

    /// The messages that it missed.
    pub(crate) fn missed(&self) -> &[Stored] {
        self.recovery.as_ref().map_or(&[], |recovery| &recovery.messages)
    }

    /// Why it may have missed more, if so.
    pub(crate) fn lost(&self) -> Option<&Lost> {
        self.recovery.as_ref()?.lost.as_ref()
    }

    /// Whether it asks for envelopes.
    pub(crate) fn wants_json(&self) -> bool {
        self.format == Format::Json
    }

    /// The path of the link with which its stream is sent what is published before the proxy has the subscription; `None`
    /// if nothing is kept.
    pub(crate) fn link(&self) -> Option<String> {
        let in_flight = if self.recovery.is_some() { IN_FLIGHT } else { 0 };
        let from = self.since.time().saturating_sub(in_flight) / 1000;
        let (format, channels, epoch) = (self.format, self.channels.clone(), self.epoch.unwrap_or(0));
        Some(self.history?.links().path(&Link { format, channels, from, epoch }))
    }

    /// Returns a hold of that kind on all of its channels.
    pub(crate) fn hold(&self, kind: fn(&Channel) -> Hold) -> Hold {
        self.hold_after(kind, |_| None)
    }

    /// Returns a hold of that kind on all of its channels, whose last messages are those. If the proxy knows of another one when
    /// it has the subscription, it asks again.
    pub(crate) fn hold_after(&self, kind: fn(&Channel) -> Hold, last: impl Fn(&Channel) -> Option<MessageId>) -> Hold {
        let name = |channel| self.format.at_proxy(channel);
        let with_last = |hold: Hold, channel| {
            let last = last(channel).map(|id| id.to_string());
            last.as_deref().and_then(ItemId::new).into_iter().fold(hold, Hold::with_prev_id)
        };
        let first = with_last(kind(&name(self.channels.first())), self.channels.first());
        let rest = self.channels.iter().skip(1);
        rest.fold(first, |hold, channel| with_last(hold.with_channel(&name(channel)), channel))
    }

    /// The last message of a channel, as far as the store shows it; else the id of none, so that the proxy asks again.
    pub(crate) fn last(&self, channel: &Channel) -> MessageId {
        self.newest.iter().find(|(known, _)| known == channel).map_or(self.since, |(_, id)| *id)
    }
}
