//! The proof that a request came through the proxy.

/// The proof that a request came through the proxy, by a signature ([`GripStatus`](super::GripStatus)) or a ticket
/// ([`Tickets`](super::Tickets)) that was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    expires_at: u64,
}

impl Signed {
    #[cfg(feature = "jwt")]
    pub(super) const fn until(expires_at: u64) -> Self {
        Self { expires_at }
    }

    /// Returns a proof of nothing, until a time in seconds since 1970: for tests, and for a proxy that is trusted in another way.
    pub const fn unverified(expires_at: u64) -> Self {
        Self { expires_at }
    }

    /// When it expires, in seconds since 1970.
    pub const fn expires_at(self) -> u64 {
        self.expires_at
    }
}
