//! What an access token can allow.

/// What may be done with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Subscribe to it.
    Read,
    /// Publish to it.
    Write,
}

impl Right {
    /// The claim that lists the channels.
    pub(crate) const fn claim(self) -> &'static str {
        match self {
            Self::Read => "x-fastly-read",
            Self::Write => "x-fastly-write",
        }
    }
}
