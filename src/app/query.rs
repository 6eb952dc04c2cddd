//! What the query of a request asks for.

use super::{
    access::right::Right,
    bounds::{MAX_QUERY, MAX_USER_LENGTH},
    error::Error,
    messages::{
        channels::{self, Channels},
        format::Format,
        target::Target,
    },
    web::Request,
};

/// The parameters of all endpoints. Others are ignored, unless their names look like these.
const PARAMETERS: [&str; 9] = [CHANNEL, "echo", "format", "id", "mode", "since", "token", "user", "except"];
const CHANNEL: &str = "channel";
const USER: &str = "user";

/// # Format
/// `?channel=a&channel=b`, `&format=json`, `&echo=off`, `&mode=publish`, `&id=01997c3a-…`, `&since=01997c3a-…`, `&user=alice`,
/// `&except=46d8…`. The parameter `token` is read by
/// [`token`](super::access::token).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// The channels that it names, or `test`.
    pub(crate) channels: Channels,
    /// The form in which a subscriber gets messages.
    pub(crate) format: Format,
    /// What is to become of a WebSocket client's messages.
    pub(crate) mode: Mode,
    /// The id of a message that is sent again.
    pub(crate) id: Option<String>,
    /// The user to whom a message is sent, or who is disconnected.
    user: Option<String>,
    /// Whether a parameter may be a misspelled `user`.
    resembles_user: bool,
    /// With what code a user is disconnected.
    pub(crate) code: Option<String>,
    /// And for what reason.
    pub(crate) reason: Option<String>,
    /// The id of the connection that a broadcast leaves out.
    pub(crate) except: Option<String>,
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
        let (mut id, mut since, mut user, mut except, mut code, mut reason) = (None, None, None, None, None, None);
        let (mut echoes, mut publishes, mut resembles_channel) = (true, false, false);
        let mut resembles_user = false;
        check_length(request.query())?;
        for (name, value) in url::form_urlencoded::parse(request.query().as_bytes()) {
            // As `&` is written in HTML, or by other languages.
            resembles_channel |= name.to_ascii_lowercase().contains(CHANNEL) || value.contains(";channel=");
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
                ("id", _) => id = Some(value.into_owned()),
                ("since", _) => since = Some(value.into_owned()),
                ("user", _) => user = Some(value.into_owned()),
                ("code", _) => code = Some(value.into_owned()),
                ("reason", _) => reason = Some(value.into_owned()),
                ("except", _) => except = Some(value.into_owned()),
                ("token", _) => {}
                (name, _) => {
                    check_unknown(name)?;
                    resembles_user |= is_one_edit_apart(name.to_ascii_lowercase().as_bytes(), USER.as_bytes());
                }
            }
        }
        if channels.is_empty() && resembles_channel {
            return Err(Error::LookAlike { known: CHANNEL });
        }
        let mode = match (publishes, echoes) {
            (false, true) => Mode::Echo,
            (false, false) => Mode::Listen,
            (true, true) => Mode::Publish,
            (true, false) => Mode::PublishToOthers,
        };
        Ok(Self { channels, format, mode, id, user, resembles_user, except, code, reason, since })
    }

    /// To whom a message is sent.
    ///
    /// # Errors
    /// [`Error::NotOneChannel`], [`Error::User`]; [`Error::LookAlike`] if everybody would get what may be meant for a user.
    pub(crate) fn into_target(self) -> Result<Target, Error> {
        match self.user {
            Some(_) if !self.channels.is_empty() => Err(Error::NotOneChannel),
            Some(user) if (1..=MAX_USER_LENGTH).contains(&user.chars().count()) => Ok(Target::User(user)),
            Some(_) => Err(Error::User),
            None if self.channels.is_empty() && self.resembles_user => Err(Error::LookAlike { known: USER }),
            None => self.channels.into_one().map(Target::Channel),
        }
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

/// Whether the proxy accepts a query of that length.
fn check_length(query: &str) -> Result<(), Error> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~=&+,:/?*".contains(&byte);
    let length: usize = query.bytes().map(|byte| if is_plain(byte) { 1 } else { 3 }).sum();
    if length <= MAX_QUERY { Ok(()) } else { Err(Error::QueryTooLong) }
}

/// A message for one room must not go to everybody on `test`, as the room's parameter has another name: a list in the style
/// of axios or PHP, another case, more words, a plural, a typing error, an abbreviation.
///
/// # Errors
/// [`Error::LookAlike`].
fn check_unknown(name: &str) -> Result<(), Error> {
    // As long as `channel` with a typing error.
    const LONGEST: usize = CHANNEL.len() + 1;
    let letters = name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase());
    let letters: Vec<u8> = letters.take(LONGEST).collect();
    let is_abbreviated = letters.len() >= 2 && CHANNEL.as_bytes().starts_with(&letters);
    if is_abbreviated || letters.starts_with(CHANNEL.as_bytes()) || is_one_edit_apart(&letters, CHANNEL.as_bytes()) {
        return Err(Error::LookAlike { known: CHANNEL });
    }
    let stem = name.split(['[', '.']).next().unwrap_or_default();
    match PARAMETERS.into_iter().find(|known| stem.eq_ignore_ascii_case(known)) {
        Some(known) => Err(Error::LookAlike { known }),
        None => Ok(()),
    }
}

/// Whether one letter is missing, added, replaced or swapped with its neighbor.
fn is_one_edit_apart(a: &[u8], b: &[u8]) -> bool {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[same..], &b[same..]);
    match (a, b) {
        ([x, y, a @ ..], [z, w, b @ ..]) if x == w && y == z && a == b => true,
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([_, rest @ ..], other) if rest == other => true,
        (other, [_, rest @ ..]) if rest == other => true,
        _ => false,
    }
}
