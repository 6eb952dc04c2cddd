//! The host, in memory.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;

use super::{NOW, Published};
use crate::{
    Content,
    app::{
        platform::{BackendError, CannotCount, Counter, Listed, Platform, Store, StoreError},
        settings::Lookup,
        state::State,
    },
    grip::publish::{PublishRequest, SendError, Sender},
};

type Backend<'h> = dyn FnMut(http::Request<Vec<u8>>) -> http::Response<Vec<u8>> + 'h;

/// The end of the connections of a channel, which a handler published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The channel.
    pub channel: String,
    /// The close code.
    pub code: u16,
    /// The reason.
    pub reason: String,
}

/// The host, in memory. It keeps no history.
#[derive(Default)]
pub(super) struct Memory<'h> {
    pub(super) settings: Vec<(String, String)>,
    pub(super) secrets: Vec<(String, String)>,
    pub(super) backends: Vec<(String, Box<Backend<'h>>)>,
    pub(super) published: Vec<Published>,
    pub(super) closed: Vec<Closed>,
    /// The names of backends that cannot be reached.
    pub(super) unreachable: Vec<String>,
    pub(super) is_operator: bool,
    pub(super) proxy_fails: bool,
    pub(super) state: State,
}

/// The body of a publish request.
#[derive(Deserialize)]
struct Body {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    channel: String,
    #[serde(default)]
    meta: Meta,
    formats: Formats,
}

#[derive(Default, Deserialize)]
struct Meta {
    sender: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Formats {
    ws_message: Option<WsMessage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WsMessage {
    content: Option<String>,
    content_bin: Option<String>,
    code: Option<u16>,
    reason: Option<String>,
}

impl Sender for Memory<'_> {
    fn send(&mut self, request: PublishRequest) -> Result<u16, SendError> {
        if self.proxy_fails {
            return Err(SendError::Unreachable);
        }
        let body: Body = serde_json::from_slice(&request.body).expect("a publish request is JSON");
        // Each message is there once more, in an envelope.
        for Item { channel, meta, formats } in body.items.into_iter().filter(|item| !item.channel.starts_with("json:"))
        {
            let to_others = meta.sender.is_some();
            let content = match formats.ws_message {
                Some(WsMessage { content: Some(text), .. }) => Content::from(text),
                Some(WsMessage { content_bin: Some(bytes), .. }) => {
                    Content::from(BASE64_STANDARD.decode(bytes).expect("bytes are in base64"))
                }
                Some(WsMessage { code: Some(code), reason, .. }) => {
                    self.closed.push(Closed { channel, code, reason: reason.unwrap_or_default() });
                    continue;
                }
                // For another transport.
                _ => continue,
            };
            self.published.push(Published { channel, content, to_others });
        }
        Ok(200)
    }
}

impl Store for Memory<'_> {
    fn begin_insert(&mut self, _: &str, _: &str, _: Duration) {}

    fn finish_inserts(&mut self) -> Result<(), StoreError> {
        Err(StoreError::Missing)
    }

    fn insert_new(&mut self, _: &str, _: String) -> Result<(), StoreError> {
        Err(StoreError::Missing)
    }

    fn lookup(&mut self, _: &[String], _: usize) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        Err(StoreError::Missing)
    }

    fn list(&mut self, _: &[String], _: usize) -> Result<Listed, StoreError> {
        Err(StoreError::Missing)
    }
}

impl Platform for Memory<'_> {
    fn fetch(
        &mut self,
        backend: &str,
        request: http::Request<Vec<u8>>,
        limit: usize,
    ) -> Result<http::Response<Vec<u8>>, BackendError> {
        if self.unreachable.iter().any(|name| name == backend) {
            return Err(BackendError::Unreachable);
        }
        let known = self.backends.iter_mut().find(|(name, _)| name == backend);
        let (_, respond) = known.ok_or(BackendError::Missing)?;
        if request.uri().authority().is_none() {
            return Err(BackendError::Url);
        }
        let response = respond(request);
        if response.body().len() > limit { Err(BackendError::TooLarge) } else { Ok(response) }
    }

    fn state(&mut self) -> &mut State {
        &mut self.state
    }

    fn setting(&mut self, name: &str) -> Lookup {
        Ok(entry(&self.settings, name))
    }

    fn secret(&mut self, name: &str) -> Lookup {
        Ok(entry(&self.secrets, name))
    }

    fn time(&mut self) -> u64 {
        NOW * 1000
    }

    fn random(&mut self) -> u32 {
        1
    }

    fn count(&mut self, _: Counter, _: &str, _: u32) -> Result<u32, CannotCount> {
        Err(CannotCount)
    }

    fn wait(&mut self, _: Duration) {}

    fn has_valid_fastly_key(&self) -> bool {
        self.is_operator
    }

    fn is_local(&self) -> bool {
        true
    }

    fn has_backend(&self, name: &str) -> bool {
        self.backends.iter().any(|(known, _)| known == name)
    }

    fn has_store(&mut self) -> bool {
        false
    }
}

fn entry(entries: &[(String, String)], name: &str) -> Option<String> {
    entries.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}
