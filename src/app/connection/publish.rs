//! What a handler publishes to channels.

use std::borrow::Cow;

use super::{Connection, Content, Mode};
use crate::{
    app::{
        bounds::{MAX_BACKEND_REQUESTS, MAX_PUBLISHED, MAX_USER_LENGTH},
        error::Error,
        messages::{channels, id::MessageId},
        outbox::Broadcast,
    },
    grip::{Channel, CloseCode, Message, publish::MAX_BODY},
};

impl<'a> Connection<'a> {
    /// Publishes a message to all subscribers of a channel, on every transport. All that a batch publishes goes out in as
    /// few requests as it fits into, after the handler returns, each message with an id of its own and the
    /// [user](Self::user). If the proxy does not accept it, the connection is closed
    /// with a code and a reason that says so. If it does, and the message cannot be kept for the history, the connection stays
    /// open: a client that gets envelopes gets an error.
    ///
    /// # Errors
    /// [`Error::ChannelName`]; [`Error::MessageTooLarge`]; [`Error::BatchTooLarge`] if the batch publishes more than 200
    /// messages, or more than fits into 6 publish requests of 65,536 bytes: about 200 messages of 100 bytes, 48 of 1,000, one of
    /// 64,000.
    pub fn publish(&mut self, channel: &str, message: impl Into<Content<'a>>) -> Result<(), Error> {
        let message = self.message(channel, message.into())?;
        self.push(message)
    }

    /// Publishes a message to all subscribers of a channel except this connection.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_to_others(&mut self, channel: &str, message: impl Into<Content<'a>>) -> Result<(), Error> {
        let message = self.message(channel, message.into())?.except(self.id());
        self.push(message)
    }

    /// Publishes a message to all connections of a user, by the `sub` of its token. Which users a client may reach is for the
    /// handler to decide.
    ///
    /// # Errors
    /// [`Error::User`] if the id has none or more than 128 characters; otherwise as [`publish`](Self::publish).
    pub fn publish_to_user(&mut self, user: &str, message: impl Into<Content<'a>>) -> Result<(), Error> {
        if !(1..=MAX_USER_LENGTH).contains(&user.chars().count()) {
            return Err(Error::User);
        }
        let message = self.message_to(channels::of_user(user), message.into())?;
        self.push(message)
    }

    fn message(&mut self, channel: &str, content: Content<'a>) -> Result<Broadcast<'a>, Error> {
        self.message_to(channels::parse(channel)?, content)
    }

    fn message_to(&mut self, channel: Channel, content: Content<'a>) -> Result<Broadcast<'a>, Error> {
        Broadcast::message(MessageId::new(self.platform), channel, content, self.user())
    }

    /// Checks that all of the outbox can be published at once, before any of it is built.
    fn push(&mut self, broadcast: Broadcast<'a>) -> Result<(), Error> {
        self.outbox_length += broadcast.length();
        if self.outbox.len() >= MAX_PUBLISHED || self.outbox_length > MAX_BACKEND_REQUESTS * MAX_BODY {
            return Err(Error::BatchTooLarge);
        }
        self.outbox.push(broadcast);
        Ok(())
    }

    /// Publishes a message of the client to each of its channels, if its [mode](Self::mode) asks for that: to all
    /// subscribers, or to all others.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), each message counted for each channel.
    pub fn relay(&mut self, message: Message<'a>) -> Result<(), Error> {
        for channel in self.query.channels.iter().map(Channel::as_str) {
            match (self.query.mode, message) {
                (Mode::Publish, Message::Text(text)) => self.publish(channel, text)?,
                (Mode::Publish, Message::Binary(bytes)) => self.publish(channel, bytes)?,
                (Mode::PublishToOthers, Message::Text(text)) => self.publish_to_others(channel, text)?,
                (Mode::PublishToOthers, Message::Binary(bytes)) => self.publish_to_others(channel, bytes)?,
                (Mode::Echo | Mode::Listen, _) | (_, Message::Close(_) | Message::Disconnect) => {}
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
    pub fn close_others(
        &mut self,
        channel: &str,
        code: CloseCode,
        reason: impl Into<Cow<'a, str>>,
    ) -> Result<(), Error> {
        let close = Broadcast::close(channels::parse(channel)?, code, reason.into());
        self.push(close.except(self.id()))
    }
}
