//! The channels that a client is subscribed to.
//!
//! # Format
//! The proxy does not tell them. So where they are others than those of the URL, they are a meta value of the connection: their
//! names, separated by spaces, or a colon, which no name has, if there are none.

use super::Connection;
use crate::{
    app::{
        bounds::MAX_CHANNELS,
        error::Error,
        messages::channels::{self, Channels, IntoChannel},
        rejection::Rejection,
    },
    grip::{Channel, Filter, WebSocket},
};

/// The name of the meta value.
const META: &str = "channels";

const NONE: &str = ":";

/// The channels that a client was subscribed to by earlier batches.
pub(super) fn of(ws: &WebSocket<'_>, of_url: &Channels) -> Vec<Channel> {
    if ws.is_opening() {
        return Vec::new();
    }
    match ws.meta(META) {
        None | Some("") => of_url.iter().cloned().collect(),
        Some(names) => names.split(' ').filter_map(|name| channels::parse(name).ok()).collect(),
    }
}

impl Connection<'_> {
    /// Subscribes the client to a channel. It gets what is published there from some milliseconds after it sees its
    /// connection open. The proxy allows 20 channels for each connection, of which one is the user's.
    ///
    /// # Errors
    /// Rejects with 400 for an invalid name, or if the client would have more than 20, or 19.
    pub fn subscribe(&mut self, channel: impl IntoChannel) -> Result<(), Rejection> {
        let channel = channel.into_channel()?;
        if !self.subscribed.contains(&channel) {
            let limit = MAX_CHANNELS - usize::from(self.user().is_some());
            if self.subscribed.len() >= limit {
                return Err(Error::TooManyChannels { limit }.into());
            }
            self.subscribed.push(channel.clone());
        }
        self.ws.subscribe_filtered(&self.query.format.at_proxy(&channel), &[Filter::SkipSelf]);
        Ok(())
    }

    /// Unsubscribes the client from a channel.
    ///
    /// # Errors
    /// Rejects with 400 for an invalid name.
    pub fn unsubscribe(&mut self, channel: impl IntoChannel) -> Result<(), Rejection> {
        let channel = channel.into_channel()?;
        self.subscribed.retain(|known| *known != channel);
        self.ws.unsubscribe(&self.query.format.at_proxy(&channel));
        Ok(())
    }

    /// Has the proxy remember the channels for later batches.
    pub(super) fn remember_subscriptions(&mut self) {
        let is_same = |one: &[Channel], other: &[Channel]| {
            one.len() == other.len() && one.iter().all(|channel| other.contains(channel))
        };
        let of_url: Vec<_> = self.channels().iter().cloned().collect();
        let before = if self.is_opening() { of_url.clone() } else { of(&self.ws, self.channels()) };
        if is_same(&self.subscribed, &before) {
            return;
        }
        let names: Vec<_> = self.subscribed.iter().map(Channel::as_str).collect();
        let value = match &*names {
            _ if is_same(&self.subscribed, &of_url) => String::new(),
            [] => NONE.to_owned(),
            names => names.join(" "),
        };
        self.ws.set_meta(META, &value).expect("names of channels are printable ASCII");
    }
}
