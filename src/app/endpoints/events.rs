//! `GET /api/events`: Server-Sent Events.

use super::subscribe::{Seen, Subscriber, subscribe};
use crate::{
    app::{
        access::{guard, proof::Source},
        error::Error,
        exchange::Exchange,
        history::cursor::Cursor,
        http::{Outcome, Response},
        messages::{
            envelope::Envelope,
            forms::{event, raw_event},
        },
    },
    grip::Hold,
};

/// How long a stream may be silent, in seconds: proxies between it and the client often wait for 30 to 60.
const KEEP_ALIVE: u32 = 20;

/// After how many seconds the proxy asks what was published before it had the subscription. Less than [`OVERLAP`]: a client
/// that is gone by then, and has younger messages, finds what it missed when it comes back.
///
/// [`OVERLAP`]: crate::app::history::recovery::OVERLAP
const NEXT: u32 = 1;

/// Holds a stream of events, with a comment at its start and whenever it is silent. Source: HTML, section 9.2.
pub(crate) fn events(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    subscribe(exchange, Seen::LastEventId, |subscriber| {
        let mut body = ": subscribed\n\n".to_owned();
        if subscriber.wants_json() {
            body.push_str(&event(subscriber.since, "message", &subscriber.welcome().to_json()));
        }
        push_missed(&mut body, subscriber);
        hold(body, subscriber, subscriber.link())
    })
}

/// Responds to the proxy when it requests the next link of a stream: with what was published meanwhile.
pub(crate) fn next(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    if guard::check_source(exchange)? == Source::Client {
        return Err(Error::NotProxied);
    }
    let history = exchange.settings.history.as_ref()?.as_ref().ok_or(Error::NotFound)?;
    let link = history.links().verify(exchange.request.path(), exchange.now).ok_or(Error::Link)?;
    let cursor = Cursor::from_link(&link);
    let subscriber = Subscriber::new(exchange, (link.format, link.channels, None), Some(cursor))?;
    let mut body = String::new();
    push_missed(&mut body, &subscriber);
    Ok(hold(body, &subscriber, None).into())
}

fn push_missed(body: &mut String, subscriber: &Subscriber<'_>) {
    if let Some(recovery) = subscriber.recovery.as_ref().filter(|recovery| recovery.lost.is_some()) {
        body.push_str(&event(subscriber.since, "reset", &Envelope::reset(recovery).to_json()));
    }
    for message in subscriber.missed() {
        if subscriber.wants_json() {
            body.push_str(&event(message.id, "message", &message.envelope()));
        } else {
            body.push_str(&raw_event(message.id, &message.content));
        }
    }
}

fn hold(body: String, subscriber: &Subscriber<'_>, link: Option<String>) -> Response {
    let hold = subscriber.hold(Hold::stream, None);
    let hold = hold.with_keep_alive(b":\n\n", KEEP_ALIVE).expect("the content is not empty");
    let with_link =
        |hold: Hold, link: String| hold.with_next(&link, Some(NEXT)).expect("a path has no other characters");
    Response::new(200, "text/event-stream", body).held(&link.into_iter().fold(hold, with_link))
}
