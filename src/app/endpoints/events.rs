//! `GET /api/events`: Server-Sent Events.

use super::subscribe::{Seen, subscribe};
use crate::{
    app::{
        error::Error,
        exchange::Exchange,
        http::{Outcome, Response},
        messages::{envelope::Envelope, forms::event},
    },
    grip::Hold,
};

/// How long a stream may be silent, in seconds: proxies between it and the client often wait for 30 to 60.
const KEEP_ALIVE: u32 = 20;

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
        let hold = subscriber.hold(Hold::stream);
        let hold = own.into_iter().fold(hold, Hold::with_channel);
        let hold = hold.with_keep_alive(b":\n\n", KEEP_ALIVE).expect("the content is not empty");
        Response::new(200, "text/event-stream", body).held(&hold)
    })
}
