//! `GET /api/events`: Server-Sent Events.

use super::{
    next::{Stream, kept_alive},
    subscribe::{Kind, Subscriber, subscribe},
};
use crate::{
    app::{
        error::Error,
        exchange::Exchange,
        messages::{envelope::Envelope, forms::event},
        web::{Outcome, Response},
    },
    grip::Hold,
};

/// Holds a stream of events, with a comment at its start and whenever it is silent. Source: HTML, section 9.2.
pub(crate) fn events(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    subscribe(exchange, Kind::Events, |subscriber| {
        let response = Response::new(200, "text/event-stream", body(subscriber));
        if subscriber.replay.as_ref().is_some_and(|replay| replay.more) {
            // It ends here: an `EventSource` comes back by itself, with the cursor that stands last.
            return response;
        }
        let own = subscriber.gap.as_ref().map(|gap| gap.own());
        let hold = match subscriber.token {
            Some(token) => {
                let channels = subscriber.channels_at_proxy().chain(own.cloned()).collect();
                Stream::new(token.expires_at, token.fingerprint(), subscriber.format, channels).hold(subscriber.now)
            }
            None => kept_alive(own.into_iter().fold(subscriber.hold(Hold::stream), Hold::with_channel)),
        };
        response.held(&hold)
    })
}

/// What the stream begins with.
fn body(subscriber: &Subscriber<'_>) -> String {
    let mut body = ": subscribed\n".to_owned();
    if subscriber.is_kept {
        // A browser that reconnects before the first message says this.
        body.push_str(&format!("id: {}\n", subscriber.first_since()));
    }
    body.push('\n');
    if subscriber.format.is_json() {
        let since = subscriber.first_since();
        let welcome = subscriber.welcome(Some(since).filter(|_| subscriber.is_kept));
        body.push_str(&event(since, "message", &welcome.to_json()));
    }
    let Some(replay) = &subscriber.replay else { return body };
    if let Some(lost) = &replay.lost {
        let reset = Envelope::reset(replay.since, lost.to_string());
        body.push_str(&event(replay.since, "reset", &reset.to_json()));
    }
    for message in &replay.messages {
        body.push_str(&message.message.event(subscriber.format));
    }
    // An `EventSource` waits for so long before it comes back, from now on.
    if replay.more {
        body.push_str(&format!("id: {}\nretry: {SOON}\n\n", replay.since));
    } else {
        body.push_str(&format!("retry: {LATER}\n\n"));
    }
    body
}

/// After how many milliseconds a client comes back for the next page.
const SOON: u32 = 100;

/// After how many milliseconds it comes back otherwise.
const LATER: u32 = 3000;
