//! `/api/websocket`: with GET a client connects, with POST the GRIP proxy says what a client did.

use std::cell::OnceCell;

use crate::{
    app::{
        access::{
            guard,
            proof::{self, Proof, Source},
        },
        bounds::MAX_EVENTS_BODY,
        connection::{Client, Connection},
        error::Error,
        exchange::Exchange,
        http::{Outcome, Request, Response},
        messages::broadcast::{Broadcast, publish_all},
        options::Options,
        platform::{Counter, Platform, SELF_BACKEND},
        settings::Settings,
    },
    grip::{Header, Message, WebSocket, signature::LEEWAY, websocket::is_websocket_over_http},
};

/// Hands a WebSocket client off to the proxy.
pub(crate) fn connect(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    // What came through the proxy is never handed to it again: that could go on forever.
    if proof::source(exchange.request, exchange.settings, exchange.now)? != Source::Client {
        return Err(Error::UpgradeRequired);
    }
    let options = Options::of(exchange.request)?;
    guard::check_opening(exchange, options.rights(), &options.channels)?;
    if options.publishes() {
        exchange.settings.publisher.as_ref()?;
    }
    // Only this spelling is a WebSocket to the proxy: it would send any other back as a plain GET.
    if exchange.request.header("upgrade") != Header::Value("websocket") {
        // A page asks like this why its WebSocket was refused, as browsers hide that.
        guard::check_opening_limit(exchange)?;
        return Err(Error::UpgradeRequired);
    }
    guard::count_opening(exchange)?;
    Ok(Outcome::HandOff { backend: SELF_BACKEND })
}

/// Responds to the events of a WebSocket.
pub(crate) fn events(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let proof = proof::of_connection(exchange.request, exchange.settings, exchange.now)?;
    if !is_websocket_over_http(exchange.request) {
        return Err(Error::NotEvents);
    }
    let options = Options::of(exchange.request)?;
    let body = exchange.body(MAX_EVENTS_BODY)?;
    let (request, settings, now): (&dyn Request, _, _) = (exchange.request, exchange.settings, exchange.now);
    let mut ws = WebSocket::new(request, &body)?;
    let (client, proof) = match check_client(&mut ws, request, settings, &options, proof, now) {
        Ok(checked) => checked,
        Err(error) if ws.is_opening() => return Err(error),
        Err(error) => return Ok(end(ws, &error).into()),
    };
    let mut connection = Connection::new(ws, request, &options, &client, exchange.platform);
    let handled = (exchange.on_websocket)(&mut connection);
    let (mut ws, outbox, platform) = connection.finish();
    let accepted = handled.and_then(|()| if ws.is_accepted() { Ok(()) } else { Err(Error::NotAccepted) });
    let published = accepted.and_then(|()| publish(&outbox, ws.connection_id(), settings, platform, now));
    let log = match published {
        Ok(()) => None,
        Err(error) if ws.is_opening() => return Err(error),
        Err(error) => {
            let (code, reason) = error.close();
            ws.close_with_reason(code, &reason);
            error.log()
        }
    };
    if let Proof::Signature { expires_at, tickets: Some((tickets, scope)) } = proof {
        tickets.issue(&mut ws, &scope, expires_at);
    }
    Ok(Response { log, ..response(ws) }.into())
}

/// Checks the access token of a connection, unless its ticket says that it was. The proof then expires with the token, if
/// that is earlier.
fn check_client<'a>(
    ws: &mut WebSocket<'_>,
    request: &dyn Request,
    settings: &Settings,
    options: &Options,
    proof: Proof<'a>,
    now: u64,
) -> Result<(Client, Proof<'a>), Error> {
    let Proof::Signature { expires_at, tickets } = proof else {
        let is_open = matches!(settings.access, Ok(None));
        return Ok((if is_open { Client::Anonymous } else { Client::Ticketed(OnceCell::new()) }, proof));
    };
    match guard::check_token(request, settings, options.rights(), options.channels.iter(), now)? {
        None => Ok((Client::Anonymous, Proof::Signature { expires_at, tickets })),
        Some(verified) => {
            ws.set_keep_alive_interval(check_again_after(verified.expires_at, now));
            let expires_at = verified.expires_at.min(expires_at);
            Ok((Client::Verified(verified.identity), Proof::Signature { expires_at, tickets }))
        }
    }
}

/// Publishes what the handler wants to be published.
fn publish(
    outbox: &[Broadcast<'_>],
    connection_id: &str,
    settings: &Settings,
    platform: &mut dyn Platform,
    now: u64,
) -> Result<(), Error> {
    if outbox.is_empty() {
        return Ok(());
    }
    let publisher = settings.publisher.as_ref()?;
    let limits = settings.limits.as_ref()?;
    let count = u32::try_from(outbox.len()).unwrap_or(u32::MAX);
    limits.count_for(platform, Counter::Broadcasts, connection_id, count)?;
    publish_all(outbox, publisher, platform, now)
}

/// After how many seconds of silence the proxy asks again for a connection whose token expires then: a client that only
/// listens is to be checked, too.
fn check_again_after(expires_at: u64, now: u64) -> u32 {
    const LONGEST: u64 = 3600;
    expires_at.saturating_sub(now).saturating_add(LEEWAY + 1).min(LONGEST) as u32
}

/// Ends an open connection whose token is no longer valid, or can no longer be checked.
fn end(mut ws: WebSocket<'_>, error: &Error) -> Response {
    match ws.receive() {
        Some(Message::Close(code)) => ws.close(code),
        Some(Message::Disconnect) => {}
        Some(Message::Text(_) | Message::Binary(_)) | None => {
            let (code, reason) = error.close();
            ws.close_with_reason(code, &reason);
            return Response { log: error.log(), ..response(ws) };
        }
    }
    response(ws)
}

fn response(ws: WebSocket<'_>) -> Response {
    let response = ws.into_response();
    Response { headers: response.headers, body: response.body, ..Response::empty(200) }
}
