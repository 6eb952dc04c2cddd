//! Everything that an endpoint needs to handle one request.

use super::{
    error::Error,
    history::gap::Gap,
    platform::Platform,
    service::Service,
    settings::Settings,
    web::{Outcome, Request},
};

/// Everything that an endpoint needs to handle one request.
pub struct Exchange<'a> {
    /// The request.
    pub request: &'a mut dyn Request,
    /// What the host can do.
    pub platform: &'a mut dyn Platform,
    /// The settings.
    pub settings: &'a Settings,
    /// The time, in seconds since 1970.
    pub now: u64,
    /// The code of the application.
    pub service: &'a Service<'a>,
    /// What an endpoint wants to be done when its response has been sent: see [`later`](super::later).
    pub later: Option<Later>,
}

/// What is done when a response has been sent: nobody waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Later {
    /// Makes sure that what is published from now on can be read back.
    BeginHistory,
    /// Closes the gap of an event stream.
    Gap(Gap),
}

impl Later {
    /// Does it, at a time in seconds since 1970.
    ///
    /// # Errors
    /// As [`Gap::close`].
    pub(super) fn run(self, settings: &Settings, platform: &mut dyn Platform, now: u64) -> Result<(), Error> {
        match self {
            Self::BeginHistory => {
                if let Some(history) = settings.history.as_ref()? {
                    history.begin(platform);
                }
                Ok(())
            }
            Self::Gap(gap) => gap.close(settings, platform, now),
        }
    }
}

/// What handles the requests of a path and a method.
pub type Endpoint = fn(&mut Exchange<'_>) -> Result<Outcome, Error>;

impl Exchange<'_> {
    /// Takes the body of the request, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::BodyTooLarge`] or [`Error::BodyIncomplete`].
    pub fn body(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        self.request.body(limit).map_err(|error| Error::of_body(error, limit))
    }
}
