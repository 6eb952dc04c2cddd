//! How far apart clocks may be, and what publishing takes, in milliseconds.

use crate::app::bounds::LEEWAY;

/// How long before a cursor a message may be stored that its client has not seen. A message takes up to [`LATE`] to be
/// published, by a sandbox whose clock may be [`AHEAD`]; the cursor may be an id that its publisher made [`LEEWAY`] ahead; and an
/// event stream may end before the messages of its [`gap`](super::gap) have followed, but after younger ones came. Others measured
/// 3 s until another place of Fastly sees a write, which this covers, too, except in such a gap.
pub(super) const OVERLAP: u64 = BEFORE + LEEWAY * 1000 + GAP;

/// How long the gap of an event stream stays open: until the service has looked again, and published what it found.
const GAP: u64 = 2500;

/// How long before a time of the service a message was stored, at most, that reaches the proxy's subscribers after it.
pub(super) const BEFORE: u64 = LATE + AHEAD;

/// How long publishing a message may take before it is kept once more, under the time at its end: a client that has younger
/// ones by then may not have it.
pub(super) const LATE: u64 = 1000;

/// How long the proxy may take to have the subscription of a client.
pub(super) const SUBSCRIBED: u64 = 1000;

/// How far the clock of a sandbox may be ahead of another one's.
pub(super) const AHEAD: u64 = 500;

/// How old the cursor of a client may be when it loses its connection: while messages arrive, it verifies its cursor once a
/// minute, and if that fails again half a minute later.
pub(super) const VERIFIED: u64 = 120_000;
