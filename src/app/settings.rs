//! The settings: entries of the Secret Store `fanout` and of the Config Store `fanout_config`. Only secrets are in the Secret
//! Store, as Fastly allows five reads of it for each request.

use std::num::NonZeroU32;

pub use super::state::{Lookup, Unreadable};
use super::{
    access::{keys::Keys, limits::Limits, origins::Origins, token::Rules},
    error::SettingError,
    history::History,
};
use crate::grip::{GripUri, Publisher, Tickets, Verifier, VerifyKey, fanout::Service};

/// The name of the Secret Store.
pub const SECRET_STORE: &str = "fanout";
/// The name of the Config Store.
pub const CONFIG_STORE: &str = "fanout_config";

/// Publishing on Fastly: an API token that may publish.
const API_TOKEN: &str = "FANOUT_API_TOKEN";
/// In the Config Store: the service whose Fanout is used, if it is not the running one.
const SERVICE_ID: &str = "FANOUT_SERVICE_ID";
/// Another GRIP proxy, in place of the two above. See [`GripUri`].
const GRIP_URL: &str = "GRIP_URL";
/// The key of that proxy's signatures, if it is too long for the URL. See [`VerifyKey::parse`].
const VERIFY_KEY: &str = "GRIP_VERIFY_KEY";
/// In the Config Store: `off` if the signature of each request of a connection is to be verified. See [`Tickets`].
const CONNECTION_TICKETS: &str = "CONNECTION_TICKETS";

/// The keys of access tokens. Without them all clients may subscribe and publish.
pub const ACCESS_KEY: &str = "ACCESS_KEY";

/// In the Config Store: whom access tokens name as their audience (`aud`). Without it they have none.
const ACCESS_AUDIENCE: &str = "ACCESS_AUDIENCE";
/// In the Config Store: who issues access tokens (`iss`). Without it anyone who has a key.
const ACCESS_ISSUER: &str = "ACCESS_ISSUER";

/// In the Config Store: the origins whose pages may use the service. See [`Origins::parse`].
const ALLOWED_ORIGINS: &str = "ALLOWED_ORIGINS";
/// In the Config Store: a rate limit. See [`Limits`].
const BROADCASTS_PER_MINUTE: &str = "BROADCASTS_PER_MINUTE";
/// In the Config Store: a rate limit. See [`Limits`].
const OPENINGS_PER_MINUTE: &str = "OPENINGS_PER_MINUTE";

/// In the Config Store: a rate limit. See [`Limits`].
const BROADCASTS_PER_SECOND: &str = "BROADCASTS_PER_SECOND";
/// In the Config Store: a rate limit. See [`Limits`].
const OPENINGS_PER_SECOND: &str = "OPENINGS_PER_SECOND";
/// In the Config Store: a rate limit. See [`Limits`].
const FAILURES_PER_MINUTE: &str = "FAILURES_PER_MINUTE";

/// A hundred a second.
const DEFAULT_BROADCASTS: Option<NonZeroU32> = NonZeroU32::new(6000);
/// A hundred a second, as many clients may share an address.
const DEFAULT_OPENINGS: Option<NonZeroU32> = NonZeroU32::new(6000);
/// A batch of a WebSocket may publish 200.
const DEFAULT_BROADCASTS_NOW: Option<NonZeroU32> = NonZeroU32::new(500);
/// When an office has lost its network, its clients come back spread over seconds.
const DEFAULT_OPENINGS_NOW: Option<NonZeroU32> = NonZeroU32::new(200);
/// Half a second of CPU.
const DEFAULT_FAILURES: Option<NonZeroU32> = NonZeroU32::new(600);

/// In the Config Store: after how many requests a [sandbox](super::sandbox) retires; 1 gives each request one of its own.
const SANDBOX_REQUESTS: &str = "SANDBOX_REQUESTS";

const DEFAULT_SANDBOX_REQUESTS: u32 = 1000;

/// In the Config Store: patterns of the channels whose messages are kept. Without it there are none.
const HISTORY: &str = "HISTORY";
/// In the Config Store: for how many seconds they are kept.
const HISTORY_SECONDS: &str = "HISTORY_SECONDS";

const DEFAULT_HISTORY_SECONDS: u32 = 120;

