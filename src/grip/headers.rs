//! The request headers that the protocols use.

use http::{HeaderMap, HeaderValue};

/// The headers of a request: a list of names and values, or a [`HeaderMap`]. Most headers that the protocols use have
/// one value, others are lists.
///
/// ```
/// use fanout_edge::grip::{Header, Headers};
///
/// let headers = [("Connection-Id", "c1"), ("Grip-Last", "a; last-id=1"), ("Grip-Last", "b; last-id=2")];
/// assert_eq!(headers.header("connection-id"), Header::Value("c1"));
/// assert_eq!(headers.header("grip-sig"), Header::Missing);
/// assert_eq!(headers.header("grip-last"), Header::Invalid);
/// ```
pub trait Headers {
    /// The header with that name. Names are case-insensitive.
    fn header(&self, name: &str) -> Header<'_>;

    /// The elements of a header that is a list, which may stand in several lines. Lines that are not text are skipped. See
    /// [`elements`].
    fn list(&self, name: &str) -> Vec<&str>;
}

impl<const N: usize> Headers for [(&str, &str); N] {
    fn header(&self, name: &str) -> Header<'_> {
        Header::of(in_list(self, name))
    }

    fn list(&self, name: &str) -> Vec<&str> {
        elements(in_list(self, name))
    }
}

impl<N: AsRef<str>, V: AsRef<str>> Headers for &[(N, V)] {
    fn header(&self, name: &str) -> Header<'_> {
        Header::of(in_list(self, name))
    }

    fn list(&self, name: &str) -> Vec<&str> {
        elements(in_list(self, name))
    }
}

impl<N: AsRef<str>, V: AsRef<str>> Headers for Vec<(N, V)> {
    fn header(&self, name: &str) -> Header<'_> {
        Header::of(in_list(self, name))
    }

    fn list(&self, name: &str) -> Vec<&str> {
        elements(in_list(self, name))
    }
}

impl Headers for HeaderMap {
    fn header(&self, name: &str) -> Header<'_> {
        Header::of(self.get_all(name).iter().map(|value| value.to_str().ok()))
    }

    fn list(&self, name: &str) -> Vec<&str> {
        elements(self.get_all(name).iter().map(|value| value.to_str().ok()))
    }
}

fn in_list<'a>(list: &'a [(impl AsRef<str>, impl AsRef<str>)], name: &str) -> impl Iterator<Item = Option<&'a str>> {
    let named = list.iter().filter(move |(known, _)| known.as_ref().eq_ignore_ascii_case(name));
    named.map(|(_, value)| Some(value.as_ref()))
}

/// The elements of a list in these lines; `None` stands for one that is not text, and is skipped. Source: RFC 9110, sections
/// 5.3 and 5.6.1.
///
/// ```
/// use fanout_edge::grip::headers::elements;
///
/// assert_eq!(elements([Some("a, b,"), None, Some(" c")]), ["a", "b", "c"]);
/// ```
pub fn elements<'a>(lines: impl IntoIterator<Item = Option<&'a str>>) -> Vec<&'a str> {
    let elements = lines.into_iter().flatten().flat_map(|line| line.split(',')).map(str::trim);
    elements.filter(|element| !element.is_empty()).collect()
}

/// One header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header<'a> {
    /// The request does not have the header.
    Missing,
    /// The request has the header once, with this text.
    Value(&'a str),
    /// The request has the header more than once, or its value is not text.
    Invalid,
}

impl<'a> Header<'a> {
    /// Returns the header with these values; `None` stands for one that is not text.
    ///
    /// ```
    /// use fanout_edge::grip::Header;
    ///
    /// assert_eq!(Header::of([Some("a")]), Header::Value("a"));
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

    /// The value; `None` if the header is missing or invalid.
    pub const fn value(self) -> Option<&'a str> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }
}

/// The id of the last item that a client received on each channel, from the header `Grip-Last`. The proxy sends it when
/// it requests a next link, or a held request again.
///
/// # Format
/// `channel; last-id=id`, separated by commas. Invalid entries are skipped.
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

/// Whether the proxy supports a feature, from the header `Grip-Feature` of each of its requests.
///
/// ```
/// use fanout_edge::grip::headers::has_feature;
///
/// assert!(has_feature("status, session, link:next, filter:skip-self", "filter:skip-self"));
/// ```
pub fn has_feature(grip_feature: &str, feature: &str) -> bool {
    grip_feature.split(',').any(|known| known.trim() == feature)
}

/// The text as the value of a header; `None` if it has other characters than printable ASCII. Source: RFC 9110,
/// section 5.5, which advises against others.
pub(super) fn printable(text: &str) -> Option<HeaderValue> {
    let is_printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    HeaderValue::from_str(text).ok().filter(|_| is_printable)
}
