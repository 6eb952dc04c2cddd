//! The settings: entries of the Secret Store `fanout`, and of the Config Store `fanout_config`.

use std::{error::Error, fmt, num::NonZeroU32};

use super::{access::Access, limits::Limits, origins::Origins};
use crate::grip::{GripUri, Publisher, Tickets, Verifier, VerifyKey, fanout::Service};

/// The name of the Secret Store.
pub const STORE: &str = "fanout";
/// The name of the Config Store.
pub const CONFIG_STORE: &str = "fanout_config";

/// Publishing on Fastly: an API token that may publish.
pub const API_TOKEN: &str = "FANOUT_API_TOKEN";
/// The service whose Fanout is used, where it is not the running one.
pub const SERVICE_ID: &str = "FANOUT_SERVICE_ID";
/// Another GRIP proxy, in place of the two above. See [`GripUri`].
pub const GRIP_URL: &str = "GRIP_URL";
/// The key of that proxy's signatures, where it is too long for the URL. See [`VerifyKey::parse`].
pub const VERIFY_KEY: &str = "GRIP_VERIFY_KEY";
/// `off` where each request of a connection is checked by its signature. See [`Tickets`].
pub const CONNECTION_TICKETS: &str = "CONNECTION_TICKETS";

/// The keys of access tokens. See [`Access::parse`]. Without them everybody may subscribe and publish.
pub const ACCESS_KEY: &str = "ACCESS_KEY";

/// In the Config Store: the origins whose pages may use the service. See [`Origins`].
pub const ALLOWED_ORIGINS: &str = "ALLOWED_ORIGINS";
/// In the Config Store: the most in a minute. See [`Limits`].
pub const BROADCASTS_PER_MINUTE: &str = "BROADCASTS_PER_MINUTE";
/// In the Config Store: the most in a minute. See [`Limits`].
pub const OPENINGS_PER_MINUTE: &str = "OPENINGS_PER_MINUTE";

const MISSING: &str = "is missing (or GRIP_URL, for a proxy other than Fastly Fanout)";

/// What the service knows of its GRIP proxy, and whom it lets in. Each part may be unusable without the others.
pub struct Settings {
    /// Checks what comes from the proxy.
    pub verifier: Result<Verifier, SettingsError>,
    /// Publishes through the proxy.
    pub publisher: Result<Publisher, SettingsError>,
    /// Issues and checks what connections bring along, where that is of use and not switched off.
    pub tickets: Option<Tickets>,
    /// The keys of access tokens; `None` where everybody may do everything.
    pub access: Result<Option<Access>, SettingsError>,
    /// The origins whose pages may use the service.
    pub origins: Result<Origins, SettingsError>,
    /// How much one client may do in a minute.
    pub limits: Result<Limits, SettingsError>,
}

/// What a store has under a name.
pub type Lookup = Result<Option<String>, Unreadable>;

