//! What the query of a subscriber asks for. Those of requests that publish are [commands](super::command).

use std::borrow::Cow;

use super::{
    access::right::Right,
    bounds::MAX_QUERY,
    error::Error,
    messages::{
        channels::{self, Channels},
        format::Format,
    },
    web::Request,
};

/// # Format
/// `?channel=a&channel=b`, `&format=json`, `&echo=off`, `&mode=publish`, `&since=01997c3a-…`. The parameter `token` is read by
/// [`token`](super::access::token). Others are the application's own, unless they look like `channel` or `since`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// The channels that it names, or `test`.
    pub(crate) channels: Channels,
    /// The form in which a subscriber gets messages.
    pub(crate) format: Format,
    /// What is to become of a WebSocket client's messages.
    pub(crate) mode: Mode,
    /// From where on a subscriber wants what it missed: see [`Cursor`](super::history::cursor::Cursor).
    pub(crate) since: Option<String>,
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

impl Query {
    /// Parses the query of a request.
    ///
    /// # Errors
    /// [`Error::QueryTooLong`], [`Error::ChannelName`], [`Error::TooManyChannels`], [`Error::Parameter`] or
    /// [`Error::LookAlike`].
    pub(crate) fn of(request: &(impl Request + ?Sized)) -> Result<Self, Error> {
        let (mut channels, mut format) = (Channels::default(), Format::Raw);
        let (mut since, mut last_event_id) = (None, None);
        let (mut echoes, mut publishes) = (true, false);
        for (name, value, _) in parse(request.query())? {
            match (&*name, &*value) {
                ("channel", name) => channels.add(channels::parse(name)?)?,
                ("echo", "on") => echoes = true,
                ("echo", "off") => echoes = false,
                ("echo", _) => return Err(Error::Parameter { name: "echo", values: ["on", "off"] }),
                ("format", name) => {
                    let unknown = Error::Parameter { name: "format", values: ["raw", "json"] };
                    format = Format::parse(name).ok_or(unknown)?;
                }
                ("mode", "echo") => publishes = false,
                ("mode", "publish") => publishes = true,
                ("mode", _) => return Err(Error::Parameter { name: "mode", values: ["echo", "publish"] }),
                ("since", _) => since = Some(value.into_owned()),
                (name, _) if is_last_event_id(name) => last_event_id = Some(value.into_owned()),
                (name, value) => check_unknown(name, value)?,
            }
        }
        // The newer one: a URL keeps the `since` with which it was made.
        let since = last_event_id.filter(|id| !id.is_empty()).or(since);
        let mode = match (publishes, echoes) {
            (false, true) => Mode::Echo,
            (false, false) => Mode::Listen,
            (true, true) => Mode::Publish,
            (true, false) => Mode::PublishToOthers,
        };
        Ok(Self { channels, format, mode, since })
    }

    /// Whether the client's messages are published.
    pub(crate) const fn publishes(&self) -> bool {
        matches!(self.mode, Mode::Publish | Mode::PublishToOthers)
    }

    /// The rights that a WebSocket client needs for it on each of its channels.
    pub(crate) const fn rights(&self) -> &'static [Right] {
        if self.publishes() { &[Right::Read, Right::Write] } else { &[Right::Read] }
    }
}

/// Returns the parameters of a query in their order: name, value, and the value as it was written.
///
/// # Errors
/// [`Error::QueryTooLong`].
pub(super) fn parse(query: &str) -> Result<impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>, &str)>, Error> {
    // As the proxy writes it.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~=&+,:/?*".contains(&byte);
    let length: usize = query.bytes().map(|byte| if is_plain(byte) { 1 } else { 3 }).sum();
    if length > MAX_QUERY {
        return Err(Error::QueryTooLong);
    }
    Ok(query.split('&').filter_map(|pair| {
        let (name, value) = url::form_urlencoded::parse(pair.as_bytes()).next()?;
        Some((name, value, pair.split_once('=').map_or("", |(_, value)| value)))
    }))
}

/// Whether a parameter has the header `Last-Event-ID`, as polyfills of EventSource (`lastEventId`) and clients of Mercure
/// (`Last-Event-ID`) send it.
fn is_last_event_id(name: &str) -> bool {
    letters(name).ends_with("lasteventid")
}

/// A subscriber must not miss in silence what it asks for by another name: in another case, as a list in the style of axios or
/// PHP, after an `&` that is written as in HTML or `;`.
///
/// # Errors
/// [`Error::LookAlike`].
fn check_unknown(name: &str, value: &str) -> Result<(), Error> {
    // What follows a `;` is part of the value.
    let behind = value.split(';').skip(1).map(|pair| pair.split('=').next().unwrap_or_default());
    for name in [name].into_iter().chain(behind) {
        let letters = letters(name);
        if letters.contains("channel") {
            return Err(Error::LookAlike { known: "channel" });
        }
        if letters.contains("since") || letters.ends_with("lasteventid") {
            return Err(Error::LookAlike { known: "since" });
        }
    }
    Ok(())
}

fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|char| char.to_ascii_lowercase()).collect()
}
