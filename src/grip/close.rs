//! Close codes.

/// The longest reason of a close frame, in bytes. Source: RFC 6455, section 5.5.
pub const MAX_REASON: usize = 123;

/// A status code that may be sent in a close frame: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
/// Source: RFC 6455, section 7.4, and the IANA registry of close codes.
///
/// ```
/// use fanout_edge::grip::CloseCode;
///
/// assert_eq!(CloseCode::new(1000), Some(CloseCode::NORMAL));
/// assert_eq!(CloseCode::new(1006), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The connection has fulfilled its purpose.
    pub const NORMAL: Self = Self(1000);
    /// This side goes away.
    pub const GOING_AWAY: Self = Self(1001);
    /// The other side violated the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The other side sent a type of message that this side does not accept.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// The other side sent text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// The other side violated a policy of this side.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// A message is too large to process.
    pub const TOO_BIG: Self = Self(1009);
    /// An unexpected condition prevents this side from fulfilling the request.
    pub const INTERNAL_ERROR: Self = Self(1011);

    /// Returns the code; `None` if it must not be sent.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}
