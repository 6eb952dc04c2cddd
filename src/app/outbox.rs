//! What a request publishes: packed into publish requests as it comes, kept if the history asks for it, and sent in the end.

use super::{
    bounds::{MAX_MESSAGE, MAX_OPERATIONS},
    error::Error,
    history::{History, value::Value},
    messages::{
        forms::{Closing, Forms},
        id::MessageId,
        published::Published,
    },
    platform::{Platform, StoreError},
    settings::Settings,
};
use crate::grip::publish::{MAX_BODY, Mark, Packer, PublishRequest, TooLarge};

/// What a publish request has around its items, in bytes.
const AROUND: usize = 16;

/// In how many forms each of the two items of a message has its content.
const FORMS: usize = 3;

/// What a request publishes.
pub(crate) struct Outbox<'a> {
    settings: &'a Settings,
    /// In seconds since 1970.
    now: u64,
    /// There once something is published.
    packer: Option<Packer<'a>>,
    /// For each message or close, how many requests there are up to its last one.
    ends: Vec<usize>,
    /// What is to be kept.
    values: Vec<Value<'a>>,
    /// For each message that is to be kept, the value that has it.
    kept: Vec<usize>,
}

/// How full an outbox is: see [`Outbox::rewind`].
#[derive(Clone, Copy)]
pub(crate) struct Level {
    packer: Option<Mark>,
    ends: usize,
    kept: usize,
}

impl<'a> Outbox<'a> {
    /// Returns an empty one, at a time in seconds since 1970.
    pub(crate) const fn new(settings: &'a Settings, now: u64) -> Self {
        Self { settings, now, packer: None, ends: Vec::new(), values: Vec::new(), kept: Vec::new() }
    }

    /// How many things are published, each counted for each of its channels.
    pub(crate) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many publish requests that takes.
    pub(crate) fn requests(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }

    /// Adds a message, in at most `most` publish requests for all of the outbox. One that does not fit into one publish request is
    /// divided: into its two items, then into one for each format.
    ///
    /// # Errors
    /// [`Error::MessageTooLarge`]; [`Error::BatchTooLarge`] if all of it would take more than `most` publish requests, or more
    /// operations on the store than there are; [`Error::Setting`]. Then nothing is added.
    pub(crate) fn publish(&mut self, message: Published<'a>, most: usize) -> Result<MessageId, Error> {
        let id = message.id;
        let history = self.settings.history.as_ref()?.as_ref().filter(|history| history.keeps(&message.channel));
        let is_new = history.is_some() && Value::is_new(&self.values, &message.channel);
        if self.values.len() + usize::from(is_new) > MAX_OPERATIONS {
            return Err(Error::BatchTooLarge);
        }
        self.pack(most, message.except.as_deref(), |packer, meta| {
            // The forms of what cannot fit are not built.
            let fits =
                message.content.len() <= MAX_MESSAGE && push(packer, &Forms::new(&message, meta), &message).is_ok();
            if fits { Ok(()) } else { Err(Error::MessageTooLarge { limit: most_that_fits(&message, meta) }) }
        })?;
        if history.is_some() {
            self.kept.push(Value::add(&mut self.values, message));
        }
        Ok(id)
    }

    /// Returns where it stands, for [`rewind`](Self::rewind).
    pub(crate) fn mark(&self) -> Level {
        Level { packer: self.packer.as_ref().map(Packer::mark), ends: self.ends.len(), kept: self.kept.len() }
    }

    /// Removes what was added since a mark.
    pub(crate) fn rewind(&mut self, mark: Level) {
        match (&mut self.packer, mark.packer) {
            (Some(packer), Some(mark)) => packer.rewind(mark),
            _ => self.packer = None,
        }
        self.ends.truncate(mark.ends);
        for value in self.kept.drain(mark.kept.min(self.kept.len())..).rev() {
            self.values[value].remove_last();
        }
        self.values.retain(|value| !value.is_empty());
    }

