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
///
/// Another type of request needs one method:
///
/// ```
/// use fanout_edge::grip::{Header, Headers};
///
/// struct Request(Vec<(String, Vec<u8>)>);
///
/// impl Headers for Request {
///     fn each_line<'a>(&'a self, name: &str, take: &mut dyn FnMut(Option<&'a str>)) {
///         let named = self.0.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
///         named.for_each(|(_, value)| take(str::from_utf8(value).ok()));
///     }
/// }
///
/// let request = Request(vec![("Grip-Sig".to_owned(), b"a token".to_vec())]);
/// assert_eq!(request.header("grip-sig"), Header::Value("a token"));
/// ```
pub trait Headers {
    /// Calls a function with each line of the header with that name, in their order; `None` stands for one that is not text. Names
    /// are case-insensitive.
    fn each_line<'a>(&'a self, name: &str, take: &mut dyn FnMut(Option<&'a str>));

    /// The header with that name. Names are case-insensitive.
    fn header(&self, name: &str) -> Header<'_> {
        let mut header = Header::Missing;
        self.each_line(name, &mut |line| {
            header = match (header, line) {
                (Header::Missing, Some(text)) => Header::Value(text),
                _ => Header::Invalid,
            };
        });
        header
    }

    /// The elements of a header that is a list, which may stand in several lines. Lines that are not text are skipped.
    /// Source: RFC 9110, sections 5.3 and 5.6.1.
    ///
    /// ```
    /// use fanout_edge::grip::Headers;
    ///
    /// let headers = [("grip-last", "a, b,"), ("grip-last", " c")];
    /// assert_eq!(headers.list("Grip-Last"), ["a", "b", "c"]);
    /// ```
    fn list(&self, name: &str) -> Vec<&str> {
        let mut list = Vec::new();
        self.each_line(name, &mut |line| {
            let elements = line.into_iter().flat_map(|line| line.split(',')).map(str::trim);
            list.extend(elements.filter(|element| !element.is_empty()));
        });
        list
    }
}

impl<const N: usize> Headers for [(&str, &str); N] {
    fn each_line<'a>(&'a self, name: &str, take: &mut dyn FnMut(Option<&'a str>)) {
        each_in_list(self, name, take);
    }
}

impl<N: AsRef<str>, V: AsRef<str>> Headers for &[(N, V)] {
    fn each_line<'a>(&'a self, name: &str, take: &mut dyn FnMut(Option<&'a str>)) {
        each_in_list(self, name, take);
    }
}

impl<N: AsRef<str>, V: AsRef<str>> Headers for Vec<(N, V)> {
    fn each_line<'a>(&'a self, name: &str, take: &mut dyn FnMut(Option<&'a str>)) {
        each_in_list(self, name, take);
    }
}

impl Headers for HeaderMap {
    fn each_line<'a>(&'a self, name: &str, take: &mut dyn FnMut(Option<&'a str>)) {
        self.get_all(name).iter().for_each(|value| take(value.to_str().ok()));
    }
}

impl<B> Headers for http::Request<B> {
    fn each_line<'a>(&'a self, name: &str, take: &mut dyn FnMut(Option<&'a str>)) {
        self.headers().each_line(name, take);
    }
}

impl Headers for http::request::Parts {
    fn each_line<'a>(&'a self, name: &str, take: &mut dyn FnMut(Option<&'a str>)) {
        self.headers.each_line(name, take);
    }
}

fn each_in_list<'a>(list: &'a [(impl AsRef<str>, impl AsRef<str>)], name: &str, take: &mut dyn FnMut(Option<&'a str>)) {
    let named = list.iter().filter(|(known, _)| known.as_ref().eq_ignore_ascii_case(name));
    named.for_each(|(_, value)| take(Some(value.as_ref())));
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
