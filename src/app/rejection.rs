//! How a handler says no.

use std::{error, fmt};

use super::error::Error;

/// Rejects an opening connection, or closes an open one; or rejects a broadcast.
///
/// Errors of the library become one with `?`, and have a status and a text of their own. So does any other
/// [`std::error::Error`]: its text is logged, and the client learns only that the handler failed.
///
/// ```
/// use fanout_edge::{Connection, Rejection};
///
/// fn for_members(connection: &mut Connection<'_>) -> Result<(), Rejection> {
///     let level: u8 = connection.query("level").as_deref().unwrap_or("1").parse()?;
///     if connection.user().is_none() {
///         return Err(Rejection::new(403, "Members only: see https://example.com/join"));
///     }
///     connection.accept();
///     connection.subscribe(format!("level-{level}"))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection(Box<Error>);

impl Rejection {
    /// Returns a rejection with a status (400 to 599, else 500) and a text. A client that connects gets them as an HTTP response,
    /// and so does one that broadcasts. An open connection is closed: with 1008 (policy violation) for a status below 500, 1009
    /// for 413, 1011 (internal error) from 500 on, and the text as the reason.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        let status = if (400..600).contains(&status) { status } else { 500 };
        Self(Box::new(Error::Rejected { status, text: text.into() }))
    }

    /// The status.
    pub const fn status(&self) -> u16 {
        self.0.status()
    }
}

/// The text for the client.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Self(Box::new(error))
    }
}

// `Rejection` and `Error` are no `std::error::Error` themselves, so that this can be.
impl<E: error::Error> From<E> for Rejection {
    fn from(error: E) -> Self {
        Self(Box::new(Error::Handler { cause: error.to_string() }))
    }
}

impl From<Rejection> for Error {
    fn from(Rejection(error): Rejection) -> Self {
        *error
    }
}
