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

/// Holds a stream of events, with a comment at its start and whenever it is silent. Source: HTML, section 9.2.
pub(crate) fn events(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    subscribe(exchange, Seen::LastEventId, |subscriber| {
        let mut body = ": subscribed\n\n".to_owned();
        if subscriber.wants_json() {
            body.push_str(&event(subscriber.since, "message", &subscriber.welcome().to_json()));
        }
        push_missed(&mut body, subscriber);
        let Some(link) = subscriber.link() else { return held(body, subscriber.hold(Hold::stream)) };
        let hold = subscriber.hold_after(Hold::stream, |channel| Some(subscriber.last(channel)));
        held(body, hold.with_next(&link, None).expect("a path has no other characters"))
    })
}

/// Responds to the proxy when it requests the next link of a stream: when it has the subscription, if it then knows of another
/// message than the hold named, or else as soon as there is one, which is to be in the response; or after two minutes.
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
    Ok(held(body, subscriber.hold(Hold::stream)).into())
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

fn held(body: String, hold: Hold) -> Response {
    let hold = hold.with_keep_alive(b":\n\n", KEEP_ALIVE).expect("the content is not empty");
    Response::new(200, "text/event-stream", body).held(&hold)
}
