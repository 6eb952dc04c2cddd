//! What the paths of subscribers over plain HTTP have in common: the proxy holds the answer.

use super::{
    Action, Reply, Request, Settings,
    access::Right,
    channels, guard,
    proxied::{self, SELF_BACKEND},
};
use crate::grip::{Channel, GripStatus, Hold};

/// Nothing between proxy and client is to keep, change or gather what passes.
const UNCACHED: [(&str, &str); 2] = [("cache-control", "no-store, no-transform"), ("x-accel-buffering", "no")];

/// Hands the client over to the proxy, and answers the proxy when it asks for the client: with the reply, held.
pub(super) fn subscribe(
    request: &dyn Request,
    settings: &Settings,
    now: u64,
    reply: Reply,
    hold: impl Fn(&[Channel]) -> Hold,
) -> Action {
    let channels = match channels::subscribed(request) {
        Ok(channels) => channels,
        Err(error) => return Reply::text(400, error).into(),
    };
    match proxied::status(request, settings, now) {
        Ok(GripStatus::NotProxied) => match guard::opening(request, settings, &[Right::Read], &channels, now) {
            Ok(()) => Action::HandOff { backend: SELF_BACKEND },
            Err(refusal) => refusal.into(),
        },
        Ok(GripStatus::Signed { .. }) => {
            if let Err(refusal) = guard::access(request, settings, &[Right::Read], &channels, now) {
                return refusal.into();
            }
            let mut reply = reply;
            reply.headers.extend(UNCACHED.map(|(name, value)| (name.into(), value.into())));
            let grip = hold(&channels).headers();
            reply.headers.extend(grip.into_iter().map(|(name, value)| (name.into(), value.into())));
            reply.into()
        }
        Ok(status @ GripStatus::NeedsSignature(_)) => proxied::refused(status),
        Err(refusal) => refusal.into(),
    }
}

/// A hold of that kind on all of the channels, of which there is at least one.
pub(super) fn on(kind: fn(&Channel) -> Hold, channels: impl IntoIterator<Item = Channel>) -> Hold {
    let mut channels = channels.into_iter();
    let first = channels.next().expect("a subscriber has a channel");
    channels.fold(kind(&first), |hold, channel| hold.with_channel(&channel))
}
