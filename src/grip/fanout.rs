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
pub const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAECKo5A1ebyFcnmVV8SE5On+8G81Jy
BjSvcrx4VLetWCjuDAmppTo3xM/zz763COTCgHfp/6lPdCyYjjqc+GM7sw==
-----END PUBLIC KEY-----";

/// A Fastly service with Fanout.
///
/// ```
/// use fanout_edge::grip::fanout::Service;
///
/// let service = Service::new("SERVICE1").expect("a valid id");
/// assert_eq!(service.verifier().issuer(), "fastly:SERVICE1");
/// let publisher = service.publisher("a-fastly-api-token").expect("a valid token");
/// assert_eq!(publisher.request(&[], 1_800_000_000)?.url, "https://api.fastly.com/service/SERVICE1/publish/");
/// # Ok::<(), fanout_edge::grip::publish::TooLarge>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service(String);

impl Service {
    /// Returns the service with that id; `None` if the id is empty or has other characters than letters and digits.
    pub fn new(id: impl Into<String>) -> Option<Self> {
        let id = id.into();
        let is_valid = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_valid.then_some(Self(id))
    }

    /// Returns a verifier of Fanout's signatures for the service.
    pub fn verifier(&self) -> Verifier {
        let key = VerifyKey::parse(PUBLIC_KEY).expect("PUBLIC_KEY is a valid key");
        Verifier::new(key, format!("fastly:{}", self.0))
    }

    /// Returns a publisher for the service; `None` if the API token is invalid, see [`Authorization::bearer`].
    pub fn publisher(&self, api_token: &str) -> Option<Publisher> {
        let control_uri = format!("https://api.fastly.com/service/{}", self.0);
        Authorization::bearer(api_token).map(|authorization| Publisher::new(&control_uri, authorization))
    }
}
