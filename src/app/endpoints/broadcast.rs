//! `POST /api/broadcast`: one message to every subscriber of a channel, on whatever transport.

use http::header::HeaderValue;

use crate::{
    app::{
        access::guard,
        bounds::{MAX_BACKEND_REQUESTS, MAX_MESSAGE},
        error::Error,
        exchange::Exchange,
        http::{Outcome, Response},
        messages::{
            content::Content,
            forms::MESSAGE_ID,
            id::MessageId,
            outbox::{Broadcast, pack, send},
        },
        query::Query,
    },
    grip::{Channel, Header, Headers},
};

/// Publishes the body. Only what the proxy accepted is `Ok`.
pub(crate) fn broadcast(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let Query { channels, id, .. } = Query::of(exchange.request)?;
    let channel = channels.into_one()?;
    let id = id.map(|id| MessageId::parse(&id, exchange.now)).transpose()?;
    exchange.settings.publisher.as_ref()?;
    let user = guard::check_broadcast(exchange, &channel)?;
    let kind = kind_of(exchange.request).ok_or(Error::MediaType)?;
    let body = exchange.body(MAX_MESSAGE)?;
    let content = match kind {
        Kind::Binary => Content::from(&*body),
        Kind::Text => {
            let text = str::from_utf8(&body).map_err(|error| Error::NotUtf8 { at: error.valid_up_to() })?;
            Content::from(text)
        }
    };
    let id = id.unwrap_or_else(|| MessageId::new(exchange.platform));
    // A retry of what was perhaps published names the same id, so errors have it, too.
    let response = match publish(exchange, id, channel, content, user.as_deref()) {
        Ok(()) => Response::text(200, "Ok"),
        Err(error) => error.response(),
    };
    let id = HeaderValue::try_from(id.to_string()).expect("a UUID is printable ASCII");
    Ok(response.with_header(MESSAGE_ID, id).into())
}

fn publish(
    exchange: &mut Exchange<'_>,
    id: MessageId,
    channel: Channel,
    content: Content<'_>,
    user: Option<&str>,
) -> Result<(), Error> {
    let publisher = exchange.settings.publisher.as_ref()?;
    let message = [Broadcast::message(id, channel, content, user)];
    send(pack(&message, publisher, MAX_BACKEND_REQUESTS, exchange.now)?, exchange.platform)
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
