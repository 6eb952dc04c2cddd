//! `/api/websocket`: with GET a client connects, with POST the GRIP proxy says what a client did.

use std::mem;

use super::hand_off::hand_off;
use crate::{
    app::{
        access::admit::{Ask, admit, admit_connection},
        bounds::{MAX_EVENTS_BODY, MAX_OPERATIONS},
        connection::{Batch, Client, Connection, Context},
        error::Error,
        exchange::{Exchange, Later},
        history::{History, cursor::Cursor},
        messages::{
            envelope::{self, Envelope},
            format::Format,
        },
        outbox::Outbox,
        platform::{Counter, Platform},
        query::Query,
        settings::Settings,
        web::{Outcome, Request, Response},
    },
    grip::{Header, Message, WebSocket, signature::LEEWAY, websocket::is_websocket_over_http},
};

/// Hands a WebSocket client off to the proxy.
pub(crate) fn connect(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let query = Query::of(exchange.request)?;
    let client = admit(exchange, Ask::Connect(query.rights(), &query.channels))?;
    if query.publishes() {
        exchange.settings.publisher.as_ref()?;
    }
    check_since(&query, exchange.platform)?;
    // Only this spelling is a WebSocket to the proxy: it would send any other back as a plain GET.
    if exchange.request.header("upgrade") != Header::Value("websocket") {
        // A page asks like this why its WebSocket was refused, as browsers hide that.
        client.check_limit(exchange)?;
        let is_misspelled = exchange.request.list("upgrade").iter().any(|to| to.eq_ignore_ascii_case("websocket"));
        return Err(if is_misspelled { Error::UpgradeSpelling } else { Error::UpgradeRequired });
    }
    hand_off(exchange, &client)
}

/// Responds to the events of a WebSocket.
pub(crate) fn events(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let connected = admit_connection(exchange)?;
    if !is_websocket_over_http(exchange.request) {
        return Err(Error::NotEvents);
    }
    let query = Query::of(exchange.request)?;
    let body = exchange.body(MAX_EVENTS_BODY)?;
    let (request, settings, now): (&dyn Request, _, _) = (exchange.request, exchange.settings, exchange.now);
    let mut ws = WebSocket::new(connected.signed(), request, &body)?;
    if ws.is_opening() {
        check_since(&query, exchange.platform)?;
        // The cursor of its welcome is of use from now on.
        let history = settings.history.as_ref().ok().and_then(Option::as_ref);
        if history.is_some() && History::operations_to_begin(exchange.platform) > 0 {
            exchange.later = Some(Later::BeginHistory);
        }
    }
    let (client, expires_at) = match connected.client(request, settings, &query, now) {
        Ok(checked) => checked,
        Err(error) if ws.is_opening() => return Err(error),
        Err(error) => return Ok(end(ws, &error).into()),
    };
    if !matches!(client, Client::Anonymous) {
        ws.set_keep_alive_interval(check_again_after(expires_at, now));
    }
    let decoded = match query.format {
        Format::Raw => None,
        Format::Json => Some(envelope::decode(ws.events())),
    };
    let inbox = decoded.as_deref().map(<[_]>::iter);
    let context = Context { request, settings, platform: exchange.platform, now };
    let mut connection = Connection::new(ws, inbox, &query, &client, context);
    let mut refused = None;
    let handled = loop {
        match (exchange.service.on_websocket)(&mut connection).map_err(Error::from) {
            // It concerns one message only, and the handler goes on with the next.
            Err(error) if connection.refuse_for(&error) => refused = Some(error),
            handled => break handled,
        }
        if !connection.has_more() {
            break Ok(());
        }
    };
    let mut batch = connection.finish();
    let accepted = handled.and_then(|()| if batch.ws.is_accepted() { Ok(()) } else { Err(Error::NotAccepted) });
    let failed = match accepted.map(|()| publish(&mut batch, request, settings, now)) {
        Ok(Ok(())) => None,
        Ok(Err(error)) if batch.takes_failure(&error) => Some(error),
        // It reached everybody who is there.
        Ok(Err(error @ Error::NotKept { published: None, .. })) => {
            if query.format == Format::Json {
                batch.ws.send(&Envelope::error(&error.to_string()).to_json());
            }
            Some(error)
        }
        Ok(Err(error)) | Err(error) if batch.ws.is_opening() => return Err(error),
        Ok(Err(error)) | Err(error) => {
            batch.drop_acks();
            let (code, reason) = error.close();
            batch.ws.close_with_reason(code, &reason);
            Some(error)
        }
    };
    batch.send_acks();
    batch.answer_sync(request, settings);
    let mut ws = batch.ws;
    connected.issue_ticket(&mut ws, expires_at);
    let response = response(ws);
    Ok(match failed.or(refused) {
        Some(error) => error.logged_in(response),
        None => response,
    }
    .into())
}

/// Checks the cursor in the URL of a client, which it gets back in its welcome.
///
/// # Errors
/// [`Error::Since`]; [`Error::SinceFormat`] if it does not ask for envelopes.
fn check_since(query: &Query, platform: &mut dyn Platform) -> Result<(), Error> {
    let Some(since) = &query.since else { return Ok(()) };
    if query.format != Format::Json {
        return Err(Error::SinceFormat);
    }
    Cursor::parse(since, platform).map(drop)
}

/// Publishes what the handler wants to be published.
fn publish<'a>(batch: &mut Batch<'a>, request: &dyn Request, settings: &'a Settings, now: u64) -> Result<(), Error> {
    let outbox = mem::replace(&mut batch.outbox, Outbox::new(settings, now));
    if outbox.len() == 0 {
        return Ok(());
    }
    let limits = settings.limits.as_ref()?;
    let count = u32::try_from(outbox.len()).unwrap_or(u32::MAX);
    limits.count_of_connection(request, batch.platform, batch.ws.connection_id(), (Counter::Broadcasts, count))?;
    let (operations, sent) = outbox.send(batch.platform, MAX_OPERATIONS - batch.operations);
    batch.operations += operations;
    sent
}

/// After how many seconds of silence the proxy asks again for a connection whose checks expire then: a client that only
/// listens is to be checked, too. A second past the leeway, so that they have expired.
fn check_again_after(expires_at: u64, now: u64) -> u32 {
    const LONGEST: u64 = 86_400;
    expires_at.saturating_sub(now).saturating_add(LEEWAY + 1).min(LONGEST) as u32
}

/// Ends an open connection whose token is no longer valid, or can no longer be checked. The handler is not called.
fn end(mut ws: WebSocket<'_>, error: &Error) -> Response {
    match ws.receive() {
        Some(Message::Close(code)) => ws.close(code),
        Some(Message::Disconnect) => {}
        Some(Message::Text(_) | Message::Binary(_)) | None => {
            let (code, reason) = error.close();
            ws.close_with_reason(code, &reason);
            return error.logged_in(response(ws));
        }
    }
    response(ws)
}

fn response(ws: WebSocket<'_>) -> Response {
    let response = ws.into_response();
    Response { headers: response.headers, body: response.body, ..Response::empty(200) }
}
