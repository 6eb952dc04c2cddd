//! How long the forms of a message are as JSON, before any of them is built.

use super::content::Content;
use crate::{
    app::{bounds::MAX_MESSAGE, error::Error},
    grip::{Channel, publish::MAX_BODY},
};

/// The JSON around a form that is an item of its own, at most: its id, headers, an envelope.
const AROUND: usize = 450;

/// The JSON around the content in the two items of a message, at most, without the names of its channel and user.
const AROUND_RAW: usize = 440;
const AROUND_JSON: usize = 800;

/// What a publish request has around its items.
const REQUEST: usize = 16;

/// How long the forms of a message are in a publish request, in bytes; at most some hundred bytes more than they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The item on the channel itself, and that of the envelopes.
    pub(crate) items: [usize; 2],
}

impl Sizes {
    /// The sizes of a message for a channel, by a user if a verified token named one.
    ///
    /// # Errors
    /// [`Error::MessageTooLarge`] if one of its forms does not fit into a publish request.
    pub(crate) fn of(content: &Content<'_>, channel: &Channel, from: Option<&str>) -> Result<Self, Error> {
        let length = content.len();
        let Escaped { once, twice, event } = Escaped::of(content);
        let name = channel.as_str().len();
        let from = from.map_or(0, |from| Escaped::text(from.as_bytes()).twice);
        let (longest, around) = (once.max(twice).max(event), AROUND + 2 * name + from);
        if length > MAX_MESSAGE || !Self::fits(longest + around) {
            let limit = MAX_MESSAGE.min(Escaped::prefix(content, MAX_BODY - REQUEST - around));
            return Err(Error::MessageTooLarge { limit });
        }
        Ok(Self { items: [AROUND_RAW + name + 2 * once + event, AROUND_JSON + 4 * name + 3 * (from + twice)] })
    }

    /// Both items.
    pub(crate) const fn all(&self) -> usize {
        self.items[0] + self.items[1]
    }

    /// Whether so much JSON fits into one publish request.
    pub(crate) const fn fits(length: usize) -> bool {
        length + REQUEST <= MAX_BODY
    }
}

/// The lengths of a content in JSON strings. Source: RFC 8259, section 7, and what `serde_json` escapes of that.
struct Escaped {
    /// As a string.
    once: usize,
    /// As a string in JSON that is a string itself.
    twice: usize,
    /// As the data of a Server-Sent Event in a string: each line begins with `data: `.
    event: usize,
}

impl Escaped {
    fn of(content: &Content<'_>) -> Self {
        match content {
            Content::Text(text) => Self::text(text.as_bytes()),
            Content::Binary(bytes) => {
                let base64 = bytes.len().div_ceil(3) * 4;
                Self { once: base64, twice: base64, event: base64 }
            }
        }
    }

    /// How many bytes at the beginning of a content are at most so long in each of the forms.
    fn prefix(content: &Content<'_>, most: usize) -> usize {
        let text = match content {
            Content::Text(text) => text,
            Content::Binary(bytes) => return bytes.len().min(most / 4 * 3),
        };
        let mut before = Self { once: 0, twice: 0, event: 0 };
        let mut previous = 0;
        let mut fits = |byte: &u8| {
            before.add(*byte, previous);
            previous = *byte;
            before.once.max(before.twice).max(before.event) <= most
        };
        text.floor_char_boundary(text.as_bytes().iter().take_while(|byte| fits(byte)).count())
    }

    fn text(text: &[u8]) -> Self {
        let (mut escaped, mut previous) = (Self { once: 0, twice: 0, event: 0 }, 0);
        for &byte in text {
            escaped.add(byte, previous);
            previous = byte;
        }
        escaped
    }

    fn add(&mut self, byte: u8, previous: u8) {
        const DATA: usize = "\\ndata: ".len();
        let (once, twice) = match byte {
            b'"' | b'\\' => (2, 4),
            b'\n' | b'\r' | b'\t' | 8 | 12 => (2, 3),
            0..=0x1f => (6, 7),
            _ => (1, 1),
        };
        self.once += once;
        self.twice += twice;
        self.event += match byte {
            b'\n' if previous == b'\r' => 0,
            b'\n' | b'\r' => DATA,
            _ => once,
        };
    }
}
