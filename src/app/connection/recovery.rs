//! What a client of a WebSocket missed: with `?since=` when it connects, with `sync` later.

use super::Connection;
use crate::app::{
    access::token::Identity,
    error::Error,
    history::{
        cursor::Cursor,
        recovery::{Recovery, recover},
    },
    messages::{envelope::Envelope, id::MessageId},
    platform::Counter,
};

impl Connection<'_> {
    /// Sends what comes first to a client that gets envelopes: the welcome, and what it missed.
    pub(super) fn welcome(&mut self) {
        // The query was checked before.
        let cursor = self.query.since.as_deref().and_then(|since| Cursor::parse(since, self.platform).ok());
        let recovery = cursor.map(|cursor| self.recover(cursor));
        let since = match &recovery {
            Some(recovery) => recovery.first_since(),
            None => {
                let history = self.settings.history.as_ref().ok().and_then(Option::as_ref);
                if history.is_some_and(|history| history.first_not_kept(self.channels()).is_none()) {
                    self.begin();
                }
                MessageId::new(self.platform)
            }
        };
        let welcome = Envelope::welcome(Some(self.id()), self.user(), since);
        let welcome =
            recovery.iter().fold(welcome, |welcome, recovery| welcome.with_recovered(recovery.reason())).to_json();
        self.ws.send(&welcome);
        if let Some(recovery) = recovery.filter(|recovery| !recovery.messages.is_empty()) {
            self.send_missed(&recovery);
            // Before it has all of that, it has no use for the next cursor.
            self.ws.send(&Envelope::next(recovery.since).to_json());
        }
    }

    /// Responds to a client that asks what it missed. What it subscribed to only now may have been published before the proxy
    /// had the subscription.
    pub(super) fn sync(&mut self, since: &str) {
        let cursor = match self.check_sync(since) {
            Ok(cursor) => cursor,
            Err(error) => return self.ws.send(&Envelope::error(&error.to_string()).to_json()),
        };
        let recovery = self.recover(cursor);
        self.send_missed(&recovery);
        let synced =
            Envelope::synced(self.id(), self.user(), recovery.since).with_recovered(recovery.reason()).to_json();
        self.ws.send(&synced);
    }

    /// A client may ask once in a batch, and as often as it may connect.
    fn check_sync(&mut self, since: &str) -> Result<Cursor, Error> {
        let cursor = Cursor::parse(since, self.platform)?;
        if self.has_recovered {
            return Err(Error::SyncTooOften);
        }
        let limits = self.settings.limits.as_ref()?;
        limits.count_of_connection(self.request, self.platform, self.ws.connection_id(), (Counter::Openings, 1))?;
        Ok(cursor)
    }

    fn recover(&mut self, cursor: Cursor) -> Recovery {
        let history = self.settings.history.as_ref().ok().and_then(Option::as_ref);
        self.has_recovered = true;
        let user = self.identity().and_then(Identity::channel);
        let recovery = recover(history, self.channels(), user, cursor, self.platform);
        self.operations += recovery.operations;
        recovery
    }

    /// Makes sure, once in a batch, that what is published from now on can be recovered.
    pub(super) fn begin(&mut self) {
        if let Ok(Some(history)) = &self.settings.history
            && !self.has_begun
        {
            self.has_begun = true;
            self.operations += history.operations_to_begin();
            history.begin(self.platform);
        }
    }

    fn send_missed(&mut self, recovery: &Recovery) {
        for message in &recovery.messages {
            self.ws.send(&message.envelope());
        }
    }
}
