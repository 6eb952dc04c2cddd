//! `/api/websocket`: GET is a client that connects, POST is the GRIP proxy that says what the client did.

use std::slice;

use super::{Action, Reply, Request, Settings, echo::echo, http::BodyError, settings::SettingsError};
use crate::grip::{GripStatus, Header, WebSocket, websocket::is_websocket_over_http};

/// The backend through which the proxy calls this service.
const SELF_BACKEND: &str = "self";

/// The longest body of a request from the proxy, in bytes. Pushpin puts at most 200,000 bytes of messages into one,
/// but does not count the framing: 200,000 messages of one byte make 2.2 MB.
const MAX_EVENTS: usize = 4_000_000;

const NOT_PROXIED: &str = "[not proxied]";
const HOW_TO_CONNECT: &str = "This is a WebSocket endpoint. Connect with a WebSocket client: npx wscat -c ws://HOST/api/websocket (wss:// on Fastly)";

/// Hands a WebSocket client over to the proxy.
pub(super) fn connect(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    let verifier = match &settings.verifier {
        Ok(verifier) => verifier,
        Err(error) => return unusable(error),
    };
    match GripStatus::of(request.header("grip-sig"), slice::from_ref(verifier), now) {
        // Only the spelling that the proxy takes for a WebSocket: anything else it would send back as a plain GET.
        GripStatus::NotProxied if request.header("upgrade") == Header::Value("websocket") => {
            Action::HandOff { backend: SELF_BACKEND }
        }
        // What has been through the proxy is never handed to it again: that could go on for ever.
        GripStatus::NotProxied | GripStatus::Signed => {
            Reply::text(426, HOW_TO_CONNECT).with_header("upgrade", "websocket").into()
        }
        status @ GripStatus::NeedsSignature(_) => refused(status),
    }
}

/// Answers the events of a WebSocket.
pub(super) fn events(request: &mut dyn Request, settings: &Settings, now: u64) -> Action {
    let verifier = match &settings.verifier {
        Ok(verifier) => verifier,
        Err(error) => return unusable(error),
    };
    let tickets = settings.tickets.as_ref();
    let has_ticket = tickets.is_some_and(|tickets| tickets.is_held_by(request, now));
    if !has_ticket {
        match GripStatus::of(request.header("grip-sig"), slice::from_ref(verifier), now) {
            GripStatus::Signed => {}
            status => return refused(status),
        }
    }
    if !is_websocket_over_http(request) {
        return Reply::text(400, "[not a websocket request]").into();
    }
    let body = match request.body(MAX_EVENTS) {
        Ok(body) => body,
        Err(BodyError::TooLarge) => {
            return Reply::text(413, format_args!("The body must be at most {MAX_EVENTS} bytes")).into();
        }
        Err(BodyError::Incomplete) => return Reply::text(400, "The body did not arrive whole").into(),
    };
    match WebSocket::new(request, &body) {
        Ok(mut ws) => {
            echo(&mut ws);
            if let Some(tickets) = tickets.filter(|_| !has_ticket) {
                tickets.give(&mut ws, now);
            }
            let answer = ws.into_answer();
            Reply { status: 200, headers: answer.headers, body: answer.body, log: None }.into()
        }
        Err(error) => Reply::text(400, format_args!("Bad WebSocket-over-HTTP request: {error}"))
            .with_log(format_args!("refused a WebSocket-over-HTTP request: {error}"))
            .into(),
    }
}

fn refused(status: GripStatus) -> Action {
    let reply = Reply::text(403, NOT_PROXIED);
    match status {
        GripStatus::NeedsSignature(error) => reply.with_log(format_args!("refused a Grip-Sig: {error}")),
        GripStatus::NotProxied | GripStatus::Signed => reply.with_log("refused a request that has no Grip-Sig"),
    }
    .into()
}

fn unusable(error: &SettingsError) -> Action {
    Reply::text(503, error).with_log(error).into()
}