    /// Adds the end of the connections of a channel, but of the one with the id `except`.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub(crate) fn close(&mut self, closing: &Closing<'_>, except: Option<&str>, most: usize) -> Result<(), Error> {
        self.pack(most, except, |packer, meta| {
            closing.with_items(meta, |items| packer.push(items)).map_err(|TooLarge { .. }| Error::BatchTooLarge)
        })
    }

    fn pack(
        &mut self,
        most: usize,
        except: Option<&str>,
        push: impl FnOnce(&mut Packer<'a>, &[(&str, &str)]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let packer = match &mut self.packer {
            Some(packer) => packer,
            none => none.insert(self.settings.publisher.as_ref()?.packer(self.now)),
        };
        let before: Mark = packer.mark();
        let sender = except.map(|connection| [("sender", connection)]);
        let pushed = push(packer, sender.as_ref().map_or(&[], |sender| &sender[..]))
            .and_then(|()| if packer.len() > most { Err(Error::BatchTooLarge) } else { Ok(()) });
        match pushed {
            Ok(()) => self.ends.push(packer.len()),
            Err(_) => packer.rewind(before),
        }
        pushed
    }

    /// Sends the requests, one after the other, and meanwhile keeps what is to be kept, with at most so many operations on the
    /// store. Whether that succeeds does not matter to those who are subscribed. Returns how many operations it took.
    ///
    /// # Errors
    /// [`Error::BatchTooLarge`] if there are too few operations; then nothing is sent. [`Error::Publish`] if the proxy did not accept
    /// the first request, [`Error::PartlyPublished`] if it did not accept a later one. What follows is not sent.
    /// [`Error::OnlyKept`] if it is kept all the same, [`Error::NotKept`] if it is not.
    pub(crate) fn send(self, platform: &mut dyn Platform, operations: usize) -> (usize, Result<(), Error>) {
        let Self { settings, packer, ends, values, .. } = self;
        let requests = packer.map(Packer::finish).unwrap_or_default();
        let history = settings.history.as_ref().ok().and_then(Option::as_ref).filter(|_| !values.is_empty());
        let Some(history) = history else { return (0, send_all(requests, &ends, platform)) };
        let Some(left) = operations.checked_sub(values.len()) else { return (0, Err(Error::BatchTooLarge)) };
        let to_begin = History::operations_to_begin(platform);
        let begun = history.begin_inserts(&values, platform);
        let published = send_all(requests, &ends, platform);
        let mut used = values.len();
        let mut kept = finish(history, begun, platform);
        if kept == Err(StoreError::TooSlow) && left >= values.len() + to_begin {
            let begun = history.begin_inserts(&values, platform);
            kept = finish(history, begun, platform);
            used += values.len();
        }
        if kept.is_ok() && left >= to_begin {
            history.begin(platform);
            used += to_begin;
        }
        let sent = match (published, kept) {
            (published, Ok(())) => published.map_err(|error| Error::OnlyKept(Box::new(error))),
            (published, Err(error)) => Err(Error::NotKept { published: published.err().map(Box::new), error }),
        };
        (used, sent)
    }
}

/// Waits until what began at a time, in milliseconds since 1970, is kept.
fn finish(history: &History, begun: u64, platform: &mut dyn Platform) -> Result<(), StoreError> {
    platform.finish_inserts()?;
    if history.is_late(begun, platform) { Err(StoreError::TooSlow) } else { Ok(()) }
}

/// Packs a message. What cannot fit together is not tried.
fn push(packer: &mut Packer<'_>, forms: &Forms<'_>, message: &Published<'_>) -> Result<(), ()> {
    let (items, length) = (forms.items(), message.content.len());
    if 2 * FORMS * length < MAX_BODY && packer.push(&items).is_ok() {
        return Ok(());
    }
    for (item, parts) in items.into_iter().zip(forms.parts()) {
        if FORMS * length < MAX_BODY && packer.push(&[item]).is_ok() {
            continue;
        }
        for part in parts {
            packer.push(&[part]).map_err(|TooLarge { .. }| ())?;
        }
    }
    Ok(())
}

/// How many bytes at the beginning of a message that is too large would fit.
fn most_that_fits(message: &Published<'_>, meta: &[(&str, &str)]) -> usize {
    const SAMPLE: usize = 8000;
    let longest = |length| Forms::new(&message.prefix(length), meta).longest() + AROUND;
    let (length, around) = (message.content.len(), longest(0));
    // As if the rest were like its beginning, and a little more: so that its forms, many times as long, are not built for nothing.
    let sample = SAMPLE.min(length);
    let grown = longest(sample).saturating_sub(around).max(1);
    let estimate = MAX_BODY.saturating_sub(around) * sample / grown;
    let mut limit = (estimate + estimate / 50).min(MAX_MESSAGE).min(length);
    while limit > 0 {
        let longest = longest(limit);
        if longest <= MAX_BODY {
            break;
        }
        // What is around the content stays, so this approaches the limit from above.
        limit = (limit * MAX_BODY / longest).min(limit - 1);
    }
    limit
}

fn send_all(requests: Vec<PublishRequest>, ends: &[usize], platform: &mut dyn Platform) -> Result<(), Error> {
    for (accepted, request) in requests.into_iter().enumerate() {
        match request.send(platform) {
            Ok(()) => {}
            Err(error) if accepted == 0 => return Err(Error::Publish(error)),
            Err(error) => {
                let published = ends.iter().filter(|end| **end <= accepted).count();
                return Err(Error::PartlyPublished { published, total: ends.len(), error });
            }
        }
    }
    Ok(())
}
