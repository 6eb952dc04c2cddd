//! What this service decides: a request, the settings and the time go in, an [`Action`] comes out.
//!
//! A path is one line of `ROUTES` and one file. Nothing here does I/O.

pub mod access;
pub mod broadcast;
pub mod channels;
pub mod echo;
mod events;
mod guard;
mod health;
pub mod http;
pub mod limits;
pub mod message;
pub mod origins;
mod page;
mod poll;
mod proxied;
pub mod settings;
mod stream;
mod subscribe;
pub mod websocket;

pub use http::{Action, Reply, Request};
pub use settings::Settings;

type Handler = fn(&mut dyn Request, &Settings, u64) -> Action;

struct Route {
    path: &'static str,
    method: &'static str,
    handler: Handler,
    /// Pages of other origins may use it, as far as the settings allow: see [`origins`].
    shared: bool,
}

const fn own(path: &'static str, method: &'static str, handler: Handler) -> Route {
    Route { path, method, handler, shared: false }
}

const fn shared(path: &'static str, method: &'static str, handler: Handler) -> Route {
    Route { path, method, handler, shared: true }
}

/// The methods of one path stand together.
const ROUTES: &[Route] = &[
    own("/", "GET", page::page),
    own("/", "HEAD", page::page),
    own("/api/health", "GET", health::health),
    own("/api/health", "HEAD", health::health),
    own("/api/websocket", "GET", websocket::connect),
    own("/api/websocket", "POST", websocket::events),
    shared("/api/events", "GET", events::events),
    shared("/api/stream", "GET", stream::stream),
    shared("/api/poll", "GET", poll::poll),
    shared("/api/broadcast", "POST", broadcast::broadcast),
];

/// Decides what to do with a request, at a time in seconds since 1970.
pub fn decide(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    let routes: Vec<_> = ROUTES.iter().filter(|route| route.path == request.path()).collect();
    let Some(first) = routes.first() else { return Reply::text(404, "Not found").into() };
    let mut methods: Vec<_> = routes.iter().map(|route| route.method).collect();
    let route = routes.iter().find(|route| route.method == request.method());
    if !first.shared {
        return route.map_or_else(|| not_allowed(&methods), |route| (route.handler)(request, settings, now));
    }
    let origins = match &settings.origins {
        Ok(origins) => origins,
        Err(error) => return proxied::unusable(error).into(),
    };
    let headers = origins.headers_for(request.header("origin"));
    methods.push("OPTIONS");
    let action = match route {
        Some(route) => (route.handler)(request, settings, now),
        None if request.method() == "OPTIONS" => origins::preflight(&methods.join(", ")),
        None => not_allowed(&methods),
    };
    action.map_reply(move |mut reply| {
        reply.headers.extend(headers);
        reply
    })
}

fn not_allowed(methods: &[&str]) -> Action {
    let allowed = methods.join(", ");
    Reply::text(405, format_args!("Method not allowed. Use: {allowed}")).with_header("allow", allowed).into()
}
