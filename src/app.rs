//! What this service decides: a request, a platform, the settings and the time go in, an [`Outcome`] comes out.
//!
//! An endpoint is one line of `ROUTES` and one file of `endpoints`. What happens on a WebSocket is the
//! handler that it is given.

mod access;
pub mod bounds;
pub mod broadcast;
mod command;
pub mod connection;
mod endpoints;
mod entries;
pub mod error;
pub mod exchange;
mod history;
pub mod log;

pub(crate) mod messages;
mod outbox;
pub mod platform;
mod query;
pub mod rejection;
pub mod sandbox;
pub mod service;
pub mod settings;
pub mod state;
pub mod web;

use http::header::HeaderValue;

pub use self::exchange::Later;
use self::{
    access::origins,
    endpoints::{disconnect, events, files, health, history as missed, next, poll, websocket},
    error::Error,
    exchange::{Endpoint, Exchange},
    platform::Platform,
    settings::Settings,
    web::Outcome,
};

struct Route {
    path: &'static str,
    method: &'static str,
    endpoint: Endpoint,
    /// Pages of other origins may use it, if the settings allow: see [`origins`].
    is_shared: bool,
}

const fn own(path: &'static str, method: &'static str, endpoint: Endpoint) -> Route {
    Route { path, method, endpoint, is_shared: false }
}

const fn shared(path: &'static str, method: &'static str, endpoint: Endpoint) -> Route {
    Route { path, method, endpoint, is_shared: true }
}

/// The methods of one path stand together.
const ROUTES: &[Route] = &[
    own("/", "GET", files::page),
    own("/", "HEAD", files::page),
    own("/page.js", "GET", files::page_script),
    own("/page.js", "HEAD", files::page_script),
    own("/page.css", "GET", files::page_style),
    own("/page.css", "HEAD", files::page_style),
    own("/client.js", "GET", files::client),
    own("/client.js", "HEAD", files::client),
    own("/client.d.ts", "GET", files::client_types),
    own("/client.d.ts", "HEAD", files::client_types),
    own("/api/health", "GET", health::health),
    own("/api/health", "HEAD", health::health),
    // A page of another origin asks it over plain HTTP why a WebSocket was rejected.
    shared("/api/websocket", "GET", websocket::connect),
    own("/api/websocket", "POST", websocket::events),
    shared("/api/events", "GET", events::events),
    own(next::PATH, "GET", next::next),
    shared("/api/poll", "GET", poll::poll),
    shared("/api/broadcast", "POST", endpoints::broadcast::broadcast),
    shared("/api/disconnect", "POST", disconnect::disconnect),
    shared("/api/history", "GET", missed::history),
];

/// Decides what to do with a request.
pub fn decide(exchange: &mut Exchange<'_>) -> Outcome {
    route(exchange).unwrap_or_else(|error| error.response().into())
}

/// Does what is left to do when a response has been sent, at a time in seconds since 1970. Returns a line for the log if it fails.
pub fn later(later: Later, settings: &Settings, platform: &mut dyn Platform, now: u64) -> Option<String> {
    later.run(settings, platform, now).err().and_then(|error| error.log())
}

fn route(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let path = exchange.request.path();
    // Next links differ in a number.
    let path = path.strip_prefix(next::PATH).filter(|rest| rest.starts_with('/')).map_or(path, |_| next::PATH);
    let routes = || ROUTES.iter().filter(|route| route.path == path);
    let first = routes().next().ok_or(Error::NotFound)?;
    let route = routes().find(|route| route.method == exchange.request.method());
    if !route.unwrap_or(first).is_shared {
        let route = route.ok_or_else(|| Error::MethodNotAllowed { allowed: methods(routes()) })?;
        return (route.endpoint)(exchange);
    }
    let origins = exchange.settings.origins.as_ref()?;
    let headers = origins.headers_for(exchange.request.header("origin"));
    let outcome = match route {
        Some(route) => (route.endpoint)(exchange),
        None => {
            let allowed = methods(routes()) + ", OPTIONS";
            match HeaderValue::try_from(&allowed) {
                Ok(methods) if exchange.request.method() == "OPTIONS" => Ok(origins::preflight(methods).into()),
                _ => Err(Error::MethodNotAllowed { allowed }),
            }
        }
    };
    // A page of another origin may read an error, too.
    Ok(match outcome.unwrap_or_else(|error| error.response().into()) {
        Outcome::Response(mut response) => {
            for (name, value) in &headers {
                response.headers.append(name, value.clone());
            }
            Outcome::Response(response)
        }
        outcome @ Outcome::HandOff { .. } => outcome,
    })
}

fn methods<'a>(routes: impl Iterator<Item = &'a Route>) -> String {
    routes.map(|route| route.method).collect::<Vec<_>>().join(", ")
}
