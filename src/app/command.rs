//! The query of a request that publishes or disconnects. It has no parameter that is not known: else what is meant for one user,
//! or for one room, could go to everybody on `test`.

use super::{
    bounds::{MAX_CONNECTION_ID_LENGTH, MAX_USER_LENGTH},
    error::Error,
    messages::{
        channels::{self, DEFAULT},
        target::Target,
    },
    query,
    web::Request,
};

/// The query of a request that publishes or disconnects.
///
/// # Format
/// `?channel=a`, `?user=alice`, `&id=01997c3a-…`, `&except=46d8…`, `&code=4001&reason=signed%20out`. The parameter `token` is read
/// by [`token`](super::access::token).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    channel: Option<String>,
    user: Option<String>,
    /// The id of a message that is sent again.
    pub(crate) id: Option<String>,
    /// The id of the connection that a broadcast leaves out.
    pub(crate) except: Option<String>,
    /// With what code a user is disconnected.
    pub(crate) code: Option<String>,
    /// And for what reason.
    pub(crate) reason: Option<String>,
    token: Option<String>,
}

/// The parameters of a broadcast.
pub(crate) const BROADCAST: &[&str] = &["channel", "user", "except", "id", "token"];

/// The parameters of a disconnect.
pub(crate) const DISCONNECT: &[&str] = &["user", "code", "reason", "token"];

impl Command {
    /// Parses the query of a request that has these parameters, each once.
    ///
    /// # Errors
    /// [`Error::QueryTooLong`], [`Error::UnknownParameter`], [`Error::Repeated`], [`Error::Unescaped`], [`Error::Except`].
    pub(crate) fn of(request: &(impl Request + ?Sized), known: &'static [&'static str]) -> Result<Self, Error> {
        let mut command = Self::default();
        for (name, value, written) in query::parse(request.query())? {
            let Some(name) = known.iter().find(|known| **known == name) else {
                return Err(Error::UnknownParameter { name: name.into_owned(), known });
            };
            // Else what follows a `;` is no parameter, but part of the value, and `ann+news` is read as `ann news`: everybody or nobody
            // would get the message, and it would be `Ok`.
            if written.contains(';') || *name == "user" && written.contains('+') {
                return Err(Error::Unescaped { name });
            }
            let parameter = match *name {
                "channel" => &mut command.channel,
                "user" => &mut command.user,
                "id" => &mut command.id,
                "except" => &mut command.except,
                "code" => &mut command.code,
                "reason" => &mut command.reason,
                _ => &mut command.token,
            };
            if parameter.replace(value.into_owned()).is_some() {
                return Err(Error::Repeated { name });
            }
        }
        let is_id = |id: &String| (1..=MAX_CONNECTION_ID_LENGTH).contains(&id.len()) && !id.contains([';', '&', '=']);
        if !command.except.as_ref().is_none_or(is_id) {
            return Err(Error::Except);
        }
        Ok(command)
    }

    /// To whom a message is sent.
    ///
    /// # Errors
    /// [`Error::ChannelAndUser`], [`Error::ChannelName`], [`Error::User`].
    pub(crate) fn target(&self) -> Result<Target, Error> {
        match (&self.channel, &self.user) {
            (Some(_), Some(_)) => Err(Error::ChannelAndUser),
            (Some(channel), None) => channels::parse(channel).map(Target::Channel),
            (None, Some(_)) => self.user().map(Target::User),
            (None, None) => Ok(Target::Channel(DEFAULT.clone())),
        }
    }

    /// The user.
    ///
    /// # Errors
    /// [`Error::NoUser`], [`Error::User`].
    pub(crate) fn user(&self) -> Result<String, Error> {
        let user = self.user.as_ref().ok_or(Error::NoUser)?;
        if (1..=MAX_USER_LENGTH).contains(&user.chars().count()) { Ok(user.clone()) } else { Err(Error::User) }
    }
}
