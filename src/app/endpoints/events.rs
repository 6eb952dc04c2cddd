//! `GET /api/events`: Server-Sent Events.

use super::{
    next::{Stream, kept_alive},
    subscribe::{Seen, subscribe},
};
use crate::{
    app::{
        error::Error,
        exchange::Exchange,
        http::{Outcome, Response},
        messages::{envelope::Envelope, forms::event},
    },
    grip::Hold,
};

/// Holds a stream of events, with a comment at its start and whenever it is silent. Source: HTML, section 9.2.
pub(crate) fn events(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    subscribe(exchange, Seen::LastEventId, |subscriber, own| {
        let mut body = ": subscribed\n".to_owned();
        if subscriber.history.is_some() {
            // A browser that reconnects before the first message says this.
            body.push_str(&format!("id: {}\n", subscriber.first_since()));
        }
        body.push('\n');
        if subscriber.format.is_json() {
            body.push_str(&event(subscriber.first_since(), "message", &subscriber.welcome().to_json()));
        }
        if let Some(lost) = subscriber.lost() {
            body.push_str(&event(
                subscriber.since(),
                "reset",
                &Envelope::reset(subscriber.since(), lost.to_string()).to_json(),
            ));
        }
        for message in subscriber.missed() {
            body.push_str(&message.event(subscriber.format));
        }
        let hold = match subscriber.token {
            Some((expires_at, key)) => {
                let channels = subscriber.channels_at_proxy().chain(own.cloned()).collect();
                Stream::new(expires_at, key.hash(), subscriber.format, channels).hold(subscriber.now)
            }
            None => kept_alive(own.into_iter().fold(subscriber.hold(Hold::stream), Hold::with_channel)),
        };
        Response::new(200, "text/event-stream", body).held(&hold)
    })
}
