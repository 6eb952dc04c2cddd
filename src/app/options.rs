//! What the query of a WebSocket asks for.

use super::{access::right::Right, error::Error, http::Request, messages::channels::Channels};

/// # Format
/// `?channel=a&channel=b`, `&echo=off`, `&mode=publish`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// What the client subscribes to.
    pub(crate) channels: Channels,
    /// What is to become of its messages.
    pub(crate) mode: Mode,
}

/// What is to become of a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They come back. This is the default.
    Echo,
    /// Nothing: the client only listens (`echo=off`).
    Listen,
    /// They are published to the client's channels (`mode=publish`).
    Publish,
    /// They are published to all others on the client's channels (`mode=publish&echo=off`).
    PublishToOthers,
}

impl Options {
    /// Parses the query of a request.
    ///
    /// # Errors
    /// [`Error::Parameter`], or as [`Channels::of`].
    pub(crate) fn of(request: &(impl Request + ?Sized)) -> Result<Self, Error> {
        let channels = Channels::of(request)?;
        let (mut echoes, mut publishes) = (true, false);
        for (name, value) in url::form_urlencoded::parse(request.query().as_bytes()) {
            match (&*name, &*value) {
                ("echo", "on") => echoes = true,
                ("echo", "off") => echoes = false,
                ("mode", "echo") => publishes = false,
                ("mode", "publish") => publishes = true,
                ("echo", _) => return Err(Error::Parameter { name: "echo", values: ["on", "off"] }),
                ("mode", _) => return Err(Error::Parameter { name: "mode", values: ["echo", "publish"] }),
                _ => {}
            }
        }
        let mode = match (publishes, echoes) {
            (false, true) => Mode::Echo,
            (false, false) => Mode::Listen,
            (true, true) => Mode::Publish,
            (true, false) => Mode::PublishToOthers,
        };
        Ok(Self { channels, mode })
    }

    /// Whether the client's messages are published.
    pub(crate) const fn publishes(&self) -> bool {
        matches!(self.mode, Mode::Publish | Mode::PublishToOthers)
    }

    /// The rights that a client needs for it on each of its channels.
    pub(crate) const fn rights(&self) -> &'static [Right] {
        if self.publishes() { &[Right::Read, Right::Write] } else { &[Right::Read] }
    }
}
