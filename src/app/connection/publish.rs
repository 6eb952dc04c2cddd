//! What a handler publishes to channels.

use std::borrow::Cow;

use super::{Connection, Content, Mode};
use crate::{
    app::{
        bounds::{MAX_BACKEND_REQUESTS, MAX_PUBLISHED, MAX_USER_LENGTH},
        error::Error,
        messages::{
            channels::{self, IntoChannel},
            forms::Closing,
            id::MessageId,
            published::Published,
        },
        rejection::Rejection,
    },
    grip::{Channel, CloseCode, Message},
};

impl<'a> Connection<'a> {
    /// Publishes a message to all subscribers of a channel, on every transport, and returns its id. All that a batch publishes goes
    /// out in as few requests as it fits into, after the handler returns, each message with the [user](Self::user). If the proxy does
    /// not accept it, the connection is closed with a code and a reason that says so. If it does, and the message cannot be kept for
    /// the history, the connection stays open: a client that gets envelopes gets an error.
    ///
    /// # Errors
    /// Rejects with 400 for an invalid name, and with 413 for a message that is too large, or if the batch publishes more than 200
    /// messages, or more than fits into 6 publish requests of 65,536 bytes: about 200 messages of 100 bytes, 48 of 1,000, one of
    /// 64,000. Then this message is not published.
    pub fn publish(
        &mut self,
        channel: impl IntoChannel,
        message: impl Into<Content<'a>>,
    ) -> Result<MessageId, Rejection> {
        self.push(channel.into_channel()?, message.into(), None)
    }

    /// Publishes a message to all subscribers of a channel except this connection, and returns its id.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_to_others(
        &mut self,
        channel: impl IntoChannel,
        message: impl Into<Content<'a>>,
    ) -> Result<MessageId, Rejection> {
        self.push(channel.into_channel()?, message.into(), Some(self.id()))
    }

    /// Publishes a message to all connections of a user, by the `sub` of its token, and returns its id. Which users a client may
    /// reach is for the handler to decide.
    ///
    /// # Errors
    /// Rejects with 400 if the id has none or more than 128 characters; otherwise as [`publish`](Self::publish).
    pub fn publish_to_user(&mut self, user: &str, message: impl Into<Content<'a>>) -> Result<MessageId, Rejection> {
        if !(1..=MAX_USER_LENGTH).contains(&user.chars().count()) {
            return Err(Error::User.into());
        }
        self.push(channels::of_user(user), message.into(), None)
    }

    fn push(
        &mut self,
        channel: Channel,
        content: Content<'a>,
        except: Option<&'a str>,
    ) -> Result<MessageId, Rejection> {
        self.check_count()?;
        let id = self.acks.next_id().unwrap_or_else(|| MessageId::new(self.platform));
        let mut message = Published::new(id, channel, content, self.user(), None);
        // Not in its id: a retry comes on another connection. A client leaves out none but itself.
        message.except = except.map(Cow::Borrowed);
        let id = self.outbox.publish(message, MAX_BACKEND_REQUESTS - self.fetched)?;
        self.acks.published(Some(id));
        Ok(id)
    }

    fn check_count(&self) -> Result<(), Error> {
        if self.outbox.len() < MAX_PUBLISHED { Ok(()) } else { Err(Error::BatchTooLarge) }
    }

    /// Publishes a message of the client to each of its channels, if its [mode](Self::mode) asks for that: to all
    /// subscribers, or to all others.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), each message counted for each channel. Then it is published to none of them.
    pub fn relay(&mut self, message: Message<'a>) -> Result<(), Rejection> {
        let content = match message {
            Message::Text(text) => Content::from(text),
            Message::Binary(bytes) => Content::from(bytes),
            Message::Close(_) | Message::Disconnect => return Ok(()),
        };
        let except = match self.mode() {
            Mode::Publish => None,
            Mode::PublishToOthers => Some(self.id()),
            Mode::Echo | Mode::Listen => return Ok(()),
        };
        let before = self.outbox.mark();
        for channel in self.channels() {
            if let Err(rejection) = self.push(channel.clone(), content.clone(), except) {
                self.outbox.rewind(before);
                return Err(rejection);
            }
        }
        Ok(())
    }

    /// Closes all other connections on a channel: WebSockets with the code and the reason, which is cut at 123 bytes, and
    /// streams without. It does not end a poll, and nothing keeps a client from connecting again. Whether Fanout does this
    /// in production is not known.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn close_others<'r>(
        &mut self,
        channel: impl IntoChannel,
        code: CloseCode,
        reason: impl Into<Cow<'r, str>>,
    ) -> Result<(), Rejection> {
        self.check_count()?;
        let closing = Closing { channel: channel.into_channel()?, code, reason: reason.into(), polls: false };
        self.outbox.close(&closing, Some(self.id()), MAX_BACKEND_REQUESTS - self.fetched)?;
        self.acks.published(None);
        Ok(())
    }
}
