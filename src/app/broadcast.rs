//! `POST /api/broadcast`: one text to every WebSocket client that is connected.

use super::{Action, CHANNEL, Reply, Request, Settings, http::BodyError};
use crate::grip::{
    Formats, Header, Headers, Item, WsMessage,
    publish::{MAX_BODY, PublishError},
};

/// The backend behind which the proxy's publish API is.
const PUBLISHER_BACKEND: &str = "publisher";

/// Publishes the body.
pub(super) fn broadcast(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    if !is_plain_text(request) {
        let line = "Body must be text/plain, in UTF-8: add the header `Content-Type: text/plain` (curl -H 'Content-Type: text/plain' -d …)";
        return Reply::text(415, line).into();
    }
    let publisher = match &settings.publisher {
        Ok(publisher) => publisher,
        Err(error) => return Reply::text(503, error).with_log(error).into(),
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
    let text = match str::from_utf8(&body) {
        Ok(text) => text,
        Err(error) => {
            return Reply::text(400, format_args!("Body must be UTF-8: it is not at byte {}", error.valid_up_to()))
                .into();
        }
    };
    let item = Item::new(&CHANNEL, Formats { ws_message: Some(WsMessage::text(text)), ..Formats::default() });
    match publisher.request(&[item], now) {
        Ok(request) => Action::Publish { backend: PUBLISHER_BACKEND, request },
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
    Reply::text(413, format_args!("The message is too large: {what}")).into()
}

/// `text/plain`, in UTF-8 or US-ASCII where it names a charset. Source: RFC 9110, section 8.3.1.
fn is_plain_text(headers: &(impl Headers + ?Sized)) -> bool {
    let Header::Value(value) = headers.header("content-type") else { return false };
    let mut parts = value.split(';').map(str::trim);
    let is_text = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("text/plain"));
    is_text
        && parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
            let charset = value.trim_matches('"');
            !name.eq_ignore_ascii_case("charset")
                || ["utf-8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
        })
}
