//! Fastly Fanout: the GRIP proxy of a Fastly service.
//!
//! Its signatures are ES256, with one key for all services and the issuer `fastly:<service id>`. Its publish API is
//! `POST https://api.fastly.com/service/<service id>/publish/`, with a Fastly API token as `Authorization: Bearer`.
//! Source: <https://www.fastly.com/documentation/guides/concepts/real-time-messaging/fanout/>.

use super::{
    VerifyKey,
    publish::{Authorization, Publisher},
    signature::Verifier,
};

/// The public key of Fanout's signatures, in PEM.
///
/// ```
/// use fanout_edge::grip::{VerifyKey, fanout::PUBLIC_KEY};
///
/// assert!(matches!(VerifyKey::parse(PUBLIC_KEY), Ok(VerifyKey::Es256(_))));
/// ```
pub const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAECKo5A1ebyFcnmVV8SE5On+8G81Jy
BjSvcrx4VLetWCjuDAmppTo3xM/zz763COTCgHfp/6lPdCyYjjqc+GM7sw==
-----END PUBLIC KEY-----";

/// A service that has Fanout.
///
/// # Format
/// Its id has letters and digits only.
///
/// ```
/// use fanout_edge::grip::fanout::Service;
///
/// let service = Service::new("SU1Z0isxPaozGVKXdv0eY").expect("a valid id");
/// assert_eq!(service.verifier().issuer(), "fastly:SU1Z0isxPaozGVKXdv0eY");
/// assert!(service.publisher("a-fastly-api-token").is_some());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service(String);

impl Service {
    /// `None` where that cannot be the id of a service.
    ///
    /// ```
    /// use fanout_edge::grip::fanout::Service;
    ///
    /// assert!(Service::new("SU1Z0isxPaozGVKXdv0eY").is_some());
    /// assert!(Service::new("../another").is_none());
    /// ```
    pub fn new(id: impl Into<String>) -> Option<Self> {
        let id = id.into();
        let is_valid = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_valid.then_some(Self(id))
    }

    /// Checks what Fanout signs for the service.
    ///
    /// ```
    /// use fanout_edge::grip::fanout::Service;
    ///
    /// let service = Service::new("SERVICE1").expect("a valid id");
    /// assert!(service.verifier().verify("no token", 1_800_000_000).is_err());
    /// ```
    pub fn verifier(&self) -> Verifier {
        let key = VerifyKey::parse(PUBLIC_KEY).expect("the key above is one, as a test shows");
        Verifier::new(key, format!("fastly:{}", self.0))
    }

    /// Publishes to the clients of the service. `None` where the token cannot be in a header.
    ///
    /// ```
    /// use fanout_edge::grip::fanout::Service;
    ///
    /// let service = Service::new("SERVICE1").expect("a valid id");
    /// assert!(service.publisher("two\nlines").is_none());
    /// let publisher = service.publisher("a-fastly-api-token").expect("a valid token");
    /// assert_eq!(publisher.request(&[], 1_800_000_000)?.url, "https://api.fastly.com/service/SERVICE1/publish/");
    /// # Ok::<(), fanout_edge::grip::publish::TooLarge>(())
    /// ```
    pub fn publisher(&self, api_token: &str) -> Option<Publisher> {
        let control_uri = format!("https://api.fastly.com/service/{}", self.0);
        Authorization::bearer(api_token).map(|authorization| Publisher::new(&control_uri, authorization))
    }
}
