//! How a client is handed off to the GRIP proxy, which then calls the service back for it.

use percent_encoding::percent_encode_byte;

use crate::app::{access::admit::Admitted, error::Error, exchange::Exchange, platform::SELF_BACKEND, web::Outcome};

/// Hands a client off that passed all checks but the rate limit.
///
/// # Errors
/// As [`Admitted::count`].
pub(super) fn hand_off(exchange: &mut Exchange<'_>, client: &Admitted<'_>) -> Result<Outcome, Error> {
    client.count(exchange)?;
    let (query, client) = (encoded(exchange.request.query()), exchange.request.client_address());
    Ok(Outcome::HandOff { backend: SELF_BACKEND, query, client })
}

/// Percent-encodes what must not stand in a query, but browsers leave as it is: the proxy responds with 500 to that. `None`
/// if there is nothing of it. Source: RFC 3986, section 3.4, and the URL standard's query percent-encode set.
fn encoded(query: &str) -> Option<String> {
    let bytes = query.as_bytes();
    let is_escape = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    let is_valid = |at: usize| match bytes[at] {
        b'%' => is_escape(at),
        byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?[]".contains(&byte),
    };
    if (0..bytes.len()).all(is_valid) {
        return None;
    }
    let mut encoded = String::with_capacity(bytes.len() + 8);
    for (at, byte) in bytes.iter().enumerate() {
        if is_valid(at) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push_str(percent_encode_byte(*byte));
        }
    }
    Some(encoded)
}
