//! The gap of an event stream: what is published after the store was read for it, and before the proxy has its subscription.
//!
//! The proxy could ask for it, with a next link. But it asks for 10 different ones a second, and meanwhile delivers nothing on
//! those streams. So the service looks itself, after it has responded, and publishes what it finds to a channel that only this
//! stream has.

use std::time::Duration;

use super::{
    History,
    cursor::Cursor,
    replay::{Lost, Reader, Replay},
    times::{AHEAD, BEFORE, SUBSCRIBED},
    value::Stored,
};
use crate::{
    app::{
        bounds::{MAX_BACKEND_REQUESTS, MAX_READS},
        error::Error,
        messages::{channels, envelope::Envelope, format::Format, forms::event, id::MessageId},
        platform::Platform,
        settings::Settings,
    },
    grip::{
        Channel, Formats, Item,
        item::{Body, HttpStream},
    },
};

/// How long after the response the service looks: then the proxy has the subscription, and what was published before can be
/// seen in the store.
const AFTER: Duration = Duration::from_millis(2000);

/// The gap of an event stream that has just been opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    format: Format,
    channels: Vec<Channel>,
    /// The stream's own channel.
    own: Channel,
    /// When the store was read, in milliseconds since 1970.
    opened: u64,
    /// Since when messages were kept then, in milliseconds since 1970, if that is known.
    epoch: Option<u64>,
    /// The messages of that time that the stream was sent.
    known: Vec<MessageId>,
    /// The address for which what is read counts.
    client: Option<String>,
}

impl Gap {
    /// For a stream of those channels that was just sent the last page of what it missed.
    pub(crate) fn new(
        format: Format,
        channels: Vec<Channel>,
        replay: &Replay,
        client: Option<String>,
        platform: &mut dyn Platform,
    ) -> Self {
        let opened = replay.read_at;
        // What a stream sees that is sent nothing may be stored, but not published yet.
        let known = replay.messages.iter().filter(|message| message.time >= opened.saturating_sub(BEFORE));
        let known = known.map(|stored| stored.message.id).collect();
        let own = channels::of_stream(MessageId::new(platform));
        Self { format, channels, own, opened, epoch: platform.state().epoch, known, client }
    }

    /// The stream's own channel.
    pub(crate) const fn own(&self) -> &Channel {
        &self.own
    }

    /// Looks, and publishes what was missed, or that something was, at a time in seconds since 1970.
    ///
    /// # Errors
    /// [`Error::Setting`]; [`Error::Publish`] if the proxy did not accept it.
    pub(crate) fn close(self, settings: &Settings, platform: &mut dyn Platform, now: u64) -> Result<(), Error> {
        let Some(history) = settings.history.as_ref()?.as_ref() else { return Ok(()) };
        platform.wait(AFTER);
        let since = Cursor::now(platform);
        let lost = match self.missed(history, platform) {
            Ok((messages, reads)) => {
                if let (Ok(limits), Some(client)) = (&settings.limits, &self.client) {
                    limits.count_reads(platform, client, reads);
                }
                let events: Vec<_> = messages.iter().map(|stored| stored.message.event(self.format)).collect();
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

    fn missed(&self, history: &History, platform: &mut dyn Platform) -> Result<(Vec<Stored>, usize), Lost> {
        match history.read_epoch(platform)? {
            Some(epoch) if epoch <= self.opened || self.epoch == Some(epoch) => {}
            epoch => return Err(epoch.map_or(Lost::Unreadable, Lost::Begun)),
        }
        let to = self.opened + SUBSCRIBED + AHEAD + 1;
        let mut reader = Reader::new(MAX_READS - 1, platform);
        let mut page = reader.page(&self.channels, (self.opened.saturating_sub(BEFORE), to), None)?;
        let mut messages = page.messages;
        while let Some(rest) = page.rest {
            let reads = reader.reads;
            page = reader.page(&self.channels, (rest.from, to), Some(rest.start))?;
            messages.append(&mut page.messages);
            if reader.reads == reads {
                return Err(Lost::Unsent);
            }
        }
        messages.retain(|stored| !self.known.contains(&stored.message.id));
        Ok((messages, reader.reads + 1))
    }
}
