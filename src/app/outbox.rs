//! What is to be published, and the publish requests that do it.

use std::borrow::Cow;

use http::{
    HeaderMap,
    header::{CONTENT_TYPE, HeaderValue},
};

use super::{
    error::Error,
    history::{History, value::Value},
    messages::{
        channels,
        content::Content,
        forms::{Forms, close_event},
        id::MessageId,
        sizes::Sizes,
    },
    platform::{Platform, StoreError},
    settings::Settings,
};
use crate::grip::{
    Channel, CloseCode, Formats, Item, WsMessage,
    item::{Body, HeldResponse, HttpResponse, HttpStream},
    publish::{Packer, PublishRequest, TooLarge},
};

/// How long the end of the connections of a channel is in a publish request, at most.
const CLOSE: usize = 4200;

/// Something for the subscribers of one channel, on all transports.
pub(crate) struct Broadcast<'a> {
    channel: Channel,
    action: Action<'a>,
    /// The meta `sender`, if somebody is left out: the id of that connection.
    sender: Option<[(&'static str, &'a str); 1]>,
}

enum Action<'a> {
    Message {
        id: MessageId,
        content: Content<'a>,
        from: Option<&'a str>,
        sizes: Sizes,
    },
    /// With the polls, if they are to end, too.
    Close {
        code: CloseCode,
        reason: Cow<'a, str>,
        polls: bool,
    },
}

impl<'a> Broadcast<'a> {
    /// A message whose id begins as this one, by a user if a verified token named one.
    ///
    /// # Errors
    /// [`Error::MessageTooLarge`].
    pub(crate) fn message(
        id: MessageId,
        channel: Channel,
        content: Content<'a>,
        from: Option<&'a str>,
    ) -> Result<Self, Error> {
        let sizes = Sizes::of(&content, &channel, from)?;
        let id = id.of(&channel, &content, from);
        Ok(Self { channel, action: Action::Message { id, content, from, sizes }, sender: None })
    }

    /// The end of the connections that stay: a WebSocket gets the code and the reason, so does a stream of envelopes before
    /// it ends, other streams just end.
    pub(crate) const fn close(channel: Channel, code: CloseCode, reason: Cow<'a, str>) -> Self {
        Self { channel, action: Action::Close { code, reason, polls: false }, sender: None }
    }

    /// The same for polls, too: they get 403.
    pub(crate) const fn disconnect(channel: Channel, code: CloseCode, reason: Cow<'a, str>) -> Self {
        Self { channel, action: Action::Close { code, reason, polls: true }, sender: None }
    }

    /// The id of the message, if it is one.
    pub(crate) const fn id(&self) -> Option<MessageId> {
        match &self.action {
            Action::Message { id, .. } => Some(*id),
            Action::Close { .. } => None,
        }
    }

    /// How long it is in publish requests, in bytes of JSON; at most some hundred bytes more than it is.
    pub(crate) const fn length(&self) -> usize {
        match &self.action {
            Action::Message { sizes, .. } => sizes.all(),
            Action::Close { .. } => CLOSE,
        }
    }

    /// Returns self for all but one connection, by its id.
    pub(crate) const fn except(mut self, connection_id: &'a str) -> Self {
        self.sender = Some([("sender", connection_id)]);
        self
    }
}

/// Publish requests, to be sent in their order, and what is kept of the messages in them.
pub(crate) struct Requests<'a> {
    requests: Vec<PublishRequest>,
    /// For each message the number of requests that publish it and what comes before it.
    ends: Vec<usize>,
    kept: Option<(&'a History, Vec<Value<'a>>)>,
    /// Whether there are enough operations to keep it once more.
    may_keep_again: bool,
    /// Whether there are enough to make sure that it can be read back.
    may_begin: bool,
}

impl Requests<'_> {
    /// How many operations on the KV Store they may take.
    pub(crate) fn operations(&self) -> usize {
        let Some((history, values)) = &self.kept else { return 0 };
        let times = if self.may_keep_again { 2 } else { 1 };
        times * values.len() + if self.may_begin { history.operations_to_begin() } else { 0 }
    }
}

/// What publishing may take.
#[derive(Clone, Copy)]
pub(crate) struct Most {
    /// Publish requests.
    pub(crate) requests: usize,
    /// Operations on the KV Store.
    pub(crate) operations: usize,
}

