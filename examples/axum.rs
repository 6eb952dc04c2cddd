//! An axum server that speaks WebSocket-over-HTTP behind a GRIP proxy, with the library's [`grip`](fanout_edge::grip) alone: each
//! client gets its messages back, and everything that is posted to `/broadcast`. It publishes asynchronously.
//!
//! ```text
//! GRIP_URL='http://127.0.0.1:5561/?verify-iss=pushpin&verify-key=secret:…' cargo run --example axum
//! ```
//! It listens on port 8080, or `PORT`. Pushpin is in front of it, with `* 127.0.0.1:8080,over_http` in its file `routes`, and
//! `sig_iss` and `sig_key` in its configuration.

use std::{env, error::Error, sync::Arc, time::UNIX_EPOCH};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::post,
};
use fanout_edge::grip::{
    Channel, Formats, GripStatus, GripUri, Headers, Item, Verifier, WebSocket, WsMessage, publish::accepted,
    websocket::is_websocket_over_http,
};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

static TEST: Channel = Channel::from_static("test");

/// No batch of a client's messages is longer.
const MAX_BODY: usize = 4_000_000;

struct Service {
    proxy: GripUri,
    verifier: Verifier,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// Responds to the events of a WebSocket.
async fn events(State(service): State<Arc<Service>>, request: Parts, body: Bytes) -> Response {
    let status = GripStatus::of(request.header("grip-sig"), std::slice::from_ref(&service.verifier), now());
    let GripStatus::Signed(signed) = status else {
        return (StatusCode::FORBIDDEN, "Only the proxy may send this\n").into_response();
    };
    if !is_websocket_over_http(&request) {
        return (StatusCode::BAD_REQUEST, "This is not from a WebSocket\n").into_response();
    }
    let mut ws = match WebSocket::new(signed, &request, &body) {
        Ok(ws) => ws,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    if ws.is_opening() {
        ws.accept();
        ws.subscribe(&TEST);
    }
    while let Some(message) = ws.receive() {
        // A close is answered, too.
        ws.send(message);
    }
    let response = ws.into_response();
    (response.headers, response.body).into_response()
}

/// Publishes a text to all clients.
async fn broadcast(State(service): State<Arc<Service>>, text: String) -> Response {
    match publish(&service, &text).await {
        Ok(()) => "Ok\n".into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response(),
    }
}

async fn publish(service: &Service, text: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let formats = Formats { ws_message: Some(WsMessage::text(text)), ..Formats::default() };
    let request = service.proxy.publisher.request(&[Item::new(&TEST, formats)], now())?.into_http()?;
    let response = service.http.request(request.map(|body| Full::new(body.into()))).await?;
    Ok(accepted(response.status().as_u16())?)
}

/// The time, in seconds since 1970.
fn now() -> u64 {
    UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let proxy = GripUri::parse(&env::var("GRIP_URL")?)?;
    let key = proxy.verify_key.clone().ok_or("GRIP_URL lacks verify-key")?;
    let verifier = Verifier::new(key, proxy.verify_iss.clone().ok_or("GRIP_URL lacks verify-iss")?);
    let service = Service { proxy, verifier, http: Client::builder(TokioExecutor::new()).build_http() };
    let router = Router::new()
        .route("/broadcast", post(broadcast))
        .fallback(post(events))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(service));
    let port = env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    axum::serve(listener, router).await?;
    Ok(())
}