/// A store or an entry that could not be read, or an entry that is not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Settings {
    /// Whether something was missing, could not be read or cannot be used: they are worth reading again.
    pub const fn are_incomplete(&self) -> bool {
        let are_usable = self.verifier.is_ok() && self.publisher.is_ok() && self.access.is_ok();
        !are_usable || self.origins.is_err() || self.limits.is_err()
    }

    /// What the log should say once about them.
    pub const fn notice(&self) -> Option<&'static str> {
        match self.access {
            Ok(None) => Some("There is no ACCESS_KEY: everybody may subscribe and broadcast"),
            _ => None,
        }
    }

    /// Reads the settings: from the two stores, and for the service that runs. With `GRIP_URL` they are those of that proxy,
    /// without it those of Fastly Fanout.
    pub fn read(
        secrets: &dyn Fn(&'static str) -> Lookup,
        config: &dyn Fn(&'static str) -> Lookup,
        running_service_id: &str,
    ) -> Self {
        let trimmed =
            |value: Option<String>| value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let entry =
            |name| secrets(name).map(trimmed).map_err(|Unreadable| SettingsError::new(name, "cannot be read as text"));
        let (verifier, publisher) = match entry(GRIP_URL) {
            Ok(Some(uri)) => of_grip_url(&uri, entry(VERIFY_KEY)),
            Ok(None) => of_fanout(entry(SERVICE_ID), entry(API_TOKEN), running_service_id),
            Err(error) => (Err(error.clone()), Err(error)),
        };
        let wanted = entry(CONNECTION_TICKETS).and_then(|value| match value.as_deref() {
            None | Some("on") => Ok(true),
            Some("off") => Ok(false),
            Some(_) => Err(SettingsError::new(CONNECTION_TICKETS, "is neither on nor off")),
        });
        let access_key = match secrets(ACCESS_KEY) {
            Ok(value) => Ok(value),
            Err(Unreadable) => {
                Err(SettingsError::new(ACCESS_KEY, "cannot be read: is the store linked to the service?"))
            }
        };
        let access = access_key.clone().and_then(|value| {
            let access = value.as_deref().map(|key| Access::parse(key.trim())).transpose();
            access.map_err(|error| SettingsError::new(ACCESS_KEY, format_args!("cannot be used: {error}")))
        });
        let tickets = match (&wanted, &publisher, &verifier, &access) {
            (Ok(true), Ok(publisher), Ok(verifier), Ok(_)) => {
                let rules = access_key.ok().flatten().unwrap_or_default();
                Tickets::new(publisher, verifier, &rules)
            }
            _ => None,
        };
        let verifier = verifier.and_then(|verifier| wanted.map(|_| verifier));
        // What is there and blank is a mistake here, not a wish to let everybody in.
        let entry = |name| config(name).map_err(|Unreadable| SettingsError::config(name, "cannot be read as text"));
        let origins = entry(ALLOWED_ORIGINS).and_then(|value| {
            Origins::parse(value.as_deref().unwrap_or("*").trim())
                .ok_or_else(|| SettingsError::config(ALLOWED_ORIGINS, "is neither *, none, nor origins separated by blanks, such as https://example.com, without a slash at the end"))
        });
        let limit = |name| {
            let limit = entry(name)?.map(|value| value.trim().parse::<NonZeroU32>());
            limit.transpose().map_err(|_| SettingsError::config(name, "is not a number from 1 on"))
        };
        let limits = limit(BROADCASTS_PER_MINUTE)
            .and_then(|broadcasts| Ok(Limits { broadcasts, openings: limit(OPENINGS_PER_MINUTE)? }));
        Self { verifier, publisher, tickets, access, origins, limits }
    }
}

type Pair = (Result<Verifier, SettingsError>, Result<Publisher, SettingsError>);

fn of_grip_url(uri: &str, verify_key: Result<Option<String>, SettingsError>) -> Pair {
    let uri = match GripUri::parse(uri) {
        Ok(uri) => uri,
        Err(error) => {
            let error = SettingsError::new(GRIP_URL, format_args!("cannot be used: {error}"));
            return (Err(error.clone()), Err(error));
        }
    };
    let key = match verify_key {
        Ok(Some(key)) => VerifyKey::parse(&key)
            .map_err(|error| SettingsError::new(VERIFY_KEY, format_args!("cannot be used: {error}"))),
        Ok(None) => uri.verify_key.ok_or_else(|| SettingsError::new(GRIP_URL, "lacks verify-key")),
        Err(error) => Err(error),
    };
    let issuer = uri.verify_iss.ok_or_else(|| SettingsError::new(GRIP_URL, "lacks verify-iss"));
    (key.and_then(|key| Ok(Verifier::new(key, issuer?))), Ok(uri.publisher))
}

fn of_fanout(
    service_id: Result<Option<String>, SettingsError>,
    api_token: Result<Option<String>, SettingsError>,
    running_service_id: &str,
) -> Pair {
    let service = service_id.and_then(|id| {
        let id = id.as_deref().unwrap_or(running_service_id);
        Service::new(id).ok_or_else(|| SettingsError::new(SERVICE_ID, "is not the id of a service"))
    });
    let verifier = service.as_ref().map(Service::verifier).map_err(Clone::clone);
    let publisher = service.and_then(|service| {
        let token = api_token?.ok_or_else(|| SettingsError::new(API_TOKEN, MISSING))?;
        service.publisher(&token).ok_or_else(|| SettingsError::new(API_TOKEN, "has characters that no token has"))
    });
    (verifier, publisher)
}

/// An entry that is missing or cannot be used. The text names it and says why, and quotes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    store: &'static str,
    entry: &'static str,
    problem: String,
}

impl SettingsError {
    fn new(entry: &'static str, problem: impl fmt::Display) -> Self {
        Self { store: "secret store `fanout`", entry, problem: problem.to_string() }
    }

    fn config(entry: &'static str, problem: impl fmt::Display) -> Self {
        Self { store: "config store `fanout_config`", ..Self::new(entry, problem) }
    }

    /// The name of the entry.
    pub const fn entry(&self) -> &'static str {
        self.entry
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The entry {} of the {} {}", self.entry, self.store, self.problem)
    }
}

impl Error for SettingsError {}