/// The requests that publish messages in their order, as few as they fit into, at a time in seconds since 1970. A message
/// that does not fit into one request is divided: into its two items, then into one for each format.
///
/// # Errors
/// [`Error::BatchTooLarge`] if that would take more than `most`; [`Error::Setting`].
pub(crate) fn pack<'a>(
    messages: &'a [Broadcast<'_>],
    settings: &'a Settings,
    most: Most,
    now: u64,
) -> Result<Requests<'a>, Error> {
    let mut packer = settings.publisher.as_ref()?.packer(now);
    let history = settings.history.as_ref()?.as_ref();
    let mut ends = Vec::with_capacity(messages.len());
    for message in messages {
        let meta = message.sender.as_ref().map_or(&[][..], |sender| &sender[..]);
        match &message.action {
            Action::Message { id, content, from, sizes } => {
                let forms = Forms::new(*id, &message.channel, content, *from, meta);
                push(&mut packer, &forms, sizes).map_err(too_large)?;
            }
            Action::Close { code, reason, polls } => {
                let json = channels::for_json(&message.channel);
                let last = close_event(*code, reason);
                let headers =
                    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))]);
                let line = format!("Disconnected: {reason}\n");
                let response = HeldResponse::ok(&headers, Body::Text(&line)).with_code(403).expect("it is a status");
                let formats = Formats {
                    ws_message: Some(WsMessage::Close { code: *code, reason }),
                    http_stream: Some(HttpStream::Close),
                    http_response: polls.then_some(HttpResponse::Response(response)),
                };
                let event = Formats { http_stream: Some(HttpStream::Content(Body::Text(&last))), ..Formats::default() };
                let item = |channel, formats| Item { meta, ..Item::new(channel, formats) };
                let items = [item(&message.channel, formats.clone()), item(&json, event), item(&json, formats)];
                packer.push(&items).map_err(too_large)?;
            }
        }
        if packer.len() > most.requests {
            return Err(Error::BatchTooLarge);
        }
        ends.push(packer.len());
    }
    let kept = history.map(|history| (history, values(history, messages))).filter(|(_, values)| !values.is_empty());
    let operations = kept.as_ref().map_or(0, |(_, values)| values.len());
    if operations > most.operations {
        return Err(Error::BatchTooLarge);
    }
    let to_begin = history.map_or(0, History::operations_to_begin);
    let rest = most.operations - operations;
    let (may_begin, may_keep_again) = (to_begin <= rest, operations + to_begin <= rest);
    Ok(Requests { requests: packer.finish(), ends, kept, may_keep_again, may_begin })
}

/// What is to be kept of messages.
fn values<'m>(history: &History, messages: &'m [Broadcast<'_>]) -> Vec<Value<'m>> {
    let mut values = Vec::new();
    for Broadcast { channel, action, .. } in messages {
        if let Action::Message { id, content, from, .. } = action
            && history.keeps(channel)
        {
            Value::add(&mut values, channel, *id, content, *from);
        }
    }
    values
}

fn push(packer: &mut Packer<'_>, forms: &Forms<'_>, sizes: &Sizes) -> Result<(), TooLarge> {
    if Sizes::fits(sizes.all()) {
        return packer.push(&forms.items());
    }
    for ((item, parts), length) in forms.items().into_iter().zip(forms.parts()).zip(sizes.items) {
        if Sizes::fits(length) {
            packer.push(&[item])?;
        } else {
            for part in parts {
                packer.push(&[part])?;
            }
        }
    }
    Ok(())
}

/// [`Sizes`] never says that something fits which does not.
fn too_large(TooLarge { .. }: TooLarge) -> Error {
    Error::BatchTooLarge
}

/// Sends the requests, one after the other, and meanwhile keeps what is to be kept. Whether that succeeds does not matter to those
/// who are subscribed.
///
/// # Errors
/// [`Error::Publish`] if the proxy did not accept the first one, [`Error::PartlyPublished`] if it did not accept a later
/// one. What follows is not sent. [`Error::OnlyKept`] if it is kept all the same, [`Error::NotKept`] if it is not.
pub(crate) fn send(requests: Requests<'_>, platform: &mut dyn Platform) -> Result<(), Error> {
    let Requests { requests, ends, kept, may_keep_again, may_begin } = requests;
    let Some((history, values)) = kept else { return send_all(requests, &ends, platform) };
    let begun = history.begin_inserts(&values, platform);
    let published = send_all(requests, &ends, platform);
    let mut kept = platform.finish_inserts();
    if kept.is_ok() && history.is_late(begun, platform) {
        kept = Err(StoreError::TooSlow);
        if may_keep_again {
            let begun = history.begin_inserts(&values, platform);
            kept = platform.finish_inserts();
            if kept.is_ok() && history.is_late(begun, platform) {
                kept = Err(StoreError::TooSlow);
            }
        }
    }
    if kept.is_ok() && may_begin {
        history.begin(platform);
    }
    match (published, kept) {
        (published, Ok(())) => published.map_err(|error| Error::OnlyKept(Box::new(error))),
        (published, Err(error)) => Err(Error::NotKept { published: published.err().map(Box::new), error }),
    }
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
