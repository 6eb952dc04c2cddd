//! What an access token can allow.

/// What a claim allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Subscribe to a channel.
    Read,
    /// Publish to it, or to a user.
    Write,
    /// Close the connections of a user.
    Disconnect,
}

impl Right {
    /// The claim that lists the channels or users.
    pub(crate) const fn claim(self) -> &'static str {
        match self {
            Self::Read => "x-fastly-read",
            Self::Write => "x-fastly-write",
            Self::Disconnect => "x-fastly-disconnect",
        }
    }
}
