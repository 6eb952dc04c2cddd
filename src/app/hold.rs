//! `GET /api/events`, `/api/stream` and `/api/poll`: subscribers over plain HTTP, whose answer the proxy holds.

use super::{
    Action, Reply, Request, Settings,
    channels::{self, of_events, of_lines},
    proxied::{self, SELF_BACKEND},
};
use crate::grip::{Channel, GripStatus, Hold, hold::InvalidHold};

/// How long nothing may be sent on a stream, in seconds: what is between client and proxy often waits for 30 to 60.
const KEEP_ALIVE: u32 = 20;

/// How long a poll waits, in seconds.
const POLL_TIMEOUT: u32 = 25;

/// Nothing between proxy and client is to keep, change or gather what passes.
const UNCACHED: [(&str, &str); 2] = [("cache-control", "no-store, no-transform"), ("x-accel-buffering", "no")];

/// Server-Sent Events.
pub(super) fn events(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    held(request, settings, now, "text/event-stream", |channels| {
        let hold = stream(channels.iter().map(of_events)).with_keep_alive(b":\n\n", KEEP_ALIVE)?;
        Ok((hold, 200, ": subscribed\n\n"))
    })
}

/// Messages as lines of text.
pub(super) fn lines(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    held(request, settings, now, "text/plain; charset=utf-8", |channels| {
        Ok((stream(channels.iter().map(of_lines)), 200, ""))
    })
}

/// The next message, or 204.
pub(super) fn poll(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    held(request, settings, now, "text/plain; charset=utf-8", |channels| {
        Ok((hold(Hold::response, channels.iter().cloned()).with_timeout(POLL_TIMEOUT), 204, ""))
    })
}

fn stream(channels: impl Iterator<Item = Channel>) -> Hold {
    hold(Hold::stream, channels)
}

fn hold(kind: fn(&Channel) -> Hold, mut channels: impl Iterator<Item = Channel>) -> Hold {
    let first = channels.next().expect("a subscriber has a channel");
    channels.fold(kind(&first), |hold, channel| hold.with_channel(&channel))
}

type Held = Result<(Hold, u16, &'static str), InvalidHold>;

/// Hands the client over to the proxy, and answers the proxy when it asks for the client.
fn held(
    request: &dyn Request,
    settings: &Settings,
    now: u64,
    content_type: &'static str,
    hold: impl Fn(&[Channel]) -> Held,
) -> Action {
    let channels = match channels::subscribed(request) {
        Ok(channels) => channels,
        Err(error) => return Reply::text(400, error).into(),
    };
    match proxied::status(request, settings, now) {
        Ok(GripStatus::NotProxied) => Action::HandOff { backend: SELF_BACKEND },
        Ok(GripStatus::Signed { .. }) => {
            let (hold, status, body) = hold(&channels).expect("the keep-alive is not empty");
            let mut reply = Reply { status, headers: Vec::new(), body: body.into(), log: None };
            reply.headers.push(("content-type".into(), content_type.into()));
            reply.headers.extend(UNCACHED.map(|(name, value)| (name.into(), value.into())));
            reply.headers.extend(hold.headers().into_iter().map(|(name, value)| (name.into(), value.into())));
            reply.into()
        }
        Ok(status @ GripStatus::NeedsSignature(_)) => proxied::refused(status),
        Err(refusal) => refusal.into(),
    }
}
