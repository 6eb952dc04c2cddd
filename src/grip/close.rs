//! Close codes.

/// The longest reason of a close, in bytes. Source: RFC 6455, section 5.5.
///
/// ```
/// use fanout_edge::grip::{CloseCode, WebSocket, close::MAX_REASON};
///
/// let headers = [("connection-id", "c1")];
/// let mut ws = WebSocket::new(&headers, b"")?;
/// ws.close_with_reason(CloseCode::NORMAL, &"x".repeat(1000));
/// assert_eq!(ws.into_answer().body.len(), "CLOSE 7d\r\n".len() + 2 + MAX_REASON + "\r\n".len());
/// # Ok::<(), fanout_edge::grip::websocket::RequestError>(())
/// ```
pub const MAX_REASON: usize = 123;

/// A status code that may be sent in a close frame: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
/// Source: RFC 6455, section 7.4, and the registry of close codes that it set up.
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
    /// The purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The other side broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The other side sent text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// The other side may not do what it did.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// Something unexpected keeps this side from doing what was asked of it.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// Something is too large to be dealt with.
    pub const TOO_BIG: Self = Self(1009);

    /// `None` where the code must not be sent.
    ///
    /// ```
    /// use fanout_edge::grip::CloseCode;
    ///
    /// assert!(CloseCode::new(4000).is_some());
    /// assert!(CloseCode::new(0).is_none());
    /// ```
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number.
    ///
    /// ```
    /// use fanout_edge::grip::CloseCode;
    ///
    /// assert_eq!(CloseCode::TOO_BIG.get(), 1009);
    /// ```
    pub const fn get(self) -> u16 {
        self.0
    }
}
