//! The headers of a request, as the protocols look at them.

/// The headers of a request, as far as the protocol looks at them: each of them has one value.
///
/// ```
/// use fanout_edge::grip::{Header, Headers};
///
/// let headers = [("connection-id", "c1")];
/// assert_eq!(headers.header("connection-id"), Header::Value("c1"));
/// assert_eq!(headers.header("grip-sig"), Header::Missing);
/// ```
pub trait Headers {
    /// The header of that name, in whatever case it was sent.
    fn header(&self, name: &str) -> Header<'_>;
}

/// Names, in lower case, and values that are there once.
impl<const N: usize> Headers for [(&str, &str); N] {
    fn header(&self, name: &str) -> Header<'_> {
        self.iter().find(|(known, _)| *known == name).map_or(Header::Missing, |(_, value)| Header::Value(value))
    }
}

/// One header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header<'a> {
    /// It is not there.
    Missing,
    /// It is there once.
    Value(&'a str),
    /// It is there more than once, or is not text.
    Invalid,
}

impl<'a> Header<'a> {
    /// The one value, if it is there once and is text.
    ///
    /// ```
    /// use fanout_edge::grip::Header;
    ///
    /// assert_eq!(Header::Value("a").value(), Some("a"));
    /// assert_eq!(Header::Invalid.value(), None);
    /// ```
    pub const fn value(self) -> Option<&'a str> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }
}
