//! What a client of a WebSocket missed. It asks with `sync`: once its subscription is there, and whenever it may have missed
//! something since.

use super::{Batch, Connection};
use crate::{
    app::{
        bounds::{MAX_OPERATIONS, MAX_READS},
        error::Error,
        history::{
            History,
            cursor::Cursor,
            replay::{Lost, replay},
        },
        messages::{channels::Channels, envelope::Envelope, format::Format},
        platform::Counter,
        settings::Settings,
        web::Request,
    },
    grip::Channel,
};

/// What a client asks for.
pub(crate) struct Sync<'a> {
    /// Its cursor; without one it gets what was published in the last seconds, and a cursor.
    pub(super) since: Option<&'a str>,
    /// The channels that it is subscribed to.
    pub(super) channels: Vec<Channel>,
    /// The channels that it named when it connected.
    pub(super) of_url: &'a Channels,
    pub(super) user: Option<&'a str>,
    /// The channel of what is sent to the user.
    pub(super) user_channel: Option<Channel>,
}

impl Sync<'_> {
    /// The history of its channels. Those to which the handler alone subscribes it need not be kept: they may be for what is soon
    /// stale.
    fn cover<'h>(&self, history: Option<&'h History>) -> Result<(&'h History, Vec<Channel>), Lost> {
        let is_named = |channel: &Channel| self.of_url.iter().any(|named| named == channel);
        let is_kept = |channel: &Channel| history.is_some_and(|history| history.keeps(channel));
        let due: Vec<_> = self.channels.iter().filter(|channel| is_named(channel) || is_kept(channel)).collect();
        let due = if due.is_empty() { self.channels.iter().collect() } else { due };
        History::cover(history, due, self.user_channel.clone())
    }
}

impl Connection<'_> {
    /// Sends what comes first to a client that gets envelopes.
    pub(super) fn welcome(&mut self) {
        let has_history = matches!(self.settings.history, Ok(Some(_)));
        // That of the URL was checked before. What was missed since then follows when the client asks.
        let asked = self.query.since.as_deref().and_then(|since| Cursor::parse(since, self.platform).ok());
        let since = has_history.then(|| asked.unwrap_or_else(|| Cursor::now(self.platform)));
        self.ws.send(&Envelope::welcome(Some(self.id()), self.user(), since).to_json());
    }

    /// Tells a client that gets envelopes what was wrong with a message of it.
    pub(super) fn send_error(&mut self, error: &Error) {
        if self.query.format == Format::Json {
            self.ws.send(&Envelope::error(&error.to_string()).to_json());
        }
    }
}

impl Batch<'_> {
    /// Responds to a client that asks what it missed, with a page of it.
    pub(in crate::app) fn answer_sync(&mut self, request: &dyn Request, settings: &Settings) {
        let Some(sync) = self.sync.take() else { return };
        if let Err(error) = self.replay(&sync, request, settings) {
            let synced = Envelope::synced(self.ws.connection_id(), sync.user, None::<Cursor>);
            self.ws.send(&synced.with_error(&error.to_string()).to_json());
        }
    }

    fn replay(&mut self, sync: &Sync<'_>, request: &dyn Request, settings: &Settings) -> Result<(), Error> {
        let cursor = match sync.since {
            Some(since) => Cursor::parse(since, self.platform)?,
            None => Cursor::now(self.platform),
        };
        let limits = settings.limits.as_ref()?;
        let id = self.ws.connection_id();
        limits.count_of_connection(request, self.platform, id, (Counter::Openings, 0))?;
        let history = settings.history.as_ref()?.as_ref();
        let covered = sync.cover(history);
        let operations = MAX_OPERATIONS.saturating_sub(self.operations).min(MAX_READS);
        let replay = replay(covered, cursor, operations, self.platform);
        // The limit was checked before. What was read is counted.
        let reads = u32::try_from(replay.reads).unwrap_or(u32::MAX).max(1);
        let _ = limits.count_of_connection(request, self.platform, id, (Counter::Openings, reads));
        for message in &replay.messages {
            self.ws.send(&message.message.envelope());
        }
        let since = Some(replay.since).filter(|_| !matches!(replay.lost, Some(Lost::NotKept(_))));
        let synced = Envelope::synced(id, sync.user, since);
        self.ws.send(&synced.with_recovered(replay.more, replay.reason()).to_json());
        Ok(())
    }
}
