//! `POST /api/disconnect`: closes the connections of a user, on whatever transport.

use crate::{
    app::{
        access::{
            admit::{Ask, admit},
            right::Right,
        },
        bounds::{MAX_BACKEND_REQUESTS, MAX_OPERATIONS},
        command::{Command, DISCONNECT},
        error::Error,
        exchange::Exchange,
        messages::{forms::Closing, target::Target},
        outbox::Outbox,
        web::{Outcome, Response},
    },
    grip::{CloseCode, close::MAX_REASON},
};

/// The first and the last code that an application may use, and that of a disconnect without one. Source: RFC 6455, section
/// 7.4.2.
const CODES: (u16, u16) = (4000, 4999);

/// Publishes the end of the connections.
pub(crate) fn disconnect(exchange: &mut Exchange<'_>) -> Result<Outcome, Error> {
    let mut command = Command::of(exchange.request, DISCONNECT)?;
    let (code, reason) = close_frame(command.code.as_deref(), command.reason.take())?;
    let target = command.user().map(Target::User)?;
    exchange.settings.publisher.as_ref()?;
    admit(exchange, Ask::Target(Right::Disconnect, &target))?.count(exchange)?;
    let mut outbox = Outbox::new(exchange.settings, exchange.now);
    let closing = Closing { channel: target.channel(), code, reason: reason.into(), polls: true };
    outbox.close(&closing, None, MAX_BACKEND_REQUESTS)?;
    outbox.send(exchange.platform, MAX_OPERATIONS).1?;
    Ok(Response::text(200, "Ok").into())
}

fn close_frame(code: Option<&str>, reason: Option<String>) -> Result<(CloseCode, String), Error> {
    let (first, last) = CODES;
    let code = code.map_or(Ok(first), str::parse).ok().filter(|code| (first..=last).contains(code));
    let reason = reason.unwrap_or_default();
    let code = code.and_then(CloseCode::new).filter(|_| reason.len() <= MAX_REASON);
    Ok((code.ok_or(Error::CloseFrame)?, reason))
}
