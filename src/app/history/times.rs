//! How far apart clocks may be, and what publishing takes, in milliseconds.

use crate::app::bounds::LEEWAY;

/// How long before the cursor of a client messages may be missing: before the id of a message, which its publisher may have
/// made.
pub(super) const OVERLAP: u64 = BEFORE + LEEWAY * 1000;

/// How much longer that is for an event stream: its client may have gone before what it missed while it opened arrived
/// ([`sweep`](super::sweep)), but after younger messages.
pub(super) const OPENING: u64 = 2000;

/// How long before a time of the service a message was stored, at most, that reaches the proxy's subscribers after it.
pub(super) const BEFORE: u64 = LATE + AHEAD;

/// How long publishing a message may take before it is kept once more, under the time at its end: a client that has younger
/// ones by then may not have it.
pub(super) const LATE: u64 = 1000;

/// How long the proxy may take to have the subscription of a client.
pub(super) const SUBSCRIBED: u64 = 1000;

/// How far the clock of a sandbox may be ahead of another one's.
pub(super) const AHEAD: u64 = 500;
