//! Why something was not published.

use std::{error::Error, fmt};

use super::MAX_BODY;

/// Why a publish request has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The proxy could not be reached, or closed the connection.
    Unreachable,
    /// The proxy did not respond in time.
    TimedOut,
}

/// Why items are not published, or perhaps not.
///
/// ```
/// use fanout_edge::grip::publish::PublishError;
///
/// assert_eq!(PublishError::Rejected { status: 400 }.to_string(), "the GRIP proxy rejected it with status 400");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// They are too large for one request. Nothing was sent.
    TooLarge(TooLarge),
    /// The proxy rejected them with this status: 400 for their content, 401 or 403 for the authorization.
    Rejected {
        /// The status.
        status: u16,
    },
    /// The proxy could not be reached, or closed the connection: they are probably not published.
    Unreachable,
    /// The proxy did not respond in time: they may or may not be published.
    TimedOut,
}

impl From<TooLarge> for PublishError {
    fn from(error: TooLarge) -> Self {
        Self::TooLarge(error)
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(error) => error.fmt(f),
            Self::Rejected { status: status @ (401 | 403) } => {
                write!(f, "the GRIP proxy rejected the publishing token with status {status}")
            }
            Self::Rejected { status } => write!(f, "the GRIP proxy rejected it with status {status}"),
            Self::Unreachable => f.write_str("the GRIP proxy could not be reached"),
            Self::TimedOut => f.write_str("the GRIP proxy did not respond in time"),
        }
    }
}

impl Error for PublishError {}

/// A publish request that the proxy would reject for its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// How long its body would be, in bytes.
    pub length: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the publish request would have {} bytes of JSON; the GRIP proxy accepts {MAX_BODY}", self.length)
    }
}

impl Error for TooLarge {}