/// What the service knows of its GRIP proxy, and its access rules. Each part may be unusable without the others.
pub struct Settings {
    /// Verifies what comes from the proxy.
    pub(super) verifier: Result<Verifier, SettingError>,
    /// Publishes through the proxy.
    pub(super) publisher: Result<Publisher, SettingError>,
    /// Issues and verifies connection tickets, if they are of use and not turned off.
    pub(super) tickets: Option<Tickets>,
    /// Which access tokens are accepted; `None` if the service is open.
    pub(super) access: Result<Option<Rules>, SettingError>,
    /// The allowed origins.
    pub(super) origins: Result<Origins, SettingError>,
    /// The rate limits.
    pub(super) limits: Result<Limits, SettingError>,
    /// What is kept of published messages; `None` if nothing is.
    pub(super) history: Result<Option<History>, SettingError>,
    /// After how many requests a sandbox retires.
    pub(super) sandbox_requests: Result<u32, SettingError>,
}

impl Settings {
    /// Reads the settings from the two stores, for the service with that id. With `GRIP_URL` they are those of that
    /// proxy, without it those of Fastly Fanout.
    pub fn read(
        secrets: &dyn Fn(&'static str) -> Lookup,
        config: &dyn Fn(&'static str) -> Lookup,
        running_service_id: &str,
    ) -> Self {
        let trimmed =
            |value: Option<String>| value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let secret = |name| {
            secrets(name).map(trimmed).map_err(|Unreadable| SettingError::secret(name, "cannot be read as text"))
        };
        // An empty entry here is a mistake, not a wish to allow everything.
        let config = |name| config(name).map_err(|Unreadable| SettingError::config(name, "cannot be read as text"));
        let (verifier, publisher) = match secret(GRIP_URL) {
            Ok(Some(uri)) => from_grip_url(&uri, secret(VERIFY_KEY)),
            Ok(None) => from_fanout(config(SERVICE_ID), secret(API_TOKEN), running_service_id),
            Err(error) => (Err(error.clone()), Err(error)),
        };
        let uses_tickets = config(CONNECTION_TICKETS).and_then(|value| match value.as_deref().map(str::trim) {
            None => Ok(true),
            Some(on) if on.eq_ignore_ascii_case("on") => Ok(true),
            Some(off) if off.eq_ignore_ascii_case("off") => Ok(false),
            Some(_) => Err(SettingError::config(CONNECTION_TICKETS, "must be on or off")),
        });
        let access_key = secrets(ACCESS_KEY).map_err(|Unreadable| {
            SettingError::secret(ACCESS_KEY, "cannot be read: is the store linked to the service?")
        });
        let name_in_tokens = |name| match config(name)?.map(|value| value.trim().to_owned()) {
            Some(value) if value.is_empty() => Err(SettingError::config(name, "is empty: set or delete it")),
            Some(_) if access_key == Ok(None) => Err(SettingError::config(name, "needs an ACCESS_KEY: set both")),
            value => Ok(value),
        };
        let (audience, issuer) = (name_in_tokens(ACCESS_AUDIENCE), name_in_tokens(ACCESS_ISSUER));
        let mut rules_of_tickets = access_key.clone().ok().flatten().unwrap_or_default();
        for (name, value) in [(ACCESS_AUDIENCE, &audience), (ACCESS_ISSUER, &issuer)] {
            if let Ok(Some(value)) = value {
                rules_of_tickets.push_str(&format!("\n{name}={value}"));
            }
        }
        let access = access_key.and_then(|value| {
            let (audience, issuer) = (audience?, issuer?);
            let Some(keys) = value else { return Ok(None) };
            let keys = Keys::parse(keys.trim())
                .map_err(|error| SettingError::secret(ACCESS_KEY, format_args!("cannot be used: {error}")))?;
            Ok(Some(Rules { keys, audience, issuer }))
        });
        let tickets = match (&uses_tickets, &publisher, &verifier, &access) {
            (Ok(true), Ok(publisher), Ok(verifier), Ok(_)) => Tickets::new(publisher, verifier, &rules_of_tickets),
            _ => None,
        };
        let verifier = uses_tickets.and(verifier);
        let origins = config(ALLOWED_ORIGINS).and_then(|value| {
            Origins::parse(value.as_deref().unwrap_or("*")).map_err(|number| {
                let problem = "must be *, none, or origins separated by spaces, such as https://example.com";
                // It is not quoted, as it may be a secret that was put into the wrong place.
                let which = if number > 0 { format!(" (number {number} is not one)") } else { String::new() };
                SettingError::config(ALLOWED_ORIGINS, format_args!("{problem}{which}"))
            })
        });
        let number = |name| {
            let number = config(name)?.map(|value| value.trim().parse::<NonZeroU32>());
            number.transpose().map_err(|_| SettingError::config(name, "must be a positive integer"))
        };
        let limits = || {
            Ok(Limits {
                broadcasts: number(BROADCASTS_PER_MINUTE)?.or(DEFAULT_BROADCASTS),
                broadcasts_now: number(BROADCASTS_PER_SECOND)?.or(DEFAULT_BROADCASTS_NOW),
                openings: number(OPENINGS_PER_MINUTE)?.or(DEFAULT_OPENINGS),
                openings_now: number(OPENINGS_PER_SECOND)?.or(DEFAULT_OPENINGS_NOW),
                failures: number(FAILURES_PER_MINUTE)?.or(DEFAULT_FAILURES),
            })
        };
        let sandbox_requests =
            number(SANDBOX_REQUESTS).map(|number| number.map_or(DEFAULT_SANDBOX_REQUESTS, NonZeroU32::get));
        let history = || {
            let Some(patterns) = config(HISTORY)? else { return Ok(None) };
            let problem =
                "must be names of channels, separated by spaces; a * at the end of one stands for what follows";
            let patterns = History::parse(&patterns).ok_or_else(|| SettingError::config(HISTORY, problem))?;
            let seconds = number(HISTORY_SECONDS)?.map_or(DEFAULT_HISTORY_SECONDS, NonZeroU32::get);
            let (least, most) = History::SECONDS;
            if !(least..=most).contains(&seconds) {
                return Err(SettingError::config(HISTORY_SECONDS, format_args!("must be {least} to {most}")));
            }
            Ok(Some(History::new(patterns, seconds)))
        };
        let history = history();
        Self { verifier, publisher, tickets, access, origins, limits: limits(), history, sandbox_requests }
    }

    /// What is missing, could not be read or cannot be used. Two parts may name the same.
    pub fn problems(&self) -> impl Iterator<Item = &SettingError> {
        let errors = [
            self.verifier.as_ref().err(),
            self.publisher.as_ref().err(),
            self.access.as_ref().err(),
            self.origins.as_ref().err(),
            self.limits.as_ref().err(),
            self.history.as_ref().err(),
            self.sandbox_requests.as_ref().err(),
        ];
        errors.into_iter().flatten()
    }

    /// Whether there are [problems](Self::problems): the settings should be read again soon.
    pub fn are_incomplete(&self) -> bool {
        self.problems().next().is_some()
    }

    /// After how many requests a sandbox retires.
    pub fn sandbox_requests(&self) -> u32 {
        *self.sandbox_requests.as_ref().unwrap_or(&DEFAULT_SANDBOX_REQUESTS)
    }

    /// What the log should say once about them.
    pub const fn notice(&self) -> Option<&'static str> {
        match self.access {
            Ok(None) => Some("There is no ACCESS_KEY: all clients may subscribe and broadcast"),
            _ => None,
        }
    }
}

type Pair = (Result<Verifier, SettingError>, Result<Publisher, SettingError>);

fn from_grip_url(uri: &str, verify_key: Result<Option<String>, SettingError>) -> Pair {
    let uri = match GripUri::parse(uri) {
        Ok(uri) => uri,
        Err(error) => {
            let error = SettingError::secret(GRIP_URL, format_args!("cannot be used: {error}"));
            return (Err(error.clone()), Err(error));
        }
    };
    let key = match verify_key {
        Ok(Some(key)) => VerifyKey::parse(&key)
            .map_err(|error| SettingError::secret(VERIFY_KEY, format_args!("cannot be used: {error}"))),
        Ok(None) => uri.verify_key.ok_or_else(|| SettingError::secret(GRIP_URL, "lacks verify-key")),
        Err(error) => Err(error),
    };
    let issuer = uri.verify_iss.ok_or_else(|| SettingError::secret(GRIP_URL, "lacks verify-iss"));
    (key.and_then(|key| Ok(Verifier::new(key, issuer?))), Ok(uri.publisher))
}

fn from_fanout(
    service_id: Result<Option<String>, SettingError>,
    api_token: Result<Option<String>, SettingError>,
    running_service_id: &str,
) -> Pair {
    let service = service_id.and_then(|id| {
        let id = id.as_deref().map_or(running_service_id, str::trim);
        Service::new(id).ok_or_else(|| SettingError::config(SERVICE_ID, "is not a service id"))
    });
    let verifier = service.as_ref().map(Service::verifier).map_err(Clone::clone);
    let publisher = service.and_then(|service| {
        const MISSING: &str = "is missing (or GRIP_URL, for a proxy other than Fastly Fanout)";
        let token = api_token?.ok_or_else(|| SettingError::secret(API_TOKEN, MISSING))?;
        service.publisher(&token).ok_or_else(|| SettingError::secret(API_TOKEN, "has characters that no token has"))
    });
    (verifier, publisher)
}
