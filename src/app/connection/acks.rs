//! What becomes of the messages of a client that wants to know it: `ack`, or `error`.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Batch, Connection};
use crate::app::{
    bounds::MAX_ACK_LENGTH,
    error::Error,
    messages::{envelope::Envelope, format::Format, id::MessageId},
    outbox::Level,
    rejection::Rejection,
};

/// The messages of a batch that are to be acknowledged.
#[derive(Default)]
pub(super) struct Acks<'a> {
    /// The one that the handler received last.
    current: Option<Current<'a>>,
    handled: Vec<Handled<'a>>,
    /// Whether something was published of a message that is not to be acknowledged, or of none.
    publishes_more: bool,
}

struct Current<'a> {
    reference: &'a str,
    /// How full the outbox was.
    before: Level,
    /// Under which id it is published, if the client says that.
    named: Option<MessageId>,
    /// How many messages were published of it, and the id of the first one.
    published: usize,
    id: Option<MessageId>,
    value: Option<Box<RawValue>>,
    refused: Option<String>,
}

/// What became of a message.
struct Handled<'a> {
    reference: &'a str,
    /// Whether something was published of it.
    publishes: bool,
    id: Option<MessageId>,
    value: Option<Box<RawValue>>,
    error: Option<String>,
}

impl<'a> Acks<'a> {
    /// The handler has received the next message, which perhaps is to be acknowledged.
    pub(super) fn begin(&mut self, reference: Option<&'a str>, before: Level, now: u64) {
        self.settle();
        self.current = reference.map(|reference| Current {
            reference,
            before,
            // What is no id, or an old one, is just a name.
            named: MessageId::parse(reference, now).ok(),
            published: 0,
            id: None,
            value: None,
            refused: None,
        });
    }

    /// The handler is done with the current message.
    pub(super) fn settle(&mut self) {
        let Some(Current { reference, published, id, value, refused, .. }) = self.current.take() else { return };
        self.handled.push(Handled { reference, publishes: published > 0, id, value, error: refused });
    }

    /// The handler was not given this one.
    pub(super) fn skip(&mut self, reference: &'a str) {
        let error = Some("The handler did not receive this message: send it again".to_owned());
        self.handled.push(Handled { reference, publishes: false, id: None, value: None, error });
    }

    /// The id of the next message that is published, if the client named one.
    pub(super) fn next_id(&self) -> Option<MessageId> {
        let Current { named, published, .. } = self.current.as_ref()?;
        named.map(|id| id.nth(*published))
    }

    /// Something was published, a message under this id.
    pub(super) fn published(&mut self, id: Option<MessageId>) {
        match &mut self.current {
            Some(current) => {
                current.published += 1;
                current.id = current.id.or(id);
            }
            None => self.publishes_more = true,
        }
    }
}

impl Connection<'_> {
    /// Acknowledges the message that was received last with a value, of at most 1,000 bytes of JSON, which the `send` of
    /// the client returns. Without this call it is acknowledged without one, once the handler has returned. Does nothing for a client
    /// that does not ask for acknowledgements.
    ///
    /// # Errors
    /// Rejects with 500 if it is longer, or no JSON.
    pub fn ack(&mut self, value: &impl Serialize) -> Result<(), Rejection> {
        let value =
            to_raw_value(value).ok().filter(|value| value.get().len() <= MAX_ACK_LENGTH).ok_or(Error::AckValue)?;
        if let Some(current) = &mut self.acks.current {
            current.value = Some(value);
        }
        Ok(())
    }

    /// Refuses the message that was received last, and goes on with the next one: the client is told why. What was published of it is
    /// not published. A client that asks for no acknowledgement gets an error if it gets envelopes, else nothing.
    ///
    /// The same happens to a message that is to be acknowledged if the handler returns an error while it handles it: the handler is
    /// called again for those that are left.
    pub fn refuse(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        match &mut self.acks.current {
            Some(current) => {
                self.outbox.rewind(current.before);
                current.published = 0;
                (current.id, current.value, current.refused) = (None, None, Some(reason));
            }
            None if self.query.format == Format::Json => self.ws.send(&Envelope::error(&reason).to_json()),
            None => {}
        }
    }

    /// Refuses the current message for an error of the handler. Returns whether there is one.
    pub(in crate::app) fn refuse_for(&mut self, error: &Error) -> bool {
        let is_current = self.acks.current.is_some() && !self.is_opening();
        if is_current {
            self.refuse(error.to_string());
            self.acks.settle();
        }
        is_current
    }
}

impl Batch<'_> {
    /// Tells the client what became of its messages.
    pub(in crate::app) fn send_acks(&mut self) {
        for Handled { reference, id, value, error, .. } in self.acks.handled.drain(..) {
            let envelope = match &error {
                Some(error) => Envelope::error(error),
                None => Envelope::ack(id, value.as_deref()),
            };
            self.ws.send(&envelope.with_ref(Some(reference)).to_json());
        }
    }

    /// Forgets what became of the messages: the connection ends, and the client sends them again.
    pub(in crate::app) fn drop_acks(&mut self) {
        self.acks.handled.clear();
    }

    /// If all that was published is of messages that are to be acknowledged, tells their sender that it was not accepted. Returns
    /// whether it is so.
    pub(in crate::app) fn takes_failure(&mut self, error: &Error) -> bool {
        if self.acks.publishes_more {
            return false;
        }
        for handled in self.acks.handled.iter_mut().filter(|handled| handled.publishes) {
            handled.error.get_or_insert_with(|| error.to_string());
        }
        true
    }
}
