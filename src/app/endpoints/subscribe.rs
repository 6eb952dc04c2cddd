//! What the paths of subscribers over plain HTTP share: the proxy holds the response.

use http::{
    HeaderName,
    header::{CACHE_CONTROL, HeaderValue},
};

use super::hand_off::hand_off;
use crate::{
    app::{
        access::{
            guard,
            proof::Source,
            right::Right,
            token::{self, Identity},
        },
        bounds::MAX_CHANNELS,
        error::Error,
        exchange::Exchange,
        history::{
            History,
            cursor::Cursor,
            recovery::{Lost, Recovery, recover},
            sweep::Sweep,
            value::Stored,
        },
        http::{Outcome, Response},
        messages::{channels::Channels, envelope::Envelope, id::MessageId},
        query::{Format, Query},
    },
    grip::{Channel, Hold, ItemId, VerifyKey, headers::last_ids},
};

/// A client that the proxy asks for: its checks are done.
pub(crate) struct Subscriber<'a> {
    pub(crate) format: Format,
    channels: Channels,
    identity: Option<Identity>,
    /// When its access token expires, in seconds since 1970, and the key that verified it, if it needs one.
    pub(crate) token: Option<(u64, &'a VerifyKey)>,
    /// The time, in seconds since 1970.
    pub(crate) now: u64,
    /// What is kept, if that are the messages of all its channels.
    pub(crate) history: Option<&'a History>,
    /// Whether it asks for what it missed.
    pub(crate) asks: bool,
    /// What it missed, if it or the proxy asks for that.
    pub(crate) recovery: Option<Recovery>,
    /// An id that is less than those of later messages.
    opened: MessageId,
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
    respond: impl FnOnce(&Subscriber<'_>, Option<&Channel>) -> Response,
) -> Result<Outcome, Error> {
    let source = guard::check_source(exchange)?;
    let query = Query::of(exchange.request)?;
    let (cursor, asks) = cursor(exchange, seen, &query, source)?;
    let Query { channels, format, .. } = query;
    let rights = &[Right::Read];
    let verified = match source {
        Source::Client => guard::check_opening(exchange, rights, &channels)?,
        Source::Proxy { .. } => {
            guard::check_token(exchange.request, exchange.settings, rights, channels.iter(), exchange.now)?
        }
    };
    // A stream with a token has one channel more: see `next`.
    let more = usize::from(matches!(seen, Seen::LastEventId) && verified.is_some());
    let limit = verified.as_ref().map_or(MAX_CHANNELS, |verified| verified.identity.most_channels()) - more;
    if channels.iter().count() > limit {
        return Err(Error::TooManyChannels { limit });
    }
    if source == Source::Client {
        return hand_off(exchange);
    }
    let keys = exchange.settings.access.as_ref()?.as_ref();
    let key = keys.map(|keys| keys.key_of(&token::of_request(exchange.request)?)).transpose()?;
    let token = verified.as_ref().map(|verified| verified.expires_at).zip(key);
    let identity = verified.map(|verified| verified.identity);
    let kept = exchange.settings.history.as_ref()?.as_ref();
    let user = identity.as_ref().and_then(Identity::channel);
    let recovery = cursor.map(|cursor| recover(kept, &channels, user.clone(), cursor, exchange.platform));
    let history = kept.filter(|history| history.first_not_kept(&channels).is_none());
    if let Some(history) = history {
        // What it is told to be the next cursor is of use from now on.
        history.begin(exchange.platform);
    }
    let opened = MessageId::new(exchange.platform);
    let sweep = match (history, seen) {
        (Some(history), Seen::LastEventId) if channels.iter().count() < limit => {
            Some(Sweep::new(history, (format, &channels, user), recovery.as_ref(), exchange.platform))
        }
        _ => None,
    };
    let now = exchange.now;
    let subscriber = Subscriber { format, channels, identity, token, now, history, asks, recovery, opened };
    // Nothing between the proxy and the client is to store, change or buffer it.
    let response = respond(&subscriber, sweep.as_ref().map(Sweep::own))
        .with_header(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"))
        .with_header(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    exchange.later = sweep;
    Ok(response.into())
}

/// From where on a subscriber wants what it missed, and whether it says so itself.
fn cursor(
    exchange: &mut Exchange<'_>,
    seen: Seen,
    query: &Query,
    source: Source,
) -> Result<(Option<Cursor>, bool), Error> {
    let header = |name| exchange.request.header(name).value().filter(|value| !value.is_empty());
    if let (Seen::LastEventId, Some(id)) = (seen, header("last-event-id")) {
        return Ok((Some(Cursor::parse(id, exchange.platform)?.of_last_event()), true));
    }
    let text = match seen {
        Seen::LastEventId => query.since.as_deref(),
        Seen::GripLast if query.since.is_some() && query.format != Format::Json => return Err(Error::SinceFormat),
        Seen::GripLast => query.since.as_deref(),
    };
    if let Some(text) = text {
        return Ok((Some(Cursor::parse(text, exchange.platform)?), true));
    }
    // From the proxy: it removes a client's own.
    let named = exchange.request.list("grip-last").into_iter().flat_map(last_ids);
    let named = named.filter_map(|(_, id)| MessageId::parse_any(id)).min();
    Ok((named.filter(|_| source != Source::Client).map(Cursor::from_id), false))
}

impl Subscriber<'_> {
    /// The next cursor, once it has what it missed.
    pub(crate) fn since(&self) -> MessageId {
        self.recovery.as_ref().map_or(self.opened, |recovery| recovery.since)
    }

    /// The cursor before that.
    pub(crate) fn first_since(&self) -> MessageId {
        self.recovery.as_ref().map_or(self.opened, Recovery::first_since)
    }

    /// The envelope that it gets first.
    pub(crate) fn welcome(&self) -> Envelope<'_> {
        let welcome = self.plain_welcome(self.first_since());
        self.recovery.iter().fold(welcome, |welcome, recovery| welcome.with_recovered(recovery.reason()))
    }

    /// The same, without whether it has missed something.
    pub(crate) fn plain_welcome(&self, since: MessageId) -> Envelope<'_> {
        Envelope::welcome(None, self.identity.as_ref().and_then(Identity::user), since)
    }

    /// The messages that it missed.
    pub(crate) fn missed(&self) -> &[Stored] {
        self.recovery.as_ref().map_or(&[], |recovery| &recovery.messages)
    }

    /// Why it may have missed more, if so.
    pub(crate) fn lost(&self) -> Option<&Lost> {
        self.recovery.as_ref()?.lost.as_ref()
    }

    /// All of its channels, as the proxy names them.
    pub(crate) fn channels_at_proxy(&self) -> impl Iterator<Item = Channel> {
        let user = self.identity.as_ref().and_then(Identity::channel);
        self.channels.iter().cloned().chain(user).map(|channel| self.format.at_proxy(&channel))
    }

    /// Returns a hold of that kind on all of its channels.
    pub(crate) fn hold(&self, kind: fn(&Channel) -> Hold) -> Hold {
        self.hold_after(kind, None)
    }

    /// Returns a hold of that kind on all of its channels, whose last items have this id, if one is given: not on the user's if
    /// that is not kept, as the proxy would then ask for what is nowhere, in place of sending it.
    pub(crate) fn hold_after(&self, kind: fn(&Channel) -> Hold, last: Option<MessageId>) -> Hold {
        let name = |channel| self.format.at_proxy(channel);
        let last = last.map(|id| id.to_string());
        let with_last = |hold: Hold| last.as_deref().and_then(ItemId::new).into_iter().fold(hold, Hold::with_prev_id);
        let first = with_last(kind(&name(self.channels.first())));
        let hold =
            self.channels.iter().skip(1).fold(first, |hold, channel| with_last(hold.with_channel(&name(channel))));
        let Some(user) = self.identity.as_ref().and_then(Identity::channel) else { return hold };
        let is_kept = self.history.is_some_and(|history| history.keeps(&user));
        let hold = hold.with_channel(&name(&user));
        if is_kept { with_last(hold) } else { hold }
    }
}
