//! `POST /api/broadcast`: one message to every subscriber of a channel, on whatever transport.

use crate::{
    app::{
        access::guard,
        error::Error,
        exchange::Exchange,
        http::{Outcome, Response},
        messages::{
            broadcast::{Broadcast, Content, pack, send},
            channels,
        },
    },
    grip::{Header, Headers, publish::MAX_BODY},
};

/// Publishes the body. Only what the proxy accepted is `Ok`.
pub(crate) fn broadcast(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let channel = channels::published(exchange.request)?;
    let publisher = exchange.settings.publisher.as_ref()?;
    guard::check_broadcast(exchange, &channel)?;
    let kind = kind_of(exchange.request).ok_or(Error::MediaType)?;
    let body = exchange.body(MAX_BODY)?;
    let content = match kind {
        Kind::Binary => Content::from(&*body),
        Kind::Text => {
            let text = str::from_utf8(&body).map_err(|error| Error::NotUtf8 { at: error.valid_up_to() })?;
            Content::from(text)
        }
    };
    let message = [Broadcast::message(channel, content)];
    send(pack(&message, publisher, 1, exchange.now)?, exchange.platform)?;
    Ok(Response::text(200, "Ok").into())
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Binary,
}

/// `text/plain`, in UTF-8 or US-ASCII if it names a charset, or `application/octet-stream`.
/// Source: RFC 9110, section 8.3.1.
fn kind_of(headers: &(impl Headers + ?Sized)) -> Option<Kind> {
    let Header::Value(value) = headers.header("content-type") else { return None };
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next()?;
    if essence.eq_ignore_ascii_case("application/octet-stream") {
        return Some(Kind::Binary);
    }
    let is_utf8 = parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        let charset = value.trim_matches('"');
        !name.eq_ignore_ascii_case("charset")
            || ["utf-8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
    });
    (essence.eq_ignore_ascii_case("text/plain") && is_utf8).then_some(Kind::Text)
}
