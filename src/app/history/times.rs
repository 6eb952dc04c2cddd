//! How far apart clocks may be, and what publishing takes, in milliseconds.

/// How long before its cursor a client may have missed a message: one that was on its way to the store or to the proxy when a
/// younger one arrived, or that was made by a clock that is behind. It is [`LATE`] and [`AHEAD`] together.
pub(super) const OVERLAP: u64 = LATE + AHEAD;

/// How long publishing a message may take before it is kept once more, under the time at its end: a client that has younger
/// ones by then may not have it.
pub(super) const LATE: u64 = 1000;

/// How far the clock of a sandbox may be ahead of another one's.
pub(super) const AHEAD: u64 = 1000;
