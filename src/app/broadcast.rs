//! `POST /api/broadcast`: one message to every subscriber of a channel, on whatever transport.

use super::{
    Action, Reply, Request, Settings, channels, guard,
    http::BodyError,
    message::{Broadcast, Content, requests},
    proxied,
};
use crate::grip::{
    Header, Headers,
    publish::{MAX_BODY, PublishError},
};

/// Publishes the body.
pub(super) fn broadcast(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    let channel = match channels::published(request) {
        Ok(channel) => channel,
        Err(error) => return Reply::text(400, error).into(),
    };
    let publisher = match &settings.publisher {
        Ok(publisher) => publisher,
        Err(error) => return proxied::unusable(error).into(),
    };
    if let Err(refusal) = guard::broadcast(request, settings, &channel, now) {
        return refusal.into();
    }
    let Some(kind) = kind_of(request) else {
        let line = "Body must be text/plain, in UTF-8: add the header `Content-Type: text/plain` (curl -H 'Content-Type: text/plain' -d …), or application/octet-stream";
        return Reply::text(415, line).into();
    };
    let body = match request.body(MAX_BODY) {
        Ok(body) => body,
        Err(BodyError::TooLarge) => {
            return too_large(format_args!(
                "the publish request would be more than {MAX_BODY} bytes of JSON; the proxy takes at most {MAX_BODY}"
            ));
        }
        Err(BodyError::Incomplete) => return Reply::text(400, "The body did not arrive whole").into(),
    };
    let content = match (kind, str::from_utf8(&body)) {
        (Kind::Binary, _) => Content::Binary(&body),
        (Kind::Text, Ok(text)) => Content::Text(text),
        (Kind::Text, Err(error)) => {
            return Reply::text(400, format_args!("Body must be UTF-8: it is not at byte {}", error.valid_up_to()))
                .into();
        }
    };
    match requests(publisher, &[Broadcast::new(&channel, content, None)], now) {
        Ok(requests) => Action::publish(requests, answer),
        Err(error) => too_large(format_args!("{error}")),
    }
}

/// The answer to a broadcast. Only what the proxy accepted is `Ok`.
pub fn answer(published: Result<(), PublishError>) -> Reply {
    let Err(error) = published else { return Reply::text(200, "Ok") };
    let status = match error {
        PublishError::TooLarge(_) => 413,
        PublishError::Refused { .. } | PublishError::Unreachable => 502,
        PublishError::TimedOut => 504,
    };
    Reply::text(status, error).with_log(error)
}

fn too_large(what: std::fmt::Arguments<'_>) -> Action {
    let line = format_args!("The message is too large: {what} (about 16,000 bytes of plain text)");
    Reply::text(413, line).into()
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Binary,
}

/// `text/plain`, in UTF-8 or US-ASCII where it names a charset, or `application/octet-stream`.
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
