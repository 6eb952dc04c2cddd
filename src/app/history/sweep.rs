//! What is published after the store was read for an event stream, and before the proxy has its subscription.
//!
//! The proxy could ask for it, with a next link. But it asks for 10 different ones a second, and meanwhile delivers nothing on
//! those streams. So the service looks itself, after it has responded, and publishes what it finds to a channel that only this
//! stream has.

use std::time::Duration;

use super::{
    History,
    recovery::{Lost, Reader, Recovery},
    times::{AHEAD, BEFORE, SUBSCRIBED},
    value::Stored,
};
use crate::{
    app::{
        bounds::MAX_BACKEND_REQUESTS,
        error::Error,
        messages::{channels::Channels, envelope::Envelope, forms::event, id::MessageId},
        platform::Platform,
        query::Format,
        settings::Settings,
    },
    grip::{
        Channel, Formats, Item,
        item::{Body, HttpStream},
    },
};

/// How long after the response the service looks: then the proxy has the subscription, and what was published before can be
/// seen in the store.
const AFTER: Duration = Duration::from_millis(1500);

/// An event stream that has just been opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    format: Format,
    channels: Channels,
    /// The stream's own channel.
    own: Channel,
    /// When it was opened, in milliseconds since 1970.
    opened: u64,
    /// Since when messages have been kept, in milliseconds since 1970, if that is known.
    epoch: Option<u64>,
    /// The keys whose messages it was sent then.
    known: Vec<String>,
}

impl Sweep {
    /// For a stream of those channels that was just sent what it missed, if it asked for that.
    pub(crate) fn new(
        history: &History,
        (format, channels, user): (Format, &Channels, Option<Channel>),
        recovery: Option<&Recovery>,
        platform: &mut dyn Platform,
    ) -> Self {
        let since = recovery.map_or_else(|| MessageId::new(platform), |recovery| recovery.since);
        // What a stream sees that is sent nothing may be stored, but not published yet.
        let sent = recovery.filter(|recovery| recovery.lost.is_none());
        let known = sent.map_or_else(Vec::new, |recovery| recovery.recent.clone());
        let own = Channel::new(format!("stream:{}", since.simple())).expect("a UUID has characters of a channel");
        Self {
            format,
            channels: history.with_user(channels, user),
            own,
            opened: since.time(),
            epoch: history.begin(platform),
            known,
        }
    }

    /// The stream's own channel.
    pub(crate) const fn own(&self) -> &Channel {
        &self.own
    }

    /// Looks, and publishes what was missed, or that something was, at a time in seconds since 1970.
    ///
    /// # Errors
    /// [`Error::Setting`]; [`Error::Publish`] if the proxy did not accept it.
    pub(crate) fn run(self, settings: &Settings, platform: &mut dyn Platform, now: u64) -> Result<(), Error> {
        let Some(history) = settings.history.as_ref()?.as_ref() else { return Ok(()) };
        platform.wait(AFTER);
        let since = MessageId::new(platform);
        let lost = match self.missed(history, platform) {
            Ok(messages) => {
                let events: Vec<_> = messages.iter().map(|message| message.event(self.format)).collect();
                match self.publish(&events, settings, platform, now) {
                    Ok(()) => return Ok(()),
                    // Some of it may have arrived, or all.
                    Err(_) => Lost::Unsent,
                }
            }
            Err(lost) => lost,
        };
        let reset = event(since, "reset", &Envelope::reset(since, lost.to_string()).to_json());
        self.publish(&[reset], settings, platform, now)
    }

    fn publish(
        &self,
        events: &[String],
        settings: &Settings,
        platform: &mut dyn Platform,
        now: u64,
    ) -> Result<(), Error> {
        let mut packer = settings.publisher.as_ref()?.packer(now);
        for event in events {
            // It fits, as it did when it was published.
            let formats = Formats { http_stream: Some(HttpStream::Content(Body::Text(event))), ..Formats::default() };
            packer.push(&[Item::new(&self.own, formats)]).map_err(|_| Error::BatchTooLarge)?;
        }
        // One is left for the reset.
        if packer.len() >= MAX_BACKEND_REQUESTS {
            return Err(Error::BatchTooLarge);
        }
        packer.finish().into_iter().try_for_each(|request| request.send(platform).map_err(Error::Publish))
    }

    fn missed(&self, history: &History, platform: &mut dyn Platform) -> Result<Vec<Stored>, Lost> {
        match history.read_epoch(platform)? {
            Some(epoch) if self.epoch == Some(epoch) => {}
            epoch => return Err(epoch.map_or(Lost::Unreadable, Lost::Begun)),
        }
        let mut reader = Reader { channels: &self.channels, platform, operations: 1 };
        let mut keys = reader.keys(self.opened.saturating_sub(BEFORE), self.opened + SUBSCRIBED + AHEAD)?;
        keys.retain(|key| !self.known.contains(&key.text));
        reader.messages(keys)
    }
}
