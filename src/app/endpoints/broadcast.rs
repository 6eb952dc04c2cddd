//! `POST /api/broadcast`: one message to every subscriber of a channel, or to one user, on whatever transport.

use http::header::HeaderValue;
use mediatype::{
    MediaType, ReadParams,
    names::{APPLICATION, CHARSET, OCTET_STREAM, PLAIN, TEXT},
};

use crate::{
    app::{
        access::{
            admit::{Ask, admit},
            right::Right,
            token::Identity,
        },
        bounds::{MAX_BACKEND_REQUESTS, MAX_MESSAGE, MAX_OPERATIONS},
        broadcast::Broadcast,
        command::{BROADCAST, Command},
        error::Error,
        exchange::Exchange,
        messages::{content::Content, forms::MESSAGE_ID, id::MessageId, published::Published},
        outbox::Outbox,
        web::{Outcome, Response},
    },
    grip::{Header, Headers},
};

/// Publishes the body. Only what the proxy accepted is `Ok`.
pub(crate) fn broadcast(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let command = Command::of(exchange.request, BROADCAST)?;
    let target = command.target()?;
    let id = command.id.as_deref().map(|id| MessageId::parse(id, exchange.now)).transpose()?;
    exchange.settings.publisher.as_ref()?;
    let sender = admit(exchange, Ask::Target(Right::Write, &target))?;
    // Before anything is done for it. It is counted when it is about to be sent.
    sender.check_limit(exchange)?;
    let kind = kind_of(exchange.request)?;
    let body = exchange.body(MAX_MESSAGE)?;
    let mut content = match kind {
        Kind::Binary => Content::from(&*body),
        Kind::Text => {
            let text = str::from_utf8(&body).map_err(|error| Error::NotUtf8 { at: error.valid_up_to() })?;
            Content::from(text)
        }
    };
    if let Some(check) = &exchange.service.on_broadcast {
        let mut broadcast = Broadcast { target: &target, sender: sender.sender(), content };
        check(&mut broadcast)?;
        content = broadcast.content;
    }
    let id = id.unwrap_or_else(|| MessageId::new(exchange.platform));
    let from = sender.sender().identity().and_then(Identity::user);
    let message = Published::new(id, target.channel(), content, from, command.except.as_deref());
    let mut outbox = Outbox::new(exchange.settings, exchange.now);
    let id = outbox.publish(message, MAX_BACKEND_REQUESTS)?;
    sender.count(exchange)?;
    // A retry of what was perhaps published names the same id, so errors have it, too.
    let id = HeaderValue::try_from(id.to_string()).expect("a UUID is printable ASCII");
    let (_, sent) = outbox.send(exchange.platform, MAX_OPERATIONS);
    let response = sent.map_or_else(|error| error.response(), |()| Response::text(200, "Ok"));
    Ok(response.with_header(MESSAGE_ID, id).into())
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Binary,
}

/// `text/plain`, in UTF-8 or US-ASCII if it names a charset, or `application/octet-stream`, neither of them compressed.
/// Source: RFC 9110, sections 8.3.1 and 8.4.1, and the labels of UTF-8 in the Encoding standard that are in use.
///
/// # Errors
/// [`Error::ContentCoding`], [`Error::MediaType`] or [`Error::Charset`].
fn kind_of(headers: &(impl Headers + ?Sized)) -> Result<Kind, Error> {
    const UTF_8: [&str; 4] = ["utf-8", "utf8", "us-ascii", "ascii"];
    match headers.header("content-encoding") {
        Header::Missing => {}
        Header::Value(coding) if coding.trim().eq_ignore_ascii_case("identity") => {}
        Header::Value(_) | Header::Invalid => return Err(Error::ContentCoding),
    }
    let Header::Value(value) = headers.header("content-type") else { return Err(Error::MediaType) };
    let media = MediaType::parse(value.trim()).map_err(|_| Error::MediaType)?;
    if media.essence() == MediaType::new(APPLICATION, OCTET_STREAM) {
        return Ok(Kind::Binary);
    }
    if media.essence() != MediaType::new(TEXT, PLAIN) {
        return Err(Error::MediaType);
    }
    let is_utf8 = |charset: &str| UTF_8.iter().any(|known| charset.eq_ignore_ascii_case(known));
    let mut charsets = media.params().filter(|(name, _)| *name == CHARSET);
    if charsets.all(|(_, charset)| is_utf8(&charset.unquoted_str())) { Ok(Kind::Text) } else { Err(Error::Charset) }
}
