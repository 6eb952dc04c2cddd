//! The headers of a request, as the protocols look at them.

use http::HeaderMap;

/// The headers of a request, as far as the protocol looks at them: each of them has one value.
///
/// It is there for lists of names and values, and for the [`HeaderMap`] that most HTTP libraries use.
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
    ///
    /// ```
    /// use fanout_edge::grip::{Header, Headers};
    ///
    /// let headers = vec![("Grip-Last".to_owned(), "a; last-id=1".to_owned()); 2];
    /// assert_eq!(headers.header("grip-last"), Header::Invalid);
    /// ```
    fn header(&self, name: &str) -> Header<'_>;
}

impl<const N: usize> Headers for [(&str, &str); N] {
    fn header(&self, name: &str) -> Header<'_> {
        in_list(self, name)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> Headers for &[(N, V)] {
    fn header(&self, name: &str) -> Header<'_> {
        in_list(self, name)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> Headers for Vec<(N, V)> {
    fn header(&self, name: &str) -> Header<'_> {
        in_list(self, name)
    }
}

impl Headers for HeaderMap {
    fn header(&self, name: &str) -> Header<'_> {
        Header::of(self.get_all(name).iter().map(|value| value.to_str().ok()))
    }
}

fn in_list<'a>(list: &'a [(impl AsRef<str>, impl AsRef<str>)], name: &str) -> Header<'a> {
    let named = list.iter().filter(|(known, _)| known.as_ref().eq_ignore_ascii_case(name));
    Header::of(named.map(|(_, value)| Some(value.as_ref())))
}

/// One header of a request.
///
/// ```
/// use fanout_edge::grip::Header;
///
/// assert_eq!(Header::of([Some("a")]), Header::Value("a"));
/// assert_eq!(Header::of([Some("a"), Some("b")]), Header::Invalid);
/// assert_eq!(Header::of([]), Header::Missing);
/// ```
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
    /// The header that a request has with these values; `None` is one that is not text.
    ///
    /// ```
    /// use fanout_edge::grip::Header;
    ///
    /// assert_eq!(Header::of([None]), Header::Invalid);
    /// ```
    pub fn of(values: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Missing,
            (Some(Some(value)), None) => Self::Value(value),
            (Some(_), _) => Self::Invalid,
        }
    }

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

/// What a client has of each channel: the header `Grip-Last` of a request that follows a next link or a hint.
///
/// # Format
/// `channel; last-id=id`, more of them separated by commas. What does not fit is left out.
///
/// ```
/// use fanout_edge::grip::headers::last_ids;
///
/// assert_eq!(last_ids("room; last-id=4, other; last-id=x7").collect::<Vec<_>>(), [("room", "4"), ("other", "x7")]);
/// ```
pub fn last_ids(grip_last: &str) -> impl Iterator<Item = (&str, &str)> {
    grip_last.split(',').filter_map(|entry| {
        let (channel, parameters) = entry.split_once(';')?;
        let id = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("last-id="))?;
        Some((channel.trim(), id)).filter(|(channel, id)| !channel.is_empty() && !id.is_empty())
    })
}

/// Whether the proxy says that it can do something: the header `Grip-Feature` of each of its requests.
///
/// ```
/// use fanout_edge::grip::headers::has_feature;
///
/// assert!(has_feature("status, session, link:next, filter:skip-self", "filter:skip-self"));
/// ```
pub fn has_feature(grip_feature: &str, feature: &str) -> bool {
    grip_feature.split(',').any(|known| known.trim() == feature)
}

/// Whether the text can be the value of a header: printable ASCII characters. Source: RFC 9110, section 5.5.
pub(super) fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
